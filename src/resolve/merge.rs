//! The endpoints of a Service port, from all its slices: one entry for each address and port.

use std::collections::{BTreeMap, BTreeSet};

use super::View;
use super::annotations::Weights;
use crate::model::{Endpoint, Family, HostPort, RealServerKey, ServicePort};

/// What the slices say of one address and port, copies merged.
#[derive(Debug, Clone, Default)]
pub(super) struct Merged {
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    pub local: bool,
    pub weight: u32,
    pub for_zones: BTreeSet<Box<str>>,
    pub for_nodes: BTreeSet<Box<str>>,
}

impl Merged {
    /// Still answers, and has been told to end.
    pub fn serves_while_terminating(&self) -> bool {
        self.serving && self.terminating
    }
}

/// One entry for each address and port. While an endpoint moves between slices two copies exist;
/// the better condition and `local` win, so that it never disappears half-way.
pub(super) fn merge(
    view: View<'_>,
    family: Family,
    port: &ServicePort,
    weights: &Weights,
    refuse: &mut dyn FnMut(HostPort),
) -> BTreeMap<RealServerKey, Merged> {
    let mut merged: BTreeMap<RealServerKey, Merged> = BTreeMap::new();
    for slice in view
        .slices
        .iter()
        .filter(|slice| slice.address_type == family)
    {
        let numbers = slice
            .ports
            .iter()
            .filter(|p| p.name == port.name && p.protocol == port.protocol)
            .map(|p| p.port);
        for number in numbers {
            for endpoint in &slice.endpoints {
                let key = HostPort {
                    addr: endpoint.addr,
                    port: number,
                };
                if Family::of(endpoint.addr) != family {
                    continue;
                }
                if !is_permitted(endpoint) || view.reserved.is_cluster_ip(endpoint.addr) {
                    refuse(key);
                    continue;
                }
                let local = endpoint.node_name.as_deref() == Some(view.node.name.as_str());
                let entry = merged.entry(key).or_insert(Merged {
                    terminating: true,
                    ..Merged::default()
                });
                entry.ready |= endpoint.ready;
                entry.serving |= endpoint.serving;
                entry.terminating &= endpoint.terminating;
                entry.local |= local;
                let (node, zone) = (endpoint.node_name.as_deref(), endpoint.zone.as_deref());
                let weight = weights.of(endpoint.addr, node, zone, slice.weight);
                entry.weight = entry.weight.max(weight);
                entry.for_zones.extend(endpoint.for_zones.iter().cloned());
                entry.for_nodes.extend(endpoint.for_nodes.iter().cloned());
            }
        }
    }
    merged
}

/// A Service must not be a way to a node's own loopback or link (CVE-2021-25737).
pub(super) fn is_permitted(endpoint: &Endpoint) -> bool {
    let addr = endpoint.addr;
    let link_local = match addr {
        std::net::IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        std::net::IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(addr.is_loopback() || addr.is_multicast() || addr.is_unspecified() || link_local)
}
