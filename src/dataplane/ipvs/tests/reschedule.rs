//! A change of scheduler, carried out: clients that are held are let in, whatever becomes of it.

use super::*;
use crate::dataplane::Error;
use crate::dataplane::ipvs::kernel::apply::{Outcome, apply_by};

/// As many virtual servers as wished, served, and the plan that gives all of them another scheduler.
fn rescheduled(count: u8) -> (Observed, Vec<Step>) {
    let real: HostPort = "10.244.0.1:8080".parse().unwrap();
    let reals = BTreeMap::from([(real, (false, true))]);
    let mut wish = Wish::new();
    for number in 1..=count {
        let vip = VipPort {
            addr: [10, 96, 0, number].into(),
            protocol: Protocol::Tcp,
            port: 80,
        };
        wish.insert(vip, Wished::new(VipKind::ClusterIp, reals.clone()));
    }
    let mut kernel = empty_kernel();
    let wanted = desired(&wish);
    converge(&mut kernel, &wanted, &target(&wanted));
    for wished in wish.values_mut() {
        wished.tuned = true;
    }
    let wanted = desired(&wish);
    let target = target(&wanted);
    let scope = target.everything(&wanted, &kernel);
    let steps = plan(&wanted, &target, &kernel, &scope, NOW);
    (kernel, steps)
}

/// What is done about schedulers, as kinds.
fn done(mut kernel: Observed, steps: Vec<Step>, set: fn() -> Outcome) -> Vec<&'static str> {
    let mut kinds = Vec::new();
    apply_by(steps, &mut kernel, NOW, &mut |_, run| {
        kinds.extend(run.iter().map(Step::kind));
        run.iter()
            .map(|step| match step {
                Step::SetVirtualServer(..) => set(),
                _ => Outcome::Applied,
            })
            .collect()
    });
    kinds.retain(|kind| ["hold_clients", "set_virtual_server", "let_clients_in"].contains(kind));
    kinds
}

const ONE: [&str; 3] = ["hold_clients", "set_virtual_server", "let_clients_in"];

#[test]
fn what_is_left_for_another_pass_holds_nobody() {
    let (kernel, steps) = rescheduled(65);
    assert_eq!(done(kernel, steps, || Outcome::Applied), ONE.repeat(64));
}

#[test]
fn clients_are_let_in_where_the_change_failed() {
    let outcomes: [fn() -> Outcome; 3] = [
        || Outcome::Failed(Error::new("program IPVS", "refused")),
        || Outcome::NoScheduler(Error::new("program IPVS", "no such scheduler")),
        || Outcome::Unknown,
    ];
    for outcome in outcomes {
        let (kernel, steps) = rescheduled(2);
        assert_eq!(done(kernel, steps, outcome), ONE.repeat(2));
    }
}
