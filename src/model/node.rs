//! The node that the agent runs on, as far as the meaning of a Service depends on it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::addr::Family;

/// What Kubernetes says of this node. Sources fill it in part; absent data narrows no traffic.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeInfo {
    /// `metadata.name`; an endpoint is local when its `nodeName` equals it.
    pub name: String,
    /// `metadata.labels`, of which topology reads `topology.kubernetes.io/zone`.
    pub labels: BTreeMap<String, String>,
    /// `spec.podCIDRs`.
    pub pod_cidrs: Vec<IpNet>,
    /// `status.addresses` of type InternalIP and ExternalIP.
    pub addresses: BTreeSet<IpAddr>,
    /// Of these, each family's first InternalIP, or else its first ExternalIP.
    pub primary: BTreeMap<Family, IpAddr>,
}

/// What the kernel says of this node's place in the network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeNetwork {
    /// Addresses of its interfaces, each with the length of its prefix; without loopback and
    /// link-local ones and without those that other proxies keep on interfaces of their own.
    pub addresses: BTreeSet<IpNet>,
    /// Next hops of the default routes.
    pub gateways: BTreeSet<IpAddr>,
    /// The address that each family's default route sends from.
    pub sources: BTreeMap<Family, IpAddr>,
}
