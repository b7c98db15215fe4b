//! Laws of the plan, over generated states and a kernel that is strict about order.

mod bench;
mod checklist;
mod flows;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::members::OfServer;
use super::observed::Observed;
use super::step::Step;
use super::target::{Scope, Target};
use super::{ServerKey, Settings, plan::plan};
use crate::dataplane::ClusterNetwork;
use crate::dataplane::policy::sets::{Element, Member, SetKind};
use crate::model::{
    Family, HostPort, Moment, ObjectName, Protocol, RealServer, RealServers, Scheduler,
    ServicePortName, ServiceSpec, Thresholds, Tuning, Unserved, VipKind, VipPort, VirtualServer,
};
use crate::netfilter::ObservedRules;
use crate::resolve::{DesiredState, Resolved};
use crate::routing::PolicyRule;

const NOW: Moment = Moment(Duration::from_secs(100));

fn network() -> ClusterNetwork {
    ClusterNetwork {
        service_cidrs: BTreeSet::from(["10.96.0.0/16".parse().unwrap()]),
        pod_cidrs: BTreeSet::from(["10.244.0.0/16".parse().unwrap()]),
        node_pod_cidrs: BTreeSet::from(["10.244.0.0/24".parse().unwrap()]),
    }
}

fn empty_kernel() -> Observed {
    let mut kernel = Observed::default();
    kernel.base.families = Family::ALL.into();
    for family in Family::ALL {
        kernel.base.rules.insert(family, ObservedRules::default());
    }
    kernel
        .base
        .sysctls
        .insert("net.ipv4.vs.conntrack", "0".to_owned());
    kernel
}

/// Carries steps out as the kernel would: an act on what is not there is a mistake of the plan.
fn apply(kernel: &mut Observed, steps: &[Step]) {
    for step in steps {
        match step {
            Step::AddMember(member) | Step::DelMember(member) => {
                let set = (member.set, member.element.family());
                assert!(kernel.base.sets.contains(&set), "{step}: no such set");
                let there = kernel.members.contains(member);
                assert_eq!(there, matches!(step, Step::DelMember(_)), "{step}");
            }
            Step::AddVirtualServer(vip, _) => {
                assert!(
                    kernel.members.contains(&owned(*vip)),
                    "{step}: not marked as ours"
                );
                assert!(!kernel.foreign.contains(vip), "{step}: foreign");
                assert!(!kernel.virtual_servers.contains_key(vip), "{step}: exists");
            }
            Step::SetVirtualServer(vip, _) | Step::DelVirtualServer(vip) => {
                assert!(kernel.virtual_servers.contains_key(vip), "{step}: no such");
            }
            Step::AddRealServer(vip, key, _) => {
                let server = &kernel.virtual_servers[vip];
                assert!(!server.real_servers.contains_key(key), "{step}: exists");
            }
            Step::SetRealServer(vip, key, _)
            | Step::DelRealServer(vip, key)
            | Step::DrainRealServer {
                server: vip,
                real_server: key,
                ..
            } => {
                assert!(
                    kernel.virtual_servers[vip].real_servers.contains_key(key),
                    "{step}"
                );
            }
            Step::DestroySet { set, family } => {
                let empty = !kernel
                    .members
                    .iter()
                    .any(|member| (member.set, member.element.family()) == (*set, *family));
                assert!(empty, "{step}: not empty");
                let rules = kernel.base.rules.get(family);
                assert!(
                    rules.is_none_or(ObservedRules::is_empty),
                    "{step}: rules use it"
                );
            }
            _ => {}
        }
        kernel.record(step, NOW);
        // The rules have to do with every one of them, and a next run with the flows to it.
        for vip in kernel.virtual_servers.keys() {
            assert!(
                kernel.members.contains(&owned(*vip)),
                "{step}: {vip} is nobody's"
            );
        }
    }
}

fn owned(server: ServerKey) -> Member {
    Member::ownership(server)
}

/// Real servers: whether they drain, and whether they are local.
type Reals = BTreeMap<HostPort, (bool, bool)>;

/// What is wished at one tuple.
#[derive(Debug, Clone, PartialEq)]
struct Wished {
    kind: VipKind,
    affinity: bool,
    reals: Reals,
    /// For clients on this node.
    near: Option<Reals>,
    ranged: bool,
    tuned: bool,
}

impl Wished {
    fn new(kind: VipKind, reals: Reals) -> Self {
        Self {
            kind,
            affinity: false,
            reals,
            near: None,
            ranged: false,
            tuned: false,
        }
    }

    /// What clients on this node are wished to meet.
    fn here(&self) -> &Reals {
        self.near.as_ref().unwrap_or(&self.reals)
    }

    fn unserved(&self) -> SetKind {
        if self.near.as_ref().is_some_and(any_serves) {
            SetKind::Dropped
        } else {
            SetKind::Refused
        }
    }
}

fn any_serves(reals: &Reals) -> bool {
    reals.values().any(|(draining, _)| !draining)
}

/// A few Services over a few addresses, so that they overlap.
type Wish = BTreeMap<VipPort, Wished>;

fn wish() -> impl Strategy<Value = Wish> {
    let vip = (0..3_u8, 0..2_usize, prop_oneof![Just(80), Just(53)]).prop_map(|(n, p, port)| {
        let protocol = [Protocol::Tcp, Protocol::Udp][p];
        let addr = [[10, 96, 0, 1], [192, 0, 2, 1], [192, 0, 2, 2]][usize::from(n)];
        VipPort {
            addr: addr.into(),
            protocol,
            port,
        }
    });
    let kind = prop_oneof![
        Just(VipKind::ClusterIp),
        Just(VipKind::LoadBalancer),
        Just(VipKind::NodePort)
    ];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    let wished = (kind, any::<bool>(), reals(), flags);
    let wish = prop::collection::btree_map(vip, wished, 0..6);
    // All tuples of one Service port share what clients on this node meet.
    let near = prop::collection::vec(reals(), 4);
    (wish, near).prop_map(|(wish, near)| {
        let of_port = |vip: &VipPort| {
            let number = usize::from(vip.port == 53) * 2;
            near[number + usize::from(vip.protocol == Protocol::Udp)].clone()
        };
        let whole = |(vip, (kind, affinity, reals, (local, ranged, tuned))): (VipPort, _)| {
            let near = (local && kind != VipKind::ClusterIp).then(|| of_port(&vip));
            let wished = Wished {
                kind,
                affinity,
                reals,
                near,
                ranged,
                tuned,
            };
            (vip, wished)
        };
        wish.into_iter().map(whole).collect()
    })
}

fn reals() -> impl Strategy<Value = Reals> {
    let real = (1..5_u8).prop_map(|n| HostPort {
        addr: [10, 244, 0, n].into(),
        port: 8080,
    });
    prop::collection::btree_map(real, (any::<bool>(), any::<bool>()), 0..4)
}

fn desired(wish: &Wish) -> DesiredState {
    let service = ObjectName::new("ns", "all");
    let servers = |reals: &Reals| -> RealServers {
        let real = |(key, (draining, local)): (&HostPort, &(bool, bool))| {
            let make = if *draining {
                RealServer::draining(*local)
            } else {
                RealServer::serving(*local, 1)
            };
            (*key, make)
        };
        reals.iter().map(real).collect()
    };
    let server = |vip: &VipPort, wished: &Wished| VirtualServer {
        owner: ServicePortName {
            service: service.clone(),
            port: vip.port.to_string().into(),
            protocol: vip.protocol,
        },
        kind: wished.kind,
        policy: crate::model::TrafficPolicy::default(),
        scheduler: Scheduler::named("rr"),
        persistence: wished.affinity.then_some(crate::model::Persistence {
            timeout_seconds: 60,
        }),
        tuning: if wished.tuned {
            Tuning {
                one_packet: vip.protocol == Protocol::Udp,
                thresholds: Thresholds {
                    upper: 100,
                    lower: 50,
                },
                slow_start: Some(Duration::from_secs(30)),
            }
        } else {
            Tuning::default()
        },
        real_servers: servers(&wished.reals),
        near: wished.near.as_ref().map(servers),
        unserved: if wished.unserved() == SetKind::Dropped {
            Unserved::Drop
        } else {
            Unserved::Refuse
        },
        health_check_node_port: if wished.ranged { 32_000 } else { 0 },
        source_ranges: if wished.ranged {
            BTreeSet::from(["198.51.100.0/24".parse().unwrap()])
        } else {
            BTreeSet::new()
        },
    };
    let mut state = DesiredState::default();
    let resolved = Resolved {
        virtual_servers: wish
            .iter()
            .map(|(vip, wished)| (*vip, server(vip, wished)))
            .collect(),
        ..Resolved::default()
    };
    state.replace(&service, &ServiceSpec::default(), resolved, &mut |_| {});
    state
}

fn target(desired: &DesiredState) -> Target {
    Target::of(Settings::default(), network(), desired)
}

/// Plans over everything and applies, until nothing is left to do but wait for connections. Gives
/// the steps.
fn converge(kernel: &mut Observed, desired: &DesiredState, target: &Target) -> Vec<Step> {
    let mut done = Vec::new();
    for _ in 0..4 {
        let scope = target.everything(desired, kernel);
        let steps = plan(desired, target, kernel, &scope, NOW);
        apply(kernel, &steps);
        done.extend(steps);
        read_idle_connections(kernel);
    }
    let scope = target.everything(desired, kernel);
    let rest = plan(desired, target, kernel, &scope, NOW);
    assert!(rest.is_empty(), "not settled: {}", rest[0]);
    done
}

/// UDP tuples that some flow may still leave for a real server that these steps took away.
fn stale_flows(steps: &[Step]) -> BTreeSet<VipPort> {
    let mut stale = BTreeSet::new();
    for step in steps {
        match step {
            Step::DelRealServer(server, _) | Step::DelVirtualServer(server) => {
                let tuple = server.tuple();
                stale.extend(tuple.filter(|vip| vip.protocol == Protocol::Udp));
            }
            Step::ForgetFlows { vip, .. } => {
                stale.remove(vip);
            }
            _ => {}
        }
    }
    stale
}

fn read_idle_connections(kernel: &mut Observed) {
    for server in kernel.virtual_servers.values_mut() {
        for real in server.real_servers.values_mut() {
            if let Some(draining) = &mut real.draining {
                draining.connections = Some(0);
            }
        }
    }
}

/// What the kernel must hold for a wish, said without the plan's own words.
fn check(kernel: &Observed, wish: &Wish) {
    let serving = |reals: &Reals| -> BTreeSet<HostPort> {
        let serving = reals.iter().filter(|(_, (draining, _))| !draining);
        serving.map(|(key, _)| *key).collect()
    };
    let held = |key: &ServerKey| -> Option<BTreeSet<HostPort>> {
        let server = kernel.virtual_servers.get(key)?;
        Some(server.real_servers.keys().copied().collect())
    };
    let mut marks = BTreeSet::new();
    for (vip, wished) in wish {
        let serves = serving(&wished.reals);
        let have = held(&ServerKey::Tuple(*vip));
        assert_eq!(have.is_none(), serves.is_empty(), "{vip}");
        assert_eq!(have.unwrap_or_default(), serves, "{vip}");
        let member = |set| {
            kernel.members.contains(&Member {
                set,
                element: Element::VipPort(*vip),
            })
        };
        assert_eq!(member(SetKind::Owned), !serves.is_empty(), "{vip}");
        for set in [SetKind::Refused, SetKind::Dropped] {
            let turned_away = serves.is_empty() && wished.unserved() == set;
            assert_eq!(member(set), turned_away, "{vip} {set}");
        }
        let masqueraded = wished.kind != VipKind::ClusterIp && wished.near.is_none();
        assert_eq!(member(SetKind::External), masqueraded, "{vip}");
        assert_eq!(member(SetKind::Ranged), wished.ranged, "{vip}");
        let limited = wished.tuned && !serves.is_empty();
        assert_eq!(member(SetKind::Limited), limited, "{vip}");

        let mut near = kernel
            .members
            .iter()
            .filter_map(|member| match member.element {
                Element::Near { vip: of, mark } if of == *vip => Some(mark),
                _ => None,
            });
        let here = wished.near.as_ref().map(serving).unwrap_or_default();
        let mark = near.next();
        assert!(near.next().is_none(), "{vip} has two marks");
        assert_eq!(mark.is_none(), here.is_empty(), "{vip}");
        if let Some(mark) = mark {
            let family = vip.family();
            let key = ServerKey::Mark { family, mark };
            assert_eq!(held(&key), Some(here.clone()), "{vip} by mark");
            marks.insert(key);
        }
        let served = !serves.is_empty() || !here.is_empty();
        let live = wished.kind != VipKind::NodePort && (vip.protocol == Protocol::Tcp || served);
        assert_eq!(member(SetKind::Live), live, "{vip}");
        let routed = kernel.routes.iter().any(|net| net.contains(&vip.addr));
        assert!(
            routed || wished.kind == VipKind::NodePort,
            "{vip} has no route"
        );
    }
    for server in kernel.virtual_servers.keys() {
        let tuple = server.tuple().is_some_and(|vip| wish.contains_key(&vip));
        assert!(tuple || marks.contains(server), "{server} is not wished");
    }
    let mut tuples = kernel.members.iter().filter_map(Member::vip);
    assert!(tuples.all(|vip| wish.contains_key(&vip)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// From any state of ours to any other, and then to nothing.
    #[test]
    fn any_wish_follows_any_other(first in wish(), second in wish()) {
        let mut kernel = empty_kernel();
        let wanted = desired(&first);
        converge(&mut kernel, &wanted, &target(&wanted));
        check(&kernel, &first);
        let wanted = desired(&second);
        converge(&mut kernel, &wanted, &target(&wanted));
        check(&kernel, &second);
        let (none, nothing) = (DesiredState::default(), Target::nothing());
        converge(&mut kernel, &none, &nothing);
        prop_assert!(kernel.members.is_empty() && kernel.routes.is_empty());
        prop_assert!(kernel.virtual_servers.is_empty() && kernel.base.sets.is_empty());
        prop_assert!(kernel.base.policy_rules.is_empty());
        prop_assert!(kernel.base.rules.values().all(ObservedRules::is_empty));
    }

    /// A change planned over what it touches ends where a plan over everything ends.
    #[test]
    fn a_change_costs_what_it_touches(first in wish(), second in wish()) {
        let mut state = desired(&first);
        let mut target = target(&state);
        let mut kernel = empty_kernel();
        converge(&mut kernel, &state, &target);

        let service = ObjectName::new("ns", "all");
        let next = desired(&second);
        let virtual_servers = next.iter().map(|(vip, server)| (*vip, server.clone())).collect();
        let resolved = Resolved { virtual_servers, ..Resolved::default() };
        let mut scope = Scope::default();
        state.replace(&service, &ServiceSpec::default(), resolved, &mut |change| {
            target.replace(change, &mut scope);
        });
        // The first and the last virtual server of a family decide about sysctls.
        prop_assert!(!scope.base || first.keys().all(|vip| !second.contains_key(vip)));
        let untouched = first.iter().filter(|(vip, wish)| second.get(vip) == Some(wish));
        for (vip, _) in untouched {
            let server = ServerKey::Tuple(*vip);
            prop_assert!(!scope.servers.contains(&server), "{} did not change", vip);
        }
        let steps = plan(&state, &target, &kernel, &scope, NOW);
        apply(&mut kernel, &steps);
        for _ in 0..2 {
            read_idle_connections(&mut kernel);
            let draining = Scope { servers: kernel.draining().clone(), ..Scope::default() };
            let steps = plan(&state, &target, &kernel, &draining, NOW);
            apply(&mut kernel, &steps);
        }
        let everything = target.everything(&state, &kernel);
        let rest = plan(&state, &target, &kernel, &everything, NOW);
        prop_assert!(rest.is_empty(), "left over: {}", rest[0]);
        check(&kernel, &second);
        // The counts that were kept up to date are those of a count from scratch.
        let fresh = Target::of(Settings::default(), network(), &state);
        prop_assert_eq!(&fresh.members, &target.members);
        prop_assert_eq!(&fresh.routes, &target.routes);
    }

    /// Every moment between two steps is one from which a restart converges.
    #[test]
    fn a_crash_at_any_step_is_mended(first in wish(), second in wish(), cut in 0..60_usize) {
        let mut kernel = empty_kernel();
        let wanted = desired(&first);
        converge(&mut kernel, &wanted, &target(&wanted));
        let wanted = desired(&second);
        let target = target(&wanted);
        let steps = plan(&wanted, &target, &kernel, &target.everything(&wanted, &kernel), NOW);
        apply(&mut kernel, &steps[..cut.min(steps.len())]);
        // What a process that starts anew cannot know.
        for server in kernel.virtual_servers.values_mut() {
            for real in server.real_servers.values_mut() {
                real.draining = None;
            }
        }
        kernel.owe_all_flows();
        let mut done = steps[..cut.min(steps.len())].to_vec();
        done.extend(converge(&mut kernel, &wanted, &target));
        check(&kernel, &second);
        prop_assert!(stale_flows(&done).is_empty(), "stale: {:?}", stale_flows(&done));
    }

    /// While old and new states both have someone to serve, someone serves at every step.
    #[test]
    fn make_comes_before_break(first in wish(), second in wish()) {
        let mut kernel = empty_kernel();
        let wanted = desired(&first);
        converge(&mut kernel, &wanted, &target(&wanted));
        let wanted = desired(&second);
        let target = target(&wanted);
        let serves = |kernel: &Observed, key: &ServerKey| {
            kernel.virtual_servers.get(key).is_some_and(|server| {
                server.real_servers.values().any(|real| real.weight > 0)
            })
        };
        // What a client on this node meets.
        let here = |kernel: &Observed, vip: &VipPort| {
            let mark = kernel.members.iter().find_map(|member| match member.element {
                Element::Near { vip: of, mark } if of == *vip => Some(mark),
                _ => None,
            });
            let family = vip.family();
            let by_mark = mark.map(|mark| ServerKey::Mark { family, mark });
            let present = by_mark.filter(|key| kernel.virtual_servers.contains_key(key));
            present.unwrap_or(ServerKey::Tuple(*vip))
        };
        let both = |serves: fn(&Wished) -> bool| -> Vec<VipPort> {
            let in_both = |vip: &&VipPort| {
                let of = |wish: &Wish| wish.get(vip).is_some_and(serves);
                of(&first) && of(&second)
            };
            first.keys().filter(in_both).copied().collect()
        };
        let elsewhere = both(|wished| any_serves(&wished.reals));
        let on_this_node = both(|wished| any_serves(wished.here()));
        for step in plan(&wanted, &target, &kernel, &target.everything(&wanted, &kernel), NOW) {
            apply(&mut kernel, std::slice::from_ref(&step));
            for vip in &elsewhere {
                let served = serves(&kernel, &ServerKey::Tuple(*vip));
                prop_assert!(served, "after {step} nobody serves {vip}");
            }
            for vip in &on_this_node {
                let served = serves(&kernel, &here(&kernel, vip));
                prop_assert!(served, "after {step} nobody serves {vip} on this node");
            }
        }
    }
}

/// 94 of `docs/checklist.md`.
#[test]
fn a_foreign_virtual_server_is_left_alone() {
    let vip: VipPort = "192.0.2.1:80/TCP".parse().unwrap();
    let real = HostPort {
        addr: [10, 244, 0, 1].into(),
        port: 8080,
    };
    let wish = Wish::from([(
        vip,
        Wished::new(
            VipKind::LoadBalancer,
            BTreeMap::from([(real, (false, false))]),
        ),
    )]);
    let mut kernel = empty_kernel();
    kernel.foreign.insert(vip.into());
    let wanted = desired(&wish);
    let target = target(&wanted);
    let steps = plan(
        &wanted,
        &target,
        &kernel,
        &target.everything(&wanted, &kernel),
        NOW,
    );
    assert!(steps.iter().all(|step| step.server() != Some(vip.into())));
}

#[test]
fn a_tuple_found_to_be_somebody_elses_is_in_no_set_any_more() {
    let vip: VipPort = "10.96.0.1:80/TCP".parse().unwrap();
    let element = Element::VipPort(vip);
    let held = [SetKind::Owned, SetKind::Refused, SetKind::Live].map(|set| Member { set, element });
    let mut kernel = empty_kernel();
    kernel.members.extend(held);
    kernel.foreign.insert(vip.into());
    let wanted = desired(&Wish::from([(
        vip,
        Wished::new(VipKind::ClusterIp, BTreeMap::new()),
    )]));
    let target = target(&wanted);
    let scope = Scope {
        servers: BTreeSet::from([vip.into()]),
        ..Scope::default()
    };
    let steps = plan(&wanted, &target, &kernel, &scope, NOW);
    let gone = steps.iter().map(|step| match step {
        Step::DelMember(member) => *member,
        other => panic!("{other}"),
    });
    assert_eq!(BTreeSet::from_iter(gone), BTreeSet::from(held));
}

/// 84 of `docs/checklist.md`.
#[test]
fn a_kernel_without_ipv6_is_asked_for_nothing_of_it() {
    let vip: VipPort = "[fd00:96::1]:80/TCP".parse().unwrap();
    let real = HostPort {
        addr: "fd00:244::1".parse().unwrap(),
        port: 8080,
    };
    let reals = BTreeMap::from([(real, (false, true))]);
    let wish = Wish::from([(vip, Wished::new(VipKind::LoadBalancer, reals))]);
    let mut kernel = empty_kernel();
    kernel.base.families = BTreeSet::from([Family::V4]);
    kernel.base.rules.remove(&Family::V6);
    let wanted = desired(&wish);
    converge(&mut kernel, &wanted, &target(&wanted));
    assert!(kernel.virtual_servers.is_empty() && kernel.routes == network().service_cidrs);
}

#[test]
fn what_other_settings_left_goes() {
    let mut kernel = empty_kernel();
    let old = PolicyRule {
        mark: 0x1000,
        table: 7,
        priority: 80,
    };
    kernel.base.policy_rules.insert((Family::V4, old));
    let net = "10.96.0.0/16".parse().unwrap();
    kernel.base.stray_routes.insert((7, net));
    let none = DesiredState::default();
    converge(&mut kernel, &none, &target(&none));
    let ours = Settings::default().policy_rule();
    assert_eq!(
        kernel.base.policy_rules,
        Family::ALL.map(|family| (family, ours)).into()
    );
    assert!(kernel.base.stray_routes.is_empty());
}

#[test]
fn udp_flows_to_a_real_server_that_is_gone_are_forgotten() {
    let vip: VipPort = "10.96.0.1:53/UDP".parse().unwrap();
    let real = |n: u8| HostPort {
        addr: [10, 244, 0, n].into(),
        port: 8080,
    };
    let with = |reals: &[u8]| {
        let reals = reals.iter().map(|n| (real(*n), (false, false))).collect();
        Wish::from([(vip, Wished::new(VipKind::ClusterIp, reals))])
    };
    let mut kernel = empty_kernel();
    let wanted = desired(&with(&[1, 2]));
    converge(&mut kernel, &wanted, &target(&wanted));
    let wanted = desired(&with(&[2, 3]));
    let target = target(&wanted);
    let steps = plan(
        &wanted,
        &target,
        &kernel,
        &target.everything(&wanted, &kernel),
        NOW,
    );
    let forgotten: Vec<_> = steps
        .iter()
        .filter_map(|step| match step {
            Step::ForgetFlows { vip, keep } => Some((*vip, keep.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(forgotten, [(vip, BTreeSet::from([real(2), real(3)]))]);
}
