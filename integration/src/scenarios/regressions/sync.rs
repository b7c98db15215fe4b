//! A proxy that ended in the middle of its work.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::dataplane::Dataplane;
use crate::guest::agent::Agent;
use crate::guest::cluster::State::Ready;
use crate::guest::namespace::inside;
use crate::guest::probe::Transport::Tcp;
use crate::guest::sh_in;
use crate::guest::state::{differences, state};
use crate::guest::topology::{P11, P21};
use crate::guest::wait::eventually;
use crate::scenarios::{Lab, answered_by, at};

/// A proxy that was killed while it wrote came back to what it had left, and did not finish it.
pub fn killed_midway(lab: &mut Lab) -> Result<()> {
    let dataplane = lab.program.dataplane;
    let ports: Vec<Value> = (0..PORTS)
        .map(|n| json!({ "name": format!("p{n}"), "port": 1000 + n, "targetPort": 8080 }))
        .collect();
    let names: Vec<String> = (0..PORTS).map(|n| format!("p{n}")).collect();
    let named: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "TCP")).collect();
    let spec = json!({ "ports": ports });
    let vips = lab.cluster.service("many", json!({}), spec)?;
    lab.cluster
        .endpoints_of_ports("many", &[(P11, Ready), (P21, Ready)], &named)?;
    let all = usize::from(PORTS) * vips.len();
    let complete = |lab: &Lab| {
        eventually("n1 has all of it", || {
            let balanced = balanced(lab)?;
            Ok(if balanced == all {
                Ok(())
            } else {
                Err(format!("{balanced} of {all}"))
            })
        })
    };
    complete(lab)?;
    // What the story before left may still be on its way out.
    let mut whole = state(dataplane, "n1")?;
    eventually("n1 is at rest", || {
        std::thread::sleep(REST);
        let before = std::mem::replace(&mut whole, state(dataplane, "n1")?);
        Ok(if before == whole {
            Ok(())
        } else {
            Err("its kernel changes".to_owned())
        })
    })?;
    // From nothing, and where somebody has taken all away that balances.
    let theirs = match dataplane {
        Dataplane::Ipvs => &["ipvsadm -C"][..],
        Dataplane::Iptables => &[
            "iptables -w -t nat -F IPVS-AGENT-IPT-SERVICES",
            "ip6tables -w -t nat -F IPVS-AGENT-IPT-SERVICES",
            "ipset flush IPVS-AGENT-4-BALANCED",
            "ipset flush IPVS-AGENT-6-BALANCED",
        ],
    };
    for damage in [&[][..], theirs] {
        let mut tries = 0..16;
        loop {
            let patience = tries
                .next()
                .context("it was never killed in the middle: this proves nothing")?;
            lab.stop_agent("n1")?;
            if damage.is_empty() {
                lab.agent_command("n1", "cleanup")?;
            }
            if !damage.is_empty() {
                lab.start_agent("n1")?;
                complete(lab)?;
                lab.stop_agent("n1")?;
            }
            for line in damage {
                sh_in("n1", line)?;
            }
            ensure!(balanced(lab)? == 0, "{damage:?} left something");
            let begun = state(dataplane, "n1")?;
            lab.start_agent("n1")?;
            match dataplane {
                Dataplane::Ipvs => wait_for_some()?,
                Dataplane::Iptables => wait_for_steps(lab.agent("n1")?, patience)?,
            }
            lab.stop_agent("n1")?;
            if balanced(lab)? < all && state(dataplane, "n1")? != begun {
                break;
            }
        }
    }
    lab.start_agent("n1")?;
    complete(lab)?;
    eventually("the kernel is as before", || {
        let now = state(dataplane, "n1")?;
        Ok(if now == whole {
            Ok(())
        } else {
            Err(differences(("before", &whole), ("now", &now)))
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

/// Spins until an agent has told its steps, which it does before it carries them out, and then for so many
/// milliseconds.
fn wait_for_steps(agent: &mut Agent, patience: u64) -> Result<()> {
    for _ in 0..10_000 {
        if agent.log().contains("DEBUG step step=") {
            std::thread::sleep(Duration::from_millis(patience));
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    agent.demand_alive()?;
    anyhow::bail!("it told no step")
}

/// How many ports of this story's Service lead to both of its endpoints in n1.
fn balanced(lab: &Lab) -> Result<usize> {
    let served = lab.served("n1")?;
    let whole = served.tuples.iter().filter(|((_, to), balance)| {
        (1000..1000 + PORTS).contains(&to.port()) && balance.endpoints.len() == 2
    });
    Ok(whole.count())
}

/// Longer than a pass takes.
const REST: Duration = Duration::from_secs(1);
const PORTS: u16 = 300;
