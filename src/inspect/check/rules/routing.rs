//! Policy rules, the agent's table, and bridges.

use super::{counted, some};
use crate::inspect::check::Verdict;
use crate::inspect::check::facts::{Facts, Link, RoutingRule};

pub fn rule_priority(facts: &Facts) -> Verdict {
    let rules = match &facts.rules {
        Ok(rules) => rules,
        Err(why) => return Verdict::unread("the routing rules", why),
    };
    let wanted = facts.wanted.rule_priority;
    let others = || rules.iter().filter(|rule| !rule.ours);
    // Leads our packets elsewhere, whoever it is meant for.
    let catches = |rule: &&RoutingRule| {
        let takes = match rule.mark {
            None => !rule.selects,
            Some((value, mask)) => !rule.selects && facts.wanted.route_mark & mask == value,
        };
        takes
            && rule.priority > 0
            && rule.priority < wanted
            && ![facts.wanted.route_table, LOCAL].contains(&rule.table)
    };
    if let Some(rule) = others().find(catches) {
        return Verdict::fail(
            format!(
                "the rule of priority {} comes before {wanted} and takes the agent's packets to table {}",
                rule.priority, rule.table
            ),
            format!(
                "take a --rule-priority below {}, if its table has a route for everything",
                rule.priority
            ),
        );
    }
    if let Some(rule) = others().find(|rule| rule.priority == wanted) {
        return Verdict::warn(
            format!(
                "another's rule, to table {}, has priority {wanted} too: which is met first depends on which came first",
                rule.table
            ),
            "take a --rule-priority that is free (`ip rule`)",
        );
    }
    Verdict::ok(format!(
        "{wanted} is free, and nothing before it takes the agent's packets"
    ))
}

/// The kernel's table of the node's own addresses.
const LOCAL: u32 = 255;

pub fn route_table(facts: &Facts) -> Verdict {
    let (rules, routes) = match (&facts.rules, &facts.foreign_routes) {
        (Ok(rules), Ok(routes)) => (rules, *routes),
        (Err(why), _) | (_, Err(why)) => return Verdict::unread("routing", why),
    };
    let table = facts.wanted.route_table;
    let remedy = "take a --route-table that nobody has (`ip route show table all`)";
    if let Some(rule) = rules.iter().find(|rule| !rule.ours && rule.table == table) {
        return Verdict::fail(
            format!(
                "another's rule, of priority {}, leads to table {table}",
                rule.priority
            ),
            remedy,
        );
    }
    if routes > 0 {
        return Verdict::warn(
            format!(
                "{} in table {table} not made by the agent",
                counted(routes, "route")
            ),
            remedy,
        );
    }
    Verdict::ok(format!("table {table} is the agent's alone"))
}

/// Bridges that pods are on: those with virtual cables, but for Docker's and libvirt's own.
pub(super) fn pod_bridges(links: &[Link]) -> impl Iterator<Item = &Link> {
    let has_cable = |bridge: &Link| {
        let mut links = links.iter();
        links.any(|link| link.kind == "veth" && link.bridge == Some(bridge.index))
    };
    let others = ["docker", "br-", "virbr", "lxcbr", "lxdbr", "podman"];
    links
        .iter()
        .filter(|link| link.kind == "bridge")
        .filter(move |link| !others.iter().any(|other| link.name.starts_with(other)))
        .filter(move |bridge| has_cable(bridge))
}

pub fn hairpin(facts: &Facts) -> Verdict {
    let links = match &facts.links {
        Ok(links) => links,
        Err(why) => return Verdict::unread("the interfaces", why),
    };
    let mut ports = Vec::new();
    let mut bridges = 0;
    // A bridge that is promiscuous sends a packet back itself.
    for bridge in pod_bridges(links) {
        bridges += 1;
        let of_bridge = links
            .iter()
            .filter(|link| link.bridge == Some(bridge.index) && link.kind == "veth");
        ports.extend(
            of_bridge
                .filter(|port| port.hairpin == Some(false) && !bridge.promiscuous)
                .map(|port| port.name.as_str()),
        );
    }
    if bridges == 0 {
        return Verdict::ok("no bridge with pods");
    }
    if ports.is_empty() {
        return Verdict::ok("on, at every pod's port");
    }
    Verdict::warn(
        format!(
            "off at {}: a pod there may not reach itself through its Service",
            some(&ports)
        ),
        format!(
            "set hairpinMode in the bridge plugin's configuration; now: `bridge link set dev {} hairpin on`",
            ports[0]
        ),
    )
}
