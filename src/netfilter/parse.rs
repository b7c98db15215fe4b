//! Text of `iptables-save` → what in it is ours: our chains and the jumps to them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::ruleset::{CHAIN_PREFIX, Table};

/// Our chains and the jumps to them, as `iptables-save` shows them. Rules of others are left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObservedRules {
    /// Rules of each of our chains, as lines.
    pub chains: BTreeMap<(Table, String), Vec<String>>,
    /// Rules of other chains that lead to ours, sorted.
    pub jumps: Vec<Jump>,
}

/// A rule in a base chain, or in a chain of others, that leads to one of ours, and how often it is
/// there. Our chain cannot be removed while there is one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Jump {
    pub table: Table,
    pub base: String,
    /// The rule without the chain that it stands in: `-j IPVS-AGENT-INPUT`.
    pub rule: String,
    pub count: usize,
    /// A rule of another stands before it that would decide first.
    pub behind: bool,
}

impl ObservedRules {
    /// Nothing of ours is there.
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.jumps.is_empty()
    }

    /// Those of the chains whose names are picked, with the jumps to them.
    pub fn only(mut self, picked: impl Fn(&str) -> bool) -> Self {
        self.chains.retain(|(_, name), _| picked(name));
        self.jumps
            .retain(|jump| jump.rule.rsplit(' ').next().is_some_and(&picked));
        self
    }

    /// The names of our chains in a table.
    pub fn chains_of(&self, table: Table) -> impl Iterator<Item = &String> {
        self.chains
            .keys()
            .filter(move |(of, _)| *of == table)
            .map(|(_, name)| name)
    }
}

/// Reads the output of `iptables-save`.
pub fn parse(text: &str) -> ObservedRules {
    let mut rules = ObservedRules::default();
    let mut jumps: BTreeMap<(Table, String, String), usize> = BTreeMap::new();
    let mut table = None;
    let mut deciders: BTreeSet<(Table, String)> = BTreeSet::new();
    let mut behind: BTreeSet<(Table, String, String)> = BTreeSet::new();
    for line in text.lines().map(str::trim_end) {
        if let Some(name) = line.strip_prefix('*') {
            table = Table::ALL
                .into_iter()
                .find(|table| table.to_string() == name);
            continue;
        }
        let Some(table) = table else { continue };
        if let Some(declared) = line.strip_prefix(':') {
            let name = declared.split(' ').next().unwrap_or_default();
            if name.starts_with(CHAIN_PREFIX) {
                rules.chains.entry((table, name.to_owned())).or_default();
            }
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let Some((chain, rest)) = rule.split_once(' ') else {
                continue;
            };
            if chain.starts_with(CHAIN_PREFIX) {
                let lines = rules.chains.entry((table, chain.to_owned())).or_default();
                lines.push(line.to_owned());
            } else if table == Table::Nat && leads_to_decider(rest) {
                deciders.insert((table, chain.to_owned()));
            } else if leads_to_ours(rest) {
                if deciders.contains(&(table, chain.to_owned())) {
                    behind.insert((table, chain.to_owned(), rest.to_owned()));
                }
                *jumps
                    .entry((table, chain.to_owned(), rest.to_owned()))
                    .or_default() += 1;
            }
        }
    }
    rules.jumps = jumps
        .into_iter()
        .map(|((table, base, rule), count)| Jump {
            behind: behind.contains(&(table, base.clone(), rule.clone())),
            table,
            base,
            rule,
            count,
        })
        .collect();
    rules
}

/// Chains of others that translate addresses: which of two such stands first decides. kube-proxy's,
/// Docker's, and those of the CNI's host ports, which take NodePorts otherwise (CVE-2019-9946).
fn leads_to_decider(rule: &str) -> bool {
    let mut words = rule.rsplit(' ');
    let to = words.next().unwrap_or_default();
    matches!(words.next(), Some("-j" | "-g")) && DECIDERS.contains(&to)
}

const DECIDERS: [&str; 3] = ["KUBE-SERVICES", "DOCKER", "CNI-HOSTPORT-DNAT"];

/// A jump (`-j`) or a goto (`-g`) to a chain is always the last of a rule; what a comment says in
/// more than one word is in quotes.
fn leads_to_ours(rule: &str) -> bool {
    let mut words = rule.rsplit(' ');
    words
        .next()
        .is_some_and(|to| to.starts_with(CHAIN_PREFIX) && !to.ends_with('"'))
        && matches!(words.next(), Some("-j" | "-g"))
}
