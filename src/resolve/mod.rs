//! From one Service, its slices and the node to the virtual servers that should exist.
//!
//! Pure: the same view gives the same answer, with a reason for everything left out. What a
//! Service means is decided here and nowhere else; how a kernel is made to do it, in `dataplane`.

mod annotations;
pub mod desired;
pub mod endpoints;
mod health_check;
mod merge;
pub mod no_local;
pub mod node_addresses;
mod problems;
pub mod reserved;
mod topology;
mod vips;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::{
    EndpointSlice, Family, HealthCheck, HostPort, NodeInfo, ObjectName, Persistence, Protocol,
    Scheduler, ServicePort, ServicePortName, ServiceSpec, ServiceType, TrafficPolicy, Tuning,
    Unserved, VipKind, VipPort, VirtualServer,
};
pub use annotations::{KERNEL_SCHEDULERS, scheduler_wish};
pub use desired::{Change, DesiredState};
pub use endpoints::{ExclusionReason, Selection};
pub use node_addresses::NodePortAddresses;
pub use reserved::Reserved;
pub use topology::Topology;

/// Settings that decide what a Service means on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// For Services that ask for none.
    pub scheduler: Scheduler,
    /// Schedulers that this kernel has; empty if that could not be found out, which permits all.
    pub schedulers: BTreeSet<String>,
    /// Schedulers that this kernel turned out not to have.
    pub refused_schedulers: BTreeSet<String>,
    /// Schedulers that this dataplane can only come near to, with what it does instead.
    pub approximated: BTreeMap<&'static str, &'static str>,
    /// Whether real servers can have thresholds, slow starts and single packets.
    pub tunable: bool,
    /// `spec.externalIPs` outside these are refused (CVE-2020-8554). Empty: all are refused.
    pub external_ip_cidrs: Vec<IpNet>,
}

/// Everything that the meaning of one Service depends on.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    pub name: &'a ObjectName,
    pub spec: &'a ServiceSpec,
    pub slices: &'a [&'a EndpointSlice],
    pub node: &'a NodeInfo,
    /// Addresses of this node that NodePorts answer on.
    pub node_port_addresses: &'a BTreeSet<IpAddr>,
    /// Addresses that are no Service's to take.
    pub reserved: &'a Reserved,
    pub policy: &'a Policy,
}

/// The part of the desired state that one Service asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolved {
    pub virtual_servers: BTreeMap<VipPort, VirtualServer>,
    /// Set if the Service is none of this proxy's business.
    pub skipped: Option<SkipReason>,
    /// Endpoints that take no new connections, and why.
    pub excluded: Vec<Excluded>,
    /// Parts of the Service that were refused or replaced by a default; a person must fix them.
    pub findings: Vec<Finding>,
    /// What load balancers are told of this node.
    pub health_check: Option<HealthCheck>,
}

/// Why a whole Service has no virtual servers here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SkipReason {
    Headless,
    ExternalName,
    /// Labelled `service.kubernetes.io/service-proxy-name`.
    OtherProxy(Box<str>),
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Headless => f.write_str("headless: it has no cluster IP"),
            Self::ExternalName => f.write_str("of type ExternalName: it is a DNS alias"),
            Self::OtherProxy(name) => write!(f, "served by the proxy {name:?}"),
        }
    }
}

/// An endpoint that takes no new connections of a Service port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Excluded {
    /// Under which of the Service's traffic policies; `None`: whatever the policy.
    pub policy: Option<TrafficPolicy>,
    pub port: ServicePortName,
    pub endpoint: HostPort,
    pub reason: ExclusionReason,
}

/// A value that was not taken as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// `spec.externalIPs`, `metadata.annotations[…]`.
    pub field: String,
    pub value: String,
    /// What is done instead, and what to change.
    pub advice: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}: {}", self.field, self.value, self.advice)
    }
}

/// Says what one Service means on this node.
pub fn resolve(view: View<'_>) -> Resolved {
    let mut out = Resolved {
        skipped: skip_reason(view.spec),
        ..Resolved::default()
    };
    if out.skipped.is_some() {
        return out;
    }
    let wishes = annotations::read(view.spec, view.policy, &mut out.findings);
    let persistence = view
        .spec
        .affinity_timeout_seconds
        .map(|timeout_seconds| Persistence { timeout_seconds });
    let vips = vips::expand(view, &mut out.findings);
    out.health_check = health_check::of(view);

    for port in &view.spec.ports {
        let owner = ServicePortName {
            service: view.name.clone(),
            port: port.name.clone(),
            protocol: port.protocol,
        };
        for (family, addresses) in &vips {
            let selection = endpoints::select(view, *family, port, &wishes.weights);
            for (addr, number, kind) in addresses.of_port(port) {
                let vip = VipPort {
                    addr,
                    protocol: port.protocol,
                    port: number,
                };
                let policy = policy_of(view.spec, kind);
                out.virtual_servers
                    .entry(vip)
                    .or_insert_with(|| VirtualServer {
                        owner: owner.clone(),
                        kind,
                        scheduler: wishes.scheduler.clone(),
                        persistence,
                        tuning: Tuning {
                            one_packet: wishes.tuning.one_packet && port.protocol == Protocol::Udp,
                            ..wishes.tuning
                        },
                        policy,
                        real_servers: selection.of(policy).real_servers.clone(),
                        near: (kind.is_external() && policy == TrafficPolicy::Local)
                            .then(|| selection.cluster.real_servers.clone()),
                        unserved: if selection.any {
                            Unserved::Drop
                        } else {
                            Unserved::Refuse
                        },
                        health_check_node_port: out
                            .health_check
                            .as_ref()
                            .map_or(0, |check| check.port),
                        source_ranges: source_ranges(view.spec, kind, *family),
                    });
            }
            out.excluded.extend(excluded(&owner, selection, view.spec));
        }
    }
    out
}

/// The endpoints of every port of a Service in every family in which there are any, also of a
/// Service that `resolve` skips.
pub fn survey(view: View<'_>) -> Vec<(&ServicePort, Family, Selection)> {
    let wishes = annotations::read(view.spec, view.policy, &mut Vec::new());
    let ports = view.spec.ports.iter();
    ports
        .flat_map(|port| Family::ALL.map(|family| (port, family)))
        .map(|(port, family)| {
            let selection = endpoints::select(view, family, port, &wishes.weights);
            (port, family, selection)
        })
        .filter(|(_, _, found)| !found.cluster.real_servers.is_empty() || !found.refused.is_empty())
        .collect()
}

/// The traffic policy that holds at an address of this kind.
pub fn policy_of(spec: &ServiceSpec, kind: VipKind) -> TrafficPolicy {
    if kind.is_external() {
        spec.external_traffic_policy
    } else {
        spec.internal_traffic_policy
    }
}

/// Ranges limit the load balancer's addresses alone. A family of which none is given is not limited,
/// nor is one with a range that holds all of it.
fn source_ranges(spec: &ServiceSpec, kind: VipKind, family: Family) -> BTreeSet<IpNet> {
    if kind != VipKind::LoadBalancer {
        return BTreeSet::new();
    }
    let ranges = spec.load_balancer_source_ranges.iter();
    let ranges: BTreeSet<IpNet> = ranges
        .filter(|range| Family::of(range.addr()) == family)
        .map(IpNet::trunc)
        .collect();
    if ranges.iter().any(|range| range.prefix_len() == 0) {
        return BTreeSet::new();
    }
    ranges
}

/// The endpoints that one port's selection leaves out, for each policy that the Service has.
fn excluded<'a>(
    owner: &'a ServicePortName,
    selection: Selection,
    spec: &ServiceSpec,
) -> impl Iterator<Item = Excluded> + 'a {
    let policies: BTreeSet<TrafficPolicy> =
        [spec.internal_traffic_policy, spec.external_traffic_policy].into();
    let Selection {
        cluster,
        local,
        refused,
        ..
    } = selection;
    [
        (Some(TrafficPolicy::Cluster), cluster.excluded),
        (Some(TrafficPolicy::Local), local.excluded),
        (None, refused),
    ]
    .into_iter()
    .filter(move |(policy, _)| policy.is_none_or(|policy| policies.contains(&policy)))
    .flat_map(|(policy, endpoints)| endpoints.into_iter().map(move |entry| (policy, entry)))
    .map(|(policy, (endpoint, reason))| Excluded {
        port: owner.clone(),
        policy,
        endpoint,
        reason,
    })
}

fn skip_reason(spec: &ServiceSpec) -> Option<SkipReason> {
    if let Some(proxy) = &spec.other_proxy {
        return Some(SkipReason::OtherProxy(proxy.clone()));
    }
    if spec.service_type == ServiceType::ExternalName {
        return Some(SkipReason::ExternalName);
    }
    spec.cluster_ips.is_empty().then_some(SkipReason::Headless)
}

#[cfg(test)]
mod tests;
