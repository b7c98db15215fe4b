//! By what the node serves: IPVS, or iptables where the kernel has no IPVS. The decision is pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use ipvs_sys::Client;

use super::explain_ipvs;
use crate::cli::{DataplaneArg, ServiceArgs};
use crate::dataplane::iptables::balance::is_kept;
use crate::inspect::modules;
use crate::model::{Problem, Reason, Scheduler};
use crate::resolve::KERNEL_SCHEDULERS;

/// What was chosen, and what a person should know of it.
pub struct Choice {
    /// Whether IPVS balances, or iptables.
    pub serves_by_ipvs: bool,
    /// For metrics: `configured`, `available` or `no-ip-vs`.
    pub reason: &'static str,
    pub scheduler: Scheduler,
    /// Schedulers that this kernel has; empty if that could not be found out.
    pub schedulers: BTreeSet<String>,
    pub problems: Vec<Problem>,
}

impl Choice {
    /// `ipvs` or `iptables`.
    pub fn name(&self) -> &'static str {
        match self.serves_by_ipvs {
            true => "ipvs",
            false => "iptables",
        }
    }

    /// Schedulers that are only come near to, with what is done instead.
    pub fn approximated(&self) -> BTreeMap<&'static str, &'static str> {
        let all = KERNEL_SCHEDULERS.into_iter();
        let unkept = all.filter(|name| !self.serves_by_ipvs && !is_kept(name));
        unkept
            .map(|name| {
                (
                    name,
                    "endpoints are picked at random, by weight if it goes by weight",
                )
            })
            .collect()
    }
}

/// Asks the kernel for IPVS, where it is wanted. None: iptables serves.
pub fn open(wanted: DataplaneArg) -> anyhow::Result<Option<Client>> {
    if wanted == DataplaneArg::Iptables {
        return Ok(None);
    }
    match Client::open() {
        Ok(client) => Ok(Some(client)),
        Err(error) if error.is_no_module() && wanted == DataplaneArg::Auto => Ok(None),
        Err(error) => Err(explain_ipvs(error)).context("--dataplane iptables serves without it"),
    }
}

/// What would be chosen here, as far as it shows without opening IPVS: a module that is not loaded stays so.
pub fn expect(services: &ServiceArgs) -> anyhow::Result<Choice> {
    let has_ipvs = is_loaded()
        || modules::has_ipvs(&modules::installed())
        || services.dataplane == DataplaneArg::Ipvs;
    choose(services.dataplane, &services.scheduler, has_ipvs)
}

/// Whether the kernel has IPVS without loading anything: to ask IPVS itself would load it.
pub fn is_loaded() -> bool {
    Path::new("/proc/net/ip_vs").exists() || Path::new("/proc/sys/net/ipv4/vs").exists()
}

/// What serves on a kernel that has IPVS or has not.
pub fn choose(wanted: DataplaneArg, scheduler: &str, has_ipvs: bool) -> anyhow::Result<Choice> {
    if !KERNEL_SCHEDULERS.contains(&scheduler) {
        bail!(
            "--scheduler {scheduler:?}: allowed are {}",
            KERNEL_SCHEDULERS.join(" ")
        );
    }
    let mut choice = match (wanted, has_ipvs) {
        (DataplaneArg::Iptables, _) | (_, false) => Choice {
            serves_by_ipvs: false,
            reason: "configured",
            scheduler: Scheduler::named(scheduler),
            schedulers: BTreeSet::new(),
            problems: unkept(scheduler),
        },
        (_, true) => on_ipvs(scheduler),
    };
    if wanted == DataplaneArg::Auto {
        choice.reason = if has_ipvs { "available" } else { "no-ip-vs" };
    }
    if wanted == DataplaneArg::Auto && !has_ipvs {
        let text = "this kernel has no ip_vs, so Services are served by iptables: load the module \
                    (`modprobe ip_vs`) or install the kernel's modules, and restart the agent";
        choice.problems.insert(0, problem(text.to_owned()));
    }
    Ok(choice)
}

/// A scheduler alone that the kernel lacks is no reason to leave IPVS.
fn on_ipvs(scheduler: &str) -> Choice {
    let schedulers = modules::schedulers(
        &fs::read_to_string("/proc/modules").unwrap_or_default(),
        &modules::installed(),
    );
    let (scheduler, problem) = available(scheduler, &schedulers);
    Choice {
        serves_by_ipvs: true,
        reason: "configured",
        scheduler,
        schedulers,
        problems: problem.into_iter().collect(),
    }
}

/// The scheduler, or the nearest to it that a kernel with these has.
fn available(scheduler: &str, have: &BTreeSet<String>) -> (Scheduler, Option<Problem>) {
    if have.is_empty() || have.contains(scheduler) {
        return (Scheduler::named(scheduler), None);
    }
    let names: Vec<&str> = have.iter().map(String::as_str).collect();
    let text = format!(
        "--scheduler {scheduler}: this kernel has no ip_vs_{scheduler}, so {} is used; it has {}",
        Scheduler::NEAREST,
        names.join(" ")
    );
    (Scheduler::named(Scheduler::NEAREST), Some(problem(text)))
}

fn unkept(scheduler: &str) -> Vec<Problem> {
    if is_kept(scheduler) {
        return Vec::new();
    }
    let text = format!(
        "--scheduler {scheduler} needs IPVS: without it endpoints are picked at random, by weight if it \
         goes by weight"
    );
    vec![problem(text)]
}

fn problem(text: String) -> Problem {
    Problem {
        reason: Reason::IpvsUnavailable,
        text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_scheduler_gives_way_to_the_nearest_and_says_so() {
        let have = BTreeSet::from(["rr".to_owned(), "wlc".to_owned()]);
        assert_eq!(available("wlc", &have), (Scheduler::named("wlc"), None));
        let (scheduler, told) = available("mh", &have);
        assert_eq!(scheduler, Scheduler::named("rr"));
        let told = told.unwrap().text;
        assert!(
            told.contains("ip_vs_mh") && told.contains("rr wlc"),
            "{told}"
        );
        // What a kernel has cannot be seen from every container.
        let unknown = available("mh", &BTreeSet::new());
        assert_eq!(unknown, (Scheduler::named("mh"), None));
    }

    #[test]
    fn without_ipvs_the_schedulers_that_count_connections_are_told_of() {
        let choice = choose(DataplaneArg::Auto, "rr", false).unwrap();
        assert_eq!((choice.name(), choice.reason), ("iptables", "no-ip-vs"));
        assert!(choice.problems[0].text.contains("modprobe ip_vs"));
        let names: Vec<&str> = choice.approximated().into_keys().collect();
        assert_eq!(
            names,
            ["lblc", "lblcr", "lc", "nq", "ovf", "sed", "twos", "wlc"]
        );
        assert_eq!(unkept("rr"), []);
        assert_eq!(unkept("lc").len(), 1);
    }
}
