//! The names by which clients find a Service: what cluster DNS answers (Kubernetes DNS-Based Service
//! Discovery, schema 1.1.0), and the variables that the kubelet sets in pods of the same namespace
//! (`pkg/kubelet/envvars`).

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::ask::explain::{DnsRecord, Variable};
use crate::model::{EndpointSlice, HostPort, ObjectName, ServicePort, ServiceSpec, ServiceType};

/// The records of a Service, for a cluster's domain without the dot at its end.
pub fn dns(
    name: &ObjectName,
    spec: &ServiceSpec,
    slices: &[&EndpointSlice],
    domain: &str,
) -> Vec<DnsRecord> {
    let base = format!("{}.{}.svc.{domain}", name.name, name.namespace);
    if spec.service_type == ServiceType::ExternalName {
        let target = spec.external_name.as_deref();
        return target
            .map(|target| record(&base, "CNAME", target))
            .into_iter()
            .collect();
    }
    if !spec.cluster_ips.is_empty() {
        let hosts = spec.cluster_ips.iter().map(|addr| address(&base, *addr));
        let services = spec
            .ports
            .iter()
            .filter_map(|port| service(&base, port, port.port, &base));
        return hosts.chain(services).collect();
    }
    headless(&base, spec, slices)
}

/// A headless Service's name gives its ready endpoints, each of which has a name of its own.
fn headless(base: &str, spec: &ServiceSpec, slices: &[&EndpointSlice]) -> Vec<DnsRecord> {
    let mut records = BTreeSet::new();
    for slice in slices {
        for endpoint in slice.endpoints.iter().filter(|endpoint| endpoint.ready) {
            records.insert(address(base, endpoint.addr));
            let hostname = slice.hostnames.get(&endpoint.addr);
            let host = hostname.map(|hostname| format!("{hostname}.{base}"));
            records.extend(host.iter().map(|host| address(host, endpoint.addr)));
            for known in &slice.ports {
                let mut ports = spec.ports.iter();
                let is_it = |port: &&ServicePort| {
                    (&port.name, port.protocol) == (&known.name, known.protocol)
                };
                // The API leaves the name of an endpoint without a host name to the DNS server.
                let target = host
                    .clone()
                    .unwrap_or_else(|| format!("<one for {}>.{base}", endpoint.addr));
                let port = ports.find(is_it);
                records.extend(port.and_then(|port| service(base, port, known.port, &target)));
            }
        }
    }
    records.into_iter().collect()
}

fn address(name: &str, addr: IpAddr) -> DnsRecord {
    let kind = match addr {
        IpAddr::V4(_) => "A",
        IpAddr::V6(_) => "AAAA",
    };
    record(name, kind, &addr.to_string())
}

/// Ports without a name have no such record. Priority and weight are the server's to choose.
fn service(base: &str, port: &ServicePort, number: u16, target: &str) -> Option<DnsRecord> {
    let protocol = port.protocol.to_string().to_lowercase();
    (!port.name.is_empty()).then(|| {
        let name = format!("_{}._{protocol}.{base}", port.name);
        record(&name, "SRV", &format!("{number} {target}"))
    })
}

fn record(name: &str, kind: &str, value: &str) -> DnsRecord {
    DnsRecord {
        name: name.to_owned(),
        record: kind.to_owned(),
        value: value.to_owned(),
    }
}

/// The variables of a Service with a cluster IP, of which the first counts.
pub fn environment(name: &str, spec: &ServiceSpec) -> Vec<Variable> {
    let (Some(addr), Some(first)) = (spec.cluster_ips.first(), spec.ports.first()) else {
        return Vec::new();
    };
    if spec.service_type == ServiceType::ExternalName {
        return Vec::new();
    }
    let name = variable_name(name);
    let mut variables = vec![
        variable(format!("{name}_SERVICE_HOST"), addr),
        variable(format!("{name}_SERVICE_PORT"), &first.port),
    ];
    for port in spec.ports.iter().filter(|port| !port.name.is_empty()) {
        let port_name = variable_name(&port.name);
        variables.push(variable(
            format!("{name}_SERVICE_PORT_{port_name}"),
            &port.port,
        ));
    }
    // As Docker named the links between containers.
    let url = |port: &ServicePort| {
        let at = HostPort {
            addr: *addr,
            port: port.port,
        };
        format!("{}://{at}", port.protocol.to_string().to_lowercase())
    };
    variables.push(variable(format!("{name}_PORT"), &url(first)));
    for port in &spec.ports {
        let link = format!("{name}_PORT_{}_{}", port.port, port.protocol);
        variables.push(variable(link.clone(), &url(port)));
        let protocol = port.protocol.to_string().to_lowercase();
        variables.push(variable(format!("{link}_PROTO"), &protocol));
        variables.push(variable(format!("{link}_PORT"), &port.port));
        variables.push(variable(format!("{link}_ADDR"), addr));
    }
    variables
}

fn variable(name: String, value: &dyn ToString) -> Variable {
    Variable {
        name,
        value: value.to_string(),
    }
}

fn variable_name(text: &str) -> String {
    text.replace('-', "_").to_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Endpoint, EndpointPort, Family, Protocol};

    fn port(name: &str, protocol: Protocol, port: u16) -> ServicePort {
        ServicePort {
            name: name.into(),
            protocol,
            port,
            node_port: 0,
        }
    }

    fn spec(cluster_ips: &str, ports: Vec<ServicePort>) -> ServiceSpec {
        ServiceSpec {
            cluster_ips: cluster_ips
                .split_whitespace()
                .map(|a| a.parse().unwrap())
                .collect(),
            ports,
            ..ServiceSpec::default()
        }
    }

    fn lines(records: Vec<DnsRecord>) -> Vec<String> {
        let line = |r: DnsRecord| format!("{} {} {}", r.name, r.record, r.value);
        records.into_iter().map(line).collect()
    }

    /// The example of <https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables>.
    #[test]
    fn the_variables_of_the_documentation() {
        let spec = spec("10.0.0.11", vec![port("", Protocol::Tcp, 6379)]);
        let told: Vec<String> = environment("redis-primary", &spec)
            .iter()
            .map(|v| format!("{}={}", v.name, v.value))
            .collect();
        assert_eq!(
            told,
            [
                "REDIS_PRIMARY_SERVICE_HOST=10.0.0.11",
                "REDIS_PRIMARY_SERVICE_PORT=6379",
                "REDIS_PRIMARY_PORT=tcp://10.0.0.11:6379",
                "REDIS_PRIMARY_PORT_6379_TCP=tcp://10.0.0.11:6379",
                "REDIS_PRIMARY_PORT_6379_TCP_PROTO=tcp",
                "REDIS_PRIMARY_PORT_6379_TCP_PORT=6379",
                "REDIS_PRIMARY_PORT_6379_TCP_ADDR=10.0.0.11",
            ]
        );
    }

    /// From the table of upstream's `TestFromServices`: two ports with names, and IPv6.
    #[test]
    fn named_ports_and_brackets() {
        let ports = vec![
            port("p", Protocol::Tcp, 8083),
            port("q-r", Protocol::Udp, 8084),
        ];
        let told: Vec<String> = environment("super-ipv6", &spec("2001:db8::1 10.0.0.1", ports))
            .iter()
            .map(|v| format!("{}={}", v.name, v.value))
            .collect();
        assert_eq!(told[0], "SUPER_IPV6_SERVICE_HOST=2001:db8::1");
        assert_eq!(
            told[2..4],
            [
                "SUPER_IPV6_SERVICE_PORT_P=8083",
                "SUPER_IPV6_SERVICE_PORT_Q_R=8084"
            ]
        );
        assert_eq!(told[4], "SUPER_IPV6_PORT=tcp://[2001:db8::1]:8083");
        assert_eq!(told[9], "SUPER_IPV6_PORT_8084_UDP=udp://[2001:db8::1]:8084");
        assert!(environment("headless", &spec("", vec![port("p", Protocol::Tcp, 1)])).is_empty());
    }

    #[test]
    fn a_cluster_ip_has_addresses_and_a_record_for_each_named_port() {
        let ports = vec![port("http", Protocol::Tcp, 80), port("", Protocol::Udp, 53)];
        let spec = spec("10.96.0.10 fd00:96::10", ports);
        let name = ObjectName::new("shop", "web");
        assert_eq!(
            lines(dns(&name, &spec, &[], "cluster.local")),
            [
                "web.shop.svc.cluster.local A 10.96.0.10",
                "web.shop.svc.cluster.local AAAA fd00:96::10",
                "_http._tcp.web.shop.svc.cluster.local SRV 80 web.shop.svc.cluster.local",
            ]
        );
    }

    #[test]
    fn an_external_name_is_an_alias() {
        let spec = ServiceSpec {
            service_type: ServiceType::ExternalName,
            external_name: Some("db.example.com".into()),
            ..ServiceSpec::default()
        };
        let name = ObjectName::new("shop", "db");
        assert_eq!(
            lines(dns(&name, &spec, &[], "c.test")),
            ["db.shop.svc.c.test CNAME db.example.com"]
        );
    }

    #[test]
    fn a_headless_service_names_its_ready_endpoints() {
        let endpoint = |addr: &str, ready| Endpoint {
            addr: addr.parse().unwrap(),
            ready,
            serving: ready,
            terminating: false,
            node_name: None,
            zone: None,
            for_zones: Vec::new(),
            for_nodes: Vec::new(),
        };
        let slice = EndpointSlice {
            service: ObjectName::new("shop", "db"),
            address_type: Family::V4,
            ports: vec![EndpointPort {
                name: "sql".into(),
                protocol: Protocol::Tcp,
                port: 5432,
            }],
            endpoints: vec![endpoint("10.1.0.1", true), endpoint("10.1.0.2", false)],
            hostnames: [("10.1.0.1".parse().unwrap(), "db-0".into())].into(),
            weight: None,
            triggered: None,
        };
        let name = ObjectName::new("shop", "db");
        assert_eq!(
            lines(dns(
                &name,
                &spec("", vec![port("sql", Protocol::Tcp, 1)]),
                &[&slice],
                "x"
            )),
            [
                "_sql._tcp.db.shop.svc.x SRV 5432 db-0.db.shop.svc.x",
                "db-0.db.shop.svc.x A 10.1.0.1",
                "db.shop.svc.x A 10.1.0.1",
            ]
        );
    }
}
