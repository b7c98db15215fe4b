//! Which of the node's addresses NodePorts answer on.
//!
//! Kubernetes' rules for `nodePortAddresses`: a family of which the list names no range is open
//! whole, and the widest range decides. Whatever the choice, NodePorts never answer on loopback
//! (CVE-2020-8558), on link-local addresses, or on an address that belongs to a Service (KEP-3866).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::addr::parse_cidr;
use crate::model::{Family, NodeInfo, NodeNetwork};

/// What the operator asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum NodePortAddresses {
    /// Every address.
    #[default]
    All,
    /// The node's primary address of each family: its first InternalIP. Where Kubernetes knows no
    /// address of the node, the one that its default route sends from.
    Primary,
    /// Addresses in these ranges; a family of which none is given is open whole.
    Within(Vec<IpNet>),
}

/// A value of the option that says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("{0:?} is no CIDR such as 192.0.2.0/24 or 2001:db8::/64, nor \"primary\" or \"all\"")]
    NotOne(String),
    #[error("{0:?} goes with nothing else: give it alone, or CIDRs")]
    NotAlone(String),
}

impl NodePortAddresses {
    /// Reads the items of the option's list.
    pub fn parse(items: &[String]) -> Result<Self, ParseError> {
        let mut nets = Vec::new();
        for item in items {
            let word = match item.as_str() {
                "all" => Self::All,
                "primary" => Self::Primary,
                text => {
                    nets.push(parse_cidr(text).ok_or_else(|| ParseError::NotOne(item.clone()))?);
                    continue;
                }
            };
            return match items.len() {
                1 => Ok(word),
                _ => Err(ParseError::NotAlone(item.clone())),
            };
        }
        Ok(if nets.is_empty() {
            Self::All
        } else {
            Self::Within(nets)
        })
    }
}

impl fmt::Display for NodePortAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Primary => f.write_str("primary"),
            Self::Within(nets) => {
                let nets: Vec<String> = nets.iter().map(IpNet::to_string).collect();
                f.write_str(&nets.join(","))
            }
        }
    }
}

/// All that the choice depends on.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    pub node: &'a NodeInfo,
    pub network: &'a NodeNetwork,
    pub service_cidrs: &'a BTreeSet<IpNet>,
    /// LoadBalancer and external IPs that are served.
    pub vips: &'a BTreeSet<IpAddr>,
}

/// The addresses that NodePorts answer on.
pub fn choose(wanted: &NodePortAddresses, around: Surroundings<'_>) -> BTreeSet<IpAddr> {
    let ranges = ranges(wanted, around);
    let is_wanted = |addr: &IpAddr| {
        let ranges = ranges.get(&Family::of(*addr));
        ranges.is_none_or(|ranges| ranges.iter().any(|range| range.contains(addr)))
    };
    let addresses = around.network.addresses.iter().map(IpNet::addr);
    addresses
        .filter(|addr| is_reachable(*addr) && !is_taken(*addr, around) && is_wanted(addr))
        .collect()
}

/// The ranges of each family; one that is not named is open whole.
fn ranges(
    wanted: &NodePortAddresses,
    around: Surroundings<'_>,
) -> BTreeMap<Family, BTreeSet<IpNet>> {
    let mut ranges: BTreeMap<Family, BTreeSet<IpNet>> = BTreeMap::new();
    match wanted {
        NodePortAddresses::All => {}
        NodePortAddresses::Primary => {
            let primary = if around.node.primary.is_empty() {
                &around.network.sources
            } else {
                &around.node.primary
            };
            for family in Family::ALL {
                let addr = primary.get(&family).copied().map(IpNet::from);
                ranges.entry(family).or_default().extend(addr);
            }
        }
        NodePortAddresses::Within(nets) => {
            for net in nets {
                let family = Family::of(net.addr());
                ranges.entry(family).or_default().insert(*net);
            }
        }
    }
    ranges
}

fn is_reachable(addr: IpAddr) -> bool {
    let link_local = match addr {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(addr.is_loopback() || addr.is_unspecified() || addr.is_multicast() || link_local)
}

/// Belongs to a Service. An address that the Node object names is the node's own all the same: a
/// load balancer may give Services the nodes' addresses (k3s' servicelb does).
fn is_taken(addr: IpAddr, around: Surroundings<'_>) -> bool {
    let of_services = around.service_cidrs.iter().any(|cidr| cidr.contains(&addr));
    let nodes_own = around.node.addresses.is_empty() || around.node.addresses.contains(&addr);
    of_services || (around.vips.contains(&addr) && !nodes_own)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the node has: its own address, a second network, a virtual address that keepalived
    /// put on an interface, what a loopback and a link bring, and a leftover cluster IP.
    const INTERFACES: &str = "192.0.2.1/24 198.51.100.1/24 203.0.113.9/32 127.0.0.1/8 \
        169.254.3.3/16 10.96.0.1/32 2001:db8:1::1/64 2001:db8:2::1/64 fe80::1/64 ::1/128 \
        fd00:96::1/128";

    fn all<T: std::str::FromStr + Ord>(text: &str) -> BTreeSet<T>
    where
        T::Err: fmt::Debug,
    {
        text.split_whitespace()
            .map(|t| t.parse().unwrap())
            .collect()
    }

    fn by_family(text: &str) -> BTreeMap<Family, IpAddr> {
        let addresses = all::<IpAddr>(text).into_iter();
        addresses.map(|addr| (Family::of(addr), addr)).collect()
    }

    fn chosen(option: &str, named: &str, vips: &str) -> String {
        let items: Vec<String> = option.split(',').map(str::to_owned).collect();
        let node = NodeInfo {
            addresses: all(named),
            primary: by_family(named),
            ..NodeInfo::default()
        };
        let network = NodeNetwork {
            addresses: all(INTERFACES),
            gateways: BTreeSet::new(),
            sources: by_family("198.51.100.1 2001:db8:2::1"),
        };
        let around = Surroundings {
            node: &node,
            network: &network,
            service_cidrs: &all("10.96.0.0/16 fd00:96::/112"),
            vips: &all(vips),
        };
        let wanted = NodePortAddresses::parse(&items).unwrap();
        let chosen: Vec<String> = choose(&wanted, around)
            .iter()
            .map(IpAddr::to_string)
            .collect();
        chosen.join(" ")
    }

    #[test]
    fn the_choice() {
        const V4: &str = "192.0.2.1 198.51.100.1 203.0.113.9";
        const V6: &str = "2001:db8:1::1 2001:db8:2::1";
        const NAMED: &str = "192.0.2.1 2001:db8:1::1";
        let both = format!("{V4} {V6}");
        for (option, named, vips, wanted) in [
            ("all", NAMED, "", both.as_str()),
            ("all", "", "", &both),
            ("primary", NAMED, "", NAMED),
            // Kubernetes knows no address: the default route does.
            ("primary", "", "", "198.51.100.1 2001:db8:2::1"),
            // It knows one, of one family: the other has no primary address.
            ("primary", "192.0.2.1", "", "192.0.2.1"),
            // One that no interface has (behind NAT) is no place to answer at.
            ("primary", "192.0.2.77", "", ""),
            (
                "198.51.100.0/24,2001:db8:2::/64",
                NAMED,
                "",
                "198.51.100.1 2001:db8:2::1",
            ),
            (
                "198.51.100.1/32,192.0.2.0/28",
                NAMED,
                "",
                "192.0.2.1 198.51.100.1 2001:db8:1::1 2001:db8:2::1",
            ),
            // A family that the list does not name is open whole.
            (
                "2001:db8:1::/64",
                NAMED,
                "",
                "192.0.2.1 198.51.100.1 203.0.113.9 2001:db8:1::1",
            ),
            // The zero range overrides the others of its family, and only of its own.
            (
                "192.0.2.0/24,0.0.0.0/0,2001:db8:2::/64",
                NAMED,
                "",
                "192.0.2.1 198.51.100.1 203.0.113.9 2001:db8:2::1",
            ),
            ("2001:db8:1::/64,::/0", NAMED, "", &both),
            // Ranges that the node has no address in.
            ("100.64.0.0/10,fd12::/16", NAMED, "", ""),
            // Never, though named.
            ("127.0.0.0/8,::1/128", NAMED, "", ""),
            ("169.254.0.0/16,fe80::/10", NAMED, "", ""),
            ("10.96.0.0/16,fd00:96::/64", NAMED, "", ""),
            // A Service's address is no place for NodePorts, but the node's own stays one.
            (
                "all",
                NAMED,
                "203.0.113.9",
                "192.0.2.1 198.51.100.1 2001:db8:1::1 2001:db8:2::1",
            ),
            ("all", NAMED, "192.0.2.1 2001:db8:1::1", &both),
            ("203.0.113.9/32", NAMED, "203.0.113.9", V6),
            ("all", "", "203.0.113.9", &both),
        ] {
            assert_eq!(
                chosen(option, named, vips),
                wanted,
                "{option:?} {named:?} {vips:?}"
            );
        }
    }

    #[test]
    fn the_option_is_read_strictly() {
        let parse = |text: &str| {
            let items: Vec<String> = text.split(',').map(str::to_owned).collect();
            NodePortAddresses::parse(&items).map(|wanted| wanted.to_string())
        };
        assert_eq!(parse("primary").as_deref(), Ok("primary"));
        assert_eq!(
            parse("192.0.2.0/24,::/0").as_deref(),
            Ok("192.0.2.0/24,::/0")
        );
        assert_eq!(NodePortAddresses::parse(&[]), Ok(NodePortAddresses::All));
        for (text, error) in [
            ("192.0.2.1", ParseError::NotOne("192.0.2.1".to_owned())),
            (
                "192.0.02.0/24",
                ParseError::NotOne("192.0.02.0/24".to_owned()),
            ),
            (
                "fe80::1%eth0/64",
                ParseError::NotOne("fe80::1%eth0/64".to_owned()),
            ),
            ("", ParseError::NotOne(String::new())),
            (
                "primary,192.0.2.0/24",
                ParseError::NotAlone("primary".to_owned()),
            ),
            ("::/0,all", ParseError::NotAlone("all".to_owned())),
        ] {
            assert_eq!(parse(text), Err(error));
        }
    }
}
