//! Text of `iptables-save` → what in it is ours: our chains and the jumps to them. Pure.

use std::collections::BTreeMap;

use super::ruleset::{CHAIN_PREFIX, Table};

/// Our chains and the jumps to them, as `iptables-save` shows them. Rules of others are left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObservedRules {
    /// Rules of each of our chains, as lines.
    pub chains: BTreeMap<(Table, String), Vec<String>>,
    /// Jumps from base chains, sorted.
    pub jumps: Vec<Jump>,
}

/// A jump from a base chain to one of ours, and how often it is there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Jump {
    pub table: Table,
    pub base: String,
    pub chain: String,
    pub count: usize,
}

impl ObservedRules {
    /// Nothing of ours is there.
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.jumps.is_empty()
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
            } else if let Some(to) = rest.strip_prefix("-j ").filter(|to| is_ours(to)) {
                *jumps
                    .entry((table, chain.to_owned(), to.to_owned()))
                    .or_default() += 1;
            }
        }
    }
    rules.jumps = jumps
        .into_iter()
        .map(|((table, base, chain), count)| Jump {
            table,
            base,
            chain,
            count,
        })
        .collect();
    rules
}

fn is_ours(chain: &str) -> bool {
    chain.starts_with(CHAIN_PREFIX) && !chain.contains(' ')
}
