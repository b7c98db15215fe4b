//! Slow start: the weight of a real server that joins others grows in ten steps.

use std::time::Duration;

use super::observed::ObservedRealServer;
use super::share::Share;
use crate::model::{MAX_WEIGHT, Moment, RealServer, VirtualServer};

/// Steps in which a weight grows. Where a Service asks for slow start its weights are so many times
/// as large, since a weight of 1 has no part.
const STEPS: u32 = 10;

/// What a serving real server should take now. `have`: as it is, if it is there; `joins`: others
/// serve already.
pub fn share(
    want: &VirtualServer,
    real: &RealServer,
    have: Option<&ObservedRealServer>,
    joins: bool,
    now: Moment,
) -> Share {
    let thresholds = want.tuning.thresholds;
    let Some(duration) = want.tuning.slow_start else {
        return Share {
            weight: real.weight,
            thresholds,
            ramps: false,
        };
    };
    let full = real.weight.saturating_mul(STEPS).min(MAX_WEIGHT);
    let elapsed = match have {
        None if joins => Some(Duration::ZERO),
        None => None,
        Some(have) => have.ramps_since.map(|since| now.since(since)),
    };
    let elapsed = elapsed.filter(|elapsed| *elapsed < duration);
    let done = elapsed.map_or(STEPS, |elapsed| {
        let part = elapsed.as_millis() * u128::from(STEPS) / duration.as_millis().max(1);
        u32::try_from(part).unwrap_or(STEPS) + 1
    });
    Share {
        weight: (full * done.min(STEPS) / STEPS).max(1),
        thresholds,
        ramps: elapsed.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::{
        ObjectName, Protocol, Scheduler, ServicePortName, Thresholds, Tuning, Unserved, VipKind,
    };

    fn wanted(slow_start: Option<u64>) -> VirtualServer {
        VirtualServer {
            owner: ServicePortName {
                service: ObjectName::new("ns", "web"),
                port: "".into(),
                protocol: Protocol::Tcp,
            },
            kind: VipKind::ClusterIp,
            scheduler: Scheduler::named("wrr"),
            persistence: None,
            tuning: Tuning {
                slow_start: slow_start.map(Duration::from_secs),
                ..Tuning::default()
            },
            policy: crate::model::TrafficPolicy::default(),
            real_servers: [].into(),
            near: None,
            unserved: Unserved::Refuse,
            health_check_node_port: 0,
            source_ranges: BTreeSet::new(),
        }
    }

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    fn have(ramps_since: Option<Moment>) -> ObservedRealServer {
        ObservedRealServer {
            weight: 1,
            masquerade: true,
            thresholds: Thresholds::default(),
            draining: None,
            ramps_since,
        }
    }

    #[test]
    fn without_slow_start_a_weight_is_what_it_is() {
        let real = RealServer::serving(false, 7);
        let share = share(&wanted(None), &real, None, true, at(0));
        assert_eq!((share.weight, share.ramps), (7, false));
    }

    #[test]
    fn one_that_joins_grows_by_tenths_and_one_that_begins_does_not() {
        let want = wanted(Some(20));
        let real = RealServer::serving(false, 3);
        let first = share(&want, &real, None, true, at(100));
        assert_eq!((first.weight, first.ramps), (3, true));
        for (second, weight) in [(100, 3), (101, 3), (102, 6), (111, 18), (119, 30)] {
            let share = share(&want, &real, Some(&have(Some(at(100)))), true, at(second));
            assert_eq!((share.weight, share.ramps), (weight, true), "at {second} s");
        }
        // In full: after its time, after a restart that forgot when it came, and with nobody to join.
        for (have, joins) in [
            (Some(have(Some(at(80)))), true),
            (Some(have(None)), true),
            (None, false),
        ] {
            let share = share(&want, &real, have.as_ref(), joins, at(100));
            assert_eq!((share.weight, share.ramps), (30, false));
        }
    }

    #[test]
    fn the_largest_weight_stays_the_largest() {
        let real = RealServer::serving(false, MAX_WEIGHT);
        let share = share(&wanted(Some(20)), &real, None, false, at(0));
        assert_eq!(share.weight, MAX_WEIGHT);
    }
}
