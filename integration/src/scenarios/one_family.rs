//! What fails in one family alone: the other one goes on, and a person is told for which.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{Lab, answered_by, at};
use crate::guest::cluster::State::Ready;
use crate::guest::http::{self, HEALTH_PORT};
use crate::guest::probe::Transport::Tcp;
use crate::guest::topology::{P11, P21};
use crate::guest::wait::eventually;
use crate::guest::{sh, sh_in};

/// Rules of IPv6 cannot be written.
pub fn one_family_ill(lab: &mut Lab) -> Result<()> {
    let vips = lab.cluster.service("web", json!({}), json!({}))?;
    lab.cluster.endpoints("web", &[(P11, Ready)])?;
    for vip in &vips {
        answered_by("p12", Tcp, at(vip, 80)?, &["p11"])?;
    }
    health_is("well", |status, body| {
        status == 200 && body["status"]["IPv6"]["healthy"] == true
    })?;
    sh("mv /run/bin/ip6tables-restore /run/kept")?;
    for name in TOOLS {
        let tool = format!("/run/bin/{name}");
        fs::write(&tool, "#!/bin/sh\necho 'out of order today' >&2\nexit 1\n")?;
        sh(&format!("chmod +x {tool}"))?;
    }
    let result = broken(lab, &vips);
    for name in TOOLS {
        fs::remove_file(format!("/run/bin/{name}"))?;
    }
    sh("mv /run/kept /run/bin/ip6tables-restore")?;
    result?;
    health_is("well again", |status, body| {
        status == 200
            && ["IPv4", "IPv6"]
                .iter()
                .all(|family| body["status"][*family]["healthy"] == true)
    })?;
    for vip in &vips {
        answered_by("p12", Tcp, at(vip, 80)?, &["p11", "p21"])?;
    }
    let rules = sh_in("n1", "ip6tables-save -t nat")?;
    ensure!(jump(&rules).is_some(), "it was not written again:\n{rules}");
    Ok(())
}

fn broken(lab: &mut Lab, vips: &[String]) -> Result<()> {
    let rules = sh_in("n1", "ip6tables-save -t nat")?;
    let jump = jump(&rules).with_context(|| format!("no jump of the agent's:\n{rules}"))?;
    sh_in("n1", &format!("ip6tables -w -t nat -D {jump}"))?;
    health_is("IPv6 is ill", |status, body| {
        let family = |name: &str| body["status"][name]["healthy"].as_bool();
        status == 503
            && (family("IPv4"), family("IPv6")) == (Some(true), Some(false))
            && body["healthy"] == false
            && body["reason"].to_string().contains("out of order today")
    })?;
    let live = http::get("n1", at("127.0.0.1", HEALTH_PORT)?, "/livez")?;
    let live = live.context("nobody listens")?;
    ensure!(live.status == 200, "a restart does not help: {live:?}");
    // The other family follows its endpoints meanwhile.
    lab.cluster
        .endpoints("web", &[(P11, Ready), (P21, Ready)])?;
    let v4 = vips.iter().find(|vip| !vip.contains(':'));
    answered_by("p12", Tcp, at(v4.context("no IPv4")?, 80)?, &["p11", "p21"])?;
    eventually("an Event on the Node tells it", || {
        let events = lab.cluster.events_about_node("n1")?;
        let is_it = |event: &Value| {
            let note = event["note"].to_string();
            event["reason"] == "FailedToProgram"
                && event["type"] == "Warning"
                && note.contains("(IPv6)")
                && note.contains("out of order today")
        };
        Ok(if events.iter().any(is_it) {
            Ok(())
        } else {
            Err(format!("{events:?}"))
        })
    })
}

/// By each of its names; what is first in the agents' path is the guest's own.
const TOOLS: [&str; 3] = [
    "ip6tables-restore",
    "ip6tables-legacy-restore",
    "ip6tables-nft-restore",
];

/// `/healthz` of n1 comes to be so.
fn health_is(what: &str, is_so: impl Fn(u16, &Value) -> bool) -> Result<()> {
    eventually(what, || {
        let page = http::get("n1", at("127.0.0.1", HEALTH_PORT)?, "/healthz")?;
        let page = page.context("nobody listens")?;
        let body: Value = serde_json::from_str(&page.body).context("the body is no JSON")?;
        Ok(if is_so(page.status, &body) {
            Ok(())
        } else {
            Err(format!("{} {body}", page.status))
        })
    })
}

/// The rule by which packets come to the agent's, as `-D` takes it.
fn jump(rules: &str) -> Option<&str> {
    let mut rules = rules.lines().filter_map(|rule| rule.strip_prefix("-A "));
    rules.find(|rule| rule.starts_with("POSTROUTING") && rule.contains("-j IPVS-AGENT"))
}
