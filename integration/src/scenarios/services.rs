//! What a Service asks for.

use anyhow::{Result, ensure};
use serde_json::json;

use super::{Lab, answered_by, at, refused, unserved};
use crate::guest::cluster::State::{NotReady, Ready, Terminating};
use crate::guest::probe::{Transport::Tcp, probe};
use crate::guest::topology::{P11, P21, P31};
use crate::guest::wait::eventually;
use crate::guest::{kernel, sh_in};

pub fn multi_port(lab: &mut Lab) -> Result<()> {
    let ports = json!({ "ports": [
        { "name": "a", "port": 80, "targetPort": 8080 },
        { "name": "b", "port": 81, "targetPort": 8080 },
    ] });
    let vips = lab.cluster.service("two", json!({}), ports)?;
    // A slice for each port. The second is not there yet: its port has no endpoints.
    lab.cluster
        .slice("two", "two-a", &[(P11, Ready)], &[("a", "TCP")])?;
    for vip in &vips {
        answered_by("p12", Tcp, at(vip, 80)?, &["p11"])?;
        refused("p12", Tcp, at(vip, 81)?)?;
    }
    lab.cluster
        .slice("two", "two-b", &[(P21, Ready)], &[("b", "TCP")])?;
    for vip in &vips {
        answered_by("p12", Tcp, at(vip, 81)?, &["p21"])?;
        answered_by("p12", Tcp, at(vip, 80)?, &["p11"])?;
    }
    Ok(())
}

pub fn scheduler(lab: &mut Lab) -> Result<()> {
    for name in kernel::schedulers()? {
        let annotations = json!({ "ipvs-agent.io/scheduler": name });
        let vips = lab.cluster.service("sched", annotations, json!({}))?;
        lab.cluster.endpoints("sched", &[(P11, Ready)])?;
        let shown = match name.as_str() {
            "sh" | "mh" => format!("{name} ({name}-fallback)"),
            _ => name.clone(),
        };
        for vip in &vips {
            let addr = if vip.contains(':') {
                format!("[{vip}]")
            } else {
                vip.clone()
            };
            let line = format!("TCP  {addr}:80 {shown}");
            eventually(&format!("n1 shows {line:?}"), || {
                let list = sh_in("n1", "ipvsadm -Ln")?;
                Ok(if list.lines().any(|l| l == line) {
                    Ok(())
                } else {
                    Err(list)
                })
            })?;
            answered_by("p12", Tcp, at(vip, 80)?, &["p11"])?;
        }
    }
    let annotations = json!({ "ipvs-agent.io/scheduler": "bogus" });
    lab.cluster.service("sched", annotations, json!({}))?;
    eventually("the log names the bad annotation", || {
        let log = lab.agents[0].log();
        let told = log.contains("bogus") && log.contains("ipvs-agent.io/scheduler");
        Ok(if told {
            Ok(())
        } else {
            Err("it does not".to_owned())
        })
    })
}

pub fn affinity(lab: &mut Lab) -> Result<()> {
    let sticky = json!({
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": 300 } },
    });
    let vips = lab.cluster.service("sticky", json!({}), sticky)?;
    lab.cluster
        .endpoints("sticky", &[(P11, Ready), (P21, Ready), (P31, Ready)])?;
    for vip in &vips {
        let to = at(vip, 80)?;
        eventually(&format!("{to} sticks"), || {
            let first = probe("p12", Tcp, to)?.who();
            for _ in 0..14 {
                let next = probe("p12", Tcp, to)?.who();
                if next != first || !next.starts_with('p') {
                    return Ok(Err(format!("{first}, then {next}")));
                }
            }
            Ok(Ok(()))
        })?;
        let served = lab.served("n1")?;
        ensure!(
            served.at(Tcp, to).and_then(|balance| balance.affinity) == Some(300),
            "{to} has no timeout of 300 s:\n{served}"
        );
    }
    // Its endpoint goes: the client moves on.
    let mut rest = Vec::new();
    for vip in &vips {
        let to = at(vip, 80)?;
        let bound = probe("p12", Tcp, to)?.who();
        rest = vec![P11, P21, P31];
        rest.retain(|pod| pod.name() != bound);
        let ready: Vec<_> = rest.iter().map(|pod| (*pod, Ready)).collect();
        lab.cluster.endpoints("sticky", &ready)?;
        eventually(&format!("the client of {to} moves on"), || {
            let now = probe("p12", Tcp, to)?.who();
            Ok(if now != bound && now.starts_with('p') {
                Ok(())
            } else {
                Err(now)
            })
        })?;
    }
    // Switched off live: it spreads.
    lab.cluster
        .service("sticky", json!({}), json!({ "sessionAffinity": "None" }))?;
    let names: Vec<String> = rest.iter().map(|pod| pod.name()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for vip in &vips {
        answered_by("p12", Tcp, at(vip, 80)?, &names)?;
    }
    Ok(())
}

pub fn endpoints(lab: &mut Lab) -> Result<()> {
    let vips = lab.cluster.service("web", json!({}), json!({}))?;
    let each = |from: &[&str], names: &[&str]| -> Result<()> {
        for vip in &vips {
            for from in from {
                answered_by(from, Tcp, at(vip, 80)?, names)?;
            }
        }
        Ok(())
    };
    let from = ["p12", "n1", "n3"];
    for vip in &vips {
        for from in from {
            refused(from, Tcp, at(vip, 80)?)?;
        }
    }
    lab.cluster.endpoints("web", &[(P11, Ready)])?;
    each(&from, &["p11"])?;
    lab.cluster
        .endpoints("web", &[(P11, Ready), (P21, Ready), (P31, Ready)])?;
    each(&from, &["p11", "p21", "p31"])?;
    lab.cluster
        .endpoints("web", &[(P11, NotReady), (P21, Ready), (P31, Terminating)])?;
    each(&from, &["p21"])?;
    // Nothing is ready, but one still serves while it ends.
    lab.cluster
        .endpoints("web", &[(P11, NotReady), (P31, Terminating)])?;
    each(&from, &["p31"])?;
    lab.cluster.endpoints("web", &[])?;
    for vip in &vips {
        for from in from {
            refused(from, Tcp, at(vip, 80)?)?;
        }
    }
    // The real servers are gone from the kernel too, once they have drained.
    unserved(lab, "n1", &vips)
}

pub fn skipped(lab: &mut Lab) -> Result<()> {
    let vips = lab.cluster.service("web", json!({}), json!({}))?;
    lab.cluster.endpoints("web", &[(P11, Ready)])?;
    for vip in &vips {
        answered_by("p12", Tcp, at(vip, 80)?, &["p11"])?;
    }

    // A headless one has endpoints and no address to reach them by.
    let headless = json!({ "clusterIP": "None", "clusterIPs": ["None"] });
    lab.cluster.service("headless", json!({}), headless)?;
    lab.cluster.endpoints("headless", &[(P31, Ready)])?;
    // Another proxy takes the first over, live, and gives it back.
    let label = "service.kubernetes.io/service-proxy-name";
    lab.cluster.label("web", label, Some("other"))?;
    unserved(lab, "n1", &vips)?;
    lab.cluster.label("web", label, None)?;
    for vip in &vips {
        answered_by("p12", Tcp, at(vip, 80)?, &["p11"])?;
    }
    let served = lab.served("n1")?;
    for addr in [P31.v4(), P31.v6()] {
        ensure!(
            !served.leads_to(&addr)?,
            "the headless Service is programmed:\n{served}"
        );
    }
    Ok(())
}
