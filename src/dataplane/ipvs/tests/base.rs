//! Kernels and traces of earlier runs that Services do not tell of.

use super::*;
use crate::routing::PolicyRule;

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
