//! A proxy that ended in the middle of its work.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::guest::cluster::State::Ready;
use crate::guest::namespace::inside;
use crate::guest::probe::Transport::Tcp;
use crate::guest::sh_in;
use crate::guest::topology::{P11, P21};
use crate::guest::wait::eventually;
use crate::scenarios::{Lab, answered_by, at};

/// A proxy that was killed while it wrote came back to what it had left, and did not finish it.
pub fn killed_midway(lab: &mut Lab) -> Result<()> {
    let ports: Vec<Value> = (0..PORTS)
        .map(|n| json!({ "name": format!("p{n}"), "port": 1000 + n, "targetPort": 8080 }))
        .collect();
    let names: Vec<String> = (0..PORTS).map(|n| format!("p{n}")).collect();
    let named: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "TCP")).collect();
    let spec = json!({ "ports": ports });
    let vips = lab.cluster.service("many", json!({}), spec)?;
    lab.cluster
        .endpoints_of_ports("many", &[(P11, Ready), (P21, Ready)], &named)?;
    let all = usize::from(PORTS) * vips.len() * 3;
    let complete = |node: &str| {
        eventually(&format!("{node} has all of it"), || {
            let rows = rows(node)?;
            Ok(if rows == all {
                Ok(())
            } else {
                Err(format!("{rows} rows of {all}"))
            })
        })
    };
    complete("n1")?;
    let whole = state()?;
    // From nothing, and where somebody has taken all virtual servers away.
    for damage in ["agent", "ipvsadm -C"] {
        let mut tries = 0..8;
        loop {
            ensure!(
                tries.next().is_some(),
                "it was never killed in the middle: this proves nothing"
            );
            lab.stop_agent("n1")?;
            if damage == "agent" {
                lab.agent_command("n1", "cleanup")?;
            } else {
                sh_in("n1", damage)?;
            }
            ensure!(rows("n1")? == 0, "{damage} left something");
            lab.start_agent("n1")?;
            wait_for_some()?;
            lab.stop_agent("n1")?;
            if rows("n1")? < all {
                break;
            }
        }
    }
    lab.start_agent("n1")?;
    complete("n1")?;
    eventually("the kernel is as before", || {
        let now = state()?;
        Ok(if now == whole {
            Ok(())
        } else {
            Err("it differs".to_owned())
        })
    })?;
    for vip in &vips {
        for port in [1000, 1000 + PORTS / 2, 999 + PORTS] {
            answered_by("p12", Tcp, at(vip, port)?, &["p11", "p21"])?;
        }
    }
    Ok(())
}

/// Spins until a node's kernel has the first of them, faster than a tool could be started.
fn wait_for_some() -> Result<()> {
    inside("n1", || -> Result<()> {
        for _ in 0..2_000_000_u32 {
            let text = fs::read_to_string("/proc/thread-self/net/ip_vs").context("no ip_vs")?;
            if text.lines().any(|line| line.starts_with("TCP")) {
                return Ok(());
            }
            std::thread::yield_now();
        }
        anyhow::bail!("nothing was programmed")
    })?
}

/// Rows of a node's table that are about the Service of this story.
fn rows(node: &str) -> Result<usize> {
    let text = sh_in(node, "ipvsadm -Sn")?;
    let port = |row: &str| -> Option<u16> {
        let tuple = row.split(' ').nth(2)?;
        tuple.rsplit(':').next()?.parse().ok()
    };
    let ours = |row: &&str| port(row).is_some_and(|port| (1000..1000 + PORTS).contains(&port));
    Ok(text.lines().filter(ours).count())
}

/// What the tools tell of the kernel, in an order of its own.
fn state() -> Result<String> {
    let mut text = String::new();
    for tool in [
        "ipvsadm -Sn",
        "ipset save",
        "iptables-save",
        "ip6tables-save",
        "ip rule",
        "ip -6 rule",
        "ip route show table 10256",
        "ip -6 route show table 10256",
    ] {
        let printed = sh_in("n1", tool)?;
        let mut lines: Vec<&str> = printed
            .lines()
            .filter(|line| !line.starts_with(['#', ':']))
            .collect();
        lines.sort_unstable();
        text.push_str(&lines.join("\n"));
    }
    Ok(text)
}

const PORTS: u16 = 300;
