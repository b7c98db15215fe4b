//! Which addresses of a node answer, while they come and go and while somebody else wants them.
//!
//! The agents here audit once an hour: what they follow, they follow by notifications.

use anyhow::{Result, ensure};
use serde_json::json;

use super::{Lab, answered_by, at, node_addresses};
use crate::guest::cluster::State::Ready;
use crate::guest::probe::Transport::{Tcp, Udp};
use crate::guest::probe::{Answer, probe};
use crate::guest::sh_in;
use crate::guest::topology::{CLIENT, P11, P21};
use crate::guest::wait::eventually;

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
                unlisted(host(net))?;
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
        unlisted("192.168.77.1")?;
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
    unlisted("192.168.77.2")?;
    ensure!(
        log.contains("notifications were lost"),
        "nothing was lost: this proves nothing"
    );
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

/// Waits until no virtual server has the address.
fn unlisted(addr: &str) -> Result<()> {
    let shown = if addr.contains(':') {
        format!("[{addr}]:")
    } else {
        format!("{addr}:")
    };
    eventually(&format!("no virtual server has {addr}"), || {
        let list = sh_in("n1", "ipvsadm -Ln")?;
        Ok(if list.contains(&shown) {
            Err(list)
        } else {
            Ok(())
        })
    })
}

/// The address of `ADDRESS/LENGTH`.
fn host(net: &str) -> &str {
    net.split('/').next().unwrap_or(net)
}

/// Without it an IPv6 address waits a second for somebody to object.
fn nodad(net: &str) -> &str {
    if net.contains(':') { "nodad" } else { "" }
}
