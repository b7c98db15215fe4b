//! What a node's kernel holds that a service proxy may have put there.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::dataplane::Dataplane;
use crate::guest::sh_in;
use crate::guest::state;

/// Line by line: rules, sets and policy routing, and here also links, addresses, routes and sysctls.
pub fn node_state(dataplane: Dataplane, node: &str) -> Result<BTreeSet<String>> {
    let mut lines = state::state(dataplane, node)?;
    for command in COMMANDS {
        let text = sh_in(node, command)?;
        let told = text.lines().map(str::trim_end);
        let told = told.filter(|line| !MOVING.iter().any(|name| line.starts_with(name)));
        lines.extend(told.map(|line| format!("{command}: {line}")));
    }
    lines.retain(|line| !line.contains(LEFT));
    Ok(lines)
}

const COMMANDS: [&str; 5] = [
    "ip -o link",
    "ip -o addr",
    "ip -4 route show table all",
    "ip -6 route show table all",
    r"sysctl -a --pattern ^net\.",
];
/// The sysctls of IPVS itself, which the agent sets and `cleanup` leaves: others may rely on them by then.
const LEFT: &str = ": net.ipv4.vs.";
/// What the kernel itself changes.
const MOVING: [&str; 1] = ["net.netfilter.nf_conntrack_count"];
