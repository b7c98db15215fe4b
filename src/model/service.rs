//! Services and EndpointSlices as the sources hand them over: slim, parsed, defaults applied.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::SystemTime;

use ipnet::IpNet;

use super::addr::{Family, HostPort, Protocol};

/// Namespace and name of an object; prints as `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    pub namespace: Box<str>,
    pub name: Box<str>,
}

impl ObjectName {
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Name of an EndpointSlice object (not of the Service that it belongs to).
pub type SliceName = ObjectName;

/// Identity of one port of a Service: its name and protocol, never its number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServicePortName {
    pub service: ObjectName,
    /// Empty for a single unnamed port.
    pub port: Box<str>,
    pub protocol: Protocol,
}

impl fmt::Display for ServicePortName {
    /// `namespace/name:port`, without the colon for an unnamed port.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.service.fmt(f)?;
        if !self.port.is_empty() {
            write!(f, ":{}", self.port)?;
        }
        Ok(())
    }
}

/// `spec.type`. ExternalName and headless Services are skipped by `resolve`, with that reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServiceType {
    #[default]
    ClusterIp,
    NodePort,
    LoadBalancer,
    ExternalName,
}

/// `Cluster` or `Local`, for internal and for external traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum TrafficPolicy {
    #[default]
    Cluster,
    Local,
}

/// A Service as this agent reads it. Addresses are parsed strictly by the source; what does not
/// parse is reported there, with the object and the field, and left out here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceSpec {
    /// `metadata.creationTimestamp`, seconds since 1970 (0 if absent); the older of two Services
    /// that claim one address and port wins.
    pub created_seconds: i64,
    /// `metadata.uid`, the second key of that order.
    pub uid: Box<str>,
    pub service_type: ServiceType,
    /// `spec.clusterIPs`, at most one of a family; empty for headless Services.
    pub cluster_ips: Vec<IpAddr>,
    pub external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress[].ip` whose `ipMode` is absent or `VIP`.
    pub load_balancer_ips: Vec<IpAddr>,
    pub load_balancer_source_ranges: Vec<IpNet>,
    pub ports: Vec<ServicePort>,
    /// `sessionAffinity: ClientIP` with its timeout (default 10,800 s).
    pub affinity_timeout_seconds: Option<u32>,
    pub internal_traffic_policy: TrafficPolicy,
    pub external_traffic_policy: TrafficPolicy,
    pub health_check_node_port: u16,
    /// Carries the label `service.kubernetes.io/service-proxy-name`: another proxy serves it.
    pub other_proxy: Option<Box<str>>,
    /// `spec.selector` chooses the endpoints; without it somebody else writes them. Kept to explain the
    /// Service, as are the next two: nothing that is served depends on them.
    pub has_selector: bool,
    pub traffic_distribution: Option<TrafficDistribution>,
    /// `spec.externalName` of a Service of that type.
    pub external_name: Option<Box<str>>,
    /// Annotations under `ipvs-agent.io/` and `kube-router.io/`, the only ones kept.
    pub annotations: BTreeMap<Box<str>, Box<str>>,
}

/// `spec.trafficDistribution`: by what the control plane hints endpoints. Only the hints decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrafficDistribution {
    /// Also under its older name, `PreferClose`.
    SameZone,
    SameNode,
}

impl fmt::Display for TrafficDistribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SameZone => "PreferSameZone",
            Self::SameNode => "PreferSameNode",
        })
    }
}

impl fmt::Display for ServiceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
            Self::ExternalName => "ExternalName",
        })
    }
}

impl fmt::Display for TrafficPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cluster => "Cluster",
            Self::Local => "Local",
        })
    }
}

/// One entry of `spec.ports`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Empty for a single unnamed port.
    pub name: Box<str>,
    pub protocol: Protocol,
    /// 1 to 65,535.
    pub port: u16,
    /// 0: none.
    pub node_port: u16,
}

/// Family of the addresses in a slice; slices of host names (FQDN) never reach the model.
pub type AddressType = Family;

/// An EndpointSlice, or an Endpoints object in the same shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSlice {
    /// From the label `kubernetes.io/service-name`; slices without it are left out by the source.
    pub service: ObjectName,
    pub address_type: AddressType,
    pub ports: Vec<EndpointPort>,
    pub endpoints: Vec<Endpoint>,
    /// Of endpoints that have one: DNS knows them by it. Here and not at the endpoint, of which there are
    /// many, since few have one.
    pub hostnames: BTreeMap<IpAddr, Box<str>>,
    /// From the annotation `ipvs-agent.io/weight`: that of its endpoints.
    pub weight: Option<u32>,
    /// When that happened which the slice was last written for, by the clock of who wrote it
    /// (`endpoints.kubernetes.io/last-change-trigger-time`). It decides nothing about traffic.
    pub triggered: Option<SystemTime>,
}

impl EndpointSlice {
    /// Whether both mean the same, whenever they were written.
    pub fn says_the_same(&self, other: &Self) -> bool {
        let Self {
            service,
            address_type,
            ports,
            endpoints,
            hostnames,
            weight,
            triggered: _,
        } = self;
        *service == other.service
            && *address_type == other.address_type
            && *ports == other.ports
            && *endpoints == other.endpoints
            && *hostnames == other.hostnames
            && *weight == other.weight
    }
}

/// What slices of one Service say of the endpoints of its port. Of two copies the better counts, as it
/// does where endpoints are picked.
pub fn endpoints_of<'s>(
    slices: impl IntoIterator<Item = &'s EndpointSlice>,
    (port_name, protocol): (&str, Protocol),
    family: Family,
) -> BTreeMap<HostPort, &'s Endpoint> {
    let mut known: BTreeMap<HostPort, &Endpoint> = BTreeMap::new();
    let slices = slices.into_iter();
    for slice in slices.filter(|slice| slice.address_type == family) {
        let ports = slice.ports.iter();
        for port in ports.filter(|port| (&*port.name, port.protocol) == (port_name, protocol)) {
            for endpoint in &slice.endpoints {
                let key = HostPort {
                    addr: endpoint.addr,
                    port: port.port,
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

/// One entry of a slice's `ports`, those without a name or number left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointPort {
    pub name: Box<str>,
    pub protocol: Protocol,
    pub port: u16,
}

/// One endpoint, its conditions with their defaults (ready and serving if absent, not terminating).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `addresses[0]`.
    pub addr: IpAddr,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    pub node_name: Option<Box<str>>,
    pub zone: Option<Box<str>>,
    /// `hints.forZones[].name`.
    pub for_zones: Vec<Box<str>>,
    /// `hints.forNodes[].name`.
    pub for_nodes: Vec<Box<str>>,
}
