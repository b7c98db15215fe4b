//! When a person is told that retries do not help. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use super::health::Health;
use crate::model::{Family, Moment, Problem, Reason};

/// The families of which it was told, and is not over.
#[derive(Debug, Default)]
pub struct Alarm(BTreeSet<Family>);

impl Alarm {
    /// What to tell now: the problem once it has lasted for `patience`, again where its families are others, and
    /// nothing once it is over; `None` if all was told before.
    pub fn look(
        &mut self,
        health: &Health,
        now: Moment,
        patience: Duration,
    ) -> Option<Vec<Problem>> {
        let failing: Vec<_> = health
            .families()
            .into_iter()
            .filter_map(|(family, health)| Some((family, health.failing.as_ref()?)))
            // One that was told of is over when it no longer fails.
            .filter(|(family, (since, _))| self.0.contains(family) || now.since(*since) >= patience)
            .collect();
        let families: BTreeSet<Family> = failing.iter().map(|(family, _)| *family).collect();
        if families == self.0 {
            return None;
        }
        self.0 = families;
        let Some((_, (_, error))) = failing.first() else {
            return Some(Vec::new());
        };
        let families: Vec<String> = self.0.iter().map(Family::to_string).collect();
        Some(vec![Problem {
            reason: Reason::FailedToProgram,
            text: format!(
                "not all Services are served as asked on this node ({}), and retries do not help: {error}; the \
                 agent's log and /healthz go on telling",
                families.join(", ")
            ),
        }])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::sync::{Pass, Trigger};

    const PATIENCE: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    #[test]
    fn what_lasts_is_told_once_and_so_is_its_end() {
        let (mut alarm, mut health) = (Alarm::default(), Health::default());
        let errors = |text: &str| BTreeMap::from([(Family::V6, text.to_owned())]);
        let mut after = |errors: BTreeMap<Family, String>, seconds| {
            let pass = Pass {
                trigger: Trigger::Retry,
                failed: errors.len(),
                errors,
                ..Pass::default()
            };
            health.passed(&pass, at(seconds));
            alarm.look(&health, at(seconds), PATIENCE)
        };
        assert_eq!(after(errors("refused"), 10), None);
        assert_eq!(after(errors("refused"), 69), None);
        let told = after(errors("refused again"), 70).unwrap();
        assert!(told[0].text.contains("(IPv6)") && told[0].text.contains(": refused again;"));
        assert_eq!(after(errors("and again"), 100), None);
        assert_eq!(after(BTreeMap::new(), 101), Some(Vec::new()));
        assert_eq!(after(BTreeMap::new(), 102), None);
        // Another failure is another story.
        assert_eq!(after(errors("refused"), 110), None);
        assert_eq!(after(BTreeMap::new(), 111), None);
        assert_eq!(after(errors("refused"), 120), None);
        assert!(after(errors("refused"), 200).is_some());
    }

    #[test]
    fn a_family_that_joins_or_leaves_is_told_of() {
        let (mut alarm, mut health) = (Alarm::default(), Health::default());
        let mut after = |families: &[Family], seconds| {
            let errors = families
                .iter()
                .map(|family| (*family, format!("{family} refused")));
            let pass = Pass {
                trigger: Trigger::Retry,
                failed: families.len(),
                errors: errors.collect(),
                ..Pass::default()
            };
            health.passed(&pass, at(seconds));
            let told = alarm.look(&health, at(seconds), PATIENCE)?;
            Some(
                told.into_iter()
                    .map(|problem| problem.text)
                    .collect::<String>(),
            )
        };
        assert_eq!(after(&[Family::V6], 0), None);
        assert!(after(&[Family::V6], 60).unwrap().contains("(IPv6)"));
        assert_eq!(after(&Family::ALL, 100), None);
        assert!(after(&Family::ALL, 160).unwrap().contains("(IPv4, IPv6)"));
        let told = after(&[Family::V4], 161).unwrap();
        assert!(
            told.contains("(IPv4)") && told.contains("IPv4 refused"),
            "{told}"
        );
        assert_eq!(after(&[], 162).as_deref(), Some(""));
    }
}
