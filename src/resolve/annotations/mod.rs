//! What a Service asks for by annotations beyond what Kubernetes has words for.
//!
//! * `scheduler` which of the kernel's schedulers, with which flags
//! * `weights` the share of each endpoint
//! * `tuning` one-packet scheduling, thresholds, slow start
//!
//! A value that cannot be taken costs its wish alone: the default applies, and a finding says what is
//! allowed.

mod scheduler;
mod tuning;
mod weights;

use super::{Finding, Policy};
use crate::model::{Scheduler, ServiceSpec, Tuning};
pub use scheduler::{KERNEL_SCHEDULERS, wish as scheduler_wish};
pub(super) use weights::Weights;

/// A Service's wishes, taken as far as they can be.
pub(super) struct Wishes {
    pub scheduler: Scheduler,
    pub weights: Weights,
    pub tuning: Tuning,
}

pub(super) fn read(spec: &ServiceSpec, policy: &Policy, findings: &mut Vec<Finding>) -> Wishes {
    let scheduler = scheduler::scheduler(spec, policy, findings);
    Wishes {
        weights: weights::read(spec, &scheduler, findings),
        tuning: tuning::read(spec, &scheduler, policy.tunable, findings),
        scheduler,
    }
}

/// The value of an annotation as `parse` understands it; a finding where it does not.
fn value<T>(
    spec: &ServiceSpec,
    key: &str,
    findings: &mut Vec<Finding>,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    let text = spec.annotations.get(key)?;
    match parse(text.trim()) {
        Ok(value) => Some(value),
        Err(advice) => {
            findings.push(finding(key, text, advice));
            None
        }
    }
}

fn finding(key: &str, value: &str, advice: String) -> Finding {
    Finding {
        field: format!("metadata.annotations[{key}]"),
        value: value.to_owned(),
        advice,
    }
}
