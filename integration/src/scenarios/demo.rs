//! `make demo`: a node, four pods and a client; Services from manifests.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::{answered_by, at};
use crate::guest::probe::{Transport, open_stream, probe};
use crate::guest::sh_in;
use crate::guest::topology::{CLIENT, Topology};
use crate::guest::wait::eventually;
use crate::protocol::Verdict;

/// Shows the agent at work and ends with a verdict.
pub fn run(program: PathBuf) -> Result<()> {
    let result = show(&program);
    if let Err(error) = &result {
        println!("the demo failed: {error:#}\n--- the agent's log");
        print_file("/run/agent.log").unwrap_or_else(|error| println!("    {error:#}"));
    }
    let (passed, failed) = if result.is_ok() { (1, 0) } else { (0, 1) };
    Verdict { passed, failed }.announce();
    Ok(())
}

fn show(program: &Path) -> Result<()> {
    let _topology = Topology::new()?;
    say("A node (n1) with pods p11 and p12, pods p21 and p31 on other nodes, a client outside.");
    std::fs::create_dir_all("/run/services")?;
    let manifest = include_str!("../../demo/services.yaml");
    std::fs::write("/run/services/services.yaml", manifest)?;

    say(
        "ipvs-agent run --manifests /run/services --service-cidr 10.96.0.0/16 --cluster-cidr 10.244.0.0/16",
    );
    let log = File::create("/run/agent.log")?;
    let mut agent = Command::new("ip")
        .args(["netns", "exec", "n1"])
        .arg(program)
        .args([
            "run",
            "--manifests",
            "/run/services",
            "--service-cidr",
            "10.96.0.0/16",
        ])
        .args(["--cluster-cidr", "10.244.0.0/16", "--node-name", "n1"])
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .context("cannot start the agent")?;
    let web = at("10.96.0.80", 80)?;
    answered_by("p12", Transport::Tcp, web, &["p11", "p21", "p31"])?;
    print_file("/run/agent.log")?;

    list(program, "What the kernel holds now")?;
    say(
        "12 requests of pod p12 to 10.96.0.80:80 (rr), 12 of the outside client to the node's port 30080:",
    );
    spread("p12", "10.96.0.80", 80)?;
    spread(CLIENT, "192.168.50.11", 30080)?;
    say("12 requests to 10.96.0.81:80, scheduled by source (mh):");
    spread("p12", "10.96.0.81", 80)?;

    say("A client holds a connection to p11 while p11 is taken away (terminating):");
    let (stream, name) = loop {
        let (stream, name) = open_stream("p12", web)?;
        if name == "p11" {
            break (stream, name);
        }
    };
    let draining = manifest.replace(
        "- {addresses: [10.244.1.2], nodeName: n1}",
        "- {addresses: [10.244.1.2], nodeName: n1, conditions: {ready: false, serving: true, terminating: true}}",
    );
    ensure!(draining != manifest, "the manifest has another form");
    std::fs::write("/run/services/services.yaml", draining)?;
    answered_by("p12", Transport::Tcp, web, &["p21", "p31"])?;
    list(
        program,
        "Its weight is 0: it keeps its connection and takes no new ones",
    )?;
    spread("p12", "10.96.0.80", 80)?;
    say(&format!(
        "The pod and its connection to {name} end. Closing connections are given --drain-timeout; \
         where there is none the real server goes at once:"
    ));
    drop(stream);
    std::fs::write(
        "/run/services/services.yaml",
        manifest.replace("- {addresses: [10.244.1.2], nodeName: n1}\n", ""),
    )?;
    eventually("the idle real server is gone", || {
        let list = sh_in("n1", "ipvsadm -Ln -t 10.244.1.1:30080")?;
        Ok(if list.contains("10.244.1.2:8080") {
            Err(list)
        } else {
            Ok(())
        })
    })?;
    list(program, "The kernel now")?;
    let log = std::fs::read_to_string("/run/agent.log")?;
    say("What the agent logged of it, a line for each pass that changed something:");
    log.lines().skip(4).for_each(|line| println!("    {line}"));
    say("ipvs-agent cleanup: nothing is left behind.");
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(i32::try_from(agent.id())?).context("no agent")?,
        rustix::process::Signal::TERM,
    )?;
    agent.wait()?;
    print!(
        "{}",
        sh_in("n1", &format!("{} cleanup", program.display()))?
    );
    eventually("the kernel is clean", || {
        let list = sh_in("n1", "ipvsadm -Ln")?;
        Ok(if list.lines().count() == 3 {
            Ok(())
        } else {
            Err(list)
        })
    })?;
    print!("{}", sh_in("n1", &format!("{} list", program.display()))?);
    Ok(())
}

fn say(text: &str) {
    println!("\n\u{25b6} {text}");
}

fn list(program: &Path, title: &str) -> Result<()> {
    say(&format!("{title} — ipvs-agent list"));
    print!("{}", sh_in("n1", &format!("{} list", program.display()))?);
    Ok(())
}

fn spread(from: &str, addr: &str, port: u16) -> Result<()> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..12 {
        *counts
            .entry(probe(from, Transport::Tcp, at(addr, port)?)?.who())
            .or_default() += 1;
    }
    for (who, count) in counts {
        println!("    {who:<8} {:<12} {count}", "#".repeat(count));
    }
    Ok(())
}

fn print_file(path: &str) -> Result<()> {
    for line in std::fs::read_to_string(path)?.lines() {
        println!("    {line}");
    }
    Ok(())
}
