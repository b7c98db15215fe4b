//! What a dataplane tells of itself: numbers for metrics, and what became of the steps of a plan.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::Error;
use crate::model::Family;

/// Numbers of objects in the kernel, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Holdings {
    pub virtual_servers: usize,
    pub real_servers: usize,
    /// Virtual servers with a draining real server.
    pub draining: usize,
    pub draining_real_servers: usize,
    /// Virtual servers with one whose weight grows.
    pub ramping: usize,
    /// Virtual servers of somebody else.
    pub foreign: usize,
    pub set_members: usize,
    pub routes: usize,
    /// Since the start.
    pub drains: Drains,
}

/// Real servers that began to drain, and how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drains {
    pub begun: u64,
    /// No connection was left.
    pub idle: u64,
    /// The deadline came, or the node was lost.
    pub cut: u64,
    /// Nobody asks for the virtual server any more.
    pub deleted: u64,
    /// The endpoint serves again.
    pub returned: u64,
}

/// What has been asked of the kernel since the start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counters {
    /// By part of the kernel: `ipvs`, `ipset`, `conntrack`, `route`.
    pub netlink: BTreeMap<&'static str, Netlink>,
    pub processes: u64,
    /// Failed runs of iptables-restore.
    pub restore_failures: BTreeMap<Family, u64>,
    /// Conntrack entries deleted.
    pub deleted_flows: BTreeMap<Family, u64>,
}

/// Requests over netlink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Netlink {
    pub messages: u64,
    /// Calls of `sendmsg`.
    pub sends: u64,
    /// Requests that were refused, and answers that were lost.
    pub errors: u64,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Applied,
    Failed,
    /// Not tried, as one before it had failed.
    Skipped,
    /// Nobody knows.
    Unknown,
    /// Left for another pass.
    Postponed,
}

impl Outcome {
    pub fn label(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Unknown => "unknown",
            Self::Postponed => "postponed",
        }
    }
}

/// How many steps of each kind ended how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally(BTreeMap<(&'static str, Outcome), u64>);

impl Tally {
    pub fn add(&mut self, kind: &'static str, outcome: Outcome) {
        *self.0.entry((kind, outcome)).or_default() += 1;
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'static str, Outcome, u64)> {
        let counts = self.0.iter();
        counts.map(|((kind, outcome), count)| (*kind, *outcome, *count))
    }
}

/// Outcome of the steps of one plan.
#[derive(Debug)]
pub struct Report<S: fmt::Display + fmt::Debug> {
    pub applied: usize,
    pub failed: Vec<StepError<S>>,
    /// Steps not tried because one before them, for the same object, had failed.
    pub skipped: usize,
    /// Some outcome is unknown or contradicts what was believed: the kernel must be read again.
    pub reobserve: bool,
    /// Steps left for another pass, so that none takes long.
    pub postponed: usize,
    /// Schedulers that the kernel turned out not to have.
    pub refused_schedulers: BTreeSet<String>,
    /// All of it by kind, for metrics.
    pub tally: Tally,
}

impl<S: fmt::Display + fmt::Debug> Default for Report<S> {
    fn default() -> Self {
        Self {
            applied: 0,
            failed: Vec::new(),
            skipped: 0,
            reobserve: false,
            postponed: 0,
            refused_schedulers: BTreeSet::new(),
            tally: Tally::default(),
        }
    }
}

/// A step that failed.
#[derive(Debug, thiserror::Error)]
#[error("step failed: {step}")]
pub struct StepError<S: fmt::Display + fmt::Debug> {
    pub step: S,
    #[source]
    pub source: Error,
}
