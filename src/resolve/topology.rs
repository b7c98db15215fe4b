//! Topology: whether hints narrow a Service port to endpoints near this node.
//!
//! Only the hints of the slices count, and all or nothing: where one ready endpoint has none, or
//! none names this node or its zone, everybody serves (KEP-2433, KEP-3015, KEP-4444).

use std::collections::{BTreeMap, BTreeSet};

use super::merge::Merged;
use crate::model::{NodeInfo, RealServerKey};

/// How near an endpoint has to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Topology {
    #[default]
    Anywhere,
    /// Hinted for this zone.
    Zone(String),
    /// Hinted for this node.
    Node,
}

/// `topology.kubernetes.io/zone`, the label of a node that names its zone.
const ZONE: &str = "topology.kubernetes.io/zone";

/// Hints for nodes go before hints for zones.
pub(super) fn mode(node: &NodeInfo, endpoints: &BTreeMap<RealServerKey, Merged>) -> Topology {
    let narrows = |hints: fn(&Merged) -> &BTreeSet<Box<str>>, place: &str| {
        let mut ready = endpoints.values().filter(|e| e.ready).peekable();
        let mut here = false;
        let all = ready.peek().is_some()
            && ready.all(|endpoint| {
                here |= hints(endpoint).contains(place);
                !hints(endpoint).is_empty()
            });
        all && here
    };
    if narrows(|endpoint| &endpoint.for_nodes, &node.name) {
        return Topology::Node;
    }
    match node.labels.get(ZONE) {
        Some(zone) if !zone.is_empty() && narrows(|endpoint| &endpoint.for_zones, zone) => {
            Topology::Zone(zone.clone())
        }
        _ => Topology::Anywhere,
    }
}
