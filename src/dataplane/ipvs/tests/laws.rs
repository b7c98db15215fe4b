//! Laws of the plan, over generated states.

use super::*;

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
