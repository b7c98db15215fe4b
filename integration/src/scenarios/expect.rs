//! What stories demand of the network.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail};

use super::Lab;
use crate::guest::namespace::inside;
use crate::guest::probe::{Answer, Transport, probe};
use crate::guest::sh_in;
use crate::guest::topology::{CLIENT, node_v4, node_v6};
use crate::guest::wait::eventually;

/// An address and port as text, an IPv6 address in brackets or not.
pub fn at(addr: &str, port: u16) -> Result<SocketAddr> {
    Ok(SocketAddr::new(addr.parse::<IpAddr>()?, port))
}

/// A node's addresses in both families.
pub fn node_addresses(node: &str) -> [String; 2] {
    [node_v4(node), node_v6(node)]
}

/// Waits until exactly these answer, each at least once in a row of requests.
pub fn answered_by(from: &str, transport: Transport, to: SocketAddr, names: &[&str]) -> Result<()> {
    let wanted: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let requests = (names.len() * 3).max(3);
    eventually(&format!("{from} asks {to} over {transport:?}"), || {
        let mut seen = BTreeSet::new();
        for _ in 0..requests {
            seen.insert(probe(from, transport, to)?.who());
            if !seen.is_subset(&wanted) {
                break;
            }
        }
        Ok(if seen == wanted {
            Ok(())
        } else {
            Err(format!("answers of {seen:?}, wanted {wanted:?}"))
        })
    })
}

/// Waits until a request is refused, at once and not by silence: over TCP by a reset, over the others
/// by an ICMP error.
pub fn refused(from: &str, transport: Transport, to: SocketAddr) -> Result<()> {
    eventually(
        &format!("{from} is refused at {to} over {transport:?}"),
        || {
            let before = icmp_errors(from)?;
            let answer = probe(from, transport, to)?;
            let by_icmp = icmp_errors(from)? > before;
            Ok(match answer {
                // A connection is refused by either, and many clients take ICMP for a passing trouble.
                Answer::Refused if transport == Transport::Tcp && by_icmp => {
                    Err("refused by ICMP and not by a reset".to_owned())
                }
                Answer::Refused => Ok(()),
                // The kernel tells an SCTP client of it only once it gives up trying.
                Answer::Timeout if transport == Transport::Sctp && by_icmp => Ok(()),
                other => Err(format!("got {other}")),
            })
        },
    )
}

/// Waits until a request gets no answer of any kind. Only a story that has seen the tuple programmed
/// can tell this from a network that leads nowhere.
pub fn silence(from: &str, transport: Transport, to: SocketAddr) -> Result<()> {
    eventually(
        &format!("{from} hears nothing of {to} over {transport:?}"),
        || {
            let before = icmp_errors(from)?;
            Ok(match probe(from, transport, to)? {
                Answer::Timeout if icmp_errors(from)? == before => Ok(()),
                other => Err(format!("got {other}")),
            })
        },
    )
}

/// How many messages "destination unreachable" a namespace has received, in both families.
pub fn icmp_errors(namespace: &str) -> Result<u64> {
    let [v4, v6] = inside(namespace, || {
        ["snmp", "snmp6"].map(|file| fs::read_to_string(format!("/proc/thread-self/net/{file}")))
    })?;
    let (v4, v6) = (v4?, v6?);
    // A line of names, then a line of numbers.
    let mut rows = v4.lines().filter(|line| line.starts_with("Icmp: "));
    let names = rows.next().unwrap_or_default().split(' ');
    let mut columns = names.zip(rows.next().unwrap_or_default().split(' '));
    let v4 = columns.find(|(name, _)| *name == "InDestUnreachs");
    let v6 = v6
        .lines()
        .filter_map(|line| line.split_once(char::is_whitespace))
        .find(|(name, _)| *name == "Icmp6InDestUnreachs");
    let count = |found: Option<(&str, &str)>| -> Result<u64> {
        let (_, number) = found.context("the kernel does not count ICMP errors")?;
        Ok(number.trim().parse()?)
    };
    Ok(count(v4)? + count(v6)?)
}

/// The client address that a server saw in one request.
pub fn seen_client(from: &str, transport: Transport, to: SocketAddr) -> Result<IpAddr> {
    match probe(from, transport, to)? {
        Answer::From { client, .. } => Ok(client),
        other => bail!("{from} asks {to}: {other}"),
    }
}

/// Waits until a node serves none of these addresses, whatever the port.
pub fn unserved<S: AsRef<str>>(lab: &Lab, node: &str, addresses: &[S]) -> Result<()> {
    let addresses: Vec<&str> = addresses.iter().map(AsRef::as_ref).collect();
    eventually(&format!("{node} serves none of {addresses:?}"), || {
        let served = lab.served(node)?;
        for addr in &addresses {
            if served.has(addr)? {
                return Ok(Err(served.to_string()));
            }
        }
        Ok(Ok(()))
    })
}

/// Waits until a node serves none of these addresses over TCP at a port.
pub fn unserved_at<S: AsRef<str>>(lab: &Lab, node: &str, addresses: &[S], port: u16) -> Result<()> {
    let tuples = addresses.iter().map(|addr| at(addr.as_ref(), port));
    let tuples: Vec<SocketAddr> = tuples.collect::<Result<_>>()?;
    eventually(&format!("{node} serves none of {tuples:?}"), || {
        let served = lab.served(node)?;
        let there = tuples
            .iter()
            .any(|to| served.at(Transport::Tcp, *to).is_some());
        Ok(if there {
            Err(served.to_string())
        } else {
            Ok(())
        })
    })
}

/// Routes an address that lies on no network from the outside client to a node.
pub fn route_from_client(addr: &str, node: &str) -> Result<()> {
    let [v4, v6] = node_addresses(node);
    if addr.contains(':') {
        sh_in(CLIENT, &format!("ip -6 route replace {addr} via {v6}"))?;
    } else {
        sh_in(CLIENT, &format!("ip route replace {addr} via {v4}"))?;
    }
    Ok(())
}
