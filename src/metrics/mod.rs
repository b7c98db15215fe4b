//! What Prometheus is told: every metric with its labels, in one registry that the reference in
//! `docs/metrics.md` is made of.
//!
//! * `catalogue` the registry, and what each metric in it is; `labels` the sets of labels
//! * `families` the metrics of the loop, its sources and its pages: registration, no logic
//! * `requests` to the API server, by kube-proxy's names
//! * `process` memory, time and files of the process itself, read when they are asked for
//! * `text` the two forms of the exposition, and which of them was asked for
//! * `traffic` what the kernel counts for each Service and endpoint, where it is asked for

pub mod catalogue;
pub mod families;
pub mod labels;
mod process;
mod requests;
pub mod text;
pub mod traffic;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use catalogue::{Catalogue, Entry};
pub use families::Families;
pub use requests::ApiRequests;

/// A panic elsewhere must not end what is told, nor silence health.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
