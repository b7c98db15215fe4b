//! A Service that changes what it is while it is there: its type, ports, families and addresses.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{Lab, answered_by, at, node_addresses, refused, route_from_client, unserved_at};
use crate::guest::cluster::State::Ready;
use crate::guest::probe::Transport::{Tcp, Udp};
use crate::guest::topology::{CLIENT, P11, P21};

const INGRESS: [&str; 2] = ["192.168.60.21", "fd00:60::21"];

/// ExternalName, ClusterIP, NodePort with more ports, LoadBalancer, and all the way back.
pub fn types(lab: &mut Lab) -> Result<()> {
    let alias = json!({ "type": "ExternalName", "externalName": "example.org",
        "ipFamilyPolicy": null, "ipFamilies": null, "ports": null });
    let ports = [("http", "TCP"), ("udp", "UDP")];
    lab.cluster.service("web", json!({}), alias.clone())?;
    lab.cluster
        .endpoints_of_ports("web", &[(P11, Ready), (P21, Ready)], &ports)?;

    let vips = lab
        .cluster
        .service("web", json!({}), json!({ "type": "ClusterIP" }))?;
    served(&vips, 80)?;

    // More ports of two protocols at one number.
    let port = |port: u16, tcp: u16| {
        json!({ "type": "NodePort", "ports": [
            { "name": "http", "port": port, "targetPort": 8080, "nodePort": tcp },
            { "name": "udp", "port": port, "protocol": "UDP", "targetPort": 8080, "nodePort": 30123 },
        ]})
    };
    lab.cluster.service("web", json!({}), port(80, 30123))?;
    served(&vips, 80)?;
    served(&node_addresses("n1"), 30123)?;
    for addr in vips.iter().chain(&node_addresses("n1")) {
        let number = if vips.contains(addr) { 80 } else { 30123 };
        answered_by("p12", Udp, at(addr, number)?, &["p11", "p21"])?;
    }
    // Another NodePort and another port: the old ones are closed.
    lab.cluster.service("web", json!({}), port(81, 30124))?;
    served(&vips, 81)?;
    served(&node_addresses("n1"), 30124)?;
    for addr in node_addresses("n1") {
        refused(CLIENT, Tcp, at(&addr, 30123)?)?;
        answered_by(CLIENT, Udp, at(&addr, 30123)?, &["p11", "p21"])?;
    }
    unserved_at(lab, "n1", &vips, 80)?;

    let mut balanced = port(81, 30124);
    balanced["type"] = json!("LoadBalancer");
    lab.cluster.service("web", json!({}), balanced)?;
    lab.cluster.load_balancer_ips("web", &INGRESS)?;
    for vip in INGRESS {
        route_from_client(vip, "n1")?;
    }
    served(&INGRESS, 81)?;

    // Back: what a type brought goes with it.
    lab.cluster
        .service("web", json!({}), json!({ "type": "ClusterIP" }))?;
    served(&vips, 80)?;
    unserved_at(lab, "n1", &INGRESS, 81)?;
    for addr in node_addresses("n1") {
        refused(CLIENT, Tcp, at(&addr, 30124)?)?;
    }
    lab.cluster.service("web", json!({}), alias)?;
    unserved_at(lab, "n1", &vips, 80)
}

/// One family, the other beside it, and one again.
pub fn families(lab: &mut Lab) -> Result<()> {
    let of = |policy: &str, families: &[&str]| {
        json!({ "type": "NodePort", "ipFamilyPolicy": policy, "ipFamilies": families,
            "ports": [{ "name": "http", "port": 80, "targetPort": 8080, "nodePort": 30125 }] })
    };
    let single = of("SingleStack", &["IPv6"]);
    let vips = lab.cluster.service("web", json!({}), single.clone())?;
    lab.cluster
        .endpoints("web", &[(P11, Ready), (P21, Ready)])?;
    ensure!(vips.len() == 1 && vips[0].contains(':'), "{vips:?}");
    let [v4, v6] = node_addresses("n1");
    let only_v6 = |vips: &[String]| -> Result<()> {
        served(vips, 80)?;
        served(std::slice::from_ref(&v6), 30125)?;
        refused(CLIENT, Tcp, at(&v4, 30125)?)
    };
    only_v6(&vips)?;
    let both = of("RequireDualStack", &["IPv6", "IPv4"]);
    let two = lab.cluster.service("web", json!({}), both)?;
    ensure!(two.len() == 2 && two[0] == vips[0], "{two:?}");
    served(&two, 80)?;
    served(&node_addresses("n1"), 30125)?;
    // The API server keeps the second address unless it is asked to drop it.
    let mut single = single;
    single["clusterIPs"] = json!(vips);
    single["clusterIP"] = json!(vips[0]);
    lab.cluster.service("web", json!({}), single)?;
    only_v6(&vips)?;
    unserved_at(lab, "n1", &two[1..], 80)
}

/// Another Service of the same name has another cluster IP.
pub fn recreated(lab: &mut Lab) -> Result<()> {
    let before = lab.cluster.service("web", json!({}), json!({}))?;
    lab.cluster.endpoints("web", &[(P11, Ready)])?;
    served_by(&before, 80, &["p11"])?;
    lab.cluster.delete("Service", "web")?;
    let fixed =
        json!({ "clusterIP": "10.96.123.45", "clusterIPs": ["10.96.123.45", "fd00:96::ab45"] });
    let after = lab.cluster.service("web", json!({}), fixed)?;
    ensure!(before != after, "the same addresses: {after:?}");
    served_by(&after, 80, &["p11"])?;
    unserved_at(lab, "n1", &before, 80)
}

/// `ipMode: Proxy` leaves an address to the load balancer itself.
pub fn ip_mode(lab: &mut Lab) -> Result<()> {
    lab.cluster
        .service("web", json!({}), json!({ "type": "LoadBalancer" }))?;
    lab.cluster
        .endpoints("web", &[(P11, Ready), (P21, Ready)])?;
    let ingress = |mode: &str| -> Vec<Value> {
        INGRESS
            .iter()
            .map(|ip| json!({ "ip": ip, "ipMode": mode }))
            .collect()
    };
    for vip in INGRESS {
        route_from_client(vip, "n1")?;
    }
    lab.cluster.load_balancer_ingress("web", &ingress("VIP"))?;
    served(&INGRESS, 80)?;
    lab.cluster
        .load_balancer_ingress("web", &ingress("Proxy"))?;
    unserved_at(lab, "n1", &INGRESS, 80)?;
    lab.cluster.load_balancer_ips("web", &INGRESS)?;
    served(&INGRESS, 80)
}

fn served<S: AsRef<str>>(addresses: &[S], port: u16) -> Result<()> {
    served_by(addresses, port, &["p11", "p21"])
}

/// Waits until the outside client and a pod are served there.
fn served_by<S: AsRef<str>>(addresses: &[S], port: u16, names: &[&str]) -> Result<()> {
    for addr in addresses {
        let to = at(addr.as_ref(), port)?;
        answered_by("p12", Tcp, to, names)?;
        if !addr.as_ref().starts_with("10.96.") && !addr.as_ref().starts_with("fd00:96:") {
            answered_by(CLIENT, Tcp, to, names)?;
        }
    }
    Ok(())
}
