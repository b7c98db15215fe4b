//! Nodes that were set up otherwise, and who could abuse how they were.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::dataplane::Dataplane;
use crate::guest::cluster::State::Ready;
use crate::guest::probe::{Answer, Transport::Tcp, probe};
use crate::guest::server::Server;
use crate::guest::sh_in;
use crate::guest::topology::{CLIENT, NODES, P11, P21, POD_PORT};
use crate::scenarios::{Lab, answered_by, at, node_addresses, route_from_client};

/// Docker sets the policy of FORWARD to DROP: what Services led to pods elsewhere was lost, or the
/// answers were.
pub fn forward_policy(lab: &mut Lab) -> Result<()> {
    let spec =
        json!({ "type": "NodePort", "ports": [{ "name": "http", "port": 80, "nodePort": 30080 }] });
    let vips = lab.cluster.service("web", json!({}), spec)?;
    lab.cluster
        .endpoints("web", &[(P11, Ready), (P21, Ready)])?;
    let policy = |policy: &str| -> Result<()> {
        for tool in ["iptables", "ip6tables"] {
            sh_in("n1", &format!("{tool} -w -P FORWARD {policy}"))?;
        }
        Ok(())
    };
    policy("DROP")?;
    let lost = || -> Result<()> {
        // Nothing else is let through.
        for pod in [P21.v4(), P21.v6()] {
            let answer = probe("p12", Tcp, at(&pod, POD_PORT)?)?;
            ensure!(answer == Answer::Timeout, "FORWARD is open: {answer}");
        }
        for vip in &vips {
            route_from_client(vip, "n1")?;
            // Whom iptables leads as they are, from pod to pod, is for FORWARD to say: network policies
            // stand there.
            let pods: &[&str] = match lab.program.dataplane {
                Dataplane::Ipvs => &["p11", "p12"],
                Dataplane::Iptables => &[],
            };
            for from in pods.iter().chain(&["n1", CLIENT]) {
                answered_by(from, Tcp, at(vip, 80)?, &["p11", "p21"])?;
            }
        }
        for addr in node_addresses("n1") {
            for from in ["p12", CLIENT] {
                answered_by(from, Tcp, at(&addr, 30080)?, &["p11", "p21"])?;
            }
        }
        Ok(())
    };
    let result = lost();
    policy("ACCEPT")?;
    result
}

/// CVE-2020-8558: to make NodePorts answer on 127.0.0.1 a proxy set `route_localnet`, and everybody on the
/// node's network reached what listens there.
pub fn loopback_reached(lab: &mut Lab) -> Result<()> {
    let spec =
        json!({ "type": "NodePort", "ports": [{ "name": "http", "port": 80, "nodePort": 30080 }] });
    lab.cluster.service("web", json!({}), spec)?;
    lab.cluster.endpoints("web", &[(P11, Ready)])?;
    let _secret = Server::start_at("n1", "secret", at("127.0.0.1", 9999)?)?;
    for addr in node_addresses("n1") {
        answered_by(CLIENT, Tcp, at(&addr, 30080)?, &["p11"])?;
    }
    answered_by("n1", Tcp, at("127.0.0.1", 9999)?, &["secret"])?;
    for node in NODES {
        let set = sh_in(node, "sysctl net.ipv4.conf -r \\.route_localnet$ -a")?;
        ensure!(
            set.contains("route_localnet") && !set.contains("= 1"),
            "{node}:\n{set}"
        );
    }
    // A neighbour that sends what should never leave a host.
    let via = node_addresses("n1");
    for from in [CLIENT, "n2"] {
        let rule = "ip rule add pref 5 to 127.0.0.1 dport 9999 lookup 99";
        sh_in(from, "sysctl -qw net.ipv4.conf.all.route_localnet=1")?;
        sh_in(from, rule)?;
        sh_in(
            from,
            &format!("ip route add 127.0.0.1 via {} table 99", via[0]),
        )?;
        let answer = probe(from, Tcp, at("127.0.0.1", 9999)?);
        sh_in(from, "ip route flush table 99")?;
        sh_in(from, &rule.replace(" add ", " del "))?;
        sh_in(from, "sysctl -qw net.ipv4.conf.all.route_localnet=0")?;
        let answer = answer?;
        ensure!(
            !matches!(answer, Answer::From { .. }),
            "{from} reaches the loopback of n1: {answer}"
        );
    }
    Ok(())
}

/// Addresses of one family in the Service of the other broke the whole Service, or the proxy.
pub fn families_mixed(lab: &mut Lab) -> Result<()> {
    let mut single = Vec::new();
    for (name, family) in [("four", "IPv4"), ("six", "IPv6")] {
        let spec = json!({ "ipFamilyPolicy": "SingleStack", "ipFamilies": [family] });
        let vips = lab.cluster.service(name, json!({}), spec)?;
        ensure!(vips.len() == 1, "{name} has {vips:?}");
        // Slices of both families.
        lab.cluster.endpoints(name, &[(P11, Ready), (P21, Ready)])?;
        single.extend(vips);
    }
    for vip in &single {
        for from in ["p12", "n3"] {
            answered_by(from, Tcp, at(vip, 80)?, &["p11", "p21"])?;
        }
    }
    for node in NODES {
        let served = lab.served(node)?;
        for vip in &single {
            let balance = served.at(Tcp, at(vip, 80)?);
            let endpoints = balance.map_or(0, |balance| balance.endpoints.len());
            ensure!(endpoints == 2, "{endpoints} endpoints of {vip}:\n{served}");
        }
    }
    Ok(())
}
