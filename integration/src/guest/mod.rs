//! What a scenario is made of, inside the guest.

pub mod agent;
pub mod cluster;
pub mod namespace;
pub mod probe;
pub mod server;
pub mod topology;
pub mod wait;

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::host::VERDICT;
use crate::scenarios::{self, Lab};

/// Runs scenarios one after another and gives the verdict.
pub fn run(agent: PathBuf, api: &str, names: &[String]) -> Result<()> {
    let mut lab = Lab::new(agent, api)?;
    let (mut passed, mut failed) = (0, 0);
    for scenario in scenarios::ALL {
        let wanted = if names.is_empty() {
            !scenario.on_demand
        } else {
            names.iter().any(|name| name == scenario.name)
        };
        if !wanted {
            continue;
        }
        let begun = Instant::now();
        let result = lab
            .prepare(scenario)
            .and_then(|()| (scenario.run)(&mut lab));
        let seconds = begun.elapsed().as_secs_f64();
        match result {
            Ok(()) => {
                passed += 1;
                println!(
                    "ok   {:<18} {seconds:>5.1} s  {}",
                    scenario.name, scenario.about
                );
            }
            Err(error) => {
                failed += 1;
                println!("FAIL {:<18} {seconds:>5.1} s  {error:#}", scenario.name);
                lab.diagnose();
            }
        }
        lab.tidy();
    }
    println!("{VERDICT} {passed} passed, {failed} failed");
    Ok(())
}

/// Runs a tool in the guest and gives what it printed.
pub fn tool(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(args)
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {}: {}", args.join(" "), text.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command line of plain words.
pub fn sh(line: &str) -> Result<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (program, args) = words.split_first().context("an empty command")?;
    tool(program, args)
}

/// Runs a command line of plain words in a node, pod or client.
pub fn sh_in(namespace: &str, line: &str) -> Result<String> {
    sh(&format!("ip netns exec {namespace} {line}"))
}
