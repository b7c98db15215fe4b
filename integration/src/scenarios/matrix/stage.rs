//! The Services of the matrix, one for each policy and each state of its endpoints, all at once.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::ask::{Came, what_came};
use crate::conformance::cell::{
    Cell, Destination, Entry, FAMILIES, Family, POLICIES, Policy, SLICES, Slices, TRANSPORTS,
};
use crate::guest::cluster::State;
use crate::guest::namespace::inside;
use crate::guest::server::Server;
use crate::guest::topology::{CLIENT, NODES, POD_PORT, node_v4, node_v6, pods};
use crate::guest::wait::eventually;
use crate::guest::{sh, sh_in};
use crate::scenarios::Lab;

/// Taken down when dropped; the Services go when the story's objects do.
pub struct Stage {
    /// The endpoint on the network of its node.
    _host: Vec<Server>,
}

impl Stage {
    /// Sets everything up. Before that it makes sure that in this lab a packet to what nobody has
    /// programmed is not taken for one that was dropped.
    pub fn set(lab: &mut Lab) -> Result<Self> {
        // A client asks many times a second for what is refused; a kernel answers that once a second.
        for node in NODES {
            unlimited_icmp(|line| sh_in(node, line))?;
        }
        let host: Result<Vec<Server>> = addresses("n1")
            .iter()
            .map(|addr| Server::start_at("n1", "n1", SocketAddr::new(addr.parse()?, POD_PORT)))
            .collect();
        let stage = Self { _host: host? };
        router("-A")?;
        for entry in [Entry::WithoutEndpoint, Entry::WithEndpoint] {
            stage.enter_from_outside(entry)?;
            nothing_is_silent(entry)?;
        }
        for policy in POLICIES {
            for slices in SLICES.into_iter().filter(|s| *s != Slices::Itself) {
                publish(lab, policy, slices)?;
            }
        }
        Ok(stage)
    }

    /// Leads the outside client's packets to all VIPs to a node.
    pub fn enter_from_outside(&self, entry: Entry) -> Result<()> {
        let (v4, v6) = (node_v4(entry.node()), node_v6(entry.node()));
        for (ip, gateway, ranges) in [("ip", v4, V4_RANGES), ("ip -6", v6, V6_RANGES)] {
            for range in ranges {
                // Those of single addresses, of earlier stories.
                sh_in(CLIENT, &format!("{ip} route flush root {range}"))?;
                sh_in(CLIENT, &format!("{ip} route add {range} via {gateway}"))?;
            }
        }
        Ok(())
    }

    /// A cell, with the addresses that it takes in this lab.
    pub fn describe(&self, cell: &Cell) -> String {
        format!(
            "{:?} → {:?} {:?} {:?}, {:?}, endpoints {:?}, entered at {} [{} → {}]",
            cell.client,
            cell.destination,
            cell.transport,
            cell.family,
            cell.policy,
            cell.slices,
            cell.entry.node(),
            cell.asker(),
            target(cell).map_or_else(|error| error.to_string(), |to| to.to_string()),
        )
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = router("-D");
        for (ip, ranges) in [("ip", V4_RANGES), ("ip -6", V6_RANGES)] {
            for range in ranges {
                let _ = sh_in(CLIENT, &format!("{ip} route flush root {range}"));
            }
        }
    }
}

/// Where a cell's packet goes.
pub fn target(cell: &Cell) -> Result<SocketAddr> {
    let number = number(cell.policy, cell.slices)?;
    let port = match cell.destination {
        Destination::NodePort => node_port(number),
        _ => PORT,
    };
    let addr = address(cell.destination, cell.family, number, cell.entry);
    Ok(SocketAddr::new(addr.parse::<IpAddr>()?, port))
}

fn address(to: Destination, family: Family, number: u16, entry: Entry) -> String {
    let low = number + 128;
    match (to, family) {
        (Destination::ClusterIp, Family::V4) => format!("10.96.0.{low}"),
        (Destination::ClusterIp, Family::V6) => format!("fd00:96::{low:x}"),
        (Destination::LoadBalancerIp, Family::V4) => format!("192.168.60.{low}"),
        (Destination::LoadBalancerIp, Family::V6) => format!("fd00:60::{low:x}"),
        (Destination::ExternalIp, Family::V4) => format!("192.168.61.{low}"),
        (Destination::ExternalIp, Family::V6) => format!("fd00:61::{low:x}"),
        (Destination::NodePort, Family::V4) => node_v4(entry.node()),
        (Destination::NodePort, Family::V6) => node_v6(entry.node()),
    }
}

fn node_port(number: u16) -> u16 {
    30040 + number
}

/// Which Service a cell is about. A pod that reaches itself does so through the Service whose only
/// endpoint it is.
fn number(policy: Policy, slices: Slices) -> Result<u16> {
    let slices = if slices == Slices::Itself {
        Slices::One
    } else {
        slices
    };
    let position = SLICES.iter().position(|other| *other == slices);
    let position = u16::try_from(position.context("no such state")?)?;
    Ok(position + if policy == Policy::Local { 16 } else { 0 })
}

fn publish(lab: &mut Lab, policy: Policy, slices: Slices) -> Result<()> {
    let name = format!("{policy:?}-{slices:?}").to_lowercase();
    let number = number(policy, slices)?;
    // The entry does not matter to a VIP.
    let both = |to| FAMILIES.map(|family| address(to, family, number, Entry::WithEndpoint));
    let ports: Vec<Value> = PROTOCOLS
        .iter()
        .map(|protocol| {
            json!({
                "name": protocol.to_lowercase(), "protocol": protocol, "port": PORT,
                "targetPort": POD_PORT, "nodePort": node_port(number),
            })
        })
        .collect();
    let cluster_ips = both(Destination::ClusterIp);
    let spec = json!({
        "type": "LoadBalancer",
        "clusterIP": cluster_ips[0],
        "clusterIPs": cluster_ips,
        "externalIPs": both(Destination::ExternalIp),
        "internalTrafficPolicy": format!("{policy:?}"),
        "externalTrafficPolicy": format!("{policy:?}"),
        "ports": ports,
    });
    lab.cluster.service(&name, json!({}), spec)?;
    let [v4, v6] = both(Destination::LoadBalancerIp);
    lab.cluster.load_balancer_ips(&name, &[&v4, &v6])?;
    let named = PROTOCOLS.map(
        |protocol| json!({ "name": protocol.to_lowercase(), "protocol": protocol, "port": POD_PORT }),
    );
    for (number, family) in ["IPv4", "IPv6"].into_iter().enumerate() {
        let endpoints: Vec<Value> = slices
            .endpoints()
            .iter()
            .map(|endpoint| {
                json!({
                    "addresses": [addresses(endpoint.name)[number]],
                    "nodeName": endpoint.node,
                    "conditions": {
                        "ready": endpoint.state == State::Ready,
                        "serving": endpoint.state != State::NotReady,
                        "terminating": endpoint.state == State::Terminating,
                    },
                })
            })
            .collect();
        lab.cluster
            .endpoint_slice(&name, family, &endpoints, &named)?;
    }
    Ok(())
}

/// What a pod, a node or the outside client is reached by: IPv4, IPv6.
pub fn addresses(namespace: &str) -> [String; 2] {
    if namespace == CLIENT {
        return ["192.168.50.100".to_owned(), "fd00:50::100".to_owned()];
    }
    pods().find(|pod| pod.name() == namespace).map_or_else(
        || [node_v4(namespace), node_v6(namespace)],
        |pod| [pod.v4(), pod.v6()],
    )
}

/// All addresses of a node in a family: towards the others, and towards its pods.
pub fn addresses_of_node(node: &str, family: Family) -> Vec<String> {
    let number = node.trim_start_matches('n');
    match family {
        Family::V4 => vec![node_v4(node), format!("10.244.{number}.1")],
        Family::V6 => vec![node_v6(node), format!("fd00:244:{number}::1")],
    }
}

/// How many packets to VIPs no node has served. They end at the router, without a word: so a refusal
/// cannot come from there, and silence that does is told by this number.
pub fn unserved() -> Result<u64> {
    let mut count = 0;
    for save in ["iptables-save", "ip6tables-save"] {
        let text = sh(&format!("{save} -c -t raw"))?;
        let rules = text.lines().filter(|line| line.ends_with("-j DROP"));
        let packets = rules.filter_map(|rule| rule.strip_prefix('[')?.split(':').next());
        count += packets
            .filter_map(|number| number.parse::<u64>().ok())
            .sum::<u64>();
    }
    Ok(count)
}

fn router(change: &str) -> Result<()> {
    for (iptables, ranges) in [("iptables", V4_RANGES), ("ip6tables", V6_RANGES)] {
        for range in ranges {
            sh(&format!(
                "{iptables} -t raw {change} PREROUTING -d {range} -j DROP"
            ))?;
        }
    }
    Ok(())
}

/// What nobody has programmed is told apart from silence: at a VIP it gets out, at a node it is refused.
fn nothing_is_silent(entry: Entry) -> Result<()> {
    const UNUSED: u16 = 100;
    let clients = [CLIENT, "p12", "p32", "n2", entry.node()];
    let asked = |to| -> Result<Vec<SocketAddr>> {
        let addresses = FAMILIES.map(|family| address(to, family, UNUSED, entry));
        let parsed = addresses.iter().map(|addr| addr.parse::<IpAddr>());
        parsed
            .map(|addr| Ok(SocketAddr::new(addr?, node_port(UNUSED))))
            .collect()
    };
    let vips = [
        asked(Destination::ClusterIp)?,
        asked(Destination::LoadBalancerIp)?,
    ]
    .concat();
    let mut missing = unserved()?;
    for (from, to) in pairs(&clients, &vips) {
        send_datagram(from, to)?;
        missing += 1;
    }
    eventually("datagrams to VIPs that nobody serves get out", || {
        let now = unserved()?;
        Ok(if now >= missing {
            Ok(())
        } else {
            Err(format!("{} are missing", missing - now))
        })
    })?;
    for (from, to) in pairs(&clients, &asked(Destination::NodePort)?) {
        for transport in TRANSPORTS {
            let came = what_came(from, transport, to)?;
            ensure!(
                !matches!(came, Came::Silence | Came::Answer(_)),
                "{from} asks {to} over {transport:?}, which nobody serves: {came}"
            );
        }
    }
    Ok(())
}

/// Each client with each address.
fn pairs<'a>(
    clients: &'a [&'a str],
    to: &'a [SocketAddr],
) -> impl Iterator<Item = (&'a str, SocketAddr)> {
    clients
        .iter()
        .flat_map(|from| to.iter().map(|to| (*from, *to)))
}

fn send_datagram(from: &str, to: SocketAddr) -> Result<()> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    inside(from, || UdpSocket::bind((any, 0))?.send_to(b"who", to))??;
    Ok(())
}

fn unlimited_icmp(run: impl Fn(&str) -> Result<String>) -> Result<()> {
    run("sysctl -qw net.ipv4.icmp_ratelimit=0")?;
    run("sysctl -qw net.ipv6.icmp.ratelimit=0")?;
    Ok(())
}

const PORT: u16 = 80;
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
const V4_RANGES: [&str; 3] = ["10.96.0.0/16", "192.168.60.0/24", "192.168.61.0/24"];
const V6_RANGES: [&str; 3] = ["fd00:96::/112", "fd00:60::/64", "fd00:61::/64"];
