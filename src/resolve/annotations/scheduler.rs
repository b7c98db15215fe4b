//! The scheduler that a Service asks for by annotation.
//!
//! `ipvs-agent.io/scheduler: NAME[,FLAG…]` with the flags `port` (sh, mh: hash the client's port
//! too) and `fallback` (always on). kube-router's `kube-router.io/service.scheduler` and
//! `kube-router.io/service.schedflags` mean the same when ours is absent.

use super::{Finding, Policy, finding};
use crate::model::{Scheduler, ServiceSpec};

/// Every scheduler of the kernel tree (`net/netfilter/ipvs/ip_vs_*.c`, Linux 6.12).
pub const KERNEL_SCHEDULERS: [&str; 14] = [
    "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "twos",
];

const OURS: &str = "ipvs-agent.io/scheduler";
const KUBE_ROUTER: &str = "kube-router.io/service.scheduler";
const KUBE_ROUTER_FLAGS: &str = "kube-router.io/service.schedflags";

/// The Service's scheduler; the default where it asks for none or for one that cannot be had.
pub(super) fn scheduler(
    spec: &ServiceSpec,
    policy: &Policy,
    findings: &mut Vec<Finding>,
) -> Scheduler {
    let Some((key, value)) = wish(spec) else {
        return policy.scheduler.clone();
    };
    match parse(value, policy) {
        Ok(mut scheduler) => {
            if let Some(instead) = policy.approximated.get(scheduler.name.as_str()) {
                let advice = format!("without IPVS {instead}; load ip_vs on this node to have it");
                findings.push(finding(key, value, advice));
            }
            let hashing = matches!(scheduler.name.as_str(), "sh" | "mh");
            if key == KUBE_ROUTER && hashing {
                let flags = spec.annotations.get(KUBE_ROUTER_FLAGS).map_or("", |f| f);
                // kube-router's names for the bits: flag-1 fallback, flag-2 port.
                scheduler.port |= flags.split(',').any(|flag| flag.trim() == "flag-2");
            }
            scheduler
        }
        Err(advice) => {
            let advice = format!("{advice}; the default {} is used", policy.scheduler.name);
            findings.push(finding(key, value, advice));
            policy.scheduler.clone()
        }
    }
}

/// The annotation by which a Service asks for a scheduler: key and value.
pub fn wish(spec: &ServiceSpec) -> Option<(&'static str, &str)> {
    [OURS, KUBE_ROUTER]
        .into_iter()
        .find_map(|key| Some((key, &**spec.annotations.get(key)?)))
}

/// `NAME[,FLAG…]` as a scheduler that this kernel has.
fn parse(text: &str, policy: &Policy) -> Result<Scheduler, String> {
    let mut words = text.split(',').map(str::trim);
    let name = words.next().unwrap_or_default();
    if !KERNEL_SCHEDULERS.contains(&name) {
        return Err(format!(
            "not a scheduler; allowed are {}",
            KERNEL_SCHEDULERS.join(" ")
        ));
    }
    if policy.refused_schedulers.contains(name) {
        return Err(format!("this kernel has no ip_vs_{name}"));
    }
    if !policy.schedulers.is_empty() && !policy.schedulers.contains(name) {
        let have: Vec<_> = policy.schedulers.iter().map(String::as_str).collect();
        return Err(format!(
            "this kernel has no ip_vs_{name}; it has {}",
            have.join(" ")
        ));
    }
    let mut scheduler = Scheduler::named(name);
    for flag in words {
        match flag {
            "port" if scheduler.fallback => scheduler.port = true,
            "fallback" if scheduler.fallback => {}
            _ => {
                return Err(format!(
                    "{flag:?} is not a flag of {name}; sh and mh have port and fallback"
                ));
            }
        }
    }
    Ok(scheduler)
}
