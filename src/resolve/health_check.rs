//! The health check of a Service: which port, and how many ready endpoints this node has.
//!
//! Endpoints that terminate do not count, whether they still serve or not: load balancers turn
//! away from the node while the traffic that is on its way is still served (KEP-1669).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::View;
use super::merge::is_permitted;
use crate::model::{Family, HealthCheck, HostPort, ServiceType, TrafficPolicy};

/// What the Service wants to be told of this node; nothing unless it is a load balancer that keeps
/// to local endpoints.
pub(super) fn of(view: View<'_>) -> Option<HealthCheck> {
    let spec = view.spec;
    let asked = spec.health_check_node_port != 0
        && spec.service_type == ServiceType::LoadBalancer
        && spec.external_traffic_policy == TrafficPolicy::Local;
    asked.then(|| HealthCheck {
        port: spec.health_check_node_port,
        local_endpoints: spec
            .cluster_ips
            .iter()
            .map(|addr| Family::of(*addr))
            .map(|family| (family, local_ready(view, family).len()))
            .collect(),
    })
}

/// Addresses of ready endpoints of one family on this node, over all ports of the Service.
fn local_ready(view: View<'_>, family: Family) -> BTreeSet<IpAddr> {
    #[derive(Default)]
    struct Copies {
        ready: bool,
        local: bool,
    }
    let slices = view.slices.iter().filter(|s| s.address_type == family);
    // While an endpoint moves between slices two copies of it exist.
    let mut merged: BTreeMap<HostPort, Copies> = BTreeMap::new();
    for slice in slices {
        let served = slice.ports.iter().filter(|port| {
            let mut ports = view.spec.ports.iter();
            ports.any(|p| (&p.name, p.protocol) == (&port.name, port.protocol))
        });
        for port in served {
            for endpoint in &slice.endpoints {
                if Family::of(endpoint.addr) != family || !is_permitted(endpoint) {
                    continue;
                }
                let key = HostPort {
                    addr: endpoint.addr,
                    port: port.port,
                };
                let copies = merged.entry(key).or_default();
                copies.ready |= endpoint.ready;
                copies.local |= endpoint.node_name.as_deref() == Some(view.node.name.as_str());
            }
        }
    }
    merged
        .into_iter()
        .filter(|(_, copies)| copies.ready && copies.local)
        .map(|(key, _)| key.addr)
        .collect()
}

#[cfg(test)]
mod tests;
