//! What a step changes in what both dataplanes have: sets, rules, sysctls. Pure.

use std::collections::BTreeMap;

use super::kernel::SetAct;
use super::sysctl::Wanted;
use crate::model::Family;
use crate::model::drift::{Drift, Kind};
use crate::netfilter::ObservedRules;

/// One line that takes another's place, comes or goes.
pub fn lines(of: Kind, before: Option<String>, after: Option<String>) -> Vec<Drift> {
    if before == after {
        return Vec::new();
    }
    let before = before.map(|line| Drift::goes(of, line));
    let after = after.map(|line| Drift::comes(of, line));
    before.into_iter().chain(after).collect()
}

/// A sysctl that gets another value.
pub fn sysctl(wanted: &Wanted, have: &BTreeMap<&'static str, String>) -> Vec<Drift> {
    let line = |value: &str| format!("{} = {value}", wanted.name);
    let before = have.get(wanted.name).map(|value| line(value));
    lines(Kind::Sysctl, before, Some(line(wanted.value)))
}

/// A set or a member of one, as `ipset save` has it.
pub fn set(act: SetAct) -> Drift {
    match act {
        SetAct::Create(set) => Drift::comes(Kind::Set, format!("create {set}")),
        SetAct::Destroy(set) => Drift::goes(Kind::Set, format!("create {set}")),
        SetAct::Add(member) => Drift::comes(Kind::Set, format!("add {member}")),
        SetAct::Delete(member) => Drift::goes(Kind::Set, format!("add {member}")),
    }
}

/// Rules of our chains and jumps to them. A chain whose rules only stand in another order is told whole.
pub fn rules(family: Family, before: Option<&ObservedRules>, after: &ObservedRules) -> Vec<Drift> {
    let nothing = ObservedRules::default();
    let before = before.unwrap_or(&nothing);
    let mut drift = Vec::new();
    let chains = before.chains.keys().chain(after.chains.keys());
    let mut chains: Vec<_> = chains.collect();
    chains.sort();
    chains.dedup();
    for chain in chains {
        let (old, new) = (before.chains.get(chain), after.chains.get(chain));
        if old == new {
            continue;
        }
        let tool = format!("{} -t {}", tool(family), chain.0);
        let none = Vec::new();
        let (old, new) = (old.unwrap_or(&none), new.unwrap_or(&none));
        let gone: Vec<&String> = old.iter().filter(|line| !new.contains(line)).collect();
        let come: Vec<&String> = new.iter().filter(|line| !old.contains(line)).collect();
        let (gone, come) = match gone.is_empty() && come.is_empty() {
            true => (old.iter().collect(), new.iter().collect()),
            false => (gone, come),
        };
        let told = |line: &&String| format!("{tool} {line}");
        drift.extend(gone.iter().map(|line| Drift::goes(Kind::Rule, told(line))));
        drift.extend(come.iter().map(|line| Drift::comes(Kind::Rule, told(line))));
    }
    let told = |jump: &crate::netfilter::Jump| {
        let twice = if jump.count > 1 {
            " (several times)"
        } else {
            ""
        };
        let behind = if jump.behind {
            " (behind another's that decides first)"
        } else {
            ""
        };
        let (tool, table) = (tool(family), jump.table);
        format!(
            "{tool} -t {table} -A {} {}{twice}{behind}",
            jump.base, jump.rule
        )
    };
    let gone = before
        .jumps
        .iter()
        .filter(|jump| !after.jumps.contains(jump));
    drift.extend(gone.map(|jump| Drift::goes(Kind::Rule, told(jump))));
    let come = after
        .jumps
        .iter()
        .filter(|jump| !before.jumps.contains(jump));
    drift.extend(come.map(|jump| Drift::comes(Kind::Rule, told(jump))));
    drift
}

/// The tool whose dump has a family's rules.
pub fn tool(family: Family) -> &'static str {
    match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    }
}
