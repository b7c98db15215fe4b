//! Datagrams that nobody got.

use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::dataplane::Dataplane;
use crate::guest::cluster::State::{NotReady, Ready, Terminating};
use crate::guest::http::metrics;
use crate::guest::namespace::inside;
use crate::guest::probe::{Transport::Udp, open_stream, probe_from_port};
use crate::guest::topology::{CLIENT, P11, P21, P31};
use crate::guest::wait::eventually;
use crate::scenarios::{Lab, answered_by, at, node_addresses};

/// A resolver that always asks from one port went on asking a pod that was gone, for as long as it
/// asked: its flow kept itself alive. It happened from a pod, a node and outside, and also to flows
/// that began before there was anybody to answer.
pub fn black_hole(lab: &mut Lab) -> Result<()> {
    let port = json!({ "name": "udp", "port": 53, "protocol": "UDP", "targetPort": 8080, "nodePort": 30053 });
    let spec = json!({ "type": "NodePort", "ports": [port] });
    let vips = lab.cluster.service("dns", json!({}), spec)?;
    let mut asks = Vec::new();
    for vip in &vips {
        for from in ["p12", "n3"] {
            asks.push((from, at(vip, 53)?));
        }
    }
    for addr in node_addresses("n1") {
        asks.push((CLIENT, at(&addr, 30053)?));
    }
    let phases: [(&[_], &str); 8] = [
        (&[], "refused"),
        (&[(P11, NotReady)], "refused"),
        (&[(P11, Ready)], "p11"),
        // One more changes nothing for a flow that is served.
        (&[(P11, Ready), (P21, Ready)], "p11"),
        (&[(P11, Terminating), (P21, Ready)], "p21"),
        (&[(P21, NotReady), (P31, Ready)], "p31"),
        (&[], "refused"),
        (&[(P21, Ready)], "p21"),
    ];
    let before = ["IPv4", "IPv6"].map(deleted);
    for (number, (pods, wanted)) in phases.into_iter().enumerate() {
        lab.cluster
            .endpoints_of_ports("dns", pods, &[("udp", "UDP")])?;
        for (from, to) in &asks {
            one_flow(from, *to, wanted).with_context(|| format!("phase {number}"))?;
        }
    }
    // IPVS drops a flow itself when the client's next packet comes before the agent has looked
    // (`expire_nodest_conn`): how many are left to the agent depends on who is first.
    if lab.program.dataplane == Dataplane::Iptables {
        for (family, before) in ["IPv4", "IPv6"].into_iter().zip(before) {
            // At least that of p12, which is on n1, and the client's, each time the one that serves them goes.
            let (before, now) = (before?, deleted(family)?);
            ensure!(
                now >= before + 6.0,
                "{family}: {before} flows deleted before, {now} now"
            );
        }
    }
    Ok(())
}

/// Flows of a family that the agent of n1 tells it has deleted.
fn deleted(family: &str) -> Result<f64> {
    let name = "kubeproxy_conntrack_reconciler_deleted_entries_total";
    let metrics = metrics("n1")?;
    let count = metrics.get(&format!("{name}{{ip_family=\"{family}\"}}"));
    Ok(count.copied().unwrap_or_default())
}

/// The same under `internalTrafficPolicy: Local`: the pod of the client's own node comes after one that
/// it must not reach.
pub fn black_hole_local(lab: &mut Lab) -> Result<()> {
    let spec = json!({
        "internalTrafficPolicy": "Local",
        "ports": [{ "name": "udp", "port": 53, "protocol": "UDP", "targetPort": 8080 }],
    });
    let vips = lab.cluster.service("dns", json!({}), spec)?;
    let ports = [("udp", "UDP")];
    let mut endpoints = |pods: &[_]| lab.cluster.endpoints_of_ports("dns", pods, &ports);
    endpoints(&[(P21, Ready)])?;
    for vip in &vips {
        // The pod's own node serves, the others are silent.
        answered_by("p22", Udp, at(vip, 53)?, &["p21"])?;
        one_flow("p12", at(vip, 53)?, "timeout")?;
    }
    endpoints(&[(P11, Ready), (P21, Ready)])?;
    for vip in &vips {
        one_flow("p12", at(vip, 53)?, "p11")?;
    }
    Ok(())
}

/// Requests larger than a packet were lost: of a datagram's fragments only the first has ports.
pub fn fragments(lab: &mut Lab) -> Result<()> {
    let spec = json!({ "type": "NodePort", "ports": [
        { "name": "udp", "port": 80, "protocol": "UDP", "targetPort": 8080, "nodePort": 30080 },
        { "name": "tcp", "port": 80, "protocol": "TCP", "targetPort": 8080, "nodePort": 30080 },
    ] });
    let vips = lab.cluster.service("large", json!({}), spec)?;
    let named = [("udp", "UDP"), ("tcp", "TCP")];
    let mut asks = Vec::new();
    for vip in &vips {
        for from in ["p12", "n1", "n3"] {
            asks.push((from, at(vip, 80)?));
        }
    }
    for addr in node_addresses("n1") {
        asks.push((CLIENT, at(&addr, 30080)?));
    }
    for pod in [P11, P21] {
        lab.cluster
            .endpoints_of_ports("large", &[(pod, Ready)], &named)?;
        for (from, to) in &asks {
            answered_by(from, Udp, *to, &[&pod.name()])?;
            large_stream(from, *to)?;
            // IPVS meets what a process of the node sends before it is in fragments, and over IPv6 it
            // refuses that by EMSGSIZE.
            if from.starts_with('n') && to.is_ipv6() {
                continue;
            }
            eventually(&format!("{from} sends 4,000 bytes to {to}"), || {
                Ok(match large_datagram(from, *to) {
                    Ok(name) if name == pod.name() => Ok(()),
                    other => Err(format!("{other:?}")),
                })
            })?;
        }
    }
    Ok(())
}

/// One datagram in three fragments: it arrives whole or not at all.
fn large_datagram(from: &str, to: SocketAddr) -> Result<String> {
    inside(from, || {
        let any: SocketAddr = match to {
            SocketAddr::V4(_) => ([0; 4], 0).into(),
            SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        socket.send(&[b'x'; 4000])?;
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer)?;
        let line = String::from_utf8_lossy(&buffer[..length]).into_owned();
        Ok(line.split(' ').next().unwrap_or_default().to_owned())
    })?
}

/// More than a segment in each direction.
fn large_stream(from: &str, to: SocketAddr) -> Result<()> {
    let (mut stream, _) = open_stream(from, to)?;
    let sent = [b'x'; 4000];
    for _ in 0..8 {
        stream.write_all(&sent)?;
        let mut back = [0; 4000];
        stream
            .read_exact(&mut back)
            .with_context(|| format!("{from} hears nothing of 4,000 bytes to {to}"))?;
        ensure!(back == sent, "{to} sends something else back");
    }
    Ok(())
}

/// Waits until a request from the one port meets this answer.
fn one_flow(from: &str, to: SocketAddr, wanted: &str) -> Result<()> {
    eventually(
        &format!("{from} port {PORT} at {to} meets {wanted}"),
        || {
            let who = probe_from_port(from, PORT, Udp, to)?.who();
            Ok(if who == wanted { Ok(()) } else { Err(who) })
        },
    )
}

const PORT: u16 = 12345;
