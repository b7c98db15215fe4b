//! What to do so that the kernel holds what is desired: values in, ordered steps out.
//!
//! The first sync, a change, the audit and cleanup differ only in scope. Two-sided: what should not be
//! there goes, but only what bears our names.

use std::collections::{BTreeMap, BTreeSet};

use super::balance;
use super::chain::{ChainKey, ChainKind};
use super::observed::{Content, Observed};
use super::rules;
use super::step::Step;
use super::target::{Scope, Target, TargetBase, served_by};
use super::tree::{self, Branch, Prefix};
use crate::dataplane::policy::kernel::SetId;
use crate::dataplane::policy::members::has_serving;
use crate::dataplane::policy::sets::{Member, SetKind};
use crate::dataplane::policy::sysctl::{self, FORWARDING};
use crate::model::{Family, HostPort, ServicePortName, TrafficPolicy, VipPort};
use crate::netfilter::render;
use crate::netfilter::ruleset::{Match, Rule, Target as RuleTarget};
use crate::resolve::DesiredState;

/// The steps from `observed` to `desired` within `scope`, make before break.
pub fn plan(
    desired: &DesiredState,
    target: &Target,
    observed: &Observed,
    scope: &Scope,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut wanted = scope.clone();
    if scope.base {
        base(target, observed, &mut steps);
        // What all Services stand on belongs to the base too.
        let roots = observed.families.iter().map(|family| Prefix::root(*family));
        wanted.branches.extend(roots);
        let of_pods = |m: &&Member| matches!(m.set, SetKind::Pods | SetKind::NodePods);
        wanted
            .members
            .extend(target.members.keys().filter(of_pods).copied());
    }
    for &member in &wanted.members {
        let possible = observed.families.contains(&member.element.family());
        let want = possible && target.members.contains_key(&member);
        match (want, observed.members.contains(&member)) {
            (true, false) => steps.push(Step::AddMember(member)),
            (false, true) => steps.push(Step::DelMember(member)),
            _ => {}
        }
    }
    for &set in &wanted.affinity_sets {
        let possible = observed.families.contains(&set.family);
        let want = possible && target.affinity_sets.contains_key(&set);
        match (want, observed.affinity_sets.contains(&set)) {
            (true, false) => steps.push(Step::CreateSet(SetId::Affinity(set))),
            (false, true) => steps.push(Step::DestroySet(SetId::Affinity(set))),
            _ => {}
        }
    }
    chains(desired, target, observed, &wanted, &mut steps);
    let owed = wanted.flows.iter();
    steps.extend(
        owed.filter(|vip| observed.families.contains(&vip.family()))
            .map(|vip| forget_flows(*vip, desired)),
    );
    let lost = wanted.lost.into_iter();
    steps.extend(lost.map(|(vip, lost)| Step::EndFlows { vip, lost }));
    // A family's chains ride together, and go once nothing leads to them any more.
    steps.sort_by_key(|step| {
        let goes = matches!(step, Step::DelChain(_));
        (step.phase(), step.chain().map(|key| key.family), goes)
    });
    steps
}

/// Sets, constant rules and sysctls.
fn base(target: &Target, observed: &Observed, steps: &mut Vec<Step>) {
    let wanted = target.base.as_ref();
    if wanted.is_some() {
        let differing = sysctl::plan(FORWARDING, &observed.sysctls, |family| {
            target.serves(family)
        });
        steps.extend(differing.map(Step::SetSysctl));
    }
    // A kernel without IPv6 has no rules of that family to be observed.
    for (&family, rules) in &observed.rules {
        for set in SetKind::IPTABLES {
            match (wanted.is_some(), observed.sets.contains(&(set, family))) {
                (true, false) => steps.push(Step::CreateSet(SetId::Kind(set, family))),
                (false, true) => steps.push(Step::DestroySet(SetId::Kind(set, family))),
                _ => {}
            }
        }
        let chains = wanted
            .map(|base| rules::chains(base, family))
            .unwrap_or_default();
        if let Some(text) = render::plan(&chains, rules) {
            steps.push(Step::WriteRules {
                family,
                text,
                after: render::expected(&chains),
            });
        }
    }
}

/// Chains that follow from Services, each with its rules; those that should not be are without.
fn chains(
    desired: &DesiredState,
    target: &Target,
    observed: &Observed,
    scope: &Scope,
    steps: &mut Vec<Step>,
) {
    let Some(base) = &target.base else {
        let all = scope.chains.iter().copied();
        let there = all.filter(|key| observed.chains.contains_key(key));
        steps.extend(there.map(Step::DelChain));
        return;
    };
    let mut wanted: BTreeMap<ChainKey, Option<Chain>> = scope
        .chains
        .iter()
        .map(|key| (*key, service_chain(*key, desired, target)))
        .collect();
    for prefix in &scope.branches {
        let chain = target
            .tree
            .has(*prefix)
            .then(|| branch_chain(*prefix, desired, target, base));
        wanted.insert(prefix.key(), chain);
    }
    let possible = |key: &ChainKey| observed.families.contains(&key.family);
    for (key, chain) in wanted.into_iter().filter(|(key, _)| possible(key)) {
        let have = observed.chains.get(&key);
        match chain {
            None => steps.extend(have.map(|_| Step::DelChain(key))),
            Some(Chain { rules, owner }) => {
                let lines = render::lines(&key.to_string(), &rules);
                if have != Some(&Content::of(&lines)) {
                    steps.push(Step::PutChain { key, lines, owner });
                }
            }
        }
    }
}

struct Chain {
    rules: Vec<Rule>,
    owner: Option<ServicePortName>,
}

/// The chain of a Service port's endpoints. All tuples that lead to it want the same of it.
fn service_chain(key: ChainKey, desired: &DesiredState, target: &Target) -> Option<Chain> {
    if key.kind == ChainKind::Branch {
        return None;
    }
    target.users(key).find_map(|vip| {
        let server = desired.virtual_server(&vip)?;
        let mut chains = served_by(vip.family(), server);
        let (_, real_servers) = chains.find(|(served, _)| *served == key)?;
        Some(Chain {
            rules: balance::rules(vip.family(), server, real_servers),
            owner: Some(server.owner.clone()),
        })
    })
}

/// A chain of the tree.
fn branch_chain(
    prefix: Prefix,
    desired: &DesiredState,
    target: &Target,
    base: &TargetBase,
) -> Chain {
    let branches = target.tree.branches(prefix).into_iter();
    let rules = branches.flat_map(|branch| match branch {
        Branch::Chain(below) => vec![goto(below.matches(), below.key())],
        Branch::Tuple(vip) => tuple_rules(vip, desired, base),
    });
    Chain {
        rules: rules.collect(),
        owner: None,
    }
}

/// The rules that lead a tuple's packets to its Service: under `externalTrafficPolicy: Local` clients
/// on this node to all endpoints, others to this node's.
fn tuple_rules(vip: VipPort, desired: &DesiredState, base: &TargetBase) -> Vec<Rule> {
    let Some(server) = desired.virtual_server(&vip) else {
        return Vec::new();
    };
    let family = vip.family();
    let to = |source: Option<Match>, key: ChainKey| {
        let mut matches = tree::matches(vip);
        matches.extend(source);
        goto(matches, key)
    };
    let mut rules = Vec::new();
    if server.near.as_ref().is_some_and(has_serving) {
        let near = ChainKey::service(family, &server.owner, TrafficPolicy::Cluster);
        let pod = rules::words(base, family).pod_of_this_node();
        rules.push(to(Some(pod), near));
        rules.push(to(Some(Match::FromThisNode), near));
    }
    if has_serving(&server.real_servers) {
        rules.push(to(None, balance::chain_of(family, server)));
    }
    rules
}

fn goto(matches: Vec<Match>, key: ChainKey) -> Rule {
    Rule::new(matches, RuleTarget::Goto(key.to_string()))
}

/// Flows of a tuple that lead to nobody who serves it.
fn forget_flows(vip: VipPort, desired: &DesiredState) -> Step {
    let server = desired.virtual_server(&vip);
    let all = server.map(|server| server.near.iter().chain([&server.real_servers]));
    let serving = all.into_iter().flatten().flatten();
    let keep: BTreeSet<HostPort> = serving
        .filter(|(_, real)| !real.draining)
        .map(|(key, _)| *key)
        .collect();
    Step::ForgetFlows { vip, keep }
}

/// Families in which anything of ours may be.
pub fn families(has_ipv6: bool) -> BTreeSet<Family> {
    let families = Family::ALL.into_iter();
    families
        .filter(|family| *family == Family::V4 || has_ipv6)
        .collect()
}
