//! What stories demand of the network.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, bail};

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

/// Waits until a request is refused, at once and not by silence.
pub fn refused(from: &str, transport: Transport, to: SocketAddr) -> Result<()> {
    eventually(
        &format!("{from} is refused at {to} over {transport:?}"),
        || {
            Ok(match probe(from, transport, to)? {
                Answer::Refused => Ok(()),
                other => Err(format!("got {other}")),
            })
        },
    )
}

/// The client address that a server saw in one request.
pub fn seen_client(from: &str, transport: Transport, to: SocketAddr) -> Result<IpAddr> {
    match probe(from, transport, to)? {
        Answer::From { client, .. } => Ok(client),
        other => bail!("{from} asks {to}: {other}"),
    }
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
