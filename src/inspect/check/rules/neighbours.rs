//! Other service proxies, at work or gone, and others' virtual servers.

use std::collections::BTreeSet;

use super::{counted, some};
use crate::inspect::check::Verdict;
use crate::inspect::check::facts::Facts;
use crate::inspect::check::saved::Saved;

pub fn other_proxy(facts: &Facts) -> Verdict {
    let processes = match &facts.processes {
        Ok(processes) => processes,
        Err(why) => return Verdict::unread("/proc", why),
    };
    let of = |name: &str| {
        let found = processes.iter().find(|process| process.name == name)?;
        Some(format!("{name} (process {})", found.pid))
    };
    let at_port = |name: &str| {
        let ports = [facts.wanted.health_port, facts.wanted.metrics_port];
        let port = ports
            .into_iter()
            .find(|port| facts.listens_at(*port) == Some(Some(name)))?;
        Some(format!("{name} (at port {port})"))
    };
    if let Some(proxy) = of("kube-proxy").or_else(|| at_port("kube-proxy")) {
        return Verdict::fail(
            format!("{proxy} is at work"),
            "one proxy for a node: take its DaemonSet off this node, or the agent's (--skip-phases=addon/kube-proxy, or a node selector)",
        );
    }
    if let Some(proxy) = of("kube-router") {
        return Verdict::warn(
            format!("{proxy} is at work"),
            "run it with --run-service-proxy=false",
        );
    }
    Verdict::ok("neither kube-proxy nor kube-router, among the processes that can be seen")
}

/// Whether kube-proxy or kube-router names chains so. The kubelet keeps some of its own.
fn is_of_a_proxy(chain: &str) -> bool {
    let of_kubelet = [
        "KUBE-FIREWALL",
        "KUBE-KUBELET-CANARY",
        "KUBE-IPTABLES-HINT",
        "KUBE-MARK-MASQ",
        "KUBE-MARK-DROP",
        "KUBE-POSTROUTING",
    ];
    let of_policies = [
        "KUBE-NWPLCY",
        "KUBE-POD-FW",
        "KUBE-ROUTER-INPUT",
        "KUBE-ROUTER-FORWARD",
        "KUBE-ROUTER-OUTPUT",
    ];
    chain.starts_with("KUBE-")
        && !of_kubelet.contains(&chain)
        && !of_policies.iter().any(|prefix| chain.starts_with(prefix))
}

fn translates(saved: &Saved) -> bool {
    saved.rules.iter().any(|rule| {
        let target = rule.target().unwrap_or_default();
        rule.table == "nat"
            && ["PREROUTING", "OUTPUT"].contains(&rule.chain.as_str())
            && is_of_a_proxy(target)
    })
}

pub fn leftover_rules(facts: &Facts) -> Verdict {
    if let Some(why) = facts.unsaved() {
        return Verdict::unread("the rules of iptables", why);
    }
    let mut chains = BTreeSet::new();
    let mut programs = BTreeSet::new();
    let mut hooked = false;
    for (dump, saved) in facts.saved() {
        let of_proxy: Vec<&str> = saved
            .chain_names()
            .filter(|chain| is_of_a_proxy(chain))
            .collect();
        if !of_proxy.is_empty() {
            programs.insert(dump.program.as_str());
            hooked |= translates(saved);
        }
        chains.extend(of_proxy);
    }
    let remedy = "once it is stopped: `kube-proxy --cleanup` (kube-router: `--cleanup-config`) with each variant of iptables, or a reboot";
    if chains.is_empty() {
        return Verdict::ok("no chains of another proxy");
    }
    let found = format!(
        "{} of another proxy in {}: {}",
        counted(chains.len(), "chain"),
        some(&programs),
        some(&chains)
    );
    if hooked {
        Verdict::fail(format!("{found}; packets still meet them"), remedy)
    } else {
        Verdict::warn(found, remedy)
    }
}

pub fn leftover_nftables(facts: &Facts) -> Verdict {
    let tables = match &facts.nft_tables {
        Ok(tables) => tables,
        Err(why) => return Verdict::unread("the tables of nftables", why),
    };
    if tables.contains("kube-proxy") {
        return Verdict::fail(
            "the table kube-proxy is there: it still translates addresses of Services",
            "once kube-proxy is stopped: `nft delete table ip kube-proxy`, `nft delete table ip6 kube-proxy`",
        );
    }
    Verdict::ok("no table of kube-proxy")
}

pub fn leftover_interfaces(facts: &Facts) -> Verdict {
    let links = match &facts.links {
        Ok(links) => links,
        Err(why) => return Verdict::unread("the interfaces", why),
    };
    let proxies = ["kube-ipvs0", "kube-dummy-if"];
    let found = links
        .iter()
        .map(|link| link.name.as_str())
        .find(|name| proxies.contains(name));
    match found {
        None => Verdict::ok("neither kube-ipvs0 nor kube-dummy-if"),
        Some(name) => Verdict::warn(
            format!(
                "{name} is there: what listens on 0.0.0.0 here answers at its addresses of Services"
            ),
            format!("once its proxy is stopped: `ip link del {name}`"),
        ),
    }
}

pub fn foreign_virtual_servers(facts: &Facts) -> Verdict {
    let ipvs = match &facts.ipvs {
        None => return Verdict::ok("IPVS is not at work"),
        Some(Err(why)) => return Verdict::unread("the virtual servers", why),
        Some(Ok(ipvs)) => ipvs,
    };
    let cidrs = &facts.wanted.service_cidrs;
    let foreign = || ipvs.servers.iter().filter(|server| !server.ours);
    let inside: Vec<&str> = foreign()
        .filter(|server| {
            server
                .addr
                .is_some_and(|addr| cidrs.iter().any(|cidr| cidr.contains(&addr)))
        })
        .map(|server| server.name.as_str())
        .collect();
    let (all, count) = (ipvs.servers.len(), foreign().count());
    if !inside.is_empty() {
        return Verdict::fail(
            format!(
                "{} at cluster IPs are not the agent's: {}",
                inside.len(),
                some(&inside)
            ),
            format!(
                "their Services are not served by the agent: stop who made them, then `ipvsadm -D {}`",
                inside[0]
            ),
        );
    }
    if count == 0 {
        return Verdict::ok(format!("none among {all}"));
    }
    let names: Vec<&str> = foreign().map(|server| server.name.as_str()).collect();
    let found = format!("{count} of {all}: {}", some(&names));
    if cidrs.is_empty() {
        return Verdict::warn(
            format!("{found}; whether at cluster IPs is not known"),
            "say --service-cidr",
        );
    }
    Verdict::ok(format!("{found}; none at a cluster IP"))
}
