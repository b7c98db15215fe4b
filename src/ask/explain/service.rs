//! `GET /v1/explain/service/NAMESPACE/NAME?cluster-domain=…`

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::ask::table::{EndpointState, Family, Protocol};

/// One Service as this node reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedService {
    pub node: String,
    /// By what the node serves: `ipvs` or `iptables`.
    pub dataplane: String,
    pub namespace: String,
    pub name: String,
    /// `spec.type`.
    pub service_type: String,
    /// Why this node serves none of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// `spec.selector` chooses the endpoints; without it somebody else writes them.
    pub has_selector: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_name: Option<String>,
    pub ports: Vec<ExplainedPort>,
    /// Each address with each port at which the Service is to answer.
    pub addresses: Vec<ExplainedAddress>,
    /// What the Service's annotation asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler_asked: Option<String>,
    /// Absent where nothing is balanced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<String>,
    /// What this node does in place of that scheduler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler_instead: Option<String>,
    /// Seconds for which a client stays with its endpoint (`sessionAffinity: ClientIP`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity_seconds: Option<u32>,
    /// `spec.loadBalancerSourceRanges`; empty: there is no such limit.
    pub source_ranges: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check_node_port: Option<u16>,
    /// `spec.trafficDistribution`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_distribution: Option<String>,
    /// By which hints the Cluster set is narrowed here, for each port and family where it is.
    pub topology: Vec<String>,
    /// Which clients are led to which set of endpoints.
    pub leading: Vec<Leading>,
    pub endpoints: Vec<ExplainedEndpoint>,
    /// What a person must fix.
    pub problems: Vec<ExplainedProblem>,
    /// What cluster DNS answers, by its specification (Kubernetes DNS-Based Service Discovery 1.1.0).
    pub dns: Vec<DnsRecord>,
    /// What the kubelet puts into the environment of pods of the Service's namespace.
    pub environment: Vec<Variable>,
    /// What else is worth knowing.
    pub notes: Vec<String>,
}

/// One entry of `spec.ports`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedPort {
    /// Empty for a single unnamed port.
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_port: Option<u16>,
}

/// An address and a port of the Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedAddress {
    pub address: IpAddr,
    pub port: u16,
    pub protocol: Protocol,
    pub port_name: String,
    /// `ClusterIP`, `ExternalIP`, `LoadBalancer` or `NodePort`.
    pub kind: String,
    /// `Cluster` or `Local`.
    pub policy: String,
    /// Whether new clients from elsewhere are led to an endpoint.
    pub served: bool,
    /// Why not, or what else is to be known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Some clients, and the endpoints that are there for them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Leading {
    pub clients: String,
    /// `Cluster` or `Local`.
    pub set: String,
}

/// An endpoint of a Service port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedEndpoint {
    pub address: IpAddr,
    pub port: u16,
    pub port_name: String,
    pub protocol: Protocol,
    pub family: Family,
    pub state: EndpointState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// On this node.
    pub local: bool,
    /// Its share of new connections, relative to the others'.
    pub weight: u32,
    /// By set: nothing for one that takes new connections, or the reason why it takes none.
    pub sets: BTreeMap<String, Option<String>>,
}

/// Something that a person must fix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedProblem {
    /// The reason of the Event that tells of it.
    pub reason: String,
    pub text: String,
}

/// A DNS record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DnsRecord {
    pub name: String,
    /// `A`, `AAAA`, `SRV` or `CNAME`.
    pub record: String,
    pub value: String,
}

/// An environment variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    pub name: String,
    pub value: String,
}
