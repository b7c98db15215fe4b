//! What annotations make of a Service: weights, slow start, thresholds, one packet at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use super::{Lab, answered_by, at, node_addresses};
use crate::guest::cluster::State::Ready;
use crate::guest::load::Load;
use crate::guest::namespace::inside;
use crate::guest::probe::Transport::Tcp;
use crate::guest::probe::probe;
use crate::guest::sh_in;
use crate::guest::topology::{CLIENT, P11, P21, P31};
use crate::guest::wait::eventually;

/// With `wrr` the shares of so many connections as the weights add up to are the weights.
pub fn weights(lab: &mut Lab) -> Result<()> {
    let annotated = |weights: &str| json!({ "ipvs-agent.io/scheduler": "wrr", "ipvs-agent.io/weights": weights });
    let pods = [(P11, Ready), (P21, Ready), (P31, Ready)];
    for (weights, shares) in [
        ("node/n1=3,node/n2=2,*=1", [3, 2, 1]),
        ("10.244.1.2=1,fd00:244:1::2=1,*=4", [1, 4, 4]),
        // Not a weight: each has 1.
        ("node/n1=3,*=none", [1, 1, 1]),
    ] {
        let vips = lab
            .cluster
            .service("weighed", annotated(weights), json!({}))?;
        lab.cluster.endpoints("weighed", &pods)?;
        for vip in &vips {
            shared_out(vip, &shares)?;
        }
    }
    Ok(())
}

/// While a kernel with several processors waits for the readers of the old scheduler there is none, and it would refuse
/// new clients of the addresses that it has itself. A few clients are enough, and leave the agent its time on an emulated one.
pub fn another_scheduler(lab: &mut Lab) -> Result<()> {
    let spec = json!({ "type": "NodePort", "ports": [
        { "name": "http", "port": 80, "targetPort": 8080, "nodePort": NODE_PORT },
    ] });
    lab.cluster.service("web", json!({}), spec)?;
    lab.cluster
        .endpoints("web", &[(P11, Ready), (P21, Ready)])?;
    let to = node_addresses("n1");
    let to = to.iter().map(|addr| at(addr, NODE_PORT));
    let to: Vec<_> = to.collect::<Result<_>>()?;
    for &to in &to {
        answered_by(CLIENT, Tcp, to, &["p11", "p21"])?;
    }
    let load = Load::start(CLIENT, to.clone());
    for scheduler in ["wlc", "rr"].into_iter().cycle().take(12) {
        let annotated = Some(scheduler);
        lab.cluster
            .annotate("web", "ipvs-agent.io/scheduler", annotated)?;
        let wanted = format!(":{NODE_PORT} -s {scheduler}");
        eventually(&format!("{scheduler} is chosen"), || {
            let table = sh_in("n1", "ipvsadm -Sn")?;
            let chosen = table.lines().filter(|line| line.contains(&wanted));
            Ok(if chosen.count() >= to.len() {
                Ok(())
            } else {
                Err(table.clone())
            })
        })?;
        load.goes_on(5)?;
    }
    load.end()
}

/// Waits until rows of connections are shared out by these weights, of p11, p21 and p31.
fn shared_out(vip: &str, shares: &[usize; 3]) -> Result<()> {
    let wanted: BTreeMap<String, usize> = ["p11", "p21", "p31"]
        .into_iter()
        .zip(shares)
        .map(|(name, share)| (name.to_owned(), *share * 2))
        .collect();
    let to = at(vip, 80)?;
    eventually(&format!("{to} is shared out as {shares:?}"), || {
        let mut met: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..shares.iter().sum::<usize>() * 2 {
            *met.entry(probe("p12", Tcp, to)?.who()).or_default() += 1;
        }
        Ok(if met == wanted {
            Ok(())
        } else {
            Err(format!("{met:?}"))
        })
    })
}

/// A new endpoint's weight grows; those that begin together begin in full.
pub fn slow_start(lab: &mut Lab) -> Result<()> {
    let annotations = json!({
        "ipvs-agent.io/scheduler": "wlc", "ipvs-agent.io/slow-start": "10s",
    });
    let vips = lab.cluster.service("slow", annotations, json!({}))?;
    lab.cluster.endpoints("slow", &[(P11, Ready)])?;
    for vip in &vips {
        answered_by("p12", Tcp, at(vip, 80)?, &["p11"])?;
    }
    let old = "10.244.1.2:8080";
    let new = "10.244.2.2:8080";
    ensure!(weight(old)? == Some(10), "it began with {:?}", weight(old)?);
    lab.cluster
        .endpoints("slow", &[(P11, Ready), (P21, Ready)])?;
    let mut met = Vec::new();
    eventually("the new endpoint has its full weight", || {
        let now = weight(new)?;
        met.extend(now.filter(|now| met.last() != Some(now)));
        Ok(match now {
            Some(10) => Ok(()),
            other => Err(format!("{other:?} after {met:?}")),
        })
    })?;
    ensure!(
        met[0] < 10 && met.len() >= 4 && met.is_sorted(),
        "its weight went {met:?}"
    );
    ensure!(weight(old)? == Some(10), "the old one changed");
    Ok(())
}

/// The weight that n1's IPVS gives a real server.
fn weight(real_server: &str) -> Result<Option<u32>> {
    let list = sh_in("n1", "ipvsadm -Ln")?;
    let row = list.lines().find(|row| row.contains(real_server));
    let weight = row.and_then(|row| row.split_whitespace().nth(3));
    Ok(weight.and_then(|weight| weight.parse().ok()))
}

/// A full real server gets no more connections; the limit goes with the annotation, also of an agent
/// that was away when that went.
pub fn thresholds(lab: &mut Lab) -> Result<()> {
    let limits = json!({
        "ipvs-agent.io/upper-threshold": "7", "ipvs-agent.io/lower-threshold": "5",
    });
    let vips = lab.cluster.service("limited", limits, json!({}))?;
    lab.cluster.endpoints("limited", &[(P11, Ready)])?;
    let limited = |wanted: &[&str]| {
        let rows = || -> Result<Vec<String>> {
            let list = sh_in("n1", "ipvsadm -Ln --thresholds")?;
            let rows = list.lines().filter(|row| {
                row.contains("10.244.1.2:8080") || row.contains("[fd00:244:1::2]:8080")
            });
            let columns = rows.map(|row| {
                let columns: Vec<_> = row.split_whitespace().skip(2).take(2).collect();
                columns.join(" ")
            });
            Ok(columns.collect())
        };
        eventually(&format!("the thresholds are {wanted:?}"), || {
            let rows = rows()?;
            Ok(if rows == wanted {
                Ok(())
            } else {
                Err(format!("{rows:?}"))
            })
        })
    };
    limited(&["7 5", "7 5"])?;
    // Seven connections, kept by IPVS as inactive after their end, and no eighth real server.
    let to = at(&vips[0], 80)?;
    eventually("the real server is full", || {
        let met = probe("p12", Tcp, to)?.who();
        Ok(if met == "p11" { Err(met) } else { Ok(()) })
    })?;
    lab.stop_agent("n1")?;
    lab.cluster
        .service("limited", json!({ "x": "y" }), json!({}))?;
    lab.start_agent("n1")?;
    limited(&["0 0", "0 0"])?;
    answered_by("p12", Tcp, to, &["p11"])
}

/// Datagrams of one source port meet every endpoint. Their answers come from the endpoints' own
/// addresses, so this is for protocols that have none.
pub fn one_packet(lab: &mut Lab) -> Result<()> {
    let spec = json!({ "ports": [
        { "name": "log", "port": 514, "protocol": "UDP", "targetPort": 8080 },
    ] });
    let annotated = |value: &str| json!({ "ipvs-agent.io/one-packet": value });
    let ports = [("log", "UDP")];
    for (value, wanted) in [("true", 2), ("false", 1)] {
        let vips = lab.cluster.service("log", annotated(value), spec.clone())?;
        lab.cluster
            .endpoints_of_ports("log", &[(P11, Ready), (P21, Ready)], &ports)?;
        for vip in &vips {
            let to = at(vip, 514)?;
            eventually(&format!("one source port meets {wanted} of {to}"), || {
                let met = answering("p12", to)?;
                Ok(if met.len() == wanted {
                    Ok(())
                } else {
                    Err(format!("{met:?}"))
                })
            })?;
        }
    }
    Ok(())
}

/// Who answers datagrams of one socket, from whatever address.
fn answering(from: &str, to: SocketAddr) -> Result<BTreeSet<String>> {
    inside(from, || {
        let any: SocketAddr = match to {
            SocketAddr::V4(_) => ([0; 4], 0).into(),
            SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
        };
        let socket = UdpSocket::bind(any)?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        let mut met = BTreeSet::new();
        for _ in 0..8 {
            socket.send_to(b"who", to)?;
            let mut buffer = [0; 256];
            if let Ok((length, _)) = socket.recv_from(&mut buffer) {
                let line = String::from_utf8_lossy(&buffer[..length]).into_owned();
                met.extend(line.split(' ').next().map(str::to_owned));
            }
        }
        Ok(met)
    })?
}

/// An idle connection lives as long as in conntrack, unless the operator says otherwise.
pub fn timeouts(lab: &mut Lab) -> Result<()> {
    for (args, wanted) in [
        (&[][..], "86400 120 300"),
        (
            &["--ipvs-tcp-timeout", "2h", "--ipvs-tcpfin-timeout", "30s"],
            "7200 30 300",
        ),
        (
            &["--ipvs-tcp-timeout", "0s", "--ipvs-udp-timeout", "10s"],
            "7200 30 10",
        ),
        (
            &["--ipvs-udp-timeout", "5m", "--ipvs-tcpfin-timeout", "2m"],
            "86400 120 300",
        ),
    ] {
        lab.stop_agent("n2")?;
        lab.start_agent_with("n2", args)?;
        eventually(&format!("the timeouts are {wanted}"), || {
            let told = sh_in("n2", "ipvsadm -L --timeout")?;
            Ok(if told.trim().ends_with(&format!(": {wanted}")) {
                Ok(())
            } else {
                Err(told)
            })
        })?;
    }
    Ok(())
}

const NODE_PORT: u16 = 30_080;
