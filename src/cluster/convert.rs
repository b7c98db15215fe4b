//! API objects → model values. Pure; every default is spelled out here.
//!
//! A field that cannot be taken is reported with object, field and value, and left out; the rest
//! of the object goes on working. Addresses are parsed strictly (no leading zeros, CVE-2021-29923).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use kube::ResourceExt;

use super::objects;
use crate::model::{
    Endpoint, EndpointPort, EndpointSlice, Family, NodeInfo, ObjectName, Protocol, ServicePort,
    ServiceSpec, ServiceType, TrafficPolicy,
};

/// A field that could not be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `Service default/web`.
    pub object: String,
    /// `spec.externalIPs[1]`.
    pub field: String,
    pub value: String,
    pub wanted: &'static str,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            object,
            field,
            value,
            wanted,
        } = self;
        write!(f, "{object}: {field}: {value:?} is not {wanted}; left out")
    }
}

/// Collects the problems of one object.
struct Reader<'a> {
    object: String,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn refuse(&mut self, field: impl Into<String>, value: &dyn fmt::Display, wanted: &'static str) {
        let (object, field) = (self.object.clone(), field.into());
        self.problems.push(Problem {
            object,
            field,
            value: value.to_string(),
            wanted,
        });
    }

    fn list<T: FromStr>(&mut self, field: &str, texts: &[String], wanted: &'static str) -> Vec<T> {
        let mut values = Vec::with_capacity(texts.len());
        for (n, text) in texts.iter().enumerate() {
            match text.trim().parse() {
                Ok(value) => values.push(value),
                Err(_) => self.refuse(format!("{field}[{n}]"), &text, wanted),
            }
        }
        values
    }

    fn port(&mut self, field: String, number: i32) -> Option<u16> {
        match u16::try_from(number) {
            Ok(port) if port != 0 => Some(port),
            _ => {
                self.refuse(field, &number, "a port (1 to 65535)");
                None
            }
        }
    }

    fn protocol(&mut self, field: String, text: Option<&str>) -> Option<Protocol> {
        match text.unwrap_or("TCP").parse() {
            Ok(protocol) => Some(protocol),
            Err(_) => {
                self.refuse(field, &text.unwrap_or_default(), "TCP, UDP or SCTP");
                None
            }
        }
    }

    fn policy(&mut self, field: &str, text: Option<&str>) -> TrafficPolicy {
        match text {
            None | Some("Cluster") => TrafficPolicy::Cluster,
            Some("Local") => TrafficPolicy::Local,
            Some(other) => {
                self.refuse(field, &other, "Cluster or Local");
                TrafficPolicy::Cluster
            }
        }
    }
}

/// Namespace and name of an object.
pub fn object_name(object: &impl kube::Resource<DynamicType = ()>) -> ObjectName {
    let meta = object.meta();
    ObjectName::new(
        meta.namespace.as_deref().unwrap_or("default"),
        meta.name.as_deref().unwrap_or_default(),
    )
}

/// A Service.
pub fn service(object: &objects::Service, problems: &mut Vec<Problem>) -> ServiceSpec {
    let spec = &object.spec;
    let mut reader = Reader {
        object: format!("Service {}", object_name(object)),
        problems,
    };
    let service_type = match spec.service_type.as_deref() {
        None | Some("ClusterIP") => ServiceType::ClusterIp,
        Some("NodePort") => ServiceType::NodePort,
        Some("LoadBalancer") => ServiceType::LoadBalancer,
        Some("ExternalName") => ServiceType::ExternalName,
        Some(other) => {
            reader.refuse("spec.type", &other, "a Service type");
            ServiceType::ClusterIp
        }
    };
    let list = |texts: &Option<Vec<String>>| texts.clone().unwrap_or_default();
    // Older objects have clusterIP alone.
    let mut cluster_ips = list(&spec.cluster_ips);
    if cluster_ips.is_empty() {
        cluster_ips.extend(spec.cluster_ip.clone());
    }
    cluster_ips.retain(|text| !text.is_empty() && text != "None");
    let ingress = object
        .status
        .load_balancer
        .ingress
        .clone()
        .unwrap_or_default();
    // ipMode Proxy: traffic must pass the load balancer itself (KEP-1860).
    let ingress_ips: Vec<String> = ingress
        .into_iter()
        .filter(|ingress| ingress.ip_mode.as_deref().is_none_or(|mode| mode == "VIP"))
        .filter_map(|ingress| ingress.ip.filter(|ip| !ip.is_empty()))
        .collect();
    let affinity = spec.session_affinity.as_deref() == Some("ClientIP");
    let timeout = spec
        .session_affinity_config
        .as_ref()
        .and_then(|config| config.client_ip.as_ref()?.timeout_seconds)
        .unwrap_or(DEFAULT_AFFINITY_SECONDS);
    let annotations = object.annotations().iter();
    ServiceSpec {
        created_seconds: object
            .metadata
            .creation_timestamp
            .as_ref()
            .map_or(0, |time| time.0.as_second()),
        uid: object.metadata.uid.as_deref().unwrap_or_default().into(),
        service_type,
        cluster_ips: reader.list("spec.clusterIPs", &cluster_ips, "an IP address"),
        external_ips: reader.list(
            "spec.externalIPs",
            &list(&spec.external_ips),
            "an IP address",
        ),
        load_balancer_ips: reader.list(
            "status.loadBalancer.ingress",
            &ingress_ips,
            "an IP address",
        ),
        load_balancer_source_ranges: reader.list::<IpNet>(
            "spec.loadBalancerSourceRanges",
            &list(&spec.load_balancer_source_ranges),
            "a CIDR",
        ),
        ports: service_ports(spec.ports.as_deref().unwrap_or_default(), &mut reader),
        affinity_timeout_seconds: affinity.then(|| timeout.clamp(1, 86_400).unsigned_abs()),
        internal_traffic_policy: reader.policy(
            "spec.internalTrafficPolicy",
            spec.internal_traffic_policy.as_deref(),
        ),
        external_traffic_policy: reader.policy(
            "spec.externalTrafficPolicy",
            spec.external_traffic_policy.as_deref(),
        ),
        health_check_node_port: spec
            .health_check_node_port
            .and_then(|port| u16::try_from(port).ok())
            .unwrap_or(0),
        other_proxy: object
            .labels()
            .get(PROXY_NAME_LABEL)
            .map(|name| name.as_str().into()),
        annotations: annotations
            .map(|(k, v)| (k.as_str().into(), v.as_str().into()))
            .collect(),
    }
}

fn service_ports(
    fields: &[objects::ServicePortFields],
    reader: &mut Reader<'_>,
) -> Vec<ServicePort> {
    let mut ports = Vec::with_capacity(fields.len());
    for (n, field) in fields.iter().enumerate() {
        let at = |name: &str| format!("spec.ports[{n}].{name}");
        let Some(protocol) = reader.protocol(at("protocol"), field.protocol.as_deref()) else {
            continue;
        };
        let Some(port) = reader.port(at("port"), field.port) else {
            continue;
        };
        let node_port = match field.node_port {
            None | Some(0) => 0,
            Some(number) => reader.port(at("nodePort"), number).unwrap_or(0),
        };
        let name = field.name.as_deref().unwrap_or_default().into();
        ports.push(ServicePort {
            name,
            protocol,
            port,
            node_port,
        });
    }
    ports
}

/// An EndpointSlice; `None` for one that belongs to no Service or holds host names.
pub fn endpoint_slice(
    object: &objects::EndpointSlice,
    problems: &mut Vec<Problem>,
) -> Option<EndpointSlice> {
    let name = object_name(object);
    let service = object.labels().get(SERVICE_NAME_LABEL)?;
    let mut reader = Reader {
        object: format!("EndpointSlice {name}"),
        problems,
    };
    let address_type = match object.address_type.as_str() {
        "IPv4" => Family::V4,
        "IPv6" => Family::V6,
        "FQDN" => return None,
        other => {
            reader.refuse("addressType", &other, "IPv4 or IPv6");
            return None;
        }
    };
    let mut endpoints = Vec::new();
    for (n, field) in object.endpoints.iter().flatten().enumerate() {
        // A consumer must take the first address alone (API reference, EndpointSlice).
        let Some(text) = field.addresses.first() else {
            continue;
        };
        let Ok(addr) = text.parse::<IpAddr>() else {
            reader.refuse(
                format!("endpoints[{n}].addresses[0]"),
                text,
                "an IP address",
            );
            continue;
        };
        let ready = field.conditions.ready.unwrap_or(true);
        let hints = field.hints.clone().unwrap_or_default();
        let names = |hints: Option<Vec<objects::Hint>>| {
            hints
                .unwrap_or_default()
                .into_iter()
                .map(|hint| hint.name)
                .collect()
        };
        endpoints.push(Endpoint {
            addr,
            ready,
            serving: field.conditions.serving.unwrap_or(true),
            terminating: field.conditions.terminating.unwrap_or(false),
            node_name: field.node_name.clone(),
            zone: field.zone.clone(),
            for_zones: names(hints.for_zones),
            for_nodes: names(hints.for_nodes),
        });
    }
    Some(EndpointSlice {
        service: ObjectName {
            namespace: name.namespace,
            name: service.as_str().into(),
        },
        address_type,
        ports: endpoint_ports(
            "ports",
            object.ports.as_deref().unwrap_or_default(),
            &mut reader,
        ),
        endpoints,
    })
}

fn endpoint_ports(
    path: &str,
    fields: &[objects::EndpointPortFields],
    reader: &mut Reader<'_>,
) -> Vec<EndpointPort> {
    let mut ports = Vec::with_capacity(fields.len());
    for (n, field) in fields.iter().enumerate() {
        // Without a number the port means all of them, which a proxy cannot use.
        let Some(number) = field.port.filter(|number| *number != 0) else {
            continue;
        };
        let at = |name: &str| format!("{path}[{n}].{name}");
        let Some(protocol) = reader.protocol(at("protocol"), field.protocol.as_deref()) else {
            continue;
        };
        let Some(port) = reader.port(at("port"), number) else {
            continue;
        };
        ports.push(EndpointPort {
            name: field.name.clone().unwrap_or_default(),
            protocol,
            port,
        });
    }
    ports
}

/// An Endpoints object as slices: one for each subset and family, with the suffix of its name.
pub fn endpoints(
    object: &objects::Endpoints,
    name: &ObjectName,
    problems: &mut Vec<Problem>,
) -> Vec<(ObjectName, EndpointSlice)> {
    let mut reader = Reader {
        object: format!("Endpoints {name}"),
        problems,
    };
    let mut slices = Vec::new();
    for (n, subset) in object.subsets.iter().flatten().enumerate() {
        let path = format!("subsets[{n}].ports");
        let ports = endpoint_ports(
            &path,
            subset.ports.as_deref().unwrap_or_default(),
            &mut reader,
        );
        let ready = subset
            .addresses
            .iter()
            .flatten()
            .map(|address| (address, true));
        let unready = subset
            .not_ready_addresses
            .iter()
            .flatten()
            .map(|address| (address, false));
        let mut members: Vec<Endpoint> = Vec::new();
        for (address, ready) in ready.chain(unready) {
            match address.ip.parse() {
                Err(_) => reader.refuse(format!("subsets[{n}]"), &address.ip, "an IP address"),
                Ok(addr) => members.push(Endpoint {
                    addr,
                    ready,
                    serving: ready,
                    terminating: false,
                    node_name: address.node_name.clone(),
                    zone: None,
                    for_zones: Vec::new(),
                    for_nodes: Vec::new(),
                }),
            }
        }
        for family in Family::ALL {
            let (of_family, rest) = members
                .into_iter()
                .partition(|endpoint| Family::of(endpoint.addr) == family);
            members = rest;
            let slice = EndpointSlice {
                service: name.clone(),
                address_type: family,
                ports: ports.clone(),
                endpoints: of_family,
            };
            if !slice.endpoints.is_empty() {
                let slice_name = format!("{}-endpoints-{n}-{family}", name.name);
                slices.push((ObjectName::new(&name.namespace, &slice_name), slice));
            }
        }
    }
    slices
}

/// A Node.
pub fn node(object: &objects::Node, problems: &mut Vec<Problem>) -> NodeInfo {
    let name = object.metadata.name.clone().unwrap_or_default();
    let mut reader = Reader {
        object: format!("Node {name}"),
        problems,
    };
    let cidrs = match &object.spec.pod_cidrs {
        Some(cidrs) => cidrs.clone(),
        None => object.spec.pod_cidr.clone().into_iter().collect(),
    };
    let addresses: Vec<String> = object
        .status
        .addresses
        .iter()
        .flatten()
        .filter(|address| matches!(address.address_type.as_str(), "InternalIP" | "ExternalIP"))
        .map(|address| address.address.clone())
        .collect();
    NodeInfo {
        labels: object.labels().clone(),
        pod_cidrs: reader.list("spec.podCIDRs", &cidrs, "a CIDR"),
        addresses: reader
            .list("status.addresses", &addresses, "an IP address")
            .into_iter()
            .collect(),
        name,
    }
}

/// The ranges of a ServiceCIDR.
pub fn service_cidrs(object: &objects::ServiceCIDR, problems: &mut Vec<Problem>) -> Vec<IpNet> {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let mut reader = Reader {
        object: format!("ServiceCIDR {name}"),
        problems,
    };
    let cidrs = object.spec.cidrs.clone().unwrap_or_default();
    reader.list("spec.cidrs", &cidrs, "a CIDR")
}

/// Of a slice: the Service that it belongs to.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// Of a Service: another proxy serves it.
const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";
/// Three hours, the API's own default.
const DEFAULT_AFFINITY_SECONDS: i32 = 10_800;
