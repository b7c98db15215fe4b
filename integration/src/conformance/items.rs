//! What a Service means, item by item, and the stories that prove each. An item without a story is one
//! that no packet has proved.

use super::report::FULL;

/// One item.
pub struct Item {
    pub subject: &'static str,
    pub must: &'static str,
    pub stories: &'static [&'static str],
}

const fn item(subject: &'static str, must: &'static str, stories: &'static [&'static str]) -> Item {
    Item {
        subject,
        must,
        stories,
    }
}

/// All items.
pub const ITEMS: &[Item] = &[
    item(
        "Objects",
        "Services of another proxy and headless ones are left alone, also when the label comes and goes",
        &["skipped"],
    ),
    item(
        "Objects",
        "ExternalName Services are left alone, also on a change of type",
        &["type-changes"],
    ),
    item(
        "Objects",
        "a Service of one family has no address in the other",
        &["family-changes"],
    ),
    item(
        "Objects",
        "a port is its name and its protocol; endpoints are found by them and not by number",
        &["multi-port", "udp-sctp"],
    ),
    item("Endpoints", "they come and go", &["endpoints"]),
    item(
        "Endpoints",
        "several slices are one list, without doubles",
        &["health-check"],
    ),
    item(
        "Endpoints",
        "terminating ones serve while none of their set is ready, each set by itself",
        &[FULL],
    ),
    item(
        "Endpoints",
        "hints for zones and nodes, all or nothing, and a node's label that changes",
        &["topology"],
    ),
    item("Endpoints", "on the network of a node", &[FULL]),
    item(
        "Policies",
        "internalTrafficPolicy Local: the node's own endpoints or silence",
        &["internal-local", FULL],
    ),
    item(
        "Policies",
        "externalTrafficPolicy Local: the node's own endpoints with the client's address kept, or silence; \
         all endpoints for the node and its pods",
        &["external-local", FULL],
    ),
    item(
        "Policies",
        "no endpoint anywhere: refused, TCP by a reset, others by ICMP",
        &[FULL],
    ),
    item("Addresses", "cluster IPs", &["cluster-ip", FULL]),
    item(
        "Addresses",
        "NodePorts on the addresses that are chosen, as they come and go, and on no other",
        &[
            "node-port",
            "addresses-chosen",
            "addresses-followed",
            "addresses-never",
        ],
    ),
    item("Addresses", "load balancer IPs", &["external-ips", FULL]),
    item(
        "Addresses",
        "load balancer IPs in ipMode Proxy are left alone",
        &["ip-mode"],
    ),
    item(
        "Addresses",
        "external IPs within the allow-list, never those of the node, its gateway or the API server",
        &["external-ips", "claims-refused"],
    ),
    item(
        "Addresses",
        "one claimed by two has one winner",
        &["foreign-claim"],
    ),
    item(
        "Addresses",
        "a daemon of the node does not answer on a VIP",
        &["host-daemon"],
    ),
    item(
        "LoadBalancer",
        "source ranges, for pods and nodes too, families apart",
        &["source-ranges"],
    ),
    item(
        "LoadBalancer",
        "health check ports: who has endpoints, as kube-proxy tells it",
        &["health-check", "health-check-port"],
    ),
    item(
        "Affinity",
        "sticks, moves on when its endpoint goes, ends when switched off",
        &["affinity"],
    ),
    item(
        "Masquerade",
        "the whole table of policies, destinations and clients",
        &[FULL],
    ),
    item(
        "Masquerade",
        "a pod that reaches itself",
        &["hairpin", FULL],
    ),
    item(
        "Changes",
        "a pod that ends keeps its connections, and takes no new ones; UDP moves on",
        &["rolling-update"],
    ),
    item(
        "Changes",
        "a restart of the agent or of the API server disturbs nobody",
        &["restart", "api-outage"],
    ),
    item("Changes", "what others delete comes back", &["repair"]),
    item(
        "Changes",
        "cleanup removes what is ours and nothing else",
        &["cleanup"],
    ),
    item(
        "Neighbours",
        "a network plugin's rules before ours, the node's firewall, reverse path filters",
        &["plugin-first", "firewall", "reverse-path"],
    ),
    item(
        "ICMP",
        "a smaller MTU is learnt through a VIP, on either side; datagrams in pieces arrive",
        &["path-mtu", "fragments"],
    ),
    item(
        "Operators",
        "health, metrics, log, Events",
        &["health", "events"],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios::ALL;

    #[test]
    fn every_story_that_is_named_is_there() {
        for item in ITEMS {
            for story in item.stories {
                let known = ALL.iter().any(|known| known.name == *story);
                assert!(known, "{}: {story}", item.must);
            }
        }
    }
}
