//! Which addresses of a node answer, while they come and go and while somebody else wants them.
//!
//! The agents here audit once an hour: what they follow, they follow by notifications.

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::{
    Lab, answered_by, at, node_addresses, refused, route_from_client, seen_client, unserved,
};
use crate::guest::cluster::State::Ready;
use crate::guest::probe::Transport::{Tcp, Udp};
use crate::guest::probe::{Answer, probe};
use crate::guest::server::Server;
use crate::guest::sh_in;
use crate::guest::topology::{CLIENT, P11, P21};
use crate::guest::wait::eventually;

/// The address of the node towards its pods, which every node has beside its own.
const INNER: [&str; 2] = ["10.244.1.1", "fd00:244:1::1"];

pub fn addresses_followed(lab: &mut Lab) -> Result<()> {
    node_port(lab)?;
    alone(lab, &[], |lab| {
        for addr in node_addresses("n1") {
            answered_by(CLIENT, Tcp, at(&addr, 30080)?, &["p11", "p21"])?;
        }
        let new = ["192.168.50.211/24", "fd00:50::211/64"];
        for _ in 0..2 {
            for net in new {
                sh_in("n1", &format!("ip addr add {net} dev eth0 {}", nodad(net)))?;
            }
            for net in new {
                for transport in [Tcp, Udp] {
                    let to = at(host(net), port_of(transport))?;
                    answered_by(CLIENT, transport, to, &["p11", "p21"])?;
                    answered_by("n1", transport, to, &["p11", "p21"])?;
                }
            }
            for net in new {
                sh_in("n1", &format!("ip addr del {net} dev eth0"))?;
                unserved(lab, "n1", &[host(net)])?;
                let answer = probe(CLIENT, Tcp, at(host(net), 30080)?)?;
                ensure!(!matches!(answer, Answer::From { .. }), "{net}: {answer}");
            }
        }
        // With an interface they come and go as well.
        sh_in("n1", "ip link add extra type veth peer name extra2")?;
        sh_in("n1", "ip addr add 192.168.77.1/24 dev extra")?;
        sh_in("n1", "ip link set extra up")?;
        answered_by("p12", Tcp, at("192.168.77.1", 30080)?, &["p11", "p21"])?;
        sh_in("n1", "ip link del extra")?;
        unserved(lab, "n1", &["192.168.77.1"])?;
        notifications_lost(lab)?;
        for addr in node_addresses("n1") {
            answered_by(CLIENT, Tcp, at(&addr, 30080)?, &["p11", "p21"])?;
        }
        Ok(())
    })
}

/// More than the agent's socket can hold, while the agent stands still: the one that counts is lost.
fn notifications_lost(lab: &mut Lab) -> Result<()> {
    sh_in("n1", "ip link add extra type veth peer name extra2")?;
    let agent = lab.agent("n1")?.pid();
    sh_in("n1", &format!("kill -STOP {agent}"))?;
    let noise: String = (0..2000)
        .map(|n| {
            format!(
                "addr add 169.254.{}.{}/32 dev extra\n",
                n / 250,
                n % 250 + 1
            )
        })
        .collect();
    std::fs::write("/run/noise", noise)?;
    let made = sh_in("n1", "ip -b /run/noise")
        .and_then(|_| sh_in("n1", "ip addr add 192.168.77.2/24 dev extra"));
    sh_in("n1", &format!("kill -CONT {agent}"))?;
    made?;
    sh_in("n1", "ip link set extra up")?;
    answered_by("p12", Tcp, at("192.168.77.2", 30080)?, &["p11", "p21"])?;
    let log = lab.agent("n1")?.log();
    sh_in("n1", "ip link del extra")?;
    unserved(lab, "n1", &["192.168.77.2"])?;
    ensure!(
        log.contains("notifications were lost"),
        "nothing was lost: this proves nothing"
    );
    Ok(())
}

pub fn addresses_chosen(lab: &mut Lab) -> Result<()> {
    node_port(lab)?;
    let inner = |index: usize| at(INNER[index], 30080);
    // One range of one family: the other family is open whole.
    alone(lab, &["--node-port-addresses", "192.168.50.0/24"], |_| {
        for addr in node_addresses("n1") {
            answered_by(CLIENT, Tcp, at(&addr, 30080)?, &["p11", "p21"])?;
        }
        answered_by("p12", Tcp, inner(1)?, &["p11", "p21"])?;
        refused("p12", Tcp, inner(0)?)
    })?;
    // The primary ones, while the Node object changes.
    let result = alone(lab, &["--node-port-addresses", "primary"], |lab| {
        // Without any it is the default route that says which.
        for addr in node_addresses("n1") {
            answered_by(CLIENT, Tcp, at(&addr, 30080)?, &["p11", "p21"])?;
        }
        for index in 0..2 {
            refused("p12", Tcp, inner(index)?)?;
        }
        lab.cluster
            .node_addresses("n1", &[("InternalIP", INNER[0]), ("InternalIP", INNER[1])])?;
        for index in 0..2 {
            answered_by("p12", Tcp, inner(index)?, &["p11", "p21"])?;
        }
        for addr in node_addresses("n1") {
            refused(CLIENT, Tcp, at(&addr, 30080)?)?;
        }
        let [v4, v6] = node_addresses("n1");
        lab.cluster.node_addresses(
            "n1",
            &[
                ("ExternalIP", INNER[0]),
                ("InternalIP", &v4),
                ("InternalIP", &v6),
            ],
        )?;
        for addr in [v4, v6] {
            answered_by(CLIENT, Tcp, at(&addr, 30080)?, &["p11", "p21"])?;
        }
        refused("p12", Tcp, inner(0)?)
    });
    lab.cluster.node_addresses("n1", &[])?;
    result
}

pub fn never_there(lab: &mut Lab) -> Result<()> {
    let mut vips = node_port(lab)?;
    let [floating, balanced] = [
        ["192.168.60.21", "fd00:60::21"],
        ["192.168.60.22", "fd00:60::22"],
    ];
    lab.cluster
        .load_balancer_ips("web", &[floating, balanced].concat())?;
    vips.extend([floating, balanced].concat().into_iter().map(str::to_owned));
    let [v4, v6] = node_addresses("n1");
    lab.cluster
        .node_addresses("n1", &[("InternalIP", &v4), ("InternalIP", &v6)])?;
    // As keepalived does it: an IPv6 one is deprecated, so that the node does not send from it.
    sh_in("n1", "ip addr add 192.168.60.21/32 dev eth0")?;
    sh_in(
        "n1",
        "ip addr add fd00:60::21/128 dev eth0 preferred_lft 0 nodad",
    )?;
    let result = alone(lab, &[], |lab| {
        for addr in [v4, v6] {
            answered_by(CLIENT, Tcp, at(&addr, 30080)?, &["p11", "p21"])?;
            answered_by("n1", Tcp, at(&addr, 30080)?, &["p11", "p21"])?;
        }
        for addr in ["127.0.0.1", "127.0.0.2", "::1"] {
            refused("n1", Tcp, at(addr, 30080)?)?;
        }
        for vip in &vips {
            route_from_client(vip, "n1")?;
            for from in ["p12", "n1", CLIENT] {
                answered_by(from, Tcp, at(vip, 80)?, &["p11", "p21"])?;
                let answer = probe(from, Tcp, at(vip, 30080)?)?;
                ensure!(
                    !matches!(answer, Answer::From { .. }),
                    "{from} at {vip}:30080: {answer}"
                );
            }
        }
        // Nothing listens, and nothing is left when the Service goes.
        let listening = sh_in("n1", "ss -Hltun")?;
        ensure!(
            !listening.contains(":30080"),
            "a socket listens:\n{listening}"
        );
        lab.cluster.delete("Service", "web")?;
        for addr in node_addresses("n1") {
            for from in [CLIENT, "p12", "n1"] {
                refused(from, Tcp, at(&addr, 30080)?)?;
            }
        }
        // The next one may have it at once.
        node_port(lab)?;
        for addr in node_addresses("n1") {
            answered_by(CLIENT, Tcp, at(&addr, 30080)?, &["p11", "p21"])?;
        }
        Ok(())
    });
    sh_in("n1", "ip addr del 192.168.60.21/32 dev eth0")?;
    sh_in("n1", "ip addr del fd00:60::21/128 dev eth0")?;
    lab.cluster.node_addresses("n1", &[])?;
    result
}

pub fn claims_refused(lab: &mut Lab) -> Result<()> {
    let api_server = api_server_of(lab)?;
    let [v4, v6] = node_addresses("n1");
    // Somebody else's, each of them, and permitted by the operator's list.
    let taken = [
        v4.as_str(),
        v6.as_str(),
        "192.168.50.254",
        "fd00:50::fe",
        &api_server,
    ];
    let claimed = [&taken[..], &["192.168.61.8", "fd00:61::8"]].concat();
    let spec = json!({ "type": "LoadBalancer", "externalIPs": claimed });
    lab.cluster.service("web", json!({}), spec)?;
    lab.cluster
        .load_balancer_ips("web", &["192.168.60.23", "192.168.50.254"])?;
    // A load balancer that hands the nodes' addresses out.
    let plain = json!({
        "type": "LoadBalancer",
        "ports": [{ "name": "http", "port": 8090, "nodePort": 30090 }],
    });
    lab.cluster.service("klipper", json!({}), plain)?;
    lab.cluster.load_balancer_ips("klipper", &[&v4, &v6])?;
    for name in ["web", "klipper"] {
        lab.cluster.endpoints(name, &[(P11, Ready), (P21, Ready)])?;
    }
    let list = format!("0.0.0.0/0,::/0,{api_server}/32");
    alone(lab, &["--external-ip-cidr", &list], |lab| {
        let _daemon = Server::start("n1", "daemon", 80)?;
        for vip in ["192.168.61.8", "fd00:61::8", "192.168.60.23"] {
            route_from_client(vip, "n1")?;
            answered_by(CLIENT, Tcp, at(vip, 80)?, &["p11", "p21"])?;
        }
        for addr in [&v4, &v6] {
            answered_by(CLIENT, Tcp, at(addr, 80)?, &["daemon"])?;
            // What the load balancer was given is served there, and so are NodePorts.
            for port in [8090, 30090] {
                for from in [CLIENT, "p12", "n1"] {
                    answered_by(from, Tcp, at(addr, port)?, &["p11", "p21"])?;
                }
            }
        }
        nodes_own_as_balancer(lab, &[&v4, &v6])?;
        let log = lab.agent("n1")?.log();
        for addr in taken {
            let told = log
                .lines()
                .any(|line| line.contains("refused") && line.contains(addr));
            ensure!(told, "no log line says that {addr} was refused");
        }
        for addr in ["192.168.50.254", "[fd00:50::fe]", &api_server] {
            let addr = addr.trim_matches(['[', ']']);
            ensure!(!lab.served("n1")?.has(addr)?, "{addr} is served");
        }
        Ok(())
    })
}

/// The node's own address as a load balancer's means what any other means.
fn nodes_own_as_balancer(lab: &mut Lab, addresses: &[&String]) -> Result<()> {
    let local = json!({
        "type": "LoadBalancer", "externalTrafficPolicy": "Local",
        "ports": [
            { "name": "http", "port": 8090, "nodePort": 30090 },
            { "name": "udp", "port": 8090, "nodePort": 30091, "protocol": "UDP" },
        ],
    });
    let named = [("http", "TCP"), ("udp", "UDP")];
    lab.cluster.service("klipper", json!({}), local)?;
    lab.cluster
        .endpoints_of_ports("klipper", &[(P11, Ready), (P21, Ready)], &named)?;
    for addr in addresses {
        for transport in [Tcp, Udp] {
            let to = at(addr, 8090)?;
            answered_by(CLIENT, transport, to, &["p11"])?;
            // The address was another Service's before, whose clients are masqueraded until all is changed.
            eventually("the outside client keeps its address", || {
                let client = seen_client(CLIENT, transport, to)?.to_string();
                Ok(if client.ends_with("100") {
                    Ok(())
                } else {
                    Err(format!("{to}: masqueraded as {client}"))
                })
            })?;
            for from in ["p12", "n1"] {
                answered_by(from, transport, to, &["p11", "p21"])?;
            }
        }
    }
    lab.cluster.endpoints_of_ports("klipper", &[], &named)?;
    for addr in addresses {
        for from in [CLIENT, "p12", "n1"] {
            for transport in [Tcp, Udp] {
                refused(from, transport, at(addr, 8090)?)?;
            }
        }
    }
    Ok(())
}

/// Gives a Service with a NodePort 30080, over TCP and UDP, and its cluster IPs.
fn node_port(lab: &mut Lab) -> Result<Vec<String>> {
    let spec = json!({ "type": "LoadBalancer", "ports": [
        { "name": "http", "port": 80, "nodePort": 30080 },
        { "name": "udp", "port": 80, "nodePort": 30081, "protocol": "UDP" },
    ] });
    let vips = lab.cluster.service("web", json!({}), spec)?;
    let named = [("http", "TCP"), ("udp", "UDP")];
    lab.cluster
        .endpoints_of_ports("web", &[(P11, Ready), (P21, Ready)], &named)?;
    Ok(vips)
}

fn port_of(transport: crate::guest::probe::Transport) -> u16 {
    if transport == Udp { 30081 } else { 30080 }
}

/// Runs a part of a story with an agent of its own in n1, which audits once an hour.
fn alone(lab: &mut Lab, args: &[&str], story: impl FnOnce(&mut Lab) -> Result<()>) -> Result<()> {
    lab.stop_agent("n1")?;
    lab.start_agent_with("n1", &[&["--audit-interval", "1h"], args].concat())?;
    let result = lab.agent("n1")?.synced().and_then(|()| story(lab));
    if result.is_err() {
        // As it was when it failed.
        lab.diagnose();
    }
    lab.stop_agent("n1")?;
    result
}

/// The address that the API server is reached at.
fn api_server_of(lab: &Lab) -> Result<String> {
    let url = &lab.cluster.server.url;
    let host = url
        .split("://")
        .nth(1)
        .and_then(|rest| rest.split(':').next());
    let host = host.context("the API server's URL has no host")?;
    if host.parse::<std::net::Ipv4Addr>().is_err() {
        bail!("{host} is no address");
    }
    Ok(host.to_owned())
}

/// The address of `ADDRESS/LENGTH`.
fn host(net: &str) -> &str {
    net.split('/').next().unwrap_or(net)
}

/// Without it an IPv6 address waits a second for somebody to object.
fn nodad(net: &str) -> &str {
    if net.contains(':') { "nodad" } else { "" }
}
