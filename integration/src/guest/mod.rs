//! What a scenario is made of, inside the guest.

pub mod agent;
pub mod checks;
pub mod cluster;
pub mod http;
pub mod kernel;
pub mod load;
pub mod namespace;
pub mod probe;
pub mod served;
pub mod server;
pub mod state;
pub mod stranger;
pub mod terminal;
pub mod topology;
pub mod wait;

use std::process::Command;

use anyhow::{Context, Result, bail};

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

/// Runs a command line of plain words in a node, pod or client. What it starts inherits the namespace; a
/// process of `ip netns exec` for each would take longer than the command.
pub fn sh_in(namespace: &str, line: &str) -> Result<String> {
    namespace::inside(namespace, || sh(line))?.with_context(|| format!("in {namespace}"))
}
