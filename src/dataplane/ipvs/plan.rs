//! What to do so that the kernel holds what is desired: values in, ordered steps out.
//!
//! The first sync, a change, the audit and cleanup differ only in scope. Two-sided: what should
//! not be there goes, but only what is known to be ours. Nothing of others is ever in a step.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::convert;
use super::drain::{Fate, fate};
use super::observed::Observed;
use super::sets::{Element, Member, SetKind, has_serving};
use super::step::Step;
use super::target::{Scope, Target};
use super::{rules, sysctl};
use crate::model::{Family, HostPort, Moment, Protocol, VipPort, VirtualServer};
use crate::resolve::DesiredState;

/// The steps from `observed` to `desired` within `scope`, make before break.
pub fn plan(
    desired: &DesiredState,
    target: &Target,
    observed: &Observed,
    scope: &Scope,
    now: Moment,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let families = &observed.base.families;
    let mut members: BTreeSet<Member> = scope.members.iter().copied().collect();
    let mut routes: BTreeSet<IpNet> = scope.routes.iter().copied().collect();
    if scope.base {
        base(target, observed, &mut steps);
        // What all Services stand on belongs to the base too.
        let network = target.base.iter().map(|base| &base.network);
        routes.extend(network.flat_map(|network| &network.service_cidrs));
        let pods = target.members.keys().filter(|m| m.set == SetKind::Pods);
        members.extend(pods);
    }
    // A tuple where a foreign virtual server stands must not be ours, nor go on being so after it
    // was found to be theirs.
    let is_theirs = |vip: &VipPort| observed.foreign.contains(vip);
    for &vip in scope.vips.iter().filter(|vip| is_theirs(vip)) {
        let element = Element::VipPort(vip);
        members.extend(SetKind::ALL.map(|set| Member { set, element }));
    }
    for member in members {
        let theirs = member.vip().is_some_and(|vip| is_theirs(&vip));
        let possible = families.contains(&member.element.family()) && !theirs;
        let wanted = possible && target.members.contains_key(&member);
        match (wanted, observed.members.contains(&member)) {
            (true, false) => steps.push(Step::AddMember(member)),
            (false, true) => steps.push(Step::DelMember(member)),
            _ => {}
        }
    }
    for net in routes {
        let possible = families.contains(&Family::of(net.addr()));
        match (
            possible && target.routes.contains_key(&net),
            observed.routes.contains(&net),
        ) {
            (true, false) => steps.push(Step::AddRoute(net)),
            (false, true) => steps.push(Step::DelRoute(net)),
            _ => {}
        }
    }
    for &vip in scope.vips.iter().filter(|vip| !is_theirs(vip)) {
        let possible = families.contains(&vip.family());
        let want = desired.virtual_server(&vip).filter(|_| possible);
        virtual_server(vip, want, observed, target, now, &mut steps);
    }
    release_late(&mut steps, target, observed);
    steps.sort_by_key(Step::phase);
    steps
}

/// Sets, rules, the policy rule and sysctls.
fn base(target: &Target, observed: &Observed, steps: &mut Vec<Step>) {
    let have = &observed.base;
    let wanted = target.base.as_ref();
    if wanted.is_some() {
        steps.extend(sysctl::plan(&have.sysctls, |family| target.serves(family)));
    }
    // A kernel without IPv6 has no rules of that family to be observed.
    for (&family, rules) in &have.rules {
        for set in SetKind::ALL {
            match (wanted.is_some(), have.sets.contains(&(set, family))) {
                (true, false) => steps.push(Step::CreateSet { set, family }),
                (false, true) => steps.push(Step::DestroySet { set, family }),
                _ => {}
            }
        }
        let rule = wanted.map(|base| base.settings.policy_rule());
        if let Some(rule) = rule.filter(|rule| !have.policy_rules.contains(&(family, *rule))) {
            steps.push(Step::AddPolicyRule { family, rule });
        }
        let ours = have.policy_rules.iter().filter(|(of, _)| *of == family);
        for &(family, surplus) in ours.filter(|(_, other)| Some(*other) != rule) {
            steps.push(Step::DelPolicyRule {
                family,
                rule: surplus,
            });
        }
        steps.extend(rules::plan(wanted, family, rules));
    }
    let stray = have.stray_routes.iter();
    steps.extend(stray.map(|&(table, net)| Step::DelStrayRoute { table, net }));
}

/// One virtual server and its real servers.
fn virtual_server(
    vip: VipPort,
    want: Option<&VirtualServer>,
    observed: &Observed,
    target: &Target,
    now: Moment,
    steps: &mut Vec<Step>,
) {
    let timeout = target
        .base
        .as_ref()
        .map_or_else(Default::default, |base| base.settings.drain_timeout);
    let have = observed.virtual_servers.get(&vip);
    let mut moved_flows = observed.owed_flows.contains(&vip);
    match (want, have) {
        (None, None) => {}
        (None, Some(_)) => {
            steps.push(Step::DelVirtualServer(vip));
            moved_flows = true;
        }
        // Without a real server the kernel would answer with an ICMP error, late for TCP
        // clients; the set of refused tuples does it better.
        (Some(want), None) if !has_serving(want) => {}
        (Some(want), None) => {
            steps.push(Step::AddVirtualServer(vip, convert::service(vip, want)));
            for (key, real) in want.real_servers.iter().filter(|(_, real)| !real.draining) {
                steps.push(Step::AddRealServer(vip, *key, real.weight));
            }
            moved_flows = true;
        }
        (Some(want), Some(have)) => {
            for (key, real) in want.real_servers.iter().filter(|(_, real)| !real.draining) {
                match have.real_servers.get(key) {
                    None => steps.push(Step::AddRealServer(vip, *key, real.weight)),
                    Some(old)
                        if old.weight != real.weight
                            || old.draining.is_some()
                            || !old.masquerade =>
                    {
                        steps.push(Step::SetRealServer(vip, *key, real.weight));
                    }
                    Some(_) => {}
                }
            }
            let mut left = have.real_servers.len();
            for (key, real) in &have.real_servers {
                let wanted = want.real_servers.get(key);
                if wanted.is_some_and(|real| !real.draining) {
                    continue;
                }
                match fate(vip.protocol, real, wanted.is_some(), now, timeout) {
                    Fate::Keep => {}
                    Fate::Drain => steps.push(Step::DrainRealServer {
                        vip,
                        real_server: *key,
                        listed: wanted.is_some(),
                    }),
                    Fate::Delete => {
                        steps.push(Step::DelRealServer(vip, *key));
                        moved_flows = true;
                        left -= 1;
                    }
                }
            }
            let service = convert::service(vip, want);
            if left == 0 && !has_serving(want) {
                steps.push(Step::DelVirtualServer(vip));
            } else if service != have.service {
                steps.push(Step::SetVirtualServer(vip, service));
            }
        }
    }
    if moved_flows && vip.protocol == Protocol::Udp {
        let keep: BTreeSet<HostPort> = want
            .into_iter()
            .flat_map(|server| server.real_servers.iter())
            .filter(|(_, real)| !real.draining)
            .map(|(key, _)| *key)
            .collect();
        steps.push(Step::ForgetFlows { vip, keep });
    }
}

/// A tuple stays ours for as long as its virtual server is there: its entry in the set of owned
/// ones goes only in a plan that also removes the virtual server.
fn release_late(steps: &mut Vec<Step>, target: &Target, observed: &Observed) {
    let removed: BTreeSet<VipPort> = steps
        .iter()
        .filter_map(|step| match step {
            Step::DelVirtualServer(vip) => Some(*vip),
            _ => None,
        })
        .collect();
    let mut released: BTreeSet<Member> = removed
        .iter()
        .map(|vip| Member {
            set: SetKind::Owned,
            element: Element::VipPort(*vip),
        })
        .filter(|member| !target.members.contains_key(member) && observed.members.contains(member))
        .collect();
    steps.retain(|step| match step {
        Step::DelMember(member) if member.set == SetKind::Owned => {
            released.remove(member);
            member.vip().is_none_or(|vip| {
                removed.contains(&vip) || !observed.virtual_servers.contains_key(&vip)
            })
        }
        _ => true,
    });
    steps.extend(released.into_iter().map(Step::DelMember));
}
