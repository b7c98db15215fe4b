//! The node that the agent runs on, as far as the meaning of a Service depends on it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
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
    /// Why load balancers should send it nothing more.
    pub leaving: Option<Leaving>,
}

/// Why a node is about to go. It serves what still comes; `/healthz` turns load balancers away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaving {
    /// There is no Node of that name.
    Missing,
    /// `metadata.deletionTimestamp` is set.
    BeingDeleted,
    /// The autoscaler's taint is on it.
    Tainted,
}

/// The taint by which the cluster autoscaler announces that it will remove a node.
pub const LEAVING_TAINT: &str = "ToBeDeletedByClusterAutoscaler";

impl fmt::Display for Leaving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there is no Node of this name"),
            Self::BeingDeleted => f.write_str("the Node is being deleted"),
            Self::Tainted => write!(f, "the Node has the taint {LEAVING_TAINT}"),
        }
    }
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
