//! The API's objects as far as this agent reads them: slim `serde` types with `kube::Resource`.
//!
//! A full `EndpointSlice` of the generated API types costs about five times the memory of these,
//! most of it for metadata that nobody reads. Rules of this module:
//!
//! * every field may be absent or `null` (`endpoints: null` is what an empty slice looks like);
//! * numbers are `i64` and addresses are text: one odd value must not make a whole list fail to
//!   decode. `convert` judges the values and says what is wrong with them.

mod kinds;
mod meta;

use serde::Deserialize;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use meta::or_default;
pub(in crate::cluster) use meta::{
    HEADLESS_LABEL, PROXY_NAME_LABEL, SERVICE_NAME_LABEL, TRIGGER_TIME,
};

/// `v1` Service.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Service {
    #[serde(deserialize_with = "meta::slim")]
    pub metadata: ObjectMeta,
    #[serde(deserialize_with = "or_default")]
    pub spec: ServiceSpec,
    #[serde(deserialize_with = "or_default")]
    pub status: ServiceStatus,
}

/// `spec` of a Service.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceSpec {
    #[serde(rename = "type")]
    pub service_type: Option<Box<str>>,
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Option<Box<str>>,
    #[serde(rename = "clusterIPs", deserialize_with = "or_default")]
    pub cluster_ips: Vec<Box<str>>,
    #[serde(rename = "externalIPs", deserialize_with = "or_default")]
    pub external_ips: Vec<Box<str>>,
    #[serde(deserialize_with = "or_default")]
    pub load_balancer_source_ranges: Vec<Box<str>>,
    #[serde(deserialize_with = "or_default")]
    pub ports: Vec<ServicePort>,
    pub session_affinity: Option<Box<str>>,
    #[serde(deserialize_with = "or_default")]
    pub session_affinity_config: SessionAffinityConfig,
    pub internal_traffic_policy: Option<Box<str>>,
    pub external_traffic_policy: Option<Box<str>>,
    pub health_check_node_port: Option<i64>,
    pub external_name: Option<Box<str>>,
    pub traffic_distribution: Option<Box<str>>,
    /// Whether it has any key.
    #[serde(rename = "selector", deserialize_with = "meta::is_given")]
    pub has_selector: bool,
}

/// One entry of a Service's `spec.ports`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServicePort {
    pub name: Option<Box<str>>,
    pub protocol: Option<Box<str>>,
    pub port: Option<i64>,
    pub node_port: Option<i64>,
}

/// `spec.sessionAffinityConfig`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SessionAffinityConfig {
    #[serde(rename = "clientIP", deserialize_with = "or_default")]
    pub client_ip: ClientIpConfig,
}

/// `spec.sessionAffinityConfig.clientIP`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClientIpConfig {
    pub timeout_seconds: Option<i64>,
}

/// `status` of a Service.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceStatus {
    #[serde(deserialize_with = "or_default")]
    pub load_balancer: LoadBalancerStatus,
}

/// `status.loadBalancer`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct LoadBalancerStatus {
    #[serde(deserialize_with = "or_default")]
    pub ingress: Vec<LoadBalancerIngress>,
}

/// One entry of `status.loadBalancer.ingress`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LoadBalancerIngress {
    pub ip: Option<Box<str>>,
    pub ip_mode: Option<Box<str>>,
}

/// `discovery.k8s.io/v1` EndpointSlice.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EndpointSlice {
    #[serde(deserialize_with = "meta::slim")]
    pub metadata: ObjectMeta,
    pub address_type: Option<Box<str>>,
    #[serde(deserialize_with = "or_default")]
    pub ports: Vec<EndpointPort>,
    #[serde(deserialize_with = "or_default")]
    pub endpoints: Vec<Endpoint>,
}

/// One entry of `ports` of a slice or of an Endpoints subset.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct EndpointPort {
    pub name: Option<Box<str>>,
    pub protocol: Option<Box<str>>,
    pub port: Option<i64>,
}

/// One entry of a slice's `endpoints`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Endpoint {
    #[serde(deserialize_with = "or_default")]
    pub addresses: Vec<Box<str>>,
    #[serde(deserialize_with = "or_default")]
    pub conditions: EndpointConditions,
    pub node_name: Option<Box<str>>,
    pub hostname: Option<Box<str>>,
    pub zone: Option<Box<str>>,
    #[serde(deserialize_with = "or_default")]
    pub hints: EndpointHints,
}

/// `conditions` of an endpoint; absent means unknown.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub struct EndpointConditions {
    pub ready: Option<bool>,
    pub serving: Option<bool>,
    pub terminating: Option<bool>,
}

/// `hints` of an endpoint.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EndpointHints {
    #[serde(deserialize_with = "or_default")]
    pub for_zones: Vec<Named>,
    #[serde(deserialize_with = "or_default")]
    pub for_nodes: Vec<Named>,
}

/// An object with nothing but a `name`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Named {
    pub name: Option<Box<str>>,
}

/// `v1` Endpoints, which EndpointSlice replaced; read from manifests only.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Endpoints {
    #[serde(deserialize_with = "meta::slim")]
    pub metadata: ObjectMeta,
    #[serde(deserialize_with = "or_default")]
    pub subsets: Vec<EndpointSubset>,
}

/// One entry of `subsets`: every address serves every port.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EndpointSubset {
    #[serde(deserialize_with = "or_default")]
    pub addresses: Vec<EndpointAddress>,
    #[serde(deserialize_with = "or_default")]
    pub not_ready_addresses: Vec<EndpointAddress>,
    #[serde(deserialize_with = "or_default")]
    pub ports: Vec<EndpointPort>,
}

/// One address of a subset.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EndpointAddress {
    pub ip: Option<Box<str>>,
    pub hostname: Option<Box<str>>,
    pub node_name: Option<Box<str>>,
}

/// `v1` Node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Node {
    #[serde(deserialize_with = "meta::with_all_labels")]
    pub metadata: ObjectMeta,
    #[serde(deserialize_with = "or_default")]
    pub spec: NodeSpec,
    #[serde(deserialize_with = "or_default")]
    pub status: NodeStatus,
}

/// `spec` of a Node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct NodeSpec {
    #[serde(rename = "podCIDR")]
    pub pod_cidr: Option<Box<str>>,
    #[serde(rename = "podCIDRs", deserialize_with = "or_default")]
    pub pod_cidrs: Vec<Box<str>>,
    #[serde(deserialize_with = "or_default")]
    pub taints: Vec<Taint>,
}

/// One entry of a Node's `spec.taints`; its value and effect do not matter here.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Taint {
    pub key: Option<Box<str>>,
}

/// `status` of a Node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    #[serde(deserialize_with = "or_default")]
    pub addresses: Vec<NodeAddress>,
}

/// One entry of a Node's `status.addresses`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct NodeAddress {
    #[serde(rename = "type")]
    pub address_type: Option<Box<str>>,
    pub address: Option<Box<str>>,
}

/// `networking.k8s.io/v1` ServiceCIDR.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ServiceCidr {
    #[serde(deserialize_with = "meta::slim")]
    pub metadata: ObjectMeta,
    #[serde(deserialize_with = "or_default")]
    pub spec: ServiceCidrSpec,
}

/// `spec` of a ServiceCIDR.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ServiceCidrSpec {
    #[serde(deserialize_with = "or_default")]
    pub cidrs: Vec<Box<str>>,
}
