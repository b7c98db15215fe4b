//! From the API's objects to the model's values: pure, every default spelled out.
//!
//! Values are parsed strictly (an address with leading zeros is no address). What is refused is
//! reported as a [`Problem`] with the object and the field; the rest of the object goes on
//! working. Nothing here decides what a Service means: headless Services, ExternalName and those
//! of another proxy keep their mark, so that `resolve` can say why they are skipped.

mod endpoints;
mod problem;
mod service;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use kube::Resource;

use super::objects;
use crate::model::{Family, LEAVING_TAINT, Leaving, NodeInfo, ObjectName};

pub use endpoints::{endpoint_slice, endpoints};
pub use problem::Problem;
use problem::Problems;
pub use service::service;

/// A value, and what was left out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converted<T> {
    pub value: T,
    pub problems: Vec<Problem>,
}

/// Namespace and name of an object. Only manifests may lack the namespace: it is `default` then.
pub fn object_name<K: Resource>(object: &K) -> ObjectName {
    let meta = object.meta();
    ObjectName::new(
        meta.namespace.as_deref().unwrap_or("default"),
        meta.name.as_deref().unwrap_or_default(),
    )
}

/// The node that the agent runs on.
pub fn node(object: &objects::Node) -> Converted<NodeInfo> {
    let name = object.metadata.name.clone().unwrap_or_default();
    let mut problems = Problems::new(format!("Node {name}"));
    let mut pod_cidrs = Vec::new();
    if object.spec.pod_cidrs.is_empty() {
        let single = object.spec.pod_cidr.iter().filter(|text| !text.is_empty());
        pod_cidrs.extend(single.filter_map(|text| problems.cidr("spec.podCIDR", text)));
    }
    for (i, text) in object.spec.pod_cidrs.iter().enumerate() {
        pod_cidrs.extend(problems.cidr(&format!("spec.podCIDRs[{i}]"), text));
    }
    let mut addresses = BTreeSet::new();
    let (mut internal, mut external) = (BTreeMap::new(), BTreeMap::new());
    for (i, entry) in object.status.addresses.iter().enumerate() {
        let first = match entry.address_type.as_deref() {
            Some("InternalIP") => &mut internal,
            Some("ExternalIP") => &mut external,
            // Host names are listed here as well, under types of their own.
            _ => continue,
        };
        let Some(text) = entry.address.as_deref() else {
            continue;
        };
        if let Some(addr) = problems.address(&format!("status.addresses[{i}].address"), text) {
            addresses.insert(addr);
            first.entry(Family::of(addr)).or_insert(addr);
        }
    }
    let mut primary = external;
    primary.extend(internal);
    let value = NodeInfo {
        name,
        labels: object.metadata.labels.clone().unwrap_or_default(),
        pod_cidrs,
        addresses,
        primary,
        leaving: leaving(object),
    };
    problems.with(value)
}

/// Whether the node is about to go. Taints of any effect count, as they do for kube-proxy.
fn leaving(node: &objects::Node) -> Option<Leaving> {
    let mut taints = node.spec.taints.iter();
    if node.metadata.deletion_timestamp.is_some() {
        Some(Leaving::BeingDeleted)
    } else if taints.any(|taint| taint.key.as_deref() == Some(LEAVING_TAINT)) {
        Some(Leaving::Tainted)
    } else {
        None
    }
}

/// The CIDRs of one ServiceCIDR object.
pub fn service_cidr(object: &objects::ServiceCidr) -> Converted<BTreeSet<IpNet>> {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let mut problems = Problems::new(format!("ServiceCIDR {name}"));
    let mut cidrs = BTreeSet::new();
    for (i, text) in object.spec.cidrs.iter().enumerate() {
        cidrs.extend(problems.cidr(&format!("spec.cidrs[{i}]"), text));
    }
    problems.with(cidrs)
}

#[cfg(test)]
mod tests;
