//! By what a node serves: it falls back where the kernel has no IPVS, takes another scheduler where the kernel
//! has not the one that is wanted, and moves from one to the other without a connection that fails.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{Lab, answered_by, at};
use crate::dataplane::{Dataplane, Program};
use crate::guest::agent::Agent;
use crate::guest::cluster::State::Ready;
use crate::guest::http::{METRICS_PORT, get};
use crate::guest::load::Load;
use crate::guest::probe::Transport::Tcp;
use crate::guest::served::Served;
use crate::guest::topology::{P11, P21};
use crate::guest::wait::eventually;
use crate::guest::{kernel, sh, sh_in};

/// Left to itself, in a kernel without IPVS.
pub fn fallback(lab: &mut Lab) -> Result<()> {
    lab.stop_agent("n1")?;
    lab.start_agent_with("n1", &["--dataplane", "auto"])?;
    let vips = lab.cluster.service("web", json!({}), json!({}))?;
    lab.cluster
        .endpoints("web", &[(P11, Ready), (P21, Ready)])?;
    for vip in &vips {
        answered_by("p12", Tcp, at(vip, 80)?, &["p11", "p21"])?;
    }
    told_of_the_node(lab, &["no ip_vs", "modprobe ip_vs"])?;
    let server = at("127.0.0.1", METRICS_PORT)?;
    let page = |path: &str| -> Result<String> {
        let page = get("n1", server, path)?.context("nobody listens")?;
        Ok(page.body)
    };
    let metrics = page("/metrics")?;
    let row = metrics
        .lines()
        .find(|line| line.starts_with("ipvs_agent_dataplane{"));
    let row = row.context("no metric tells by what Services are served")?;
    ensure!(
        row.contains("\"iptables\"") && row.contains("no-ip-vs") && row.ends_with(" 1"),
        "{row}"
    );
    ensure!(page("/proxyMode")? == "iptables");
    lab.stop_agent("n1")
}

/// Of two schedulers that the kernel has not: one for all Services, one for a Service.
pub fn scheduler_missing(lab: &mut Lab) -> Result<()> {
    let modules = format!("/lib/modules/{}/modules.dep", kernel::release()?);
    let list = fs::read_to_string(&modules)?;
    let without: Vec<&str> = list
        .lines()
        .filter(|line| {
            !line
                .split(':')
                .next()
                .unwrap_or_default()
                .contains("ip_vs_fo.")
        })
        .collect();
    ensure!(
        without.len() < list.lines().count(),
        "this kernel never had ip_vs_fo"
    );
    fs::write("/run/modules.dep", without.join("\n") + "\n")?;
    // It may have been loaded by an earlier story.
    let _ = sh("rmmod ip_vs_fo");
    sh(&format!("mount --bind /run/modules.dep {modules}"))?;
    lab.stop_agent("n1")?;
    let result = without_fo(lab);
    sh(&format!("umount {modules}"))?;
    lab.stop_agent("n1")?;
    result
}

fn without_fo(lab: &mut Lab) -> Result<()> {
    lab.start_agent_with("n1", &["--scheduler", "fo"])?;
    let vips = lab.cluster.service("web", json!({}), json!({}))?;
    lab.cluster
        .endpoints("web", &[(P11, Ready), (P21, Ready)])?;
    for vip in &vips {
        answered_by("p12", Tcp, at(vip, 80)?, &["p11", "p21"])?;
    }
    let table = sh_in("n1", "ipvsadm -Sn")?;
    for vip in &vips {
        let mut rows = table.lines().filter(|row| row.starts_with("-A"));
        let right = rows.any(|row| row.contains(vip.as_str()) && row.ends_with("-s rr"));
        ensure!(right, "{vip} is not served by rr:\n{table}");
    }
    told_of_the_node(lab, &["ip_vs_fo", "rr"])
}

/// A line of n1's log and an Event on its Node say so.
fn told_of_the_node(lab: &mut Lab, parts: &[&str]) -> Result<()> {
    let has_all = |text: &str| parts.iter().all(|part| text.contains(part));
    let log = lab.agent("n1")?.log();
    let told = log
        .lines()
        .any(|line| line.contains("WARN") && has_all(line));
    ensure!(told, "no line of the log names {parts:?}:\n{log}");
    let mut found = Value::Null;
    eventually("an Event on the Node names it", || {
        let events = lab.cluster.events_about_node("n1")?;
        let is_it = |event: &&Value| {
            event["reason"] == "IPVSUnavailable" && has_all(&event["note"].to_string())
        };
        Ok(match events.iter().find(is_it) {
            Some(event) => {
                found = event.clone();
                Ok(())
            }
            None => Err(format!("{events:?}")),
        })
    })?;
    ensure!(
        found["type"] == "Warning" && found["reportingInstance"] == "n1",
        "{found:#}"
    );
    Ok(())
}

/// From iptables to IPVS, as once the module is there, and the other way round.
pub fn move_back(lab: &mut Lab) -> Result<()> {
    let vips = lab.cluster.service("load", json!({}), json!({}))?;
    lab.cluster
        .endpoints("load", &[(P11, Ready), (P21, Ready)])?;
    for vip in &vips {
        answered_by("p12", Tcp, at(vip, 80)?, &["p11", "p21"])?;
    }
    let to: Vec<_> = vips.iter().map(|vip| at(vip, 80)).collect::<Result<_>>()?;
    let load = Load::start("p12", to);
    for dataplane in [
        Dataplane::Iptables,
        Dataplane::Ipvs,
        Dataplane::Iptables,
        Dataplane::Ipvs,
    ] {
        move_to(lab, dataplane, &vips).with_context(|| format!("to {dataplane:?}"))?;
        // Asked for a while by the new one alone.
        load.goes_on(40)?;
    }
    load.end()
}

/// Restarts n1's agent, and waits until nothing of the other dataplane is left.
fn move_to(lab: &mut Lab, dataplane: Dataplane, vips: &[String]) -> Result<()> {
    lab.agent("n1")?.terminate()?;
    lab.agents.retain(|agent| agent.node != "n1");
    let program = Program {
        dataplane,
        ..lab.program.clone()
    };
    let kubeconfig = lab.cluster.kubeconfig.display().to_string();
    let agent = Agent::start(&program, "n1", &["--kubeconfig", &kubeconfig])?;
    lab.agents.push(agent);
    lab.agent("n1")?.synced()?;
    let other = match dataplane {
        Dataplane::Ipvs => Dataplane::Iptables,
        Dataplane::Iptables => Dataplane::Ipvs,
    };
    eventually("the new one serves, and the old one is gone", || {
        let (new, old) = (Served::by(dataplane, "n1")?, Served::by(other, "n1")?);
        for vip in vips {
            let endpoints = new.at(Tcp, at(vip, 80)?).map(|to| to.endpoints.len());
            if endpoints != Some(2) {
                return Ok(Err(format!("{vip} leads to {endpoints:?} endpoints")));
            }
        }
        let rules = sh_in("n1", "iptables-save")? + &sh_in("n1", "ip6tables-save")?;
        let ours = |line: &&str| line.starts_with(":IPVS-AGENT-");
        // Constant ones, and those of Services and branches: a letter and sixteen more.
        let by_iptables = |line: &&str| {
            let name = line.split(' ').next().unwrap_or_default();
            let rest = name.strip_prefix(":IPVS-AGENT-").unwrap_or_default();
            rest.starts_with("IPT-") || (rest.starts_with(['S', 'T']) && rest.len() == 17)
        };
        let chains = rules.lines().filter(ours);
        let left: Vec<&str> = match dataplane {
            Dataplane::Ipvs => chains.filter(by_iptables).collect(),
            Dataplane::Iptables => chains.filter(|line| !by_iptables(line)).collect(),
        };
        Ok(if left.is_empty() && old.tuples.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}\n{old}"))
        })
    })
}
