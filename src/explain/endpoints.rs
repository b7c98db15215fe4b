//! The endpoints of a Service, each with what becomes of it in the sets that clients are led to.

use std::collections::BTreeMap;

use crate::ask::explain::ExplainedEndpoint;
use crate::ask::table::EndpointState;
use crate::model::{Endpoint, EndpointSlice, Family, HostPort, ServicePort, TrafficPolicy};
use crate::resolve::{ExclusionReason, Selection};

/// All endpoints of all ports.
pub fn endpoints(
    surveyed: &[(&ServicePort, Family, Selection)],
    slices: &[&EndpointSlice],
    sets: &[TrafficPolicy],
) -> Vec<ExplainedEndpoint> {
    let of_port = |(port, family, selection): &(&ServicePort, Family, Selection)| {
        let known = known(port, *family, slices);
        known
            .into_iter()
            .map(|(key, endpoint)| explain(key, port, *family, endpoint, selection, sets))
            .collect::<Vec<_>>()
    };
    surveyed.iter().flat_map(of_port).collect()
}

/// What the slices say of each. Of two copies the better counts, as it does in `resolve`.
fn known<'s>(
    port: &ServicePort,
    family: Family,
    slices: &[&'s EndpointSlice],
) -> BTreeMap<HostPort, &'s Endpoint> {
    let mut known: BTreeMap<HostPort, &Endpoint> = BTreeMap::new();
    for slice in slices.iter().filter(|slice| slice.address_type == family) {
        let ports = slice.ports.iter();
        for of_slice in ports.filter(|p| (&p.name, p.protocol) == (&port.name, port.protocol)) {
            for endpoint in &slice.endpoints {
                let key = HostPort {
                    addr: endpoint.addr,
                    port: of_slice.port,
                };
                let better = |other: &&Endpoint| {
                    (endpoint.ready, endpoint.serving) > (other.ready, other.serving)
                };
                if known.get(&key).is_none_or(better) {
                    known.insert(key, endpoint);
                }
            }
        }
    }
    known
}

fn explain(
    key: HostPort,
    port: &ServicePort,
    family: Family,
    endpoint: &Endpoint,
    selection: &Selection,
    sets: &[TrafficPolicy],
) -> ExplainedEndpoint {
    let real = selection.cluster.real_servers.get(&key);
    let weight = [&selection.cluster, &selection.local]
        .iter()
        .filter_map(|set| set.real_servers.get(&key))
        .map(|real| real.weight)
        .max();
    let text = |text: &Option<Box<str>>| text.as_ref().map(ToString::to_string);
    ExplainedEndpoint {
        address: key.addr,
        port: key.port,
        port_name: port.name.to_string(),
        protocol: port.protocol.into(),
        family: family.into(),
        state: state(endpoint),
        node: text(&endpoint.node_name),
        zone: text(&endpoint.zone),
        local: real.is_some_and(|real| real.local),
        weight: weight.unwrap_or(0),
        sets: sets
            .iter()
            .map(|set| (set.to_string(), why_not(key, selection, *set).map(reason)))
            .collect(),
    }
}

fn why_not(key: HostPort, selection: &Selection, set: TrafficPolicy) -> Option<ExclusionReason> {
    let excluded = &selection.of(set).excluded;
    let mut reasons = selection.refused.iter().chain(excluded);
    reasons
        .find(|(other, _)| *other == key)
        .map(|(_, reason)| *reason)
}

fn reason(reason: ExclusionReason) -> String {
    match reason {
        ExclusionReason::RefusedAddress => format!("refused: {reason}"),
        other => other.to_string(),
    }
}

fn state(endpoint: &Endpoint) -> EndpointState {
    if endpoint.ready {
        EndpointState::Ready
    } else if endpoint.terminating && endpoint.serving {
        EndpointState::Serving
    } else if endpoint.terminating {
        EndpointState::Terminating
    } else {
        EndpointState::NotReady
    }
}
