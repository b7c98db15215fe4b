//! All that the kernel's own tools tell of a node, line by line, so that two moments can be compared.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::sh_in;
use crate::dataplane::Dataplane;

/// Each line with the command that printed it. Rules have a place in their chain; whatever else there is
/// has no order. Counters, the seeds of hashes and what is left of timeouts are left out.
pub fn state(dataplane: Dataplane, node: &str) -> Result<BTreeSet<String>> {
    let of_ipvs = match dataplane {
        Dataplane::Ipvs => &OF_IPVS[..],
        Dataplane::Iptables => &[],
    };
    let mut lines = BTreeSet::new();
    for command in COMMON.iter().chain(of_ipvs) {
        let text = match sh_in(node, command) {
            // Which is no table with nothing in it, to the kernel.
            Err(error) if format!("{error:#}").contains("FIB table does not exist") => continue,
            result => result?,
        };
        lines.extend(lines_of(command, &text));
    }
    Ok(lines)
}

/// What differs, for people.
pub fn differences(
    (first, before): (&str, &BTreeSet<String>),
    (second, after): (&str, &BTreeSet<String>),
) -> String {
    let only = |when: &str, lines: Vec<&String>| -> String {
        let lines = lines.into_iter();
        lines.map(|line| format!("only {when}: {line}\n")).collect()
    };
    only(first, before.difference(after).collect())
        + &only(second, after.difference(before).collect())
}

fn lines_of(command: &str, text: &str) -> Vec<String> {
    let mut table = "";
    let mut places: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut lines = Vec::new();
    for line in text.lines().map(str::trim_end) {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if let Some(rule) = line.strip_prefix("-A ").filter(|_| !table.is_empty()) {
            let chain = rule.split(' ').next().unwrap_or_default();
            let place = places.entry((table, chain)).or_default();
            *place += 1;
            lines.push(format!("{command} {table} {place}: -A {rule}"));
        } else if let Some(chain) = line.strip_prefix(':') {
            let chain = chain.split(" [").next().unwrap_or_default();
            // A chain of the kernel's own is there as soon as somebody has looked.
            if !chain.ends_with(" ACCEPT") {
                lines.push(format!("{command} {table}: {chain}"));
            }
        } else if !line.is_empty() && line != "COMMIT" && !line.starts_with('#') {
            let end = if line.starts_with("add ") {
                " timeout "
            } else {
                " initval "
            };
            let told = line.split(end).next().unwrap_or_default();
            lines.push(format!("{command}: {told}"));
        }
    }
    lines
}

const COMMON: [&str; 5] = [
    "ipset save",
    "iptables-save",
    "ip6tables-save",
    "ip rule",
    "ip -6 rule",
];
const OF_IPVS: [&str; 4] = [
    "ipvsadm -Sn",
    "ip route show table 10256",
    "ip -6 route show table 10256",
    "sysctl net.ipv4.vs.conntrack",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_keep_their_place_and_counters_are_nothing() {
        let text = "# Generated\n*nat\n:PREROUTING ACCEPT [1:2]\n:FORWARD DROP [3:4]\n:MINE - [0:0]\n\
                    -A PREROUTING -j MINE\n-A MINE -j ACCEPT\n-A MINE -j DROP\nCOMMIT\n# Completed\n";
        assert_eq!(
            lines_of("x", text),
            [
                "x nat: FORWARD DROP",
                "x nat: MINE -",
                "x nat 1: -A PREROUTING -j MINE",
                "x nat 1: -A MINE -j ACCEPT",
                "x nat 2: -A MINE -j DROP",
            ]
        );
        let text = "create a hash:ip timeout 5 initval 0x1234\nadd a 10.0.0.1 timeout 4\n";
        assert_eq!(
            lines_of("x", text),
            ["x: create a hash:ip timeout 5", "x: add a 10.0.0.1"]
        );
    }
}
