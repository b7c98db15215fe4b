//! How each source is doing, for health and the log.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::{info, warn};

use super::event::Kind;

/// State of every source; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct SourceBoard(Arc<Mutex<BTreeMap<Kind, SourceState>>>);

/// State of the source of one kind of object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceState {
    pub listed: bool,
    pub errors_in_a_row: u32,
    pub last_error: Option<String>,
}

impl SourceBoard {
    /// The source answers. Tells so if it did not before.
    pub fn good(&self, kind: Kind, listed: bool) {
        self.change(kind, |state| {
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
        self.change(kind, |state| {
            state.errors_in_a_row += 1;
            if state.last_error.as_deref() != Some(error) {
                warn!(source = ?kind, error, "the source fails; retrying");
                state.last_error = Some(error.to_owned());
            }
            state.errors_in_a_row
        })
    }

    /// All sources.
    pub fn states(&self) -> BTreeMap<Kind, SourceState> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn change<R>(&self, kind: Kind, change: impl FnOnce(&mut SourceState) -> R) -> R {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(states.entry(kind).or_default())
    }
}
