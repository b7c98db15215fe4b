//! EndpointSlices, and Endpoints objects in the same shape.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::SystemTime;

use jiff::Timestamp;

use super::problem::Problems;
use super::{Converted, object_name};
use crate::cluster::objects;
use crate::model::{
    Endpoint, EndpointPort, EndpointSlice, Family, MAX_WEIGHT, ObjectName, SliceName,
};

/// A slice; `None` for one that belongs to no Service or holds host names (FQDN).
pub fn endpoint_slice(
    object: &objects::EndpointSlice,
) -> Converted<Option<(SliceName, EndpointSlice)>> {
    let name = object_name(object);
    let mut problems = Problems::new(format!("EndpointSlice {name}"));
    let service = object
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(objects::SERVICE_NAME_LABEL))
        .filter(|service| !service.is_empty());
    let Some(service) = service else {
        return problems.with(None);
    };
    let address_type = match object.address_type.as_deref() {
        Some("IPv4") => Family::V4,
        Some("IPv6") => Family::V6,
        Some("FQDN") => return problems.with(None),
        other => {
            let value = other.unwrap_or_default();
            problems.refuse("addressType", value, "IPv4, IPv6 or FQDN");
            return problems.with(None);
        }
    };
    let mut endpoints = Vec::with_capacity(object.endpoints.len());
    let mut hostnames = BTreeMap::new();
    for (i, entry) in object.endpoints.iter().enumerate() {
        let field = || format!("endpoints[{i}].addresses[0]");
        // The API allows up to 100 addresses and gives a meaning to the first one only.
        let Some(text) = entry.addresses.first() else {
            continue;
        };
        match problems.address_at(&field, text) {
            Some(addr) if Family::of(addr) == address_type => {
                endpoints.push(endpoint(addr, entry));
                let hostname = entry.hostname.clone().filter(|name| !name.is_empty());
                hostnames.extend(hostname.map(|name| (addr, name)));
            }
            Some(_) => problems.refuse(&field(), text, "an address of the slice's addressType"),
            None => {}
        }
    }
    let slice = EndpointSlice {
        service: ObjectName::new(&name.namespace, service),
        address_type,
        ports: ports("ports", &object.ports, PortNames::Required, &mut problems),
        endpoints,
        hostnames,
        weight: weight(object, &mut problems),
        triggered: triggered(object),
    };
    problems.with(Some((name, slice)))
}

/// An Endpoints object as slices: one for each subset and family. Their names hold a `#`, which
/// no object's name does, so they cannot meet a real slice.
pub fn endpoints(object: &objects::Endpoints) -> Converted<Vec<(SliceName, EndpointSlice)>> {
    let service = object_name(object);
    let mut problems = Problems::new(format!("Endpoints {service}"));
    let mut slices = Vec::new();
    for (i, subset) in object.subsets.iter().enumerate() {
        let field = format!("subsets[{i}]");
        let ports = ports(
            &format!("{field}.ports"),
            &subset.ports,
            PortNames::Optional,
            &mut problems,
        );
        let mut all = Vec::new();
        let mut hostnames = BTreeMap::new();
        for (list, addresses, ready) in [
            ("addresses", &subset.addresses, true),
            ("notReadyAddresses", &subset.not_ready_addresses, false),
        ] {
            for (j, address) in addresses.iter().enumerate() {
                let text = address.ip.as_deref().unwrap_or_default();
                let addr = problems.address_at(&|| format!("{field}.{list}[{j}].ip"), text);
                let hostname = address.hostname.clone().filter(|name| !name.is_empty());
                hostnames.extend(addr.zip(hostname));
                all.extend(addr.map(|addr| Endpoint {
                    addr,
                    ready,
                    serving: ready,
                    terminating: false,
                    node_name: address.node_name.clone(),
                    zone: None,
                    for_zones: Vec::new(),
                    for_nodes: Vec::new(),
                }));
            }
        }
        for family in Family::ALL {
            let endpoints: Vec<_> = all
                .iter()
                .filter(|endpoint| Family::of(endpoint.addr) == family)
                .cloned()
                .collect();
            if !endpoints.is_empty() {
                let name = format!("{}#{i}-{family}", service.name);
                let slice = EndpointSlice {
                    service: service.clone(),
                    address_type: family,
                    ports: ports.clone(),
                    endpoints,
                    hostnames: hostnames.clone(),
                    weight: None,
                    triggered: None,
                };
                slices.push((SliceName::new(&service.namespace, &name), slice));
            }
        }
    }
    problems.with(slices)
}

fn endpoint(addr: IpAddr, entry: &objects::Endpoint) -> Endpoint {
    let names = |list: &[objects::Named]| {
        list.iter()
            .filter_map(|named| named.name.clone())
            .collect::<Vec<_>>()
    };
    Endpoint {
        addr,
        ready: entry.conditions.ready.unwrap_or(true),
        serving: entry.conditions.serving.unwrap_or(true),
        terminating: entry.conditions.terminating.unwrap_or(false),
        node_name: entry.node_name.clone(),
        zone: entry.zone.clone(),
        for_zones: names(&entry.hints.for_zones),
        for_nodes: names(&entry.hints.for_nodes),
    }
}

fn weight(object: &objects::EndpointSlice, problems: &mut Problems) -> Option<u32> {
    let annotations = object.metadata.annotations.as_ref()?;
    let text = annotations.get(WEIGHT)?;
    let weight = text.trim().parse().ok();
    let weight = weight.filter(|weight| (1..=MAX_WEIGHT).contains(weight));
    if weight.is_none() {
        let field = format!("metadata.annotations[{WEIGHT}]");
        problems.refuse(&field, text, "a weight of 1 to 65535");
    }
    weight
}

/// When the change happened that the slice was last written for. One that does not parse is only a
/// measurement less.
fn triggered(object: &objects::EndpointSlice) -> Option<SystemTime> {
    let annotations = object.metadata.annotations.as_ref()?;
    let time: Timestamp = annotations.get(objects::TRIGGER_TIME)?.parse().ok()?;
    Some(time.into())
}

/// The annotation that gives a slice's endpoints their weight.
const WEIGHT: &str = "ipvs-agent.io/weight";

/// Whether a port without a name counts. In slices `name: ""` is the unnamed port and an absent
/// name means nothing; Endpoints objects leave the name of an unnamed port out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PortNames {
    Required,
    Optional,
}

fn ports(
    field: &str,
    entries: &[objects::EndpointPort],
    names: PortNames,
    problems: &mut Problems,
) -> Vec<EndpointPort> {
    let mut ports = Vec::with_capacity(entries.len());
    for (i, entry) in entries.iter().enumerate() {
        // A port without a number means "all ports", which a proxy cannot use.
        let number = entry.port.unwrap_or(0);
        if number == 0 || (entry.name.is_none() && names == PortNames::Required) {
            continue;
        }
        let protocol = entry.protocol.as_deref();
        let protocol = problems.protocol(&format!("{field}[{i}].protocol"), protocol);
        let port = problems.port(&format!("{field}[{i}].port"), number);
        if let (Some(protocol), Some(port)) = (protocol, port) {
            ports.push(EndpointPort {
                name: entry.name.clone().unwrap_or_default(),
                protocol,
                port,
            });
        }
    }
    ports
}
