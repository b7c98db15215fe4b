//! Addresses that were lost with somebody else, taken, announced by everybody or used as a source.

use std::io::Read;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};

use super::shown;
use crate::dataplane::Dataplane;
use crate::guest::cluster::State::Ready;
use crate::guest::namespace::inside;
use crate::guest::probe::Transport::{Tcp, Udp};
use crate::guest::probe::{Answer, probe};
use crate::guest::sh_in;
use crate::guest::topology::{CLIENT, NODES, P11, P21, P31};
use crate::guest::wait::eventually;
use crate::scenarios::{
    Lab, answered_by, at, node_addresses, refused, route_from_client, seen_client, unserved_at,
};

/// Two Services had one external IP, each with a port of its own: when one went the address went, and
/// the other was down.
pub fn shared_lost(lab: &mut Lab) -> Result<()> {
    for (name, port, pod) in [("one", 80, P11), ("two", 81, P21)] {
        let spec = json!({
            "externalIPs": SHARED,
            "ports": [{ "name": "http", "port": port, "targetPort": 8080 }],
        });
        lab.cluster.service(name, json!({}), spec)?;
        lab.cluster.endpoints(name, &[(pod, Ready)])?;
    }
    let everywhere = |port: u16, name: &str| -> Result<()> {
        for vip in SHARED {
            route_from_client(vip, "n3")?;
            for from in ["p12", "n1", CLIENT] {
                answered_by(from, Tcp, at(vip, port)?, &[name])?;
            }
        }
        Ok(())
    };
    everywhere(80, "p11")?;
    everywhere(81, "p21")?;
    lab.cluster.delete("Service", "one")?;
    for node in ["n1", "n3"] {
        unserved_at(lab, node, &SHARED, 80)?;
    }
    everywhere(81, "p21")?;
    lab.cluster.delete("Service", "two")?;
    for node in ["n1", "n3"] {
        unserved_at(lab, node, &SHARED, 81)?;
        let routes = ["ip route show table 10256", "ip -6 route show table 10256"];
        let routes = routes
            .iter()
            .filter(|_| lab.program.dataplane == Dataplane::Ipvs);
        for table in routes {
            eventually(&format!("{node} has no route for it"), || {
                let routes = sh_in(node, table)?;
                let there = SHARED.iter().any(|vip| routes.contains(vip));
                Ok(if there { Err(routes) } else { Ok(()) })
            })?;
        }
    }
    Ok(())
}

/// Two Services claimed one address and port: which one had it depended on who came last, and both lost it
/// when one went.
pub fn claimed_twice(lab: &mut Lab) -> Result<()> {
    let spec = json!({ "externalIPs": SHARED });
    lab.cluster.service("elder", json!({}), spec.clone())?;
    lab.cluster.endpoints("elder", &[(P11, Ready)])?;
    eventually("a Service is younger by a second", || {
        lab.cluster.service("a-younger", json!({}), spec.clone())?;
        let (elder, younger) = (
            lab.cluster.made_at("elder")?,
            lab.cluster.made_at("a-younger")?,
        );
        if younger > elder {
            return Ok(Ok(()));
        }
        lab.cluster.delete("Service", "a-younger")?;
        Ok(Err(format!("{younger}, as the elder")))
    })?;
    lab.cluster.endpoints("a-younger", &[(P21, Ready)])?;
    let everywhere = |name: &str| -> Result<()> {
        for vip in SHARED {
            for from in ["p12", "n1", "n3"] {
                answered_by(from, Tcp, at(vip, 80)?, &[name])?;
            }
        }
        Ok(())
    };
    everywhere("p11")?;
    // Neither a change of the younger nor a restart turns it round.
    lab.cluster.endpoints("a-younger", &[(P31, Ready)])?;
    lab.stop_agent("n1")?;
    lab.start_agent("n1")?;
    lab.agent("n1")?.synced()?;
    everywhere("p11")?;
    lab.cluster.delete("Service", "elder")?;
    everywhere("p31")?;
    lab.cluster.delete("Service", "a-younger")?;
    unserved_at(lab, "n1", &SHARED, 80)
}

/// Every node answered ARP for a load balancer's address in its own network, and the load balancer's own
/// answer was lost among them.
pub fn arp_answered(lab: &mut Lab) -> Result<()> {
    let spec = json!({ "type": "LoadBalancer" });
    lab.cluster.service("web", json!({}), spec)?;
    let neighbours = ["192.168.50.200", "fd00:50::200"];
    lab.cluster.load_balancer_ips("web", &neighbours)?;
    lab.cluster
        .endpoints("web", &[(P11, Ready), (P21, Ready)])?;
    for vip in neighbours {
        for from in ["p12", "p32", "n1", "n3"] {
            answered_by(from, Tcp, at(vip, 80)?, &["p11", "p21"])?;
        }
        for node in NODES {
            let addresses = sh_in(node, "ip -o addr")?;
            ensure!(
                !addresses.contains(vip),
                "{vip} is on an interface of {node}:\n{addresses}"
            );
        }
        let _ = sh_in(CLIENT, &format!("ip neigh del {vip} dev eth0"));
        let _ = sh_in(CLIENT, &format!("ip route del {vip}"));
        let answer = probe(CLIENT, Tcp, at(vip, 80)?)?;
        ensure!(
            !matches!(answer, Answer::From { .. } | Answer::Refused),
            "{vip} without anybody who announces it: {answer}"
        );
        let known = sh_in(CLIENT, &format!("ip neigh show {vip}"))?;
        ensure!(
            !known.is_empty() && !known.contains("lladdr"),
            "somebody says he is {vip}, or nobody was asked: {known:?}"
        );
        // Somebody announces it: here that is a route.
        route_from_client(vip, "n2")?;
        answered_by(CLIENT, Tcp, at(vip, 80)?, &["p11", "p21"])?;
    }
    Ok(())
}

/// The node's own requests to a Service left from a VIP, since some interface had it, and did not come
/// back or met a policy for somebody else.
pub fn vip_as_source(lab: &mut Lab) -> Result<()> {
    let spec = json!({ "type": "LoadBalancer", "ports": [
        { "name": "tcp", "port": 80, "protocol": "TCP", "targetPort": 8080 },
        { "name": "udp", "port": 80, "protocol": "UDP", "targetPort": 8080 },
    ] });
    let mut vips = lab.cluster.service("web", json!({}), spec)?;
    let balanced = ["192.168.60.31", "fd00:60::31"];
    lab.cluster.load_balancer_ips("web", &balanced)?;
    vips.extend(balanced.map(str::to_owned));
    let named = [("tcp", "TCP"), ("udp", "UDP")];
    for pod in [P11, P21] {
        lab.cluster
            .endpoints_of_ports("web", &[(pod, Ready)], &named)?;
        for node in ["n1", "n3"] {
            let own = sh_in(node, "ip -o addr")?;
            for vip in &vips {
                for transport in [Tcp, Udp] {
                    let to = at(vip, 80)?;
                    answered_by(node, transport, to, &[&pod.name()])?;
                    let client = seen_client(node, transport, to)?.to_string();
                    ensure!(
                        !vips.contains(&client) && own.contains(&format!(" {client}/")),
                        "{node} asks {to} over {transport:?} as {client}"
                    );
                }
            }
        }
    }
    Ok(())
}

/// A host port of the network plugin (a DNAT rule for whatever is local to the node) took the requests
/// to every Service with the same port: VIPs were local addresses.
pub fn host_port_steals(lab: &mut Lab) -> Result<()> {
    let spec = json!({ "type": "LoadBalancer" });
    let mut vips = lab.cluster.service("web", json!({}), spec)?;
    let balanced = ["192.168.60.32", "fd00:60::32"];
    lab.cluster.load_balancer_ips("web", &balanced)?;
    vips.extend(balanced.map(str::to_owned));
    lab.cluster.endpoints("web", &[(P11, Ready)])?;
    // As the plugin `portmap` writes it, before everybody else's.
    let mut rules = Vec::new();
    for (tool, to) in [
        ("iptables", shown(&P31.v4(), 8080)),
        ("ip6tables", shown(&P31.v6(), 8080)),
    ] {
        for chain in ["PREROUTING", "OUTPUT"] {
            let rule = format!(
                "{chain} -p tcp --dport 80 -m addrtype --dst-type LOCAL -j DNAT --to-destination {to}"
            );
            sh_in("n1", &format!("{tool} -w -t nat -I {rule}"))?;
            rules.push(format!("{tool} -w -t nat -D {rule}"));
        }
    }
    let mut stolen = || -> Result<()> {
        // The host port itself serves.
        for addr in node_addresses("n1") {
            answered_by("p12", Tcp, at(&addr, 80)?, &["p31"])?;
        }
        for vip in &vips {
            route_from_client(vip, "n1")?;
            for from in ["p12", "n1", CLIENT] {
                answered_by(from, Tcp, at(vip, 80)?, &["p11"])?;
            }
        }
        lab.cluster.endpoints("web", &[(P21, Ready)])?;
        for vip in &vips {
            for from in ["p12", "n1", CLIENT] {
                answered_by(from, Tcp, at(vip, 80)?, &["p21"])?;
            }
        }
        lab.cluster.endpoints("web", &[])?;
        for vip in &vips {
            // Not from the node: while real servers drain IPVS refuses its processes, by ICMP.
            for from in ["p12", CLIENT] {
                refused(from, Tcp, at(vip, 80)?)?;
            }
        }
        Ok(())
    };
    let result = stolen();
    for rule in rules {
        sh_in("n1", &rule)?;
    }
    result
}

/// An endpoint that was a VIP itself sent a node's packets round and round.
pub fn endpoint_is_vip(lab: &mut Lab) -> Result<()> {
    let vips = lab.cluster.service("loop", json!({}), json!({}))?;
    let port = [json!({ "name": "http", "port": 80, "protocol": "TCP" })];
    for (family, vip) in ["IPv4", "IPv6"].into_iter().zip(&vips) {
        let endpoints = [json!({ "addresses": [vip], "conditions": { "ready": true } })];
        lab.cluster
            .endpoint_slice("loop", family, &endpoints, &port)?;
    }
    for vip in &vips {
        for from in ["p12", "n1"] {
            refused(from, Tcp, at(vip, 80)?)?;
        }
    }
    lab.cluster
        .slice("loop", "good", &[(P11, Ready)], &[("http", "TCP")])?;
    for vip in &vips {
        for from in ["p12", "n1"] {
            answered_by(from, Tcp, at(vip, 80)?, &["p11"])?;
        }
    }
    Ok(())
}

/// A ping of a VIP was answered by whichever node it came to, whatever the Service was worth. Here
/// nobody answers, and the node itself is pinged as ever.
pub fn ping_answered(lab: &mut Lab) -> Result<()> {
    let vips = lab.cluster.service("web", json!({}), json!({}))?;
    lab.cluster.endpoints("web", &[(P11, Ready)])?;
    for from in ["p12", "n1"] {
        inside(from, || {
            std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0")
        })??;
        for addr in node_addresses("n2") {
            eventually(&format!("{from} pings {addr}"), || {
                Ok(match pinged(from, &addr)? {
                    true => Ok(()),
                    false => Err("no answer".to_owned()),
                })
            })?;
        }
        for vip in &vips {
            answered_by(from, Tcp, at(vip, 80)?, &["p11"])?;
            ensure!(!pinged(from, vip)?, "a ping of {vip} is answered to {from}");
        }
    }
    Ok(())
}

/// Sends one echo request and waits for what comes.
fn pinged(from: &str, addr: &str) -> Result<bool> {
    let to = at(addr, 0)?;
    inside(from, || {
        let (protocol, kind) = if to.is_ipv4() {
            (Protocol::ICMPV4, 8)
        } else {
            (Protocol::ICMPV6, 128)
        };
        let mut socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(protocol))?;
        socket.connect(&to.into())?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        // The kernel writes checksum and identifier.
        let request = [kind, 0, 0, 0, 0, 0, 0, 1];
        if socket.send(&request).is_err() {
            return Ok(false);
        }
        Ok(socket.read(&mut [0; 64]).is_ok())
    })?
}

const SHARED: [&str; 2] = ["192.168.61.58", "fd00:61::58"];
