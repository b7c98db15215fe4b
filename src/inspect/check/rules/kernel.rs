//! The kernel and what it has: IPVS, schedulers, sets, matches and targets.

use std::collections::BTreeSet;

use super::some;
use crate::inspect::check::facts::{Facts, Plane};
use crate::inspect::check::{Level, Verdict};

/// `6.12.0-arch` → (6, 12).
pub(super) fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next()?.parse().ok();
    Some((next()?, next()?))
}

pub fn kernel(facts: &Facts) -> Verdict {
    let release = &facts.release;
    match version(release) {
        None => Verdict::warn(
            format!("Linux {release}: not a version that is understood"),
            "tested are Linux 6.1, 6.12 and 6.18",
        ),
        Some(old) if old < (3, 18) => Verdict::fail(
            format!("Linux {release}: its sets carry no marks"),
            "take Linux 4.20 or newer",
        ),
        Some(old) if old < (4, 20) => Verdict::warn(
            format!(
                "Linux {release}: older than the scheduler mh, and reads all routing tables for one"
            ),
            "take Linux 4.20 or newer",
        ),
        Some(_) => Verdict::ok(format!("Linux {release}")),
    }
}

pub fn ip_vs(facts: &Facts) -> Verdict {
    let modules = &facts.modules;
    let how = if modules.ip_vs {
        Some("at work")
    } else if modules.built_in.contains("ip_vs") {
        Some("built in")
    } else if modules.loadable.contains("ip_vs") {
        Some("to be loaded")
    } else {
        None
    };
    match (facts.wanted.dataplane, how) {
        (Plane::Iptables, Some(how)) => Verdict::ok(format!(
            "{how}, but not wanted: Services are served by iptables"
        )),
        (Plane::Iptables, None) => {
            Verdict::ok("none, and not wanted: Services are served by iptables")
        }
        (_, Some(how)) => Verdict::ok(format!("{how}: Services are served by IPVS")),
        (Plane::Ipvs, None) => Verdict::fail(
            "this kernel has no ip_vs, and --dataplane ipvs leaves no choice",
            "load it (`modprobe ip_vs`), install the kernel's modules, or take --dataplane auto",
        ),
        (Plane::Auto, None) if !modules.known => Verdict::warn(
            "not at work, and /lib/modules is not there to tell whether the kernel can load it",
            "`modprobe ip_vs` on the node before the agent starts, or mount its /lib/modules",
        ),
        (Plane::Auto, None) => Verdict::warn(
            "this kernel has no ip_vs: Services are served by iptables",
            "load it (`modprobe ip_vs`) or install the kernel's modules; --dataplane iptables if that is meant",
        ),
    }
}

pub fn schedulers(facts: &Facts) -> Verdict {
    if !facts.serves_by_ipvs() {
        return Verdict::ok("not needed: iptables picks endpoints by itself");
    }
    let modules = &facts.modules;
    let has = |name: &str| modules.has(&format!("ip_vs_{name}"));
    let (there, missing): (Vec<&str>, Vec<&str>) = SCHEDULERS.iter().partition(|name| has(name));
    let wanted = facts.wanted.scheduler.as_str();
    if !modules.known {
        return Verdict::warn(
            format!(
                "loaded: {}; /lib/modules is not there to tell which the kernel can load",
                listed(&there)
            ),
            "mount the node's /lib/modules, or see `modprobe -n ip_vs_NAME` on the node",
        );
    }
    if !there.contains(&wanted) {
        return Verdict::warn(
            format!(
                "no ip_vs_{wanted}, the wanted one: rr takes its place; there: {}",
                listed(&there)
            ),
            format!(
                "install the kernel's extra modules, or take a --scheduler that is there instead of {wanted}"
            ),
        );
    }
    if missing.is_empty() {
        return Verdict::ok(format!("all: {}", there.join(" ")));
    }
    Verdict::ok(format!(
        "{}; not there: {}",
        there.join(" "),
        missing.join(" ")
    ))
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(" ")
    }
}

pub fn ip_set(facts: &Facts) -> Verdict {
    let types = match &facts.set_types {
        Ok(types) => types,
        Err(why) => return Verdict::unread("the kernel's set types", why),
    };
    let missing: Vec<&str> = types
        .iter()
        .filter(|(_, has)| !**has)
        .map(|(name, _)| name.as_str())
        .collect();
    if missing.is_empty() {
        let names: Vec<&str> = types.keys().map(String::as_str).collect();
        return Verdict::ok(names.join(" "));
    }
    Verdict::fail(
        format!("this kernel has no {}", some(&missing)),
        "load ip_set and its types (`modprobe ip_set_hash_ipport` …) or install the kernel's modules",
    )
}

/// An extension of iptables, its module, and who needs it.
struct Extension {
    name: &'static str,
    module: &'static str,
    by: By,
}

#[derive(PartialEq, Eq)]
enum By {
    Both,
    Ipvs,
    Iptables,
    /// Only Services over SCTP, by iptables.
    Sctp,
}

const fn extension(name: &'static str, module: &'static str, by: By) -> Extension {
    Extension { name, module, by }
}

/// As `/proc/net/ip_tables_matches` and `…_targets` name them.
const EXTENSIONS: [Extension; 13] = [
    extension("set", "xt_set", By::Both),
    extension("mark", "xt_mark", By::Both),
    extension("conntrack", "xt_conntrack", By::Both),
    extension("addrtype", "xt_addrtype", By::Both),
    extension("tcp", "xt_tcpudp", By::Both),
    extension("MARK", "xt_mark", By::Both),
    extension("MASQUERADE", "xt_MASQUERADE", By::Both),
    extension("REJECT", "ipt_REJECT", By::Both),
    extension("ipvs", "xt_ipvs", By::Ipvs),
    extension("SET", "xt_set", By::Both),
    extension("DNAT", "xt_nat", By::Iptables),
    extension("statistic", "xt_statistic", By::Iptables),
    extension("sctp", "xt_sctp", By::Sctp),
];

pub fn xtables(facts: &Facts) -> Verdict {
    let modules = &facts.modules;
    let by_ipvs = facts.serves_by_ipvs();
    let needed = EXTENSIONS.iter().filter(|extension| match extension.by {
        By::Both => true,
        By::Ipvs => by_ipvs,
        By::Iptables | By::Sctp => !by_ipvs,
    });
    let missing: Vec<&Extension> = needed
        .filter(|extension| {
            !modules.extensions.contains(extension.name) && !modules.has(extension.module)
        })
        .collect();
    let names: BTreeSet<&str> = missing.iter().map(|extension| extension.name).collect();
    let level = if missing.is_empty() {
        Level::Ok
    } else if (!modules.known && modules.extensions.is_empty())
        || missing.iter().all(|extension| extension.by == By::Sctp)
    {
        Level::Warn
    } else {
        Level::Fail
    };
    match level {
        Level::Ok => Verdict::ok("all matches and targets are there or can be loaded"),
        Level::Warn if names.contains("set") => Verdict::warn(
            "none is loaded, and /lib/modules is not there to tell which the kernel can load",
            "mount the node's /lib/modules, or see `modprobe -n xt_set` on the node",
        ),
        Level::Warn => Verdict::warn(
            "no sctp: Services over SCTP are not served",
            "load xt_sctp if there are such Services",
        ),
        Level::Fail => Verdict::fail(
            format!("this kernel has no {}", some(&names)),
            format!(
                "load them (`modprobe {}`) or install the kernel's modules",
                missing
                    .iter()
                    .map(|extension| extension.module)
                    .collect::<BTreeSet<_>>()
                    .into_iter()
                    .collect::<Vec<_>>()
                    .join(" ")
            ),
        ),
    }
}

const SCHEDULERS: [&str; 13] = [
    "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh",
];
