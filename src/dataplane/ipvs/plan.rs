//! What to do so that the kernel holds what is desired: values in, ordered steps out.
//!
//! The first sync, a change, the audit and cleanup differ only in scope. Two-sided: what should
//! not be there goes, but only what is known to be ours. Nothing of others is ever in a step.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::convert;
use super::drain::{Fate, fate};
use super::key::ServerKey;
use super::members::OfServer;
use super::observed::Observed;
use super::ramp::share;
use super::step::Step;
use super::target::{Scope, Target};
use super::{rules, sysctl, timeouts};
use crate::dataplane::policy::members::has_serving;
use crate::dataplane::policy::sets::{Element, Member, SetKind};
use crate::dataplane::policy::sysctl::plan as plan_sysctls;
use crate::model::{
    Family, HostPort, Moment, Protocol, RealServer, RealServerKey, RealServers, VipPort,
    VirtualServer,
};
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
        let of_pods = |m: &&Member| matches!(m.set, SetKind::Pods | SetKind::NodePods);
        let pods = target.members.keys().filter(of_pods);
        members.extend(pods);
    }
    // A mark that could not be made is owed before anything is made that it is about, though what
    // changed now did not touch it.
    members.extend(scope.servers.iter().copied().map(Member::ownership));
    // A tuple where a foreign virtual server stands must not be ours, nor go on being so after it
    // was found to be theirs.
    let is_theirs = |server: &ServerKey| observed.foreign.contains(server);
    for server in scope.servers.iter().filter(|server| is_theirs(server)) {
        members.extend(entries_about(*server, target));
    }
    for member in members {
        let theirs = member.server().is_some_and(|server| is_theirs(&server));
        let possible = families.contains(&member.element.family()) && !theirs;
        let wanted = possible && target.members.contains_key(&member);
        match (wanted, observed.members.contains(&member)) {
            (true, false) => steps.push(Step::AddMember(member)),
            (false, true) => steps.push(Step::DelMember(member)),
            _ => {}
        }
    }
    keep_replaced(&mut steps);
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
    for &server in scope.servers.iter().filter(|server| !is_theirs(server)) {
        let possible = families.contains(&server.family());
        let want = match &server {
            ServerKey::Tuple(vip) => desired.virtual_server(vip),
            ServerKey::Mark { .. } => target.near(&server).map(|near| &near.server),
        };
        let want = want.filter(|_| possible);
        if virtual_server(server, want, observed, target, now, &mut steps) {
            steps.extend(forget_flows(server, desired, target, observed));
        }
    }
    // Clients on this node met a virtual server by mark here, and meet another one or none; who asks
    // for it today does not tell.
    let unmarked = steps.iter().filter_map(unmarks);
    let remarked = steps.iter().filter_map(marks);
    let remarked = remarked.filter(|vip| observed.is_marked(*vip));
    let moved: Vec<VipPort> = unmarked.chain(remarked).collect();
    for vip in moved {
        steps.extend(forget_flows(vip.into(), desired, target, observed));
    }
    forget_once(&mut steps);
    release_late(&mut steps, target, observed);
    steps.sort_by_key(Step::phase);
    steps
}

/// Sets, rules, the policy rule and sysctls.
fn base(target: &Target, observed: &Observed, steps: &mut Vec<Step>) {
    let have = &observed.base;
    let wanted = target.base.as_ref();
    if wanted.is_some() {
        let differing = plan_sysctls(sysctl::wanted(), &have.sysctls, |family| {
            target.serves(family)
        });
        steps.extend(differing.map(Step::SetSysctl));
    }
    if let Some((base, now)) = wanted.zip(have.timeouts) {
        let wanted = base.settings.timeouts;
        steps.extend(timeouts::plan(wanted, now, have.conntrack_established));
    }
    // A kernel without IPv6 has no rules of that family to be observed.
    for (&family, rules) in &have.rules {
        for set in SetKind::IPVS {
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

/// The entries that may exist about a virtual server which is not ours.
fn entries_about(server: ServerKey, target: &Target) -> BTreeSet<Member> {
    match server {
        ServerKey::Tuple(vip) => {
            let element = Element::VipPort(vip);
            SetKind::IPVS.map(|set| Member { set, element }).into()
        }
        ServerKey::Mark { mark, .. } => {
            let near = target.near(&server).into_iter();
            let tuples = near.flat_map(|near| near.tuples.iter());
            let entries = tuples.map(|&vip| Member {
                set: SetKind::Near,
                element: Element::Near { vip, mark },
            });
            entries.chain([Member::ownership(server)]).collect()
        }
    }
}

/// A tuple's new mark takes the place of the old one, which is not deleted: that would delete the
/// new one with it.
fn keep_replaced(steps: &mut Vec<Step>) {
    let added: BTreeSet<VipPort> = steps.iter().filter_map(marks).collect();
    steps.retain(|step| unmarks(step).is_none_or(|vip| !added.contains(&vip)));
}

/// The tuple that a step takes the mark off.
fn unmarks(step: &Step) -> Option<VipPort> {
    match step {
        Step::DelMember(member) => marked(member),
        _ => None,
    }
}

/// The tuple that a step gives a mark, in place of another or of none.
fn marks(step: &Step) -> Option<VipPort> {
    match step {
        Step::AddMember(member) => marked(member),
        _ => None,
    }
}

/// The tuple that an entry gives a mark.
fn marked(member: &Member) -> Option<VipPort> {
    match member.element {
        Element::Near { vip, .. } => Some(vip),
        _ => None,
    }
}

/// One virtual server and its real servers. True if flows to it may lead to a real server that is
/// gone.
fn virtual_server(
    key: ServerKey,
    want: Option<&VirtualServer>,
    observed: &Observed,
    target: &Target,
    now: Moment,
    steps: &mut Vec<Step>,
) -> bool {
    let timeout = target
        .base
        .as_ref()
        .map_or_else(Default::default, |base| base.settings.drain_timeout);
    let have = observed.virtual_servers.get(&key);
    let mut moved_flows = key
        .tuple()
        .is_some_and(|vip| observed.owed_flows.contains(&vip));
    match (want, have) {
        (None, None) => {}
        (None, Some(_)) => {
            steps.push(Step::DelVirtualServer(key));
            moved_flows = true;
        }
        // Without a real server the kernel would answer with an ICMP error, late for TCP
        // clients; the set of refused tuples does it better.
        (Some(want), None) if !has_serving(&want.real_servers) => {}
        (Some(want), None) => {
            steps.push(Step::AddVirtualServer(key, convert::service(key, want)));
            for (real, server) in serving(&want.real_servers) {
                let share = share(want, server, None, false, now);
                steps.push(Step::AddRealServer(key, *real, share));
            }
            moved_flows = true;
        }
        (Some(want), Some(have)) => {
            let others_serve = have.real_servers.values().any(|real| real.weight > 0);
            for (real, server) in serving(&want.real_servers) {
                let old = have.real_servers.get(real);
                let share = share(want, server, old, others_serve, now);
                match old {
                    None => steps.push(Step::AddRealServer(key, *real, share)),
                    Some(old)
                        if old.weight != share.weight
                            || old.thresholds != share.thresholds
                            || old.ramps_since.is_some() != share.ramps
                            || old.draining.is_some()
                            || !old.masquerade =>
                    {
                        steps.push(Step::SetRealServer(key, *real, share));
                    }
                    Some(_) => {}
                }
            }
            let mut left = have.real_servers.len();
            for (real, server) in &have.real_servers {
                let wanted = want.real_servers.get(real);
                if wanted.is_some_and(|real| !real.draining) {
                    continue;
                }
                let protocol = want.owner.protocol;
                match fate(protocol, server, wanted, now, timeout) {
                    Fate::Keep => {}
                    Fate::Drain => steps.push(Step::DrainRealServer {
                        server: key,
                        real_server: *real,
                        listed: wanted.is_some(),
                        unready: wanted.is_some_and(|real| real.unready),
                    }),
                    Fate::Delete => {
                        steps.push(Step::DelRealServer(key, *real));
                        moved_flows = true;
                        left -= 1;
                    }
                }
            }
            let service = convert::service(key, want);
            if left == 0 && !has_serving(&want.real_servers) {
                steps.push(Step::DelVirtualServer(key));
            } else if service != have.service {
                let reschedules = service.scheduler != have.service.scheduler;
                let held = key.tuple();
                let held = held.filter(|vip| reschedules && vip.protocol != Protocol::Udp);
                steps.extend(held.map(Step::HoldClients));
                steps.push(Step::SetVirtualServer(key, service));
                steps.extend(held.map(Step::LetClientsIn));
            }
        }
    }
    moved_flows
}

fn serving(real_servers: &RealServers) -> impl Iterator<Item = (&RealServerKey, &RealServer)> {
    real_servers.iter().filter(|(_, real)| !real.draining)
}

/// What makes the UDP flows of a virtual server's tuples find its real servers of today. Those that
/// either kind of client may have been led to stay.
fn forget_flows(
    server: ServerKey,
    desired: &DesiredState,
    target: &Target,
    observed: &Observed,
) -> Vec<Step> {
    let tuples = match server {
        ServerKey::Tuple(vip) => BTreeSet::from([vip]),
        ServerKey::Mark { .. } => match target.near(&server) {
            Some(near) => near.tuples.clone(),
            None => BTreeSet::new(),
        },
    };
    let udp = tuples
        .into_iter()
        .filter(|vip| vip.protocol == Protocol::Udp);
    udp.map(|vip| {
        let want = desired.virtual_server(&vip);
        let sets = want.map(|want| [Some(&want.real_servers), want.near.as_ref()]);
        let keep: BTreeSet<HostPort> = sets
            .into_iter()
            .flatten()
            .flatten()
            .flat_map(serving)
            .map(|(real, _)| *real)
            .collect();
        Step::ForgetFlows { vip, keep }
    })
    .filter(|_| !observed.foreign.contains(&server))
    .collect()
}

/// A tuple whose virtual server changed beside the one by mark needs its flows forgotten once.
fn forget_once(steps: &mut Vec<Step>) {
    let mut met = BTreeSet::new();
    steps.retain(|step| match step {
        Step::ForgetFlows { vip, .. } => met.insert(*vip),
        _ => true,
    });
}

/// A virtual server stays ours for as long as it is there, or may be: the entry that says so goes
/// only in a plan that also removes the virtual server.
fn release_late(steps: &mut Vec<Step>, target: &Target, observed: &Observed) {
    let removed: BTreeSet<ServerKey> = steps
        .iter()
        .filter_map(|step| match step {
            Step::DelVirtualServer(server) => Some(*server),
            _ => None,
        })
        .collect();
    let mut released: BTreeSet<Member> = removed
        .iter()
        .map(|server| Member::ownership(*server))
        .filter(|member| !target.members.contains_key(member) && observed.members.contains(member))
        .collect();
    steps.retain(|step| match step {
        Step::DelMember(member) if member.is_ownership() => {
            released.remove(member);
            member.server().is_none_or(|server| {
                let may_be_there = observed.virtual_servers.contains_key(&server)
                    || observed.uncertain.contains(&server);
                removed.contains(&server) || !may_be_there
            })
        }
        _ => true,
    });
    steps.extend(released.into_iter().map(Step::DelMember));
}
