//! How each source is doing, for health and the log.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tracing::{info, warn};

use super::event::Kind;
use super::requests::RequestMeter;
use crate::metrics::lock;
use crate::model::Moment;

/// State of every source; cheap to clone.
#[derive(Clone)]
pub struct SourceBoard {
    /// Counts the requests to the API server.
    pub meter: RequestMeter,
    states: Arc<Mutex<BTreeMap<Kind, SourceState>>>,
    clock: Arc<dyn Fn() -> Moment + Send + Sync>,
}

/// One for which no time passes.
impl Default for SourceBoard {
    fn default() -> Self {
        Self::new(Moment::default)
    }
}

/// State of the source of one kind of object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceState {
    pub listed: bool,
    pub errors_in_a_row: u32,
    /// All failures so far.
    pub errors: u64,
    pub last_error: Option<String>,
    /// When it last told something, if only that it is there.
    pub last_heard: Option<Moment>,
    /// Since when it tells nothing but errors.
    pub failing_since: Option<Moment>,
}

impl SourceState {
    /// Since when nothing new can have been heard of it.
    pub fn silent_since(&self) -> Option<Moment> {
        match (self.failing_since, self.last_heard) {
            (Some(failing), Some(heard)) => Some(failing.min(heard)),
            (failing, heard) => failing.or(heard),
        }
    }
}

impl SourceBoard {
    pub fn new(clock: impl Fn() -> Moment + Send + Sync + 'static) -> Self {
        let clock: Arc<dyn Fn() -> Moment + Send + Sync> = Arc::new(clock);
        Self {
            meter: RequestMeter::new(clock.clone()),
            states: Arc::default(),
            clock,
        }
    }

    /// The source answers. Tells so if it did not before.
    pub fn good(&self, kind: Kind, listed: bool) {
        let now = (self.clock)();
        self.change(kind, |state| {
            state.last_heard = Some(now);
            state.failing_since = None;
            state.listed |= listed;
            if std::mem::take(&mut state.errors_in_a_row) > 0 {
                info!(source = ?kind, "the source answers again");
            }
            state.last_error = None;
        });
    }

    /// The source fails. The first failure and a different one are logged, repetitions are not.
    /// Gives the number of failures in a row.
    pub fn failed(&self, kind: Kind, error: &str) -> u32 {
        let now = (self.clock)();
        self.change(kind, |state| {
            state.failing_since.get_or_insert(now);
            state.errors_in_a_row += 1;
            state.errors += 1;
            if state.last_error.as_deref() != Some(error) {
                warn!(source = ?kind, error, "the source fails; retrying");
                state.last_error = Some(error.to_owned());
            }
            state.errors_in_a_row
        })
    }

    /// The source answers, and something about it is wrong that a person must mend: what it told before
    /// stays in force, and it is not taken for stale.
    pub fn complains(&self, kind: Kind, error: &str) {
        self.failed(kind, error);
        let now = (self.clock)();
        self.change(kind, |state| {
            state.failing_since = None;
            state.last_heard = Some(now);
        });
    }

    /// All sources. What is quiet is heard of by the API server's answers to its watch.
    pub fn states(&self) -> BTreeMap<Kind, SourceState> {
        let mut states = lock(&self.states).clone();
        for (kind, state) in &mut states {
            let answered = self.meter.answered(*kind);
            state.last_heard = state.last_heard.max(answered.filter(|_| state.listed));
        }
        states
    }

    fn change<R>(&self, kind: Kind, change: impl FnOnce(&mut SourceState) -> R) -> R {
        let mut states = lock(&self.states);
        change(states.entry(kind).or_default())
    }
}
