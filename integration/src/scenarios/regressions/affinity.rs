//! Session affinity that outlived what it was for.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::shown;
use crate::guest::cluster::State::{Ready, Terminating};
use crate::guest::probe::{Transport::Tcp, open_stream, probe};
use crate::guest::sh_in;
use crate::guest::topology::{P11, P21, Pod};
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
    persistent(&vips, 10_800)?;
    lab.cluster.service("sticky", json!({}), sticky(11))?;
    persistent(&vips, 11)?;
    let mut bound = Vec::new();
    for vip in &vips {
        // A client that ends with a reset: an entry of a connection that has ended well keeps the
        // client's own for another two minutes.
        let (stream, name) = open_stream("p12", at(vip, 80)?)?;
        socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO))?;
        bound.push((vip, name));
    }
    let templates = || -> Result<String> {
        let all = sh_in("n1", "ipvsadm -Lnc")?;
        let of_ours = |line: &&str| {
            let ours = vips.iter().any(|vip| line.contains(&shown(vip, 80)));
            ours && line.contains(":0 ")
        };
        let lines: Vec<&str> = all.lines().filter(of_ours).collect();
        Ok(lines.join("\n"))
    };
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
        ensure!(is_endpoint && other != name, "{vip}: {name}, then {other}");
    }
    Ok(())
}

fn sticky(seconds: u32) -> serde_json::Value {
    json!({
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": seconds } },
    })
}

/// Waits until the kernel has this timeout.
fn persistent(vips: &[String], seconds: u32) -> Result<()> {
    eventually(&format!("the timeout is {seconds} s"), || {
        let list = sh_in("n1", "ipvsadm -Ln")?;
        let has = |vip: &String| {
            let start = format!("TCP  {} ", shown(vip, 80));
            let end = format!("persistent {seconds}");
            list.lines()
                .any(|line| line.starts_with(&start) && line.trim_end().ends_with(&end))
        };
        Ok(if vips.iter().all(has) {
            Ok(())
        } else {
            Err(list)
        })
    })
}
