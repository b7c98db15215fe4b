//! When to act again: the audit's rhythm and the backoff after a failure. Pure.

use std::time::Duration;

use crate::model::Moment;

/// Due times of everything that is not an event.
#[derive(Debug, Clone)]
pub struct Pace {
    audit_interval: Duration,
    next_audit: Moment,
    failures: u32,
    next_retry: Option<Moment>,
    next_refresh: Option<Moment>,
}

impl Pace {
    /// A pace that starts with an audit: the first sync is one.
    pub fn new(audit_interval: Duration, now: Moment) -> Self {
        Self {
            audit_interval,
            next_audit: now,
            failures: 0,
            next_retry: None,
            next_refresh: None,
        }
    }

    /// Never while a failure waits for its retry, which then is the audit too.
    pub fn audit_due(&self, now: Moment) -> bool {
        now >= self.next_audit && self.next_retry.is_none_or(|at| now >= at)
    }

    pub fn retry_due(&self, now: Moment) -> bool {
        self.next_retry.is_some_and(|at| now >= at)
    }

    /// Draining real servers are to be looked at.
    pub fn refresh_due(&self, now: Moment) -> bool {
        self.next_refresh.is_some_and(|at| now >= at)
    }

    /// After an audit.
    pub fn audited(&mut self, now: Moment) {
        self.next_audit = now + self.audit_interval;
    }

    /// Ask for an audit as soon as the backoff allows, without waiting for its turn.
    pub fn audit_soon(&mut self) {
        self.next_audit = Moment::default();
    }

    /// Whether something drains or grows decides if it is looked at once a second.
    pub fn waiting(&mut self, any: bool, now: Moment) {
        self.next_refresh = match (any, self.next_refresh) {
            (false, _) => None,
            (true, Some(at)) if at > now => Some(at),
            (true, _) => Some(now + REFRESH_INTERVAL),
        };
    }

    pub fn succeeded(&mut self) {
        self.failures = 0;
        self.next_retry = None;
    }

    /// After a failure: 0.1 s, doubling to 30 s, spread by a quarter so that the nodes of a
    /// cluster do not come back together. `seed` is any number that differs between nodes.
    pub fn failed(&mut self, now: Moment, seed: u64) {
        let delay = FIRST_RETRY
            .saturating_mul(1 << self.failures.min(16))
            .min(LAST_RETRY);
        self.failures = self.failures.saturating_add(1);
        // A linear congruential step is random enough to spread retries.
        let random = seed
            .wrapping_add(u64::from(self.failures))
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407)
            >> 33;
        let percent = u32::try_from(random % 25).unwrap_or(0);
        self.next_retry = Some(now + delay + delay * percent / 100);
    }

    /// A pass left work for the next one, which comes at once, after the events that have come.
    pub fn go_on(&mut self, now: Moment) {
        self.next_retry = Some(now);
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The moment at which something is due if no event comes first. While a failure waits for
    /// its retry, the audit waits with it.
    pub fn next_due(&self) -> Moment {
        let refresh = self.next_refresh.unwrap_or(Moment(Duration::MAX));
        match self.next_retry {
            Some(retry) => retry.min(refresh),
            None => self.next_audit.min(refresh),
        }
    }
}

const REFRESH_INTERVAL: Duration = Duration::from_secs(1);
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment(Duration::from_millis(millis))
    }

    #[test]
    fn the_backoff_doubles_up_to_its_end_and_a_success_ends_it() {
        let mut pace = Pace::new(Duration::from_secs(30), at(0));
        pace.audited(at(0));
        let mut delays = Vec::new();
        for _ in 0..12 {
            pace.failed(at(0), 7);
            delays.push(pace.next_due().0);
        }
        for (n, delay) in delays.iter().enumerate() {
            let floor = Duration::from_millis(100 * 2_u64.pow(u32::try_from(n).unwrap()));
            let floor = floor.min(Duration::from_secs(30));
            assert!(*delay >= floor && *delay <= floor * 5 / 4, "{n}: {delay:?}");
        }
        pace.succeeded();
        assert_eq!(pace.next_due(), at(30_000));
    }

    #[test]
    fn draining_is_looked_at_each_second_and_then_no_more() {
        let mut pace = Pace::new(Duration::from_secs(30), at(0));
        pace.audited(at(0));
        pace.waiting(true, at(500));
        assert_eq!(pace.next_due(), at(1_500));
        // Events in between do not put it off.
        pace.waiting(true, at(1_400));
        assert!(pace.refresh_due(at(1_500)));
        pace.waiting(false, at(1_500));
        assert_eq!(pace.next_due(), at(30_000));
    }
}
