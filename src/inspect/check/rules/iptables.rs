//! Which iptables there is, and what stands in it beside the agent's rules.

use std::collections::BTreeMap;

use super::{counted, some};
use crate::inspect::check::Verdict;
use crate::inspect::check::facts::{Facts, NET_ADMIN, Variant};
use crate::inspect::check::saved::{OURS, Saved};

pub fn installed(facts: &Facts) -> Verdict {
    let names: Vec<&str> = facts
        .saved()
        .map(|(dump, _)| dump.program.as_str())
        .collect();
    if names.is_empty() {
        let why = facts.unsaved().unwrap_or_default();
        if facts
            .capabilities
            .as_ref()
            .is_ok_and(|have| have & (1 << NET_ADMIN) == 0)
        {
            return Verdict::unread("the rules of iptables", why);
        }
        return Verdict::fail(
            format!("none that works: {why}"),
            "install iptables (legacy or nft) where the agent runs",
        );
    }
    let has = |word: &str| names.iter().any(|name| name.starts_with(word));
    if !has("iptables")
        || (facts.sysctls.contains_key("net.ipv6.conf.all.forwarding") && !has("ip6tables"))
    {
        return Verdict::warn(
            format!("only {}", some(&names)),
            "install the other family's, or its Services are not served",
        );
    }
    Verdict::ok(some(&names))
}

pub fn mixture(facts: &Facts) -> Verdict {
    if let Some(why) = facts.unsaved() {
        return Verdict::unread("the rules of iptables", why);
    }
    let mut rules: BTreeMap<Variant, usize> = BTreeMap::new();
    for (dump, saved) in facts.saved() {
        *rules.entry(dump.variant).or_default() += saved.rules.len();
    }
    let count = |variant| rules.get(&variant).copied().unwrap_or(0);
    match (count(Variant::Legacy), count(Variant::Nft)) {
        (0, 0) => Verdict::ok("no rules in either variant"),
        (0, nft) => Verdict::ok(format!("{}, all in nft", counted(nft, "rule"))),
        (legacy, 0) => Verdict::ok(format!("{}, all in legacy", counted(legacy, "rule"))),
        (legacy, nft) => Verdict::warn(
            format!(
                "{} in legacy and {nft} in nft: packets meet both, and whoever looks sees one",
                counted(legacy, "rule")
            ),
            "see `iptables-legacy-save` and `iptables-nft-save`; have all software of the node use one, and remove the rest",
        ),
    }
}

pub fn forward_policy(facts: &Facts) -> Verdict {
    if let Some(why) = facts.unsaved() {
        return Verdict::unread("the rules of iptables", why);
    }
    let mut accepted = Vec::new();
    for (dump, saved) in facts.saved() {
        let key = ("filter".to_owned(), "FORWARD".to_owned());
        if saved.chains.get(&key).map(String::as_str) != Some("DROP") {
            continue;
        }
        if !accepts(saved) {
            return Verdict::fail(
                format!(
                    "DROP in {}, and nothing accepts pods' packets: new connections to and between pods are dropped",
                    dump.program
                ),
                format!(
                    "`{} -P FORWARD ACCEPT`, or have the network plugin accept its pods' ranges there",
                    dump.program
                ),
            );
        }
        accepted.push(dump.program.as_str());
    }
    if accepted.is_empty() {
        return Verdict::ok("ACCEPT");
    }
    Verdict::ok(format!(
        "DROP in {}, with rules that accept",
        some(&accepted)
    ))
}

/// Whether a rule on the way accepts anything new. Docker's accept what is its own, the agent's what is
/// established.
fn accepts(saved: &Saved) -> bool {
    let chains = saved.reachable("filter", "FORWARD");
    saved.rules.iter().any(|rule| {
        let established = rule.words.iter().any(|word| word.contains("ESTABLISHED"));
        let ours = rule.chain.starts_with(OURS) || rule.chain.starts_with("DOCKER");
        let docker = rule.words.iter().any(|word| word == "docker0");
        rule.table == "filter"
            && rule.target() == Some("ACCEPT")
            && chains.contains(rule.chain.as_str())
            && !(established || ours || docker)
    })
}
