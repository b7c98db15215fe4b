//! A kernel that is strict about order, and plans over it until nothing is left to do.

use super::*;

pub fn empty_kernel() -> Observed {
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
pub fn apply(kernel: &mut Observed, steps: &[Step]) {
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

pub fn owned(server: ServerKey) -> Member {
    Member::ownership(server)
}

/// Plans over everything and applies, until nothing is left to do but wait for connections. Gives
/// the steps.
pub fn converge(kernel: &mut Observed, desired: &DesiredState, target: &Target) -> Vec<Step> {
    let mut done = Vec::new();
    for _ in 0..4 {
        let scope = target.everything(desired, kernel);
        let steps = plan(desired, target, kernel, &scope, NOW);
        nobody_is_refused(kernel, &steps);
        apply(kernel, &steps);
        done.extend(steps);
        read_idle_connections(kernel);
    }
    let scope = target.everything(desired, kernel);
    let rest = plan(desired, target, kernel, &scope, NOW);
    assert!(rest.is_empty(), "not settled: {}", rest[0]);
    done
}

/// Where a scheduler changes, its TCP clients are held just before, and let in just after; nobody else is.
fn nobody_is_refused(kernel: &Observed, steps: &[Step]) {
    let mut rest = steps.iter().peekable();
    while let Some(step) = rest.next() {
        let held = match step {
            Step::HoldClients(vip) => Some(*vip),
            _ => None,
        };
        let step = held.map_or(Some(step), |_| rest.next());
        let changes = match step {
            Some(Step::SetVirtualServer(server, service)) => {
                let have = &kernel.virtual_servers[server].service;
                server
                    .tuple()
                    .filter(|vip| vip.protocol == Protocol::Tcp)
                    .filter(|_| have.scheduler != service.scheduler)
            }
            _ => None,
        };
        assert_eq!(held, changes, "{step:?}");
        let is_let_in =
            |next: &&Step| matches!(next, Step::LetClientsIn(vip) if Some(*vip) == held);
        assert_eq!(
            held.is_some(),
            rest.next_if(is_let_in).is_some(),
            "{held:?}"
        );
    }
}

/// UDP tuples that some flow may still leave for a real server that these steps took away.
pub fn stale_flows(steps: &[Step]) -> BTreeSet<VipPort> {
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

pub fn read_idle_connections(kernel: &mut Observed) {
    for server in kernel.virtual_servers.values_mut() {
        for real in server.real_servers.values_mut() {
            if let Some(draining) = &mut real.draining {
                draining.connections = Some(0);
            }
        }
    }
}
