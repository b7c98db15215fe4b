//! How often one object may be told of for one reason. Pure: time is an argument.
//!
//! A problem that comes and goes would else take the Events of all the others. What is over the
//! limit is left out; it is counted in the series of the Event that was made of it before.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{Moment, ObjectName, Reason};

/// Tokens: some at once, then one at a time.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    most: u32,
    refill: Duration,
    tokens: u32,
    /// When the tokens were last counted.
    counted: Moment,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(most: u32, refill: Duration) -> Self {
        Self {
            most,
            refill,
            tokens: most,
            counted: Moment::default(),
        }
    }

    pub(super) fn take(&mut self, now: Moment) -> bool {
        self.count(now);
        let any = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        any
    }

    /// When there is a token.
    pub(super) fn next_token(&self, now: Moment) -> Moment {
        if self.tokens > 0 {
            now
        } else {
            self.counted + self.refill
        }
    }

    fn count(&mut self, now: Moment) {
        let new = now.since(self.counted).as_millis() / self.refill.as_millis().max(1);
        let new = u32::try_from(new).unwrap_or(u32::MAX).min(self.most);
        if new >= self.most - self.tokens {
            // Full: time before it was is not saved up.
            self.tokens = self.most;
            self.counted = now;
        } else {
            self.tokens += new;
            self.counted = self.counted + self.refill * new;
        }
    }
}

/// A bucket for each object and reason of which something went out lately. One that is full again is
/// like none and is dropped, so there are never more than what all of them together may send meanwhile.
#[derive(Debug, Default)]
pub(super) struct Limits {
    buckets: BTreeMap<(ObjectName, Reason), Bucket>,
}

impl Limits {
    /// Whether one more may go out.
    pub(super) fn permit(&mut self, object: &ObjectName, reason: Reason, now: Moment) -> bool {
        let Some(bucket) = self.buckets.get_mut(&(object.clone(), reason)) else {
            return true;
        };
        bucket.count(now);
        bucket.tokens > 0
    }

    /// One goes out.
    pub(super) fn note(&mut self, object: &ObjectName, reason: Reason, now: Moment) {
        self.buckets.retain(|_, bucket| {
            bucket.count(now);
            bucket.tokens < bucket.most
        });
        let bucket = self.buckets.entry((object.clone(), reason));
        let bucket = bucket.or_insert_with(|| Bucket::new(OF_ONE, REFILL_OF_ONE));
        bucket.take(now);
    }
}

/// Of one object for one reason at once, and how long each further one waits.
const OF_ONE: u32 = 5;
const REFILL_OF_ONE: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    /// How many of these go out.
    fn sent(limits: &mut Limits, name: &str, reason: Reason, times: &[u64]) -> usize {
        let object = ObjectName::new("ns", name);
        let mut send = |time: &&u64| {
            let permitted = limits.permit(&object, reason, at(**time));
            if permitted {
                limits.note(&object, reason, at(**time));
            }
            permitted
        };
        times.iter().filter(|time| send(time)).count()
    }

    #[test]
    fn one_object_and_reason_has_five_at_once_and_then_one_in_five_minutes() {
        let mut limits = Limits::default();
        let (bad, other) = (Reason::InvalidAnnotation, Reason::InvalidField);
        assert_eq!(sent(&mut limits, "a", bad, &[0; 20]), 5);
        assert_eq!(sent(&mut limits, "a", bad, &[299]), 0);
        assert_eq!(sent(&mut limits, "a", bad, &[300, 300, 599]), 1);
        assert_eq!(sent(&mut limits, "a", bad, &[600, 601]), 1);
        // Others do not pay for it.
        assert_eq!(sent(&mut limits, "a", other, &[601; 20]), 5);
        assert_eq!(sent(&mut limits, "b", bad, &[601; 20]), 5);
        // It forgets.
        assert_eq!(sent(&mut limits, "a", bad, &[10_000; 20]), 5);
    }

    #[test]
    fn what_is_kept_is_what_went_out_lately() {
        let mut limits = Limits::default();
        for number in 0..5000_u64 {
            let name = number.to_string();
            // As fast as all together may: one in ten seconds.
            assert_eq!(
                sent(&mut limits, &name, Reason::InvalidField, &[number * 10]),
                1
            );
            assert!(limits.buckets.len() <= 31, "{}", limits.buckets.len());
        }
    }
}
