//! Which endpoints whose clients reach: traffic policies, topology, source ranges.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{
    Lab, answered_by, at, node_addresses, refused, route_from_client, seen_client, silence,
};
use crate::guest::cluster::State::{NotReady, Ready, Terminating};
use crate::guest::probe::Transport::{Tcp, Udp};
use crate::guest::topology::{CLIENT, P11, P12, P21, P31, Pod};

/// `internalTrafficPolicy: Local`: the client's own node or nobody.
pub fn internal_local(lab: &mut Lab) -> Result<()> {
    let spec = json!({
        "internalTrafficPolicy": "Local",
        "ports": [
            { "name": "http", "port": 80, "targetPort": 8080 },
            { "name": "udp", "port": 80, "protocol": "UDP", "targetPort": 8080 },
        ],
    });
    let ports = [("http", "TCP"), ("udp", "UDP")];
    let vips = lab.cluster.service("local", json!({}), spec)?;
    lab.cluster
        .endpoints_of_ports("local", &[(P11, Ready), (P21, Ready)], &ports)?;
    for vip in &vips {
        let to = at(vip, 80)?;
        for (from, answers) in [("p12", "p11"), ("n1", "p11"), ("p22", "p21"), ("n2", "p21")] {
            answered_by(from, Tcp, to, &[answers])?;
            answered_by(from, Udp, to, &[answers])?;
        }
        for from in ["p31", "n3"] {
            silence(from, Tcp, to)?;
        }
        silence("p31", Udp, to)?;
    }
    // One that terminates serves its node for as long as no other there is ready.
    lab.cluster.endpoints_of_ports(
        "local",
        &[(P11, Terminating), (P21, Ready), (P31, NotReady)],
        &ports,
    )?;
    for vip in &vips {
        answered_by("p12", Tcp, at(vip, 80)?, &["p11"])?;
        silence("p32", Tcp, at(vip, 80)?)?;
    }
    // No endpoint anywhere is another matter than none here.
    lab.cluster
        .endpoints_of_ports("local", &[(P31, NotReady)], &ports)?;
    for vip in &vips {
        for from in ["p12", "p32", "n3"] {
            refused(from, Tcp, at(vip, 80)?)?;
        }
    }
    Ok(())
}

/// `externalTrafficPolicy: Local`: outside clients keep their address and meet the node's own
/// endpoints; what starts on the node reaches them all.
pub fn external_local(lab: &mut Lab) -> Result<()> {
    let spec = |policy: &str| {
        json!({
            "type": "LoadBalancer", "externalTrafficPolicy": policy,
            "ports": [{ "name": "http", "port": 80, "targetPort": 8080, "nodePort": 30090 }],
        })
    };
    lab.cluster.service("web", json!({}), spec("Local"))?;
    let ingress = ["192.168.60.9", "fd00:60::9"];
    lab.cluster.load_balancer_ips("web", &ingress)?;
    lab.cluster
        .endpoints("web", &[(P11, Ready), (P21, Ready)])?;
    for (number, vip) in ingress.into_iter().enumerate() {
        route_from_client(vip, "n1")?;
        let outside = if number == 0 {
            "192.168.50.100"
        } else {
            "fd00:50::100"
        };
        let node_port = node_addresses("n1")[number].clone();
        for to in [at(vip, 80)?, at(&node_port, 30090)?] {
            answered_by(CLIENT, Tcp, to, &["p11"])?;
            ensure!(
                seen_client(CLIENT, Tcp, to)?.to_string() == outside,
                "the outside client was masqueraded at {to}"
            );
            answered_by("p12", Tcp, to, &["p11", "p21"])?;
            answered_by("n1", Tcp, to, &["p11", "p21"])?;
            keeps_its_address("p12", P12, to)?;
        }
        // Not from here and no endpoint there: silence. What starts there reaches the others.
        route_from_client(vip, "n3")?;
        let elsewhere = at(&node_addresses("n3")[number], 30090)?;
        for to in [at(vip, 80)?, elsewhere] {
            silence(CLIENT, Tcp, to)?;
            answered_by("p31", Tcp, to, &["p11", "p21"])?;
            answered_by("n3", Tcp, to, &["p11", "p21"])?;
            keeps_its_address("p31", P31, to)?;
        }
        // A pod of another node is no local client.
        silence("p12", Tcp, elsewhere)?;
        // A pod that meets itself is masqueraded, by any way.
        answered_by("p11", Tcp, at(vip, 80)?, &["p11", "p21"])?;
    }
    // The policy changes, both ways.
    lab.cluster.service("web", json!({}), spec("Cluster"))?;
    for vip in ingress {
        answered_by(CLIENT, Tcp, at(vip, 80)?, &["p11", "p21"])?;
    }
    lab.cluster.service("web", json!({}), spec("Local"))?;
    for vip in ingress {
        silence(CLIENT, Tcp, at(vip, 80)?)?;
        answered_by("n3", Tcp, at(vip, 80)?, &["p11", "p21"])?;
    }
    lab.cluster.endpoints("web", &[])?;
    for vip in ingress {
        for from in [CLIENT, "p31", "n3"] {
            refused(from, Tcp, at(vip, 80)?)?;
        }
    }
    Ok(())
}

fn keeps_its_address(from: &str, pod: Pod, to: std::net::SocketAddr) -> Result<()> {
    let own = if to.is_ipv4() { pod.v4() } else { pod.v6() };
    for _ in 0..4 {
        let seen = seen_client(from, Tcp, to)?.to_string();
        ensure!(seen == own, "{from} was seen as {seen} behind {to}");
    }
    Ok(())
}

/// Hints narrow a Service to what is near, all or nothing, and follow the node's labels.
pub fn topology(lab: &mut Lab) -> Result<()> {
    const ZONE: &str = "topology.kubernetes.io/zone";
    let port = [("http", "TCP")];
    let zone = |name: &str| json!({ "forZones": [{ "name": name }] });
    let vips = lab.cluster.service("near", json!({}), json!({}))?;
    let demand = |from: &str, names: &[&str]| -> Result<()> {
        vips.iter()
            .try_for_each(|vip| answered_by(from, Tcp, at(vip, 80)?, names))
    };
    for (node, name) in [("n1", "a"), ("n2", "b")] {
        lab.cluster.label_node(node, ZONE, Some(name))?;
    }
    let in_zones = [(P11, Ready, zone("a")), (P21, Ready, zone("b"))];
    lab.cluster.hinted_slice("near", "near", &in_zones, &port)?;
    demand("p12", &["p11"])?;
    demand("p22", &["p21"])?;
    // Its node has no zone.
    demand("p32", &["p11", "p21"])?;
    // The node moves.
    lab.cluster.label_node("n3", ZONE, Some("b"))?;
    demand("p32", &["p21"])?;
    lab.cluster.label_node("n3", ZONE, Some("c"))?;
    demand("p32", &["p11", "p21"])?;
    // One endpoint without a hint, and none counts.
    let mut one_without = in_zones.to_vec();
    one_without.push((P31, Ready, Value::Null));
    lab.cluster
        .hinted_slice("near", "near", &one_without, &port)?;
    demand("p12", &["p11", "p21", "p31"])?;
    // Hints for nodes go first.
    let node = |name: &str, zone: &str| json!({ "forZones": [{ "name": zone }], "forNodes": [{ "name": name }] });
    let on_nodes = [
        (P11, Ready, node("n1", "b")),
        (P21, Ready, node("n2", "a")),
        (P31, Ready, node("n2", "c")),
    ];
    lab.cluster.hinted_slice("near", "near", &on_nodes, &port)?;
    demand("p12", &["p11"])?;
    demand("p22", &["p21", "p31"])?;
    demand("p32", &["p31"])?;
    for node in ["n1", "n2", "n3"] {
        lab.cluster.label_node(node, ZONE, None)?;
    }
    demand("p32", &["p11", "p21", "p31"])
}

/// `loadBalancerSourceRanges`: for the load balancer's addresses, whoever asks.
pub fn source_ranges(lab: &mut Lab) -> Result<()> {
    let spec = |ranges: &[&str]| {
        json!({
            "type": "LoadBalancer", "loadBalancerSourceRanges": ranges,
            "ports": [{ "name": "http", "port": 80, "targetPort": 8080, "nodePort": 30091 }],
        })
    };
    let pods_only = ["10.244.1.0/24", "fd00:244:1::/64"];
    let vips = lab.cluster.service("ranged", json!({}), spec(&pods_only))?;
    let ingress = ["192.168.60.11", "fd00:60::11"];
    lab.cluster.load_balancer_ips("ranged", &ingress)?;
    lab.cluster.endpoints("ranged", &[(P11, Ready)])?;
    for (number, vip) in ingress.into_iter().enumerate() {
        route_from_client(vip, "n1")?;
        let to = at(vip, 80)?;
        answered_by("p12", Tcp, to, &["p11"])?;
        for from in [CLIENT, "n1", "p22"] {
            silence(from, Tcp, to)?;
        }
        // Other addresses of the Service are not limited.
        answered_by(
            CLIENT,
            Tcp,
            at(&node_addresses("n1")[number], 30091)?,
            &["p11"],
        )?;
        answered_by("p22", Tcp, at(&vips[number], 80)?, &["p11"])?;
    }
    // A family left with no range is open; the other is not.
    lab.cluster
        .service("ranged", json!({}), spec(&["192.168.50.100/32"]))?;
    for from in [CLIENT, "n1", "p22"] {
        answered_by(from, Tcp, at(ingress[1], 80)?, &["p11"])?;
    }
    answered_by(CLIENT, Tcp, at(ingress[0], 80)?, &["p11"])?;
    silence("p12", Tcp, at(ingress[0], 80)?)?;
    // And none at all.
    lab.cluster.service("ranged", json!({}), spec(&[]))?;
    answered_by("p12", Tcp, at(ingress[0], 80)?, &["p11"])
}

/// Every way to tell pods of this node from others: they keep their address, nodes and outside
/// clients do not.
pub fn detect_local(lab: &mut Lab) -> Result<()> {
    let vips = lab.cluster.service("web", json!({}), json!({}))?;
    lab.cluster.endpoints("web", &[(P21, Ready)])?;
    let by_interface = ["--detect-local-mode", "InterfaceNamePrefix"];
    let by_bridge = ["--detect-local-mode", "BridgeInterface"];
    for mode in [
        [&by_interface[..], &["--pod-interface-name-prefix", "vp1"]].concat(),
        // One pod's cable is no bridge, but an interface like any other.
        [&by_bridge[..], &["--pod-bridge-interface", "vp12"]].concat(),
        vec!["--detect-local-mode", "NodeCIDR"],
        vec!["--masquerade-all"],
    ] {
        lab.stop_agent("n1")?;
        lab.start_agent_with("n1", &mode)?;
        lab.agent("n1")?.synced()?;
        for (number, vip) in vips.iter().enumerate() {
            let to = at(vip, 80)?;
            route_from_client(vip, "n1")?;
            let node = node_addresses("n1")[number].clone();
            let pod = if number == 0 { P12.v4() } else { P12.v6() };
            let kept = mode[0] != "--masquerade-all";
            let wanted = if kept { &pod } else { &node };
            for (from, wanted) in [("p12", wanted), (CLIENT, &node), ("n1", &node)] {
                answered_by(from, Tcp, to, &["p21"])?;
                let seen = seen_client(from, Tcp, to)?.to_string();
                ensure!(seen == *wanted, "{mode:?}: {from} was seen as {seen}");
            }
        }
    }
    lab.stop_agent("n1")?;
    lab.start_agent("n1")
}
