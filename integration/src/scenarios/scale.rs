//! What a change costs, at few and at many Services, and figures at scale in one guest run: the
//! first sync of 5,000 × 10 against the same table loaded by `ipvsadm -R`. Nothing here judges a
//! time.

use std::fmt::Write;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Lab;
use crate::dataplane::Dataplane;
use crate::guest::agent::Agent;
use crate::guest::http::{metrics, sum};
use crate::guest::sh_in;
use crate::guest::wait::eventually_within;

/// In both families: the cost of one added endpoint does not depend on the number of Services.
pub fn cost(lab: &mut Lab) -> Result<()> {
    for family in [Family::IPv4, Family::IPv6] {
        let mut costs = Vec::new();
        for services in [10, 200] {
            let load = Load { services, family };
            let agent = load.program(lab)?;
            costs.push(load.one_added_endpoint()?);
            drop(agent);
            lab.agent_command("n1", "cleanup")?;
        }
        are_equal(&costs, lab.program.dataplane)?;
    }
    Ok(())
}

pub fn scale(lab: &mut Lab) -> Result<()> {
    let mut costs = Vec::new();
    for services in [10, 5000] {
        let load = Load {
            services,
            family: Family::IPv4,
        };
        let begun = Instant::now();
        let agent = load.program(lab)?;
        let whole = begun.elapsed();
        println!("{services} Services × 10: whole start {whole:.2?}");
        for line in agent.log().lines().filter(|line| line.contains("synced")) {
            println!("    {line}");
        }
        println!("    memory: {}", memory(agent.pid())?);
        costs.push(load.one_added_endpoint()?);
        if services == 5000 {
            against_ipvsadm(lab, &load)?;
        }
        drop(agent);
        if services == 5000 && lab.program.dataplane == Dataplane::Ipvs {
            load.scrapes(lab)?;
        }
        lab.agent_command("n1", "cleanup")?;
    }
    are_equal(&costs, lab.program.dataplane)
}

/// What the agent did for a change.
#[derive(Debug, PartialEq)]
struct Cost {
    messages: f64,
    sends: f64,
    processes: f64,
}

fn are_equal(costs: &[Cost], dataplane: Dataplane) -> Result<()> {
    ensure!(
        costs.iter().all(|cost| *cost == costs[0]),
        "a change costs more at more Services: {costs:?}"
    );
    // Rules are written by a process: one, for the one family that the change is about. Sets are not
    // concerned.
    let (by_netlink, processes) = match dataplane {
        Dataplane::Ipvs => (true, 0.0),
        Dataplane::Iptables => (false, 1.0),
    };
    ensure!(
        (costs[0].messages > 0.0) == by_netlink,
        "not by the means that it should take: {costs:?}"
    );
    ensure!(
        costs[0].processes == processes,
        "a change started {} processes and not {processes}",
        costs[0].processes
    );
    Ok(())
}

/// Named as a slice's `addressType` is.
#[derive(Debug, Clone, Copy)]
enum Family {
    IPv4,
    IPv6,
}

/// So many Services with ten endpoints each, as manifests.
struct Load {
    services: usize,
    family: Family,
}

impl Load {
    /// Writes the manifests and waits until an agent in n1 has programmed them all.
    fn program(&self, lab: &Lab) -> Result<Agent> {
        self.write()?;
        let mut agent = self.agent(lab, "n1")?;
        eventually_within(LIMIT, "everything is programmed", || {
            agent.demand_alive()?;
            real_servers_are(self.services * ENDPOINTS)
        })?;
        Ok(agent)
    }

    /// What a scrape costs, without the kernel's counters and with them.
    fn scrapes(&self, lab: &Lab) -> Result<()> {
        for extent in ["none", "services", "backends"] {
            let limit = ["--traffic-metrics-limit", "50000"];
            let flags = [&["--traffic-metrics", extent][..], &limit].concat();
            let mut agent = self.agent_with(lab, "n1", &flags)?;
            agent.synced()?;
            for _ in 0..3 {
                // The kernel counts every two seconds, and a reading is good for as long.
                std::thread::sleep(Duration::from_secs(3));
                let begun = Instant::now();
                let told = metrics("n1")?;
                let took = told.get("ipvs_agent_traffic_read_duration_seconds");
                println!(
                    "    a scrape with --traffic-metrics {extent}: {:.0?} for {} series, of which reading the kernel {took:?} s",
                    begun.elapsed(),
                    told.len()
                );
            }
        }
        Ok(())
    }

    fn agent(&self, lab: &Lab, node: &str) -> Result<Agent> {
        self.agent_with(lab, node, &[])
    }

    fn agent_with(&self, lab: &Lab, node: &str, flags: &[&str]) -> Result<Agent> {
        let directory = self.directory();
        let source = ["--manifests", &directory];
        let cidr = ["--service-cidr", "10.96.0.0/16,fd00:96::/112"];
        let quiet = ["--log", "info", "--audit-interval", "1h"];
        Agent::start(
            &lab.program,
            node,
            &[&source[..], &cidr, &quiet, flags].concat(),
        )
    }

    /// The last Service gets one more.
    fn one_added_endpoint(&self) -> Result<Cost> {
        let before = metrics("n1")?;
        let last = self.slice(self.services - 1, ENDPOINTS + 1);
        let aside = format!("{}.new", self.directory());
        fs::write(&aside, last)?;
        fs::rename(aside, format!("{}/last.yaml", self.directory()))?;
        eventually_within(LIMIT, "the change is programmed", || {
            real_servers_are(self.services * ENDPOINTS + 1)
        })?;
        let after = metrics("n1")?;
        let difference = |name: &str| {
            let name = format!("ipvs_agent_{name}_total");
            sum(&after, &name, "") - sum(&before, &name, "")
        };
        let cost = Cost {
            messages: difference("netlink_messages"),
            sends: difference("netlink_sends"),
            processes: difference("processes_started"),
        };
        let counted = after
            .keys()
            .any(|series| series.starts_with("ipvs_agent_netlink_messages_total{"));
        ensure!(counted, "netlink messages are not counted");
        println!(
            "    one added endpoint at {} Services ({:?}): {} netlink messages in {} sends, {} processes",
            self.services, self.family, cost.messages, cost.sends, cost.processes
        );
        Ok(cost)
    }

    fn write(&self) -> Result<()> {
        let directory = self.directory();
        fs::create_dir_all(&directory)?;
        let last = self.services - 1;
        let mut text = String::new();
        for n in 0..self.services {
            let _ = write!(
                text,
                "---\nkind: Service\nmetadata: {{name: s{n}}}\nspec: {{clusterIPs: ['{}'], ports: [{{port: 80}}]}}\n",
                self.vip(n)
            );
            if n < last {
                let _ = write!(text, "---\n{}", self.slice(n, ENDPOINTS));
            }
        }
        fs::write(format!("{directory}/services.yaml"), text)?;
        fs::write(
            format!("{directory}/last.yaml"),
            self.slice(last, ENDPOINTS),
        )?;
        Ok(())
    }

    fn directory(&self) -> String {
        format!("/run/scale-{}-{:?}", self.services, self.family)
    }

    fn vip(&self, n: usize) -> String {
        match self.family {
            Family::IPv4 => format!("10.96.{}.{}", n / 250, n % 250 + 1),
            Family::IPv6 => format!("fd00:96::{:x}", n + 1),
        }
    }

    /// The endpoints of Service `n`.
    fn slice(&self, n: usize, endpoints: usize) -> String {
        let addr = |e: usize| match self.family {
            Family::IPv4 => format!("10.{}.{}.{e}", 200 + n / 250, n % 250),
            Family::IPv6 => format!("fd00:200:{n:x}::{e:x}"),
        };
        let endpoints: Vec<String> = (1..=endpoints)
            .map(|e| format!("{{addresses: ['{}']}}", addr(e)))
            .collect();
        format!(
            "kind: EndpointSlice\nmetadata: {{name: s{n}-1, labels: {{kubernetes.io/service-name: s{n}}}}}\n\
             addressType: {:?}\nports: [{{name: '', port: 8080}}]\nendpoints: [{}]\n",
            self.family,
            endpoints.join(", ")
        )
    }
}

fn real_servers_are(wanted: usize) -> Result<Result<(), String>> {
    let metrics = metrics("n1")?;
    let have = metrics.get("ipvs_agent_real_servers").copied();
    Ok(if have == Some(wanted as f64) {
        Ok(())
    } else {
        Err(format!("{have:?} of {wanted}"))
    })
}

/// The table of n1 loaded by ipvsadm into n2, and by the agent into n3, in turn.
fn against_ipvsadm(lab: &Lab, load: &Load) -> Result<()> {
    let rules = sh_in("n1", "ipvsadm -Sn")?;
    fs::write("/run/rules", &rules)?;
    fs::write("/run/load.sh", "#!/bin/sh\nexec ipvsadm -R < /run/rules\n")?;
    for round in 1..=2 {
        let begun = Instant::now();
        sh_in("n2", "sh /run/load.sh")?;
        println!(
            "    ipvsadm -R, round {round}: {:.2?} for {} lines",
            begun.elapsed(),
            rules.lines().count()
        );
        sh_in("n2", "ipvsadm -C")?;
        let mut agent = load.agent(lab, "n3")?;
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

fn memory(pid: u32) -> Result<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("no agent")?;
    let lines = status
        .lines()
        .filter(|l| l.starts_with("VmRSS") || l.starts_with("RssAnon"));
    Ok(lines
        .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join(", "))
}

/// Of each Service.
const ENDPOINTS: usize = 10;
/// An emulated kernel takes long to parse a large manifest.
const LIMIT: Duration = Duration::from_secs(300);
