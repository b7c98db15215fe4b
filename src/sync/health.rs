//! Whether this node's data plane is as the sources want it, of each family by itself.

use std::collections::BTreeMap;

use super::board::Pass;
use crate::model::{Family, Leaving, Moment};

/// What is known of the loop and of what it does to the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Health {
    /// When the loop last took a turn.
    pub last_turn: Option<Moment>,
    /// Why load balancers should send this node nothing more.
    pub leaving: Option<Leaving>,
    v4: FamilyHealth,
    v6: FamilyHealth,
}

/// How one family's Services are served.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FamilyHealth {
    /// Since when something has failed and waits for its retry, and with what.
    pub failing: Option<(Moment, String)>,
    /// Since when cluster IPs are held by somebody else's virtual servers, and which.
    pub obstructed: Option<(Moment, String)>,
    /// The last pass that left nothing of this family undone.
    pub last_good: Option<Moment>,
}

impl FamilyHealth {
    /// Since when not all is well, and why: the older one of two troubles.
    pub fn trouble(&self) -> Option<(Moment, &str)> {
        let troubles = [&self.failing, &self.obstructed].into_iter().flatten();
        let (since, text) = troubles.min_by_key(|(since, _)| *since)?;
        Some((*since, text))
    }
}

impl Health {
    pub fn families(&self) -> [(Family, &FamilyHealth); 2] {
        [(Family::V4, &self.v4), (Family::V6, &self.v6)]
    }

    fn of(&mut self, family: Family) -> &mut FamilyHealth {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }

    /// Whether everything was programmed once.
    pub fn was_good(&self) -> bool {
        self.families()
            .iter()
            .all(|(_, health)| health.last_good.is_some())
    }

    /// After a pass, failed or not: the families of which it left nothing undone. What has failed stays until a pass
    /// over all of it has not.
    pub fn passed(&mut self, pass: &Pass, now: Moment) -> Vec<Family> {
        let retried = pass.trigger.takes_all() && pass.postponed == 0;
        let mut good = Vec::new();
        for family in Family::ALL {
            let health = self.of(family);
            if let Some(error) = pass.errors.get(&family) {
                fail(&mut health.failing, error, now);
            } else if retried || health.failing.is_none() {
                health.failing = None;
                health.last_good = Some(now);
                good.push(family);
            }
        }
        good
    }

    /// After a failed attempt to read the kernel, which is of no family.
    pub fn unread(&mut self, error: &str, now: Moment) {
        for family in Family::ALL {
            fail(&mut self.of(family).failing, error, now);
        }
    }

    /// What somebody else keeps from being served, of each family that there is something of.
    pub fn obstructed(&mut self, reasons: &BTreeMap<Family, String>, now: Moment) {
        for family in Family::ALL {
            let obstructed = &mut self.of(family).obstructed;
            match reasons.get(&family) {
                Some(reason) => fail(obstructed, reason, now),
                None => *obstructed = None,
            }
        }
    }

    /// Whether `error` differs from the one that stands.
    pub fn is_news(&self, error: &str) -> bool {
        let mut standing = self.families().into_iter();
        standing.all(|(_, health)| {
            let failing = health.failing.as_ref();
            failing.is_none_or(|(_, text)| text != error)
        })
    }
}

/// It counts from the first failure, and the last one is told.
fn fail(state: &mut Option<(Moment, String)>, error: &str, now: Moment) {
    let since = state.as_ref().map_or(now, |(since, _)| *since);
    *state = Some((since, error.to_owned()));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sync::Trigger;

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    fn pass(trigger: Trigger, failed: &[Family]) -> Pass {
        let errors = failed.iter().map(|family| (*family, "refused".to_owned()));
        Pass {
            trigger,
            failed: failed.len(),
            errors: errors.collect(),
            ..Pass::default()
        }
    }

    #[test]
    fn one_family_fails_and_is_mended_without_the_other() {
        let mut health = Health::default();
        let good = |health: &mut Health, pass: &Pass, now| health.passed(pass, at(now));
        let v6_fails = |trigger| pass(trigger, &[Family::V6]);
        assert_eq!(
            good(&mut health, &v6_fails(Trigger::First), 1),
            [Family::V4]
        );
        assert!(!health.was_good());
        // A change of IPv4 goes on; what it does not look at is not mended by it.
        assert_eq!(
            good(&mut health, &pass(Trigger::Change, &[]), 2),
            [Family::V4]
        );
        assert_eq!(
            good(&mut health, &v6_fails(Trigger::Retry), 3),
            [Family::V4]
        );
        let [(_, v4), (_, v6)] = health.families();
        assert_eq!((v4.trouble(), v4.last_good), (None, Some(at(3))));
        assert_eq!(
            (v6.trouble(), v6.last_good),
            (Some((at(1), "refused")), None)
        );
        assert_eq!(
            good(&mut health, &pass(Trigger::Retry, &[]), 4),
            Family::ALL
        );
        assert!(health.was_good() && health.families().iter().all(|(_, f)| f.trouble().is_none()));
    }

    #[test]
    fn a_young_failure_hides_no_old_obstruction() {
        let mut health = Health::default();
        let held = BTreeMap::from([(Family::V4, "held".to_owned())]);
        health.obstructed(&held, at(1));
        health.passed(&pass(Trigger::Change, &[Family::V4]), at(9));
        let [(_, v4), (_, v6)] = health.families();
        assert_eq!((v4.trouble(), v6.trouble()), (Some((at(1), "held")), None));
        health.obstructed(&BTreeMap::new(), at(10));
        assert_eq!(health.families()[0].1.trouble(), Some((at(9), "refused")));
    }

    #[test]
    fn what_was_put_off_is_not_done() {
        let mut health = Health::default();
        health.passed(&pass(Trigger::Change, &[Family::V4]), at(1));
        let half = Pass {
            postponed: 1,
            ..pass(Trigger::Audit, &[])
        };
        assert_eq!(health.passed(&half, at(2)), [Family::V6]);
        health.unread("cannot dump", at(3));
        assert!(!health.is_news("cannot dump") && health.is_news("refused"));
        let [(_, v4), (_, v6)] = health.families();
        assert_eq!(v4.trouble(), Some((at(1), "cannot dump")));
        assert_eq!(v6.trouble(), Some((at(3), "cannot dump")));
    }
}
