//! Who reaches what, and with which address.

use anyhow::{Result, ensure};
use serde_json::json;

use super::{Lab, answered_by, at, node_addresses, route_from_client, seen_client};
use crate::guest::cluster::State::Ready;
use crate::guest::probe::Transport::{Sctp, Tcp, Udp};
use crate::guest::topology::{CLIENT, P11, P12, P21};

pub fn cluster_ip(lab: &mut Lab) -> Result<()> {
    let vips = lab.cluster.service("web", json!({}), json!({}))?;
    lab.cluster
        .endpoints("web", &[(P11, Ready), (P21, Ready)])?;
    for vip in &vips {
        route_from_client(vip, "n3")?;
        let to = at(vip, 80)?;
        // A pod beside an endpoint, one elsewhere, nodes with and without endpoints, outside.
        for from in ["p12", "p32", "n1", "n3", CLIENT] {
            answered_by(from, Tcp, to, &["p11", "p21"])?;
        }
        // A pod keeps its address, on its node and across nodes.
        let own = if vip.contains(':') {
            P12.v6()
        } else {
            P12.v4()
        };
        for _ in 0..4 {
            ensure!(
                seen_client("p12", Tcp, to)?.to_string() == own,
                "p12 was masqueraded"
            );
        }
        // From outside the answer must come back through the node: masqueraded.
        let client = seen_client(CLIENT, Tcp, to)?.to_string();
        ensure!(
            !client.ends_with("100"),
            "the outside client was not masqueraded: {client}"
        );
    }
    Ok(())
}

pub fn node_port(lab: &mut Lab) -> Result<()> {
    let spec =
        json!({ "type": "NodePort", "ports": [{ "name": "http", "port": 80, "nodePort": 30080 }] });
    lab.cluster.service("web", json!({}), spec)?;
    lab.cluster
        .endpoints("web", &[(P11, Ready), (P21, Ready)])?;
    for node in ["n1", "n3"] {
        for addr in node_addresses(node) {
            for from in ["p12", "p32", "n1", "n2", "n3", CLIENT] {
                answered_by(from, Tcp, at(&addr, 30080)?, &["p11", "p21"])?;
            }
        }
    }
    // It goes with the Service.
    lab.cluster.delete("Service", "web")?;
    for addr in node_addresses("n3") {
        super::refused(CLIENT, Tcp, at(&addr, 30080)?)?;
    }
    Ok(())
}

pub fn external_ips(lab: &mut Lab) -> Result<()> {
    let spec = json!({
        "type": "LoadBalancer",
        "externalIPs": ["192.168.61.7", "fd00:61::7", "192.168.62.7"],
    });
    lab.cluster.service("web", json!({}), spec)?;
    lab.cluster
        .load_balancer_ips("web", &["192.168.60.7", "fd00:60::7"])?;
    lab.cluster
        .endpoints("web", &[(P11, Ready), (P21, Ready)])?;
    for vip in ["192.168.60.7", "fd00:60::7", "192.168.61.7", "fd00:61::7"] {
        route_from_client(vip, "n2")?;
        for from in ["p12", "p22", "n1", "n2", CLIENT] {
            answered_by(from, Tcp, at(vip, 80)?, &["p11", "p21"])?;
        }
    }
    // Outside the allow-list nothing is programmed, and the log says so.
    let served = lab.served("n2")?;
    ensure!(
        !served.has("192.168.62.7")?,
        "an external IP that was not permitted:\n{served}"
    );
    let told = lab
        .agents
        .iter()
        .all(|agent| agent.log().contains("192.168.62.7"));
    ensure!(told, "no log line names the refused external IP");
    Ok(())
}

pub fn udp_sctp(lab: &mut Lab) -> Result<()> {
    let ports = json!({ "ports": [
        { "name": "tcp", "port": 53, "protocol": "TCP" },
        { "name": "udp", "port": 53, "protocol": "UDP" },
        { "name": "sctp", "port": 53, "protocol": "SCTP" },
    ] });
    let vips = lab.cluster.service("dns", json!({}), ports)?;
    let named = [("tcp", "TCP"), ("udp", "UDP"), ("sctp", "SCTP")];
    lab.cluster
        .endpoints_of_ports("dns", &[(P11, Ready), (P21, Ready)], &named)?;
    for vip in &vips {
        route_from_client(vip, "n1")?;
        for from in ["p12", "p32", "n3", CLIENT] {
            for transport in [Tcp, Udp, Sctp] {
                answered_by(from, transport, at(vip, 53)?, &["p11", "p21"])?;
            }
        }
    }
    // Without endpoints all three refuse: TCP by a reset, the others by an ICMP error.
    lab.cluster.endpoints_of_ports("dns", &[], &named)?;
    for vip in &vips {
        for from in ["p12", "n3"] {
            for transport in [Tcp, Udp, Sctp] {
                super::refused(from, transport, at(vip, 53)?)?;
            }
        }
    }
    Ok(())
}

pub fn hairpin(lab: &mut Lab) -> Result<()> {
    let vips = lab.cluster.service("self", json!({}), json!({}))?;
    lab.cluster.endpoints("self", &[(P11, Ready)])?;
    for vip in &vips {
        answered_by("p11", Tcp, at(vip, 80)?, &["p11"])?;
        // Its neighbour keeps its address all the same.
        let own = if vip.contains(':') {
            P12.v6()
        } else {
            P12.v4()
        };
        ensure!(
            seen_client("p12", Tcp, at(vip, 80)?)?.to_string() == own,
            "p12 masqueraded"
        );
    }
    Ok(())
}
