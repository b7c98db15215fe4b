//! The endpoints of a Service, each with what becomes of it in the sets that clients are led to.

use crate::ask::explain::ExplainedEndpoint;
use crate::model::{
    Endpoint, EndpointSlice, Family, HostPort, ServicePort, TrafficPolicy, endpoints_of,
};
use crate::resolve::{ExclusionReason, Selection};

/// All endpoints of all ports.
pub fn endpoints(
    surveyed: &[(&ServicePort, Family, Selection)],
    slices: &[&EndpointSlice],
    sets: &[TrafficPolicy],
) -> Vec<ExplainedEndpoint> {
    let of_port = |(port, family, selection): &(&ServicePort, Family, Selection)| {
        endpoints_of(slices.iter().copied(), (&port.name, port.protocol), *family)
            .into_iter()
            .map(|(key, endpoint)| explain(key, port, *family, endpoint, selection, sets))
            .collect::<Vec<_>>()
    };
    surveyed.iter().flat_map(of_port).collect()
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
        state: endpoint.into(),
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
