//! Three nodes with two pods each and an outside client on one network, all in both families.
//!
//! The guest's own namespace is the router between that network and the API server.

use anyhow::Result;

use super::server::Server;
use super::{sh, sh_in};

/// Names of the nodes.
pub const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// The outside client.
pub const CLIENT: &str = "ext";
/// What pods listen on.
pub const POD_PORT: u16 = 8080;

/// Namespaces, cables, routes and the pods' servers.
pub struct Topology {
    _servers: Vec<Server>,
}

/// A pod: its name is its namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pod {
    /// 1 to 3.
    pub node: u8,
    /// 1 or 2.
    pub number: u8,
}

impl Pod {
    pub fn name(self) -> String {
        format!("p{}{}", self.node, self.number)
    }

    pub fn node_name(self) -> &'static str {
        NODES[usize::from(self.node) - 1]
    }

    pub fn v4(self) -> String {
        format!("10.244.{}.{}", self.node, self.number + 1)
    }

    pub fn v6(self) -> String {
        format!("fd00:244:{}::{}", self.node, self.number + 1)
    }

    /// Where the pods of its node are.
    pub fn cidrs(self) -> [String; 2] {
        let node = self.node;
        [
            format!("10.244.{node}.0/24"),
            format!("fd00:244:{node}::/64"),
        ]
    }
}

// The pods that stories name most.
pub const P11: Pod = Pod { node: 1, number: 1 };
pub const P12: Pod = Pod { node: 1, number: 2 };
pub const P21: Pod = Pod { node: 2, number: 1 };
pub const P31: Pod = Pod { node: 3, number: 1 };

/// All pods.
pub fn pods() -> impl Iterator<Item = Pod> {
    (1..=3).flat_map(|node| (1..=2).map(move |number| Pod { node, number }))
}

/// A node's address in the network that nodes and the client share.
pub fn node_v4(node: &str) -> String {
    format!("192.168.50.1{}", &node[1..])
}

pub fn node_v6(node: &str) -> String {
    format!("fd00:50::1{}", &node[1..])
}

impl Topology {
    pub fn new() -> Result<Self> {
        for sysctl in ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"] {
            sh(&format!("sysctl -qw {sysctl}"))?;
        }
        sh("ip link add lan type bridge")?;
        sh("ip link set lan up")?;
        sh("ip addr add 192.168.50.254/24 dev lan")?;
        sh("ip -6 addr add fd00:50::fe/64 dev lan nodad")?;
        for (name, number) in [("n1", 11), ("n2", 12), ("n3", 13), (CLIENT, 100)] {
            member(name, number)?;
        }
        for node in 1..=3 {
            cluster_network(node)?;
        }
        for pod in pods() {
            plug_in(pod)?;
        }
        let client_routes = (1..=3).map(|node| (node, NODES[node - 1]));
        for (number, node) in client_routes {
            let (v4, v6) = (node_v4(node), node_v6(node));
            sh_in(
                CLIENT,
                &format!("ip route add 10.244.{number}.0/24 via {v4}"),
            )?;
            sh_in(
                CLIENT,
                &format!("ip -6 route add fd00:244:{number}::/64 via {v6}"),
            )?;
        }
        let servers: Result<Vec<Server>> = pods()
            .map(|pod| Server::start(&pod.name(), &pod.name(), POD_PORT))
            .collect();
        Ok(Self { _servers: servers? })
    }
}

/// A namespace on the shared network.
fn member(name: &str, number: u8) -> Result<()> {
    namespace(name)?;
    sh(&format!(
        "ip link add l{name} type veth peer name eth0 netns {name}"
    ))?;
    sh(&format!("ip link set l{name} master lan up"))?;
    sh_in(
        name,
        &format!("ip addr add 192.168.50.{number}/24 dev eth0"),
    )?;
    sh_in(
        name,
        &format!("ip -6 addr add fd00:50::{number}/64 dev eth0 nodad"),
    )?;
    sh_in(name, "ip link set eth0 up")?;
    sh_in(name, "ip route add default via 192.168.50.254")?;
    sh_in(name, "ip -6 route add default via fd00:50::fe")?;
    Ok(())
}

/// A node's routes to the pods of the others.
fn cluster_network(node: u8) -> Result<()> {
    let name = NODES[usize::from(node) - 1];
    for sysctl in ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"] {
        sh_in(name, &format!("sysctl -qw {sysctl}"))?;
    }
    for other in (1..=3).filter(|other| *other != node) {
        let via = NODES[usize::from(other) - 1];
        sh_in(
            name,
            &format!("ip route add 10.244.{other}.0/24 via {}", node_v4(via)),
        )?;
        sh_in(
            name,
            &format!("ip -6 route add fd00:244:{other}::/64 via {}", node_v6(via)),
        )?;
    }
    Ok(())
}

fn plug_in(pod: Pod) -> Result<()> {
    let (name, node) = (pod.name(), pod.node_name());
    namespace(&name)?;
    sh(&format!(
        "ip link add v{name} netns {node} type veth peer name eth0 netns {name}"
    ))?;
    sh_in(node, &format!("ip link set v{name} up"))?;
    sh_in(&name, "ip link set eth0 up")?;
    // Each pod has a cable of its own to its node, which is all its network.
    for (ip, pod_addr, gateway, bits) in [
        ("ip", pod.v4(), format!("10.244.{}.1", pod.node), 32),
        ("ip -6", pod.v6(), format!("fd00:244:{}::1", pod.node), 128),
    ] {
        let dad = if bits == 128 { " nodad" } else { "" };
        sh_in(
            node,
            &format!("{ip} addr add {gateway}/{bits} dev v{name}{dad}"),
        )?;
        sh_in(
            node,
            &format!("{ip} route add {pod_addr}/{bits} dev v{name}"),
        )?;
        sh_in(
            &name,
            &format!("{ip} addr add {pod_addr}/{bits} dev eth0{dad}"),
        )?;
        sh_in(&name, &format!("{ip} route add {gateway}/{bits} dev eth0"))?;
        sh_in(
            &name,
            &format!("{ip} route add default via {gateway} dev eth0"),
        )?;
    }
    Ok(())
}

fn namespace(name: &str) -> Result<()> {
    sh(&format!("ip netns add {name}"))?;
    for scope in ["all", "default"] {
        sh_in(
            name,
            &format!("sysctl -qw net.ipv6.conf.{scope}.accept_dad=0"),
        )?;
    }
    sh_in(name, "ip link set lo up")?;
    Ok(())
}
