//! What somebody else made stays as it is.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{Lab, answered_by, at};
use crate::guest::cluster::State::Ready;
use crate::guest::http::metrics;
use crate::guest::probe::Transport::Tcp;
use crate::guest::sh_in;
use crate::guest::topology::{P11, P21, P31, POD_PORT};
use crate::guest::wait::eventually;

/// Between two audits somebody takes a tuple that a Service claims later.
pub fn foreign_claim(lab: &mut Lab) -> Result<()> {
    let rarely = ["--audit-interval", "1h"];
    lab.stop_agent("n1")?;
    lab.start_agent_with("n1", &rarely)?;
    lab.agent("n1")?.synced()?;
    let claimed = ["10.96.77.7", "fd00:96::7777"];
    let theirs = [P31.v4(), format!("[{}]", P31.v6())];
    for (vip, real) in ["10.96.77.7", "[fd00:96::7777]"].iter().zip(&theirs) {
        sh_in("n1", &format!("ipvsadm -A -t {vip}:80 -s wlc"))?;
        sh_in(
            "n1",
            &format!("ipvsadm -a -t {vip}:80 -r {real}:{POD_PORT} -m -w 7"),
        )?;
    }
    let as_made = claimed_rows()?;
    ensure!(as_made.lines().count() == 4, "{as_made}");

    let spec = json!({ "clusterIP": claimed[0], "clusterIPs": claimed });
    lab.cluster.service("claims", json!({}), spec)?;
    lab.cluster.endpoints("claims", &[(P11, Ready)])?;
    // A Service that comes later is programmed: the claim has been dealt with.
    let served = |lab: &mut Lab, name: &str| -> Result<Vec<String>> {
        let vips = lab.cluster.service(name, json!({}), json!({}))?;
        lab.cluster.endpoints(name, &[(P21, Ready)])?;
        for vip in &vips {
            answered_by("n1", Tcp, at(vip, 80)?, &["p21"])?;
        }
        Ok(vips)
    };
    let after = served(lab, "after")?;
    is_still_foreign(&as_made)?;
    are_foreign(2.0)?;
    // Neither a change of the Service's endpoints nor a restart takes them over.
    lab.cluster
        .endpoints("claims", &[(P11, Ready), (P21, Ready)])?;
    served(lab, "after-change")?;
    is_still_foreign(&as_made)?;
    // Nor does what the set says: here that theirs are ours, as after a crash at a bad moment, and that
    // ours are not.
    lab.stop_agent("n1")?;
    for (family, vip) in ["4", "6"].iter().zip(claimed) {
        sh_in("n1", &format!("ipset flush IPVS-AGENT-{family}-OWNED"))?;
        sh_in(
            "n1",
            &format!("ipset add IPVS-AGENT-{family}-OWNED {vip},tcp:80"),
        )?;
    }
    // Who edits one of ours meanwhile makes it his own.
    let edited = after.first().context("a cluster IP")?;
    sh_in("n1", &format!("ipvsadm -E -t {edited}:80 -s wlc"))?;
    lab.start_agent_with("n1", &rarely)?;
    lab.agent("n1")?.synced()?;
    served(lab, "after-restart")?;
    is_still_foreign(&as_made)?;
    are_foreign(3.0)?;
    lab.stop_agent("n1")?;
    lab.agent_command("n1", "cleanup")?;
    is_still_foreign(&as_made)?;
    let left = sh_in("n1", "ipvsadm -Sn")?;
    ensure!(
        left.contains(&format!("-A -t {edited}:80 -s wlc")) && left.lines().count() == 6,
        "{left}"
    );

    // Once they are gone the Services are served.
    for vip in ["10.96.77.7", "[fd00:96::7777]", edited] {
        sh_in("n1", &format!("ipvsadm -D -t {vip}:80"))?;
    }
    lab.start_agent("n1")?;
    for vip in claimed {
        answered_by("n1", Tcp, at(vip, 80)?, &["p11", "p21"])?;
    }
    answered_by("n1", Tcp, at(edited, 80)?, &["p21"])
}

/// So many, and none that the agent made.
fn are_foreign(count: f64) -> Result<()> {
    eventually("the metrics count foreign virtual servers", || {
        let metrics = metrics("n1")?;
        let told = metrics.get("ipvs_agent_foreign_virtual_servers");
        let right = told == Some(&count);
        Ok(right.then_some(()).ok_or(format!("{told:?}, not {count}")))
    })
}

/// What `ipvsadm -Sn` prints of the claimed tuples.
fn claimed_rows() -> Result<String> {
    let all = sh_in("n1", "ipvsadm -Sn")?;
    let rows = all.lines().filter(|row| {
        ["10.96.77.7:80", "[fd00:96::7777]:80"]
            .iter()
            .any(|vip| row.contains(vip))
    });
    Ok(rows.collect::<Vec<_>>().join("\n"))
}

/// Unchanged, and soon in none of the agent's sets. A Service without endpoints is refused at its
/// tuple until the agent learns that somebody else's virtual server stands there.
fn is_still_foreign(as_made: &str) -> Result<()> {
    let now = claimed_rows()?;
    ensure!(now == as_made, "made:\n{as_made}\nnow:\n{now}");
    eventually("the tuples are in none of the agent's sets", || {
        let sets = sh_in("n1", "ipset save")?;
        let held = ["10.96.77.7,tcp:80", "fd00:96::7777,tcp:80"]
            .iter()
            .any(|tuple| sets.contains(tuple));
        Ok(if held { Err(sets) } else { Ok(()) })
    })
}
