//! Session affinity that outlived what it was for.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::shown;
use crate::dataplane::Dataplane;
use crate::guest::cluster::State::{Ready, Terminating};
use crate::guest::probe::{Transport::Tcp, open_stream, probe};
use crate::guest::sh_in;
use crate::guest::topology::{P11, P12, P21, Pod};
use crate::guest::wait::eventually;
use crate::scenarios::{Lab, answered_by, at};

/// A client stayed with a pod that was going, and then with one that was gone, as long as its affinity
/// said: an hour or three.
pub fn outlives_endpoint(lab: &mut Lab) -> Result<()> {
    let vips = lab.cluster.service("sticky", json!({}), sticky(10_800))?;
    lab.cluster.endpoints("sticky", &[(P11, Ready)])?;
    let mut streams = Vec::new();
    for vip in &vips {
        answered_by("p12", Tcp, at(vip, 80)?, &["p11"])?;
        // What is open keeps the pod's real server, and with it the client's entry.
        streams.push(open_stream("p12", at(vip, 80)?)?);
    }
    let steps: [(&[_], &str); 3] = [
        (&[(P11, Terminating), (P21, Ready)], "p21"),
        (&[(P21, Ready)], "p21"),
        (&[(P11, Ready)], "p11"),
    ];
    for (pods, wanted) in steps {
        lab.cluster.endpoints("sticky", pods)?;
        for vip in &vips {
            answered_by("p12", Tcp, at(vip, 80)?, &[wanted])
                .with_context(|| format!("endpoints {pods:?}"))?;
        }
    }
    Ok(())
}

/// A shorter timeout did not reach the kernel, and a short one did not end: a client stayed for hours.
pub fn never_expires(lab: &mut Lab) -> Result<()> {
    let vips = lab.cluster.service("sticky", json!({}), sticky(10_800))?;
    lab.cluster
        .endpoints("sticky", &[(P11, Ready), (P21, Ready)])?;
    persistent(lab, &vips, 10_800)?;
    lab.cluster.service("sticky", json!({}), sticky(11))?;
    persistent(lab, &vips, 11)?;
    let mut bound = Vec::new();
    for vip in &vips {
        // A client that ends with a reset: an entry of a connection that has ended well keeps the
        // client's own for another two minutes.
        let (stream, name) = open_stream("p12", at(vip, 80)?)?;
        socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO))?;
        bound.push((vip, name));
    }
    let templates = || remembered(lab.program.dataplane, &vips);
    let before = templates()?;
    ensure!(
        before.lines().count() == 2,
        "not one entry each: {before:?}"
    );
    eventually("the clients' entries are gone", || {
        let left = templates()?;
        Ok(if left.is_empty() { Ok(()) } else { Err(left) })
    })?;
    for (vip, name) in bound {
        let other = probe("p12", Tcp, at(vip, 80)?)?.who();
        let is_endpoint = [P11, P21].map(Pod::name).contains(&other);
        // IPVS goes round; a rule picks at random, so that it may be the same one.
        let may_stay = lab.program.dataplane == Dataplane::Iptables;
        ensure!(
            is_endpoint && (may_stay || other != name),
            "{vip}: {name}, then {other}"
        );
    }
    Ok(())
}

/// What n1 knows of p12: IPVS keeps an entry for each virtual server, iptables one in the set of an
/// endpoint.
fn remembered(dataplane: Dataplane, vips: &[String]) -> Result<String> {
    let [v4, v6] = [P12.v4(), P12.v6()].map(|addr| format!(" {addr} timeout "));
    let is_entry = |line: &&str| match dataplane {
        Dataplane::Ipvs => {
            vips.iter().any(|vip| line.contains(&shown(vip, 80))) && line.contains(":0 ")
        }
        Dataplane::Iptables => {
            line.starts_with("add ") && (line.contains(&v4) || line.contains(&v6))
        }
    };
    let tool = match dataplane {
        Dataplane::Ipvs => "ipvsadm -Lnc",
        Dataplane::Iptables => "ipset save",
    };
    let all = sh_in("n1", tool)?;
    Ok(all.lines().filter(is_entry).collect::<Vec<_>>().join("\n"))
}

fn sticky(seconds: u32) -> serde_json::Value {
    json!({
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": seconds } },
    })
}

/// Waits until the kernel has this timeout.
fn persistent(lab: &Lab, vips: &[String], seconds: u32) -> Result<()> {
    eventually(&format!("the timeout is {seconds} s"), || {
        let served = lab.served("n1")?;
        for vip in vips {
            let balance = served.at(Tcp, at(vip, 80)?);
            if balance.and_then(|balance| balance.affinity) != Some(seconds) {
                return Ok(Err(served.to_string()));
            }
        }
        Ok(Ok(()))
    })
}
