//! The node that the agent runs on, as far as the meaning of a Service depends on it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

/// What is known of this node. Sources fill it in part; absent data narrows no traffic.
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
}
