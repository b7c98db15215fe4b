//! Where somebody else's virtual server stands.

use super::*;

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
