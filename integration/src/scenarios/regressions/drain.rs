//! Connections that were cut, or sent to pods that were gone.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{repeated_syns, shown, stream_from_port};
use crate::dataplane::Dataplane;
use crate::guest::cluster::State::{NotReady, Ready, Terminating};
use crate::guest::probe::{Answer, Transport::Tcp, open_stream, probe};
use crate::guest::topology::{CLIENT, P11, P21, P31, POD_PORT};
use crate::guest::wait::eventually;
use crate::guest::{sh, sh_in};
use crate::scenarios::neighbours::Rules;
use crate::scenarios::{Lab, answered_by, at, node_addresses, unserved};

/// A client that used a source port again soon lost a second for each connection (IPVS dropped the SYN
/// on what was left of the last one), or was led to the pod of then, which was going.
pub fn port_reused(lab: &mut Lab) -> Result<()> {
    let spec =
        json!({ "type": "NodePort", "ports": [{ "name": "http", "port": 80, "nodePort": 30080 }] });
    let vips = lab.cluster.service("web", json!({}), spec)?;
    // The clients forget a connection at its end, and may have its port for the next.
    let sysctl = "net.ipv4.tcp_max_tw_buckets";
    let usual = sh_in("p12", &format!("sysctl -n {sysctl}"))?;
    let forget = |number: &str| -> Result<()> {
        for from in ["p12", CLIENT] {
            sh_in(from, &format!("sysctl -qw {sysctl}={}", number.trim()))?;
        }
        Ok(())
    };
    let mut asks = Vec::new();
    for vip in &vips {
        asks.push(("p12", at(vip, 80)?));
    }
    for addr in node_addresses("n1") {
        asks.push((CLIENT, at(&addr, 30080)?));
    }
    forget("0")?;
    let mut told = || -> Result<()> {
        lab.cluster.endpoints("web", &[(P11, Ready)])?;
        for (from, to) in &asks {
            row(from, *to, "p11")?;
        }
        lab.cluster
            .endpoints("web", &[(P11, Terminating), (P21, Ready)])?;
        for (from, to) in &asks {
            row(from, *to, "p21")?;
        }
        lab.cluster.endpoints("web", &[(P31, Ready)])?;
        for (from, to) in &asks {
            row(from, *to, "p31")?;
        }
        Ok(())
    };
    let result = told();
    forget(&usual)?;
    result
}

/// Waits for a row of connections from one port, one at a time, which all meet this pod at the first
/// try.
fn row(from: &str, to: SocketAddr, wanted: &str) -> Result<()> {
    eventually(
        &format!("{from} port {PORT} at {to} meets {wanted}"),
        || {
            let before = repeated_syns(from)?;
            for number in 0..6 {
                match stream_from_port(from, PORT, to) {
                    Ok((_, name)) if name == wanted => {}
                    Ok((_, name)) => return Ok(Err(format!("{name} at connection {number}"))),
                    Err(error) => return Ok(Err(format!("{error:#} at connection {number}"))),
                }
            }
            let again = repeated_syns(from)? - before;
            Ok(if again == 0 {
                Ok(())
            } else {
                Err(format!("{again} SYNs of six connections were repeated"))
            })
        },
    )
}

/// A run that ended while it drained left real servers at weight 0, and the next took them for good:
/// the Service was down.
pub fn weight_zero_left(lab: &mut Lab) -> Result<()> {
    let vips = lab.cluster.service("web", json!({}), json!({}))?;
    lab.cluster
        .endpoints("web", &[(P11, Ready), (P21, Ready)])?;
    for vip in &vips {
        answered_by("p12", Tcp, at(vip, 80)?, &["p11", "p21"])?;
    }
    lab.stop_agent("n1")?;
    let mut left = Vec::new();
    for (vip, pods) in vips
        .iter()
        .zip([[P11.v4(), P21.v4()], [P11.v6(), P21.v6()]])
    {
        for pod in &pods {
            let real = shown(pod, POD_PORT);
            sh_in(
                "n1",
                &format!("ipvsadm -e -t {} -r {real} -m -w 0", shown(vip, 80)),
            )?;
        }
        left.push(shown(&pods[1], POD_PORT));
    }
    // Meanwhile one of the pods went.
    lab.cluster.endpoints("web", &[(P11, Ready)])?;
    lab.start_agent_with("n1", &["--drain-timeout", "1s"])?;
    for vip in &vips {
        answered_by("p12", Tcp, at(vip, 80)?, &["p11"])?;
    }
    eventually("what was left of the other pod is gone", || {
        let list = sh_in("n1", "ipvsadm -Ln")?;
        let there = left.iter().any(|real| list.contains(real));
        Ok(if there { Err(list) } else { Ok(()) })
    })?;
    lab.stop_agent("n1")
}

/// A node is lost. Nobody ends the connections to its pods: clients hung for a quarter of an hour,
/// and those that tried again from the same port were led to the pod that was gone.
pub fn node_lost(lab: &mut Lab) -> Result<()> {
    lab.stop_agent("n1")?;
    lab.start_agent_with("n1", &["--drain-timeout", "1s"])?;
    let spec = json!({ "type": "NodePort", "ports": [{ "name": "http", "port": 80, "targetPort": 8080, "nodePort": 30080 }] });
    let vips = lab.cluster.service("web", json!({}), spec)?;
    lab.cluster.endpoints("web", &[(P21, Ready)])?;
    let mut streams = Vec::new();
    for addr in node_addresses("n1") {
        let to = at(&addr, 30080)?;
        answered_by(CLIENT, Tcp, to, &["p21"])?;
        streams.push((CLIENT, to, open_stream(CLIENT, to)?.0));
    }
    for vip in &vips {
        let to = at(vip, 80)?;
        for from in ["p12", "n1"] {
            answered_by(from, Tcp, to, &["p21"])?;
            streams.push((from, to, open_stream(from, to)?.0));
        }
        let (retried, _) = stream_from_port("p12", PORT, to)?;
        // Its end must not be heard of either.
        let mut rules = Rules::default();
        rules.add("p12", "-I OUTPUT -p tcp --tcp-flags RST RST -j DROP")?;
        socket2::SockRef::from(&retried).set_linger(Some(std::time::Duration::ZERO))?;
        drop(retried);
    }
    sh("ip link set ln2 down")?;
    let result = lost(lab, &mut streams);
    sh("ip link set ln2 up")?;
    result?;
    // It comes back.
    lab.cluster.endpoints("web", &[(P21, Ready)])?;
    for vip in &vips {
        answered_by("p12", Tcp, at(vip, 80)?, &["p21"])?;
        answered_by("p22", Tcp, at(vip, 80)?, &["p21"])?;
    }
    lab.stop_agent("n1")
}

fn lost(lab: &mut Lab, streams: &mut [(&str, SocketAddr, TcpStream)]) -> Result<()> {
    for pods in [&[(P21, NotReady), (P31, Ready)][..], &[(P31, Ready)]] {
        lab.cluster.endpoints("web", pods)?;
        for (from, to, _) in streams.iter() {
            answered_by(from, Tcp, *to, &["p31"])?;
            // conntrack keeps a connection whose endpoint may come back, and with it the client's port.
            let kept = lab.program.dataplane == Dataplane::Iptables && pods.len() > 1;
            if *from != "p12" || kept {
                continue;
            }
            eventually("the port of a lost connection serves again", || {
                Ok(match stream_from_port("p12", PORT, *to) {
                    Ok((_, name)) if name == "p31" => Ok(()),
                    other => Err(format!("{other:?}")),
                })
            })?;
        }
    }
    for (from, to, stream) in streams {
        stream.set_nonblocking(true)?;
        eventually(
            &format!("the lost connection of {from} to {to} is ended"),
            || {
                let sent = stream.write_all(b"still there?");
                let heard = stream.read(&mut [0; 16]);
                Ok(match (sent, heard) {
                    (Err(error), _) | (_, Err(error)) if !would_block(&error) => Ok(()),
                    (_, Ok(0)) => Ok(()),
                    (_, Ok(_)) => Err("it is answered".to_owned()),
                    _ => Err("silence".to_owned()),
                })
            },
        )?;
    }
    Ok(())
}

fn would_block(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::WouldBlock
}

/// A Service was deleted while its pods drained: it left addresses and real servers behind, and the next
/// Service with its address inherited them.
pub fn deleted_while_draining(lab: &mut Lab) -> Result<()> {
    let spec = json!({ "clusterIP": TAKEN_AGAIN[0], "clusterIPs": TAKEN_AGAIN });
    lab.cluster.service("old", json!({}), spec.clone())?;
    lab.cluster.endpoints("old", &[(P11, Ready)])?;
    let mut streams = Vec::new();
    for vip in TAKEN_AGAIN {
        answered_by("p12", Tcp, at(vip, 80)?, &["p11"])?;
        streams.push(open_stream("p12", at(vip, 80)?)?.0);
    }
    lab.cluster
        .endpoints("old", &[(P11, Terminating), (P21, Ready)])?;
    for (vip, stream) in TAKEN_AGAIN.iter().zip(&mut streams) {
        answered_by("p12", Tcp, at(vip, 80)?, &["p21"])?;
        stream.write_all(b"still there?")?;
        let mut answer = [0; 12];
        stream
            .read_exact(&mut answer)
            .context("the stream broke while its pod drains")?;
    }
    lab.cluster.delete("Service", "old")?;
    unserved(lab, "n1", &TAKEN_AGAIN)?;
    eventually("the sets of n1 have nothing of it", || {
        let sets = sh_in("n1", "ipset save")?;
        let there = TAKEN_AGAIN.iter().any(|vip| sets.contains(vip));
        Ok(if there { Err(sets) } else { Ok(()) })
    })?;
    lab.cluster.service("new", json!({}), spec)?;
    lab.cluster.endpoints("new", &[(P31, Ready)])?;
    for vip in TAKEN_AGAIN {
        answered_by("p12", Tcp, at(vip, 80)?, &["p31"])?;
    }
    let served = lab.served("n1")?;
    for inherited in [P11.v4(), P11.v6()] {
        ensure!(
            !served.leads_to(&inherited)?,
            "inherited {inherited}:\n{served}"
        );
    }
    Ok(())
}

/// Clients outside, behind a NodePort of a node without endpoints, saw timeouts whenever pods were
/// replaced one by one.
pub fn outside_rolling(lab: &mut Lab) -> Result<()> {
    let spec =
        json!({ "type": "NodePort", "ports": [{ "name": "http", "port": 80, "nodePort": 30080 }] });
    lab.cluster.service("web", json!({}), spec)?;
    lab.cluster
        .endpoints("web", &[(P11, Ready), (P21, Ready)])?;
    let mut asks = Vec::new();
    for addr in node_addresses("n3") {
        let to = at(&addr, 30080)?;
        answered_by(CLIENT, Tcp, to, &["p11", "p21"])?;
        asks.push(to);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let good = Arc::new(AtomicUsize::new(0));
    let loads: Vec<_> = asks
        .iter()
        .map(|to| {
            let (to, stop, good) = (*to, stop.clone(), good.clone());
            std::thread::spawn(move || -> Result<Vec<String>> {
                let mut bad = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match probe(CLIENT, Tcp, to)? {
                        Answer::From { .. } => _ = good.fetch_add(1, Ordering::Relaxed),
                        other => bad.push(other.to_string()),
                    }
                }
                Ok(bad)
            })
        })
        .collect();
    let mut rolled = || -> Result<()> {
        for (pods, names) in [
            (
                &[(P11, Terminating), (P21, Ready), (P31, Ready)][..],
                ["p21", "p31"],
            ),
            (&[(P21, Ready), (P31, Ready)], ["p21", "p31"]),
            (
                &[(P21, Terminating), (P31, Ready), (P11, Ready)],
                ["p11", "p31"],
            ),
            (&[(P31, Ready), (P11, Ready)], ["p11", "p31"]),
        ] {
            lab.cluster.endpoints("web", pods)?;
            for to in &asks {
                answered_by(CLIENT, Tcp, *to, &names)?;
            }
        }
        Ok(())
    };
    let rolled = rolled();
    stop.store(true, Ordering::Relaxed);
    for load in loads {
        let bad = load
            .join()
            .map_err(|_| anyhow::anyhow!("a client panicked"))??;
        ensure!(bad.is_empty(), "failed requests: {bad:?}");
    }
    rolled?;
    ensure!(
        good.load(Ordering::Relaxed) > 20,
        "too few requests to prove anything"
    );
    Ok(())
}

/// One source port to a pod and, at the same time, to a VIP before it: answers to both look alike to
/// conntrack, and the second connection was lost. (The other way round it still is: IPVS takes the
/// pod's own answers for those of the VIP.)
pub fn port_shared(lab: &mut Lab) -> Result<()> {
    let vips = lab.cluster.service("web", json!({}), json!({}))?;
    lab.cluster.endpoints("web", &[(P21, Ready)])?;
    for (vip, pod) in vips.iter().zip([P21.v4(), P21.v6()]) {
        answered_by("p12", Tcp, at(vip, 80)?, &["p21"])?;
        let (mut direct, _) = stream_from_port("p12", PORT, at(&pod, POD_PORT)?)?;
        let (mut balanced, name) = stream_from_port("p12", PORT, at(vip, 80)?)?;
        ensure!(name == "p21");
        for stream in [&mut direct, &mut balanced] {
            stream.write_all(b"still there?")?;
            let mut answer = [0; 12];
            stream
                .read_exact(&mut answer)
                .context("two connections of one port are taken for one")?;
        }
    }
    Ok(())
}

const PORT: u16 = 40000;
const TAKEN_AGAIN: [&str; 2] = ["10.96.71.89", "fd00:96::7189"];
