//! Figures at scale, in one guest run: a change at 10 and at 5,000 Services, and the first sync of
//! 5,000 × 10 against the same table loaded by `ipvsadm -R`. Nothing here judges a time.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Lab;
use crate::guest::agent::{Agent, forget_log};
use crate::guest::http::metrics;
use crate::guest::sh_in;
use crate::guest::wait::eventually_within;

pub fn scale(lab: &mut Lab) -> Result<()> {
    let mut costs = Vec::new();
    for services in [10, 5000] {
        let directory = format!("/run/scale-{services}");
        std::fs::create_dir_all(&directory)?;
        write_services(Path::new(&directory), services)?;
        forget_log("n1");
        let mut agent = start(lab, "n1", &directory)?;
        let begun = Instant::now();
        eventually_within(LIMIT, "everything is programmed", || {
            agent.demand_alive()?;
            let now = metrics("n1")?;
            let have = now.get("ipvs_agent_real_servers").copied().unwrap_or(0.0);
            let wanted = (services * 10) as f64;
            Ok(if have == wanted {
                Ok(())
            } else {
                Err(format!("{have} of {wanted}"))
            })
        })?;
        let whole = begun.elapsed();
        let synced = agent
            .log()
            .lines()
            .filter(|l| l.contains("synced"))
            .map(str::to_owned)
            .collect::<Vec<_>>();
        println!("{services} Services × 10: whole start {whole:.2?}");
        synced.iter().for_each(|line| println!("    {line}"));
        println!("    memory: {}", memory(agent.pid())?);
        // One endpoint changes.
        let before = metrics("n1")?;
        let last = services - 1;
        std::fs::write(format!("{directory}/one.yaml"), slice(last, 250))?;
        std::fs::remove_file(format!("{directory}/last.yaml"))?;
        eventually_within(LIMIT, "the change is programmed", || {
            let list = sh_in("n1", "cat /proc/net/ip_vs")?;
            // 10.200.x.250 in hexadecimal.
            Ok(if list.contains("FA:1F90") {
                Ok(())
            } else {
                Err("not yet".to_owned())
            })
        })?;
        eventually_within(LIMIT, "its pass is counted", || {
            let now = metrics("n1")?;
            let key = "ipvs_agent_netlink_messages_total";
            Ok(if now.get(key) > before.get(key) {
                Ok(())
            } else {
                Err("not yet".to_owned())
            })
        })?;
        let after = metrics("n1")?;
        let difference =
            |key: &str| after.get(key).unwrap_or(&0.0) - before.get(key).unwrap_or(&0.0);
        let cost = (
            difference("ipvs_agent_netlink_messages_total"),
            difference("ipvs_agent_netlink_sends_total"),
            difference("ipvs_agent_processes_started_total"),
        );
        println!(
            "    one added endpoint: {} netlink messages in {} sends, {} processes",
            cost.0, cost.1, cost.2
        );
        costs.push(cost);
        if services == 5000 {
            against_ipvsadm(lab)?;
        }
        drop(agent);
        lab.agent_command("n1", "cleanup")?;
    }
    ensure!(
        costs[0] == costs[1],
        "a change costs more at 5,000 Services: {costs:?}"
    );
    ensure!(costs[0].2 == 0.0, "a change started a process");
    Ok(())
}

/// The table of n1 loaded by ipvsadm into n2, and by the agent into n3, in turn.
fn against_ipvsadm(lab: &Lab) -> Result<()> {
    let rules = sh_in("n1", "ipvsadm -Sn")?;
    std::fs::write("/run/rules", &rules)?;
    std::fs::write("/run/load.sh", "#!/bin/sh\nexec ipvsadm -R < /run/rules\n")?;
    for round in 1..=2 {
        let begun = Instant::now();
        sh_in("n2", "sh /run/load.sh")?;
        println!(
            "    ipvsadm -R, round {round}: {:.2?} for {} lines",
            begun.elapsed(),
            rules.lines().count()
        );
        sh_in("n2", "ipvsadm -C")?;
        forget_log("n3");
        let mut agent = start(lab, "n3", "/run/scale-5000")?;
        let mut line = String::new();
        eventually_within(LIMIT, "n3 is programmed", || {
            agent.demand_alive()?;
            let log = agent.log();
            let whole = log
                .lines()
                .find(|line| line.contains(" services=5000 steps="));
            line = whole.unwrap_or_default().to_owned();
            Ok(if line.is_empty() {
                Err("not yet".to_owned())
            } else {
                Ok(())
            })
        })?;
        println!("    ipvs-agent, round {round}: {line}");
        drop(agent);
        lab.agent_command("n3", "cleanup")?;
    }
    Ok(())
}

fn start(lab: &Lab, node: &str, directory: &str) -> Result<Agent> {
    let source = ["--manifests", directory, "--service-cidr", "10.96.0.0/16"];
    let quiet = ["--log", "info", "--audit-interval", "1h"];
    Agent::start(&lab.program, node, &[source, quiet].concat())
}

fn write_services(directory: &Path, count: usize) -> Result<()> {
    let mut text = String::new();
    for n in 0..count {
        let _ = write!(
            text,
            "---\nkind: Service\nmetadata: {{name: s{n}}}\nspec: {{clusterIPs: [10.96.{}.{}], ports: [{{port: 80}}]}}\n",
            n / 250,
            n % 250 + 1
        );
        if n + 1 < count {
            let _ = write!(text, "---\n{}", slice(n, 10));
        }
    }
    std::fs::write(directory.join("services.yaml"), text)?;
    std::fs::write(directory.join("last.yaml"), slice(count - 1, 10))?;
    Ok(())
}

/// Ten endpoints of Service `n`; the last has the given number.
fn slice(n: usize, last: usize) -> String {
    let endpoints: Vec<String> = (1..=10)
        .map(|e| {
            format!(
                "{{addresses: [10.{}.{}.{}]}}",
                200 + n / 250,
                n % 250,
                if e == 10 { last } else { e }
            )
        })
        .collect();
    format!(
        "kind: EndpointSlice\nmetadata: {{name: s{n}-1, labels: {{kubernetes.io/service-name: s{n}}}}}\n\
         addressType: IPv4\nports: [{{name: '', port: 8080}}]\nendpoints: [{}]\n",
        endpoints.join(", ")
    )
}

fn memory(pid: u32) -> Result<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("no agent")?;
    let lines = status
        .lines()
        .filter(|l| l.starts_with("VmRSS") || l.starts_with("RssAnon"));
    Ok(lines
        .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join(", "))
}

/// An emulated kernel takes long to parse a large manifest.
const LIMIT: Duration = Duration::from_secs(300);
