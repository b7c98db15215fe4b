//! Settings of the kernel that the agent sets, or that others set and it suffers from.

use super::kernel::version;
use super::some;
use crate::inspect::check::facts::{Facts, InterfaceSysctls};
use crate::inspect::check::{Level, Verdict};

/// One that the agent sets when it starts, and again when an audit finds it changed.
fn set_by_agent(facts: &Facts, wrong: &[(&str, u64)]) -> Option<Verdict> {
    wrong.first()?;
    let have: Vec<String> = wrong
        .iter()
        .map(|(name, _)| {
            format!(
                "{name}={}",
                facts.sysctls.get(*name).map_or("?", |v| v.trim())
            )
        })
        .collect();
    let commands: Vec<String> = wrong
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let command = format!("sysctl -w {}", commands.join(" "));
    Some(if facts.sysctls_writable {
        Verdict::warn(
            some(&have),
            format!("the agent sets it at its start; by hand: `{command}`"),
        )
    } else {
        Verdict::fail(
            format!("{}, and /proc/sys cannot be written here", some(&have)),
            format!("on the node: `{command}`, and in /etc/sysctl.d"),
        )
    })
}

fn differing(facts: &Facts, wanted: &[(&'static str, u64)]) -> Vec<(&'static str, u64)> {
    let differs =
        |(name, value): &(&str, u64)| facts.number(name).is_some_and(|have| have != *value);
    wanted.iter().copied().filter(differs).collect()
}

pub fn ip_forward(facts: &Facts) -> Verdict {
    let name = "net.ipv4.ip_forward";
    if facts.number(name).is_none() {
        return Verdict::unread(name, "it is not there");
    }
    set_by_agent(facts, &differing(facts, &[(name, 1)]))
        .unwrap_or_else(|| Verdict::ok(format!("{name}=1")))
}

pub fn ipv6_forward(facts: &Facts) -> Verdict {
    let name = "net.ipv6.conf.all.forwarding";
    if facts.number(name).is_none() {
        return Verdict::ok("this kernel has no IPv6");
    }
    let Some(mut verdict) = set_by_agent(facts, &differing(facts, &[(name, 1)])) else {
        return Verdict::ok(format!("{name}=1"));
    };
    // Only where a Service needs it, so most clusters never do.
    if facts.sysctls_writable {
        return Verdict::ok(format!(
            "{name}=0; the agent sets it once there is an IPv6 Service"
        ));
    }
    verdict.level = Level::Warn;
    verdict
        .found
        .push_str("; IPv6 Services would not be answered");
    verdict
}

pub fn ipvs(facts: &Facts) -> Verdict {
    if !facts.modules.ip_vs || !facts.serves_by_ipvs() {
        return Verdict::ok("IPVS is not at work, and has none yet");
    }
    let wanted = [
        ("net.ipv4.vs.conntrack", 1),
        ("net.ipv4.vs.expire_nodest_conn", 1),
        ("net.ipv4.vs.expire_quiescent_template", 1),
    ];
    set_by_agent(facts, &differing(facts, &wanted)).unwrap_or_else(|| {
        Verdict::ok("conntrack=1 expire_nodest_conn=1 expire_quiescent_template=1")
    })
}

pub fn conn_reuse(facts: &Facts) -> Verdict {
    let name = "net.ipv4.vs.conn_reuse_mode";
    let Some(mode) = facts.number(name) else {
        return Verdict::ok("IPVS is not at work, and has none yet");
    };
    let slow = version(&facts.release).is_some_and(|version| version < (5, 9));
    match (mode, slow) {
        (0, _) => Verdict::warn(
            format!(
                "{name}=0, as kube-proxy sets it on older kernels: a client that comes again from the same port is led to the endpoint of before, even one that drains"
            ),
            format!("`sysctl -w {name}=1`"),
        ),
        (_, true) => Verdict::warn(
            format!(
                "{name}={mode} on a kernel before 5.9: a client that comes again from the same port waits a second"
            ),
            format!(
                "take a newer kernel, or `sysctl -w {name}=0` and live with connections to endpoints that drain"
            ),
        ),
        _ => Verdict::ok(format!("{name}={mode}")),
    }
}

/// The kernel counts by processor; the sums that it tells are its estimator's (`ip_vs_copy_stats`).
pub fn counters(facts: &Facts) -> Verdict {
    let name = "net.ipv4.vs.run_estimation";
    match facts.number(name) {
        None => Verdict::ok("IPVS is not at work, or always counts"),
        Some(0) => Verdict::warn(
            format!(
                "{name}=0: the sums that the kernel tells of connections, packets and bytes stand still"
            ),
            format!("`sysctl -w {name}=1`; what was missed is added to the sums at once"),
        ),
        Some(value) => Verdict::ok(format!("{name}={value}")),
    }
}

pub fn bridge_nf(facts: &Facts) -> Verdict {
    let links = match &facts.links {
        Ok(links) => links,
        Err(why) => return Verdict::unread("the interfaces", why),
    };
    let bridges: Vec<&str> = super::routing::pod_bridges(links)
        .map(|bridge| bridge.name.as_str())
        .collect();
    if bridges.is_empty() {
        return Verdict::ok("no bridge with pods");
    }
    let names = [
        "net.bridge.bridge-nf-call-iptables",
        "net.bridge.bridge-nf-call-ip6tables",
    ];
    let values = names.map(|name| facts.number(name));
    match values {
        [Some(1), Some(1) | None] => Verdict::ok(format!("on, for {}", some(&bridges))),
        [None, _] => Verdict::fail(
            format!(
                "pods are on {}, and br_netfilter is not loaded: answers between two of them miss the node's rules",
                some(&bridges)
            ),
            "`modprobe br_netfilter`, then `sysctl -w net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1`",
        ),
        _ => {
            let off: Vec<&str> = names
                .iter()
                .zip(values)
                .filter(|(_, value)| *value == Some(0))
                .map(|(name, _)| *name)
                .collect();
            Verdict::fail(
                format!(
                    "pods are on {}, and {} is 0: answers between two of them miss the node's rules",
                    some(&bridges),
                    some(&off)
                ),
                format!(
                    "`sysctl -w {}`",
                    off.iter()
                        .map(|name| format!("{name}=1"))
                        .collect::<Vec<_>>()
                        .join(" ")
                ),
            )
        }
    }
}

/// Names of interfaces, but those of loopback and the defaults.
fn where_is<'a>(
    facts: &'a Facts,
    is: impl Fn(&InterfaceSysctls) -> bool + 'a,
) -> impl Iterator<Item = &'a str> {
    let interfaces = facts.interfaces.iter();
    interfaces
        .filter(|(name, _)| !["all", "default", "lo"].contains(&name.as_str()))
        .filter(move |(_, values)| is(values))
        .map(|(name, _)| name.as_str())
}

fn of_all(facts: &Facts) -> InterfaceSysctls {
    facts.interfaces.get("all").copied().unwrap_or_default()
}

pub fn rp_filter(facts: &Facts) -> Verdict {
    if facts.interfaces.is_empty() {
        return Verdict::unread("/proc/sys/net/ipv4/conf", "it is empty");
    }
    let all = of_all(facts);
    // The larger of both counts: `linux/inetdevice.h`, IN_DEV_RPFILTER.
    let strict: Vec<&str> = where_is(facts, move |values| {
        values.rp_filter.max(all.rp_filter) == 1
            && values.src_valid_mark.max(all.src_valid_mark) == 0
    })
    // Calico sets its pods' links so, against forged sources.
    .filter(|name| !name.starts_with("cali"))
    .collect();
    if strict.is_empty() {
        return Verdict::ok("not strict, or with src_valid_mark");
    }
    Verdict::warn(
        format!(
            "strict, with src_valid_mark=0, on {}: packets whose way back is another are dropped, also one that a mark chooses (several uplinks, some network plugins)",
            some(&strict)
        ),
        format!(
            "`sysctl -w net.ipv4.conf.all.rp_filter=2`, unless {} must be strict",
            some(&strict)
        ),
    )
}

pub fn route_localnet(facts: &Facts) -> Verdict {
    if facts.interfaces.is_empty() {
        return Verdict::unread("/proc/sys/net/ipv4/conf", "it is empty");
    }
    let all = of_all(facts).route_localnet != 0;
    let mut open: Vec<&str> = where_is(facts, |values| values.route_localnet != 0).collect();
    if all {
        open.insert(0, "all");
    }
    if open.is_empty() {
        return Verdict::ok("0 on every interface");
    }
    Verdict::fail(
        format!(
            "1 on {}: neighbours reach what listens on 127.0.0.1",
            some(&open)
        ),
        format!(
            "`sysctl -w {}`; the agent needs none, kube-proxy may have set it",
            open.iter()
                .map(|name| format!("net.ipv4.conf.{name}.route_localnet=0"))
                .collect::<Vec<_>>()
                .join(" ")
        ),
    )
}

pub fn arp(facts: &Facts) -> Verdict {
    if facts.interfaces.is_empty() {
        return Verdict::unread("/proc/sys/net/ipv4/conf", "it is empty");
    }
    let all = of_all(facts);
    if all.arp_ignore == 0 && all.arp_announce == 0 {
        return Verdict::ok("arp_ignore=0 arp_announce=0");
    }
    Verdict::warn(
        format!(
            "arp_ignore={} arp_announce={} on all interfaces: kube-proxy's strictARP, or an administrator's wish",
            all.arp_ignore, all.arp_announce
        ),
        "no Service needs it: `sysctl -w net.ipv4.conf.all.arp_ignore=0 net.ipv4.conf.all.arp_announce=0`, unless MetalLB or DSR here does",
    )
}
