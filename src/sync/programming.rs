//! How long changes of endpoints take to reach the kernel, counted from what brought them about: a pod
//! that became ready, say. Pure.
//!
//! The controller that writes an EndpointSlice notes that time in it. A slice that goes away only
//! tells of the change before, so deletions are not measured.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::board::Pass;
use crate::cluster::{Event, Index};
use crate::model::{Family, ObjectName};

/// The time of something that changed endpoints of a family.
pub type Triggered = (Family, SystemTime);

/// Changes that are on their way.
#[derive(Debug, Default)]
pub struct Programming {
    /// For the next pass, by Service.
    changes: BTreeMap<ObjectName, Vec<Triggered>>,
    /// Those that a failure keeps from the kernel.
    delayed: Vec<Triggered>,
}

impl Programming {
    /// Looks at an event that `index` has not taken yet.
    pub fn look_at(&mut self, event: &Event, index: &Index) {
        match event {
            Event::SliceApplied(name, slice) => {
                let known = index.slice(name);
                let Some(triggered) = slice.triggered else {
                    return;
                };
                if known.is_none_or(|known| !known.says_the_same(slice)) {
                    let changes = self.changes.entry(slice.service.clone()).or_default();
                    changes.push((slice.address_type, triggered));
                }
            }
            Event::SliceDeleted(name) => {
                if let Some(slice) = index.slice(name) {
                    self.changes.remove(&slice.service);
                }
            }
            _ => {}
        }
    }

    /// The changes that are in the kernel after a pass over all that was dirty. Those of a pass with a
    /// failure are when a retry has left nothing over.
    pub fn passed(&mut self, pass: &Pass) -> Vec<Triggered> {
        let changes = std::mem::take(&mut self.changes);
        let mut changes: Vec<Triggered> = changes.into_values().flatten().collect();
        if pass.failed > 0 || pass.postponed > 0 {
            changes.truncate(DELAYED.saturating_sub(self.delayed.len()));
            self.delayed.append(&mut changes);
        } else if pass.trigger.takes_all() {
            changes.append(&mut self.delayed);
        }
        changes
    }
}

/// Changes beyond these are not measured while something fails.
const DELAYED: usize = 10_000;

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::model::EndpointSlice;
    use crate::sync::Trigger;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn v4(seconds: &[u64]) -> Vec<Triggered> {
        let times = seconds.iter();
        times.map(|seconds| (Family::V4, at(*seconds))).collect()
    }

    struct Story {
        programming: Programming,
        index: Index,
    }

    impl Story {
        fn new() -> Self {
            Self {
                programming: Programming::default(),
                index: Index::new("n1"),
            }
        }

        fn take(&mut self, event: Event) {
            self.programming.look_at(&event, &self.index);
            self.index.apply(event);
        }

        fn applied(&mut self, service: &str, weight: u32, triggered: Option<u64>) {
            let slice = EndpointSlice {
                service: ObjectName::new("ns", service),
                address_type: Family::V4,
                ports: Vec::new(),
                endpoints: Vec::new(),
                weight: Some(weight),
                hostnames: BTreeMap::new(),
                triggered: triggered.map(at),
            };
            let name = ObjectName::new("ns", &format!("{service}-1"));
            self.take(Event::SliceApplied(name, Box::new(slice)));
        }

        fn passed(&mut self, trigger: Trigger, failed: usize) -> Vec<Triggered> {
            self.programming.passed(&Pass {
                trigger,
                failed,
                ..Pass::default()
            })
        }
    }

    /// 83: once for each change, and not for one that takes endpoints away.
    #[test]
    fn a_change_of_endpoints_is_measured_once() {
        let mut story = Story::new();
        story.applied("s", 1, Some(10));
        story.applied("s", 2, Some(20));
        // The same endpoints at another time, others at no time.
        story.applied("s", 2, Some(30));
        story.applied("s", 3, None);
        assert_eq!(story.passed(Trigger::Change, 0), v4(&[10, 20]));
        assert_eq!(story.passed(Trigger::Change, 0), []);
        story.applied("s", 3, Some(40));
        assert_eq!(story.passed(Trigger::Change, 0), []);
        story.applied("s", 4, Some(50));
        story.applied("t", 1, Some(60));
        story.take(Event::SliceDeleted(ObjectName::new("ns", "s-1")));
        assert_eq!(story.passed(Trigger::Change, 0), v4(&[60]));
    }

    #[test]
    fn a_change_that_failed_is_measured_when_it_is_made_up_for() {
        let mut story = Story::new();
        story.applied("s", 1, Some(10));
        assert_eq!(story.passed(Trigger::Change, 1), []);
        // Others do not wait for it, and do not make up for it.
        story.applied("t", 1, Some(20));
        assert_eq!(story.passed(Trigger::Change, 0), v4(&[20]));
        assert_eq!(story.passed(Trigger::Retry, 1), []);
        assert_eq!(story.passed(Trigger::Retry, 0), v4(&[10]));
        assert_eq!(story.passed(Trigger::Retry, 0), []);
    }
}
