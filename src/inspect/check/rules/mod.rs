//! The rules, by what they look at, and the table of all checks in the order in which they are told.

mod agent;
mod conntrack;
mod iptables;
mod kernel;
mod marks;
mod neighbours;
mod routing;
mod sysctls;

use super::Check;

/// Every check. `docs/shell.md` lists the same.
pub const CHECKS: &[Check] = &[
    Check {
        name: "capabilities",
        why: "programming the kernel takes CAP_NET_ADMIN, iptables CAP_NET_RAW too",
        rule: agent::capabilities,
    },
    Check {
        name: "kernel",
        why: "sets that carry marks and some schedulers came late",
        rule: kernel::kernel,
    },
    Check {
        name: "ip-vs",
        why: "without it Services are served by iptables",
        rule: kernel::ip_vs,
    },
    Check {
        name: "schedulers",
        why: "a Service that wants one the kernel lacks gets another",
        rule: kernel::schedulers,
    },
    Check {
        name: "ip-set",
        why: "all rules ask sets",
        rule: kernel::ip_set,
    },
    Check {
        name: "xtables",
        why: "rules are written with these matches and targets",
        rule: kernel::xtables,
    },
    Check {
        name: "iptables",
        why: "rules are written by iptables-restore",
        rule: iptables::installed,
    },
    Check {
        name: "iptables-mixture",
        why: "legacy and nft keep rules apart, and packets meet both",
        rule: iptables::mixture,
    },
    Check {
        name: "forward-policy",
        why: "pods' packets pass FORWARD",
        rule: iptables::forward_policy,
    },
    Check {
        name: "ip-forward",
        why: "answers of endpoints pass through the node",
        rule: sysctls::ip_forward,
    },
    Check {
        name: "ipv6-forward",
        why: "the same over IPv6",
        rule: sysctls::ipv6_forward,
    },
    Check {
        name: "ipvs-sysctls",
        why: "masquerade, and connections to endpoints that are gone",
        rule: sysctls::ipvs,
    },
    Check {
        name: "conn-reuse",
        why: "a client that comes again from the same port is balanced anew",
        rule: sysctls::conn_reuse,
    },
    Check {
        name: "counters",
        why: "metrics of traffic, `top` and `list --stats` tell what the kernel counts",
        rule: sysctls::counters,
    },
    Check {
        name: "bridge-nf",
        why: "packets between pods on one bridge must pass iptables",
        rule: sysctls::bridge_nf,
    },
    Check {
        name: "hairpin",
        why: "a pod on a bridge may be its Service's endpoint",
        rule: routing::hairpin,
    },
    Check {
        name: "rp-filter",
        why: "a strict filter drops packets whose way back is another",
        rule: sysctls::rp_filter,
    },
    Check {
        name: "route-localnet",
        why: "neighbours reach what listens on 127.0.0.1 (CVE-2020-8558)",
        rule: sysctls::route_localnet,
    },
    Check {
        name: "arp",
        why: "kube-proxy's strictARP, which is of no use here",
        rule: sysctls::arp,
    },
    Check {
        name: "other-proxy",
        why: "two service proxies undo each other's work",
        rule: neighbours::other_proxy,
    },
    Check {
        name: "leftover-rules",
        why: "rules that another proxy left still translate addresses",
        rule: neighbours::leftover_rules,
    },
    Check {
        name: "leftover-nftables",
        why: "so do tables that kube-proxy left in nftables",
        rule: neighbours::leftover_nftables,
    },
    Check {
        name: "leftover-interfaces",
        why: "addresses of Services on an interface make the node answer for them",
        rule: neighbours::leftover_interfaces,
    },
    Check {
        name: "foreign-virtual-servers",
        why: "a Service whose address somebody else has in IPVS is not served",
        rule: neighbours::foreign_virtual_servers,
    },
    Check {
        name: "mark-bits",
        why: "a packet has one mark for all",
        rule: marks::mark_bits,
    },
    Check {
        name: "rule-priority",
        why: "the rule that leads to the agent's routes must be met, and first",
        rule: routing::rule_priority,
    },
    Check {
        name: "route-table",
        why: "the table of the virtual addresses is the agent's alone",
        rule: routing::route_table,
    },
    Check {
        name: "conntrack-fill",
        why: "a full table drops new connections",
        rule: conntrack::fill,
    },
    Check {
        name: "conntrack-size",
        why: "without kube-proxy nobody sets it",
        rule: conntrack::size,
    },
    Check {
        name: "idle-timeouts",
        why: "IPVS must not forget connections before conntrack does",
        rule: conntrack::idle_timeouts,
    },
    Check {
        name: "connection-table",
        why: "long chains in IPVS's connection table cost every packet",
        rule: conntrack::connection_table,
    },
    Check {
        name: "api-server",
        why: "an address that the agent itself must program cannot be its source",
        rule: agent::api_server,
    },
    Check {
        name: "ports",
        why: "health and metrics are asked for at kube-proxy's ports",
        rule: agent::ports,
    },
    Check {
        name: "agent",
        why: "is an agent at work here, and well",
        rule: agent::agent,
    },
];

/// `a, b, c and 7 more`.
fn some<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    let names: Vec<T> = names.into_iter().collect();
    let shown: Vec<&str> = names.iter().take(SHOWN).map(AsRef::as_ref).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// `1 rule`, `2 rules`.
fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

const SHOWN: usize = 6;
