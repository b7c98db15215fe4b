//! When a person is told that retries do not help. Pure.

use std::time::Duration;

use super::health::Health;
use crate::model::{Moment, Problem, Reason};

/// Whether it was told, and is not over.
#[derive(Debug, Default)]
pub struct Alarm(bool);

impl Alarm {
    /// What to tell now: the problem once it has lasted for `patience`, nothing once it is over; `None` if all was
    /// told before.
    pub fn look(
        &mut self,
        health: &Health,
        now: Moment,
        patience: Duration,
    ) -> Option<Vec<Problem>> {
        let families = health.families().into_iter();
        let lasting = families.filter_map(|(family, health)| {
            let (since, error) = health.failing.as_ref()?;
            (now.since(*since) >= patience).then_some((family, error))
        });
        let lasting: Vec<_> = lasting.collect();
        let Some((_, error)) = lasting.first() else {
            let some_fails = health
                .families()
                .iter()
                .any(|(_, family)| family.failing.is_some());
            // A younger failure may be the same one that goes on.
            return (!some_fails && std::mem::take(&mut self.0)).then(Vec::new);
        };
        if std::mem::replace(&mut self.0, true) {
            return None;
        }
        let families: Vec<String> = lasting
            .iter()
            .map(|(family, _)| family.to_string())
            .collect();
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
    use crate::model::Family;
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
}
