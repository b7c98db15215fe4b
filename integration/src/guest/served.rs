//! What a node's kernel balances, read from the kernel's own tools whatever the agents serve by:
//! `ipvsadm`, or `iptables-save` and `ipset`. Nothing of the agent's code is used.

mod iptables;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};

use super::probe::Transport;
use super::sh_in;
use crate::dataplane::Dataplane;

/// Protocols, addresses and ports with the endpoints behind each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Served {
    pub tuples: BTreeMap<(Transport, SocketAddr), Balance>,
}

/// Whom an address and port lead to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Balance {
    /// With the weight, where the kernel keeps one.
    pub endpoints: BTreeMap<SocketAddr, Option<u32>>,
    /// For how many seconds a client stays.
    pub affinity: Option<u32>,
}

impl Served {
    /// Asks a node's kernel.
    pub fn by(dataplane: Dataplane, node: &str) -> Result<Self> {
        match dataplane {
            Dataplane::Ipvs => Self::of_ipvsadm(&sh_in(node, "ipvsadm -Ln")?),
            Dataplane::Iptables => {
                let sets = sh_in(node, "ipset save")?;
                let mut tuples = BTreeMap::new();
                for tool in ["iptables-save -t nat", "ip6tables-save -t nat"] {
                    let rules = sh_in(node, tool)?;
                    tuples.extend(iptables::served(&rules, &sets).context(tool)?);
                }
                Ok(Self { tuples })
            }
        }
    }

    /// `ipvsadm -Ln`: a row for each virtual server, and below it one for each real server.
    fn of_ipvsadm(text: &str) -> Result<Self> {
        let mut served = Self::default();
        let mut at = None;
        for line in text.lines().skip(3) {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                // By a mark on the packet, which another rule gives: no tuple of its own.
                ["FWM", ..] => at = None,
                ["->", real, _, weight, ..] => {
                    let Some(tuple) = at else { continue };
                    let balance: &mut Balance = served.tuples.entry(tuple).or_default();
                    balance
                        .endpoints
                        .insert(real.parse()?, Some(weight.parse()?));
                }
                [protocol, vip, _, ref flags @ ..] => {
                    let transport = transport(protocol).with_context(|| line.to_owned())?;
                    let tuple = (transport, vip.parse()?);
                    let affinity = flags.iter().position(|flag| *flag == "persistent");
                    let affinity = affinity.and_then(|at| flags.get(at + 1)?.parse().ok());
                    served.tuples.entry(tuple).or_default().affinity = affinity;
                    at = Some(tuple);
                }
                _ => {}
            }
        }
        Ok(served)
    }

    /// Whom an address and port lead to, if they are served.
    pub fn at(&self, transport: Transport, to: SocketAddr) -> Option<&Balance> {
        self.tuples.get(&(transport, to))
    }

    /// Whether an address is served at any port.
    pub fn has(&self, addr: &str) -> Result<bool> {
        let addr = ip(addr)?;
        Ok(self.tuples.keys().any(|(_, to)| to.ip() == addr))
    }

    /// Whether anything leads to an endpoint of this address.
    pub fn leads_to(&self, addr: &str) -> Result<bool> {
        let addr = ip(addr)?;
        let mut endpoints = self.tuples.values().flat_map(|to| to.endpoints.keys());
        Ok(endpoints.any(|endpoint| endpoint.ip() == addr))
    }
}

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((transport, to), balance) in &self.tuples {
            write!(f, "{transport:?} {to}")?;
            if let Some(seconds) = balance.affinity {
                write!(f, " stays {seconds} s")?;
            }
            for (endpoint, weight) in &balance.endpoints {
                write!(f, " -> {endpoint}")?;
                if let Some(weight) = weight {
                    write!(f, " ({weight})")?;
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// An address as objects have it or as a URL has it.
fn ip(addr: &str) -> Result<IpAddr> {
    let bare = addr.trim_start_matches('[').trim_end_matches(']');
    bare.parse()
        .with_context(|| format!("{addr} is no address"))
}

/// A protocol's name in any case.
fn transport(name: &str) -> Option<Transport> {
    match name.to_ascii_lowercase().as_str() {
        "tcp" => Some(Transport::Tcp),
        "udp" => Some(Transport::Udp),
        "sctp" => Some(Transport::Sctp),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipvsadm_tells_virtual_and_real_servers() {
        let text = "IP Virtual Server version 1.2.1 (size=4096)\n\
            Prot LocalAddress:Port Scheduler Flags\n\
            \x20 -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n\
            TCP  10.96.0.1:443 rr persistent 300\n\
            \x20 -> 10.97.0.1:6443               Masq    1      0          0         \n\
            UDP  [fd00:96::1]:53 sh (sh-fallback)\n\
            \x20 -> [fd00:244::2]:53             Masq    0      0          0         \n\
            FWM  1027 sh (sh-fallback)\n\
            \x20 -> 10.97.0.1:6443               Masq    1      0          0         \n\
            SCTP 10.96.0.2:9 rr\n";
        let served = Served::of_ipvsadm(text).unwrap();
        assert_eq!(
            served.to_string(),
            "Tcp 10.96.0.1:443 stays 300 s -> 10.97.0.1:6443 (1)\n\
             Udp [fd00:96::1]:53 -> [fd00:244::2]:53 (0)\n\
             Sctp 10.96.0.2:9\n"
        );
        assert!(served.has("fd00:96::1").unwrap() && served.has("[fd00:96::1]").unwrap());
        assert!(!served.has("10.97.0.1").unwrap());
        assert!(served.leads_to("10.97.0.1").unwrap());
    }
}
