//! Services.

use std::net::IpAddr;

use ipnet::IpNet;

use super::problem::Problems;
use super::{Converted, object_name};
use crate::cluster::objects;
use crate::model::{
    Family, ObjectName, ServicePort, ServiceSpec, ServiceType, TrafficDistribution, TrafficPolicy,
};

/// Affinity timeout of the API if none is given, and its greatest value: three hours, one day.
const DEFAULT_AFFINITY_SECONDS: u32 = 10_800;
const MAX_AFFINITY_SECONDS: u32 = 86_400;

/// A Service, whatever its type: `resolve` skips those that a proxy has nothing to do for.
pub fn service(object: &objects::Service) -> Converted<(ObjectName, ServiceSpec)> {
    let name = object_name(object);
    let mut problems = Problems::new(format!("Service {name}"));
    let meta = &object.metadata;
    let spec = &object.spec;
    let mut load_balancer_ips = load_balancer_ips(object, &mut problems);
    let load_balancer_source_ranges = source_ranges(spec, &mut load_balancer_ips, &mut problems);
    let value = ServiceSpec {
        created_seconds: meta
            .creation_timestamp
            .as_ref()
            .map_or(0, |time| time.0.as_second()),
        uid: meta.uid.as_deref().unwrap_or_default().into(),
        service_type: service_type(spec.service_type.as_deref(), &mut problems),
        cluster_ips: cluster_ips(spec, &mut problems),
        external_ips: external_ips(spec, &mut problems),
        load_balancer_ips,
        load_balancer_source_ranges,
        ports: ports(&spec.ports, &mut problems),
        affinity_timeout_seconds: affinity(spec, &mut problems),
        internal_traffic_policy: policy(
            "spec.internalTrafficPolicy",
            spec.internal_traffic_policy.as_deref(),
            &mut problems,
        ),
        external_traffic_policy: policy(
            "spec.externalTrafficPolicy",
            spec.external_traffic_policy.as_deref(),
            &mut problems,
        ),
        health_check_node_port: problems
            .node_port("spec.healthCheckNodePort", spec.health_check_node_port),
        other_proxy: meta
            .labels
            .as_ref()
            .and_then(|labels| labels.get(objects::PROXY_NAME_LABEL))
            .map(|proxy| proxy.as_str().into()),
        has_selector: spec.has_selector,
        // What it does not know it need not judge: the hints alone decide.
        traffic_distribution: match spec.traffic_distribution.as_deref() {
            Some("PreferClose" | "PreferSameZone") => Some(TrafficDistribution::SameZone),
            Some("PreferSameNode") => Some(TrafficDistribution::SameNode),
            _ => None,
        },
        external_name: spec.external_name.clone().filter(|name| !name.is_empty()),
        annotations: meta
            .annotations
            .iter()
            .flatten()
            .map(|(key, value)| (key.as_str().into(), value.as_str().into()))
            .collect(),
    };
    problems.with((name, value))
}

fn service_type(text: Option<&str>, problems: &mut Problems) -> ServiceType {
    match text {
        None | Some("" | "ClusterIP") => ServiceType::ClusterIp,
        Some("NodePort") => ServiceType::NodePort,
        Some("LoadBalancer") => ServiceType::LoadBalancer,
        Some("ExternalName") => ServiceType::ExternalName,
        Some(other) => {
            let wanted = "ClusterIP, NodePort, LoadBalancer or ExternalName; read as ClusterIP";
            problems.refuse("spec.type", other, wanted);
            ServiceType::ClusterIp
        }
    }
}

fn policy(field: &str, text: Option<&str>, problems: &mut Problems) -> TrafficPolicy {
    match text {
        None | Some("" | "Cluster") => TrafficPolicy::Cluster,
        Some("Local") => TrafficPolicy::Local,
        Some(other) => {
            problems.refuse(field, other, "Cluster or Local; read as Cluster");
            TrafficPolicy::Cluster
        }
    }
}

/// `spec.clusterIPs`, or `spec.clusterIP` where that is all there is. `None` and empty text stand
/// for no address.
fn cluster_ips(spec: &objects::ServiceSpec, problems: &mut Problems) -> Vec<IpAddr> {
    let mut ips: Vec<IpAddr> = Vec::new();
    let mut push = |field: &str, text: &str, ips: &mut Vec<IpAddr>| {
        if text.is_empty() || text == "None" {
            return;
        }
        let Some(ip) = problems.address(field, text) else {
            return;
        };
        if ips.iter().any(|other| Family::of(*other) == Family::of(ip)) {
            problems.refuse(field, text, "at most one address of each family");
        } else {
            ips.push(ip);
        }
    };
    if spec.cluster_ips.is_empty() {
        let text = spec.cluster_ip.as_deref().unwrap_or_default();
        push("spec.clusterIP", text, &mut ips);
    }
    for (i, text) in spec.cluster_ips.iter().enumerate() {
        push(&format!("spec.clusterIPs[{i}]"), text, &mut ips);
    }
    ips
}

fn external_ips(spec: &objects::ServiceSpec, problems: &mut Problems) -> Vec<IpAddr> {
    let mut ips = Vec::new();
    for (i, text) in spec.external_ips.iter().enumerate() {
        let ip = problems.address(&format!("spec.externalIPs[{i}]"), text);
        ips.extend(ip.filter(|ip| !ips.contains(ip)));
    }
    ips
}

/// Addresses whose traffic reaches the node unchanged. With `ipMode: Proxy` it must go through
/// the load balancer itself, and a host name is none of a node's business.
fn load_balancer_ips(object: &objects::Service, problems: &mut Problems) -> Vec<IpAddr> {
    let mut ips = Vec::new();
    for (i, ingress) in object.status.load_balancer.ingress.iter().enumerate() {
        let field = format!("status.loadBalancer.ingress[{i}]");
        match ingress.ip_mode.as_deref() {
            None | Some("" | "VIP") => {}
            Some("Proxy") => continue,
            Some(other) => {
                problems.refuse(&format!("{field}.ipMode"), other, "VIP or Proxy");
                continue;
            }
        }
        if let Some(text) = ingress.ip.as_deref().filter(|text| !text.is_empty()) {
            let ip = problems.address(&format!("{field}.ip"), text);
            ips.extend(ip.filter(|ip| !ips.contains(ip)));
        }
    }
    ips
}

/// Source ranges. A family without ranges is open to everybody, so a refused range must not be
/// what leaves it without: the load balancer addresses of that family are taken away instead.
fn source_ranges(
    spec: &objects::ServiceSpec,
    load_balancer_ips: &mut Vec<IpAddr>,
    problems: &mut Problems,
) -> Vec<IpNet> {
    let mut ranges: Vec<IpNet> = Vec::new();
    let mut refused = Vec::new();
    for (i, text) in spec.load_balancer_source_ranges.iter().enumerate() {
        let text = text.trim();
        match problems.cidr(&format!("spec.loadBalancerSourceRanges[{i}]"), text) {
            Some(range) => ranges.push(range),
            None if text.contains(':') => refused.push(Family::V6),
            None => refused.push(Family::V4),
        }
    }
    let open = |family: Family| !ranges.iter().any(|r| Family::of(r.addr()) == family);
    load_balancer_ips.retain(|ip| {
        let family = Family::of(*ip);
        let closed = refused.contains(&family) && open(family);
        if closed {
            problems.refuse(
                "status.loadBalancer.ingress",
                ip,
                "a source range of its family; without any it would be open to all",
            );
        }
        !closed
    });
    ranges
}

fn ports(entries: &[objects::ServicePort], problems: &mut Problems) -> Vec<ServicePort> {
    let mut ports = Vec::with_capacity(entries.len());
    for (i, entry) in entries.iter().enumerate() {
        let field = format!("spec.ports[{i}]");
        let protocol = problems.protocol(&format!("{field}.protocol"), entry.protocol.as_deref());
        let port = problems.port(&format!("{field}.port"), entry.port.unwrap_or(0));
        if let (Some(protocol), Some(port)) = (protocol, port) {
            ports.push(ServicePort {
                name: entry.name.clone().unwrap_or_default(),
                protocol,
                port,
                node_port: problems.node_port(&format!("{field}.nodePort"), entry.node_port),
            });
        }
    }
    ports
}

fn affinity(spec: &objects::ServiceSpec, problems: &mut Problems) -> Option<u32> {
    match spec.session_affinity.as_deref() {
        None | Some("" | "None") => return None,
        Some("ClientIP") => {}
        Some(other) => {
            problems.refuse("spec.sessionAffinity", other, "ClientIP or None");
            return None;
        }
    }
    let Some(seconds) = spec.session_affinity_config.client_ip.timeout_seconds else {
        return Some(DEFAULT_AFFINITY_SECONDS);
    };
    let timeout = u32::try_from(seconds)
        .ok()
        .filter(|seconds| (1..=MAX_AFFINITY_SECONDS).contains(seconds));
    if timeout.is_none() {
        problems.refuse(
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
            seconds,
            "1 to 86400 seconds; read as 10800",
        );
    }
    timeout.or(Some(DEFAULT_AFFINITY_SECONDS))
}
