//! Numbers in comments are those of `docs/checklist.md`: what upstream's own unit tests ask.

use super::*;
use crate::model::{
    Endpoint, EndpointPort, EndpointSlice, NodeInfo, ObjectName, Protocol, Scheduler, ServicePort,
    ServiceSpec,
};
use crate::resolve::{Policy, Reserved, resolve};

fn port(name: &str) -> ServicePort {
    ServicePort {
        name: name.into(),
        protocol: Protocol::Tcp,
        port: 80,
        node_port: 30_080,
    }
}

/// A load balancer with two ports, IPv4 and IPv6, that keeps to local endpoints.
fn spec() -> ServiceSpec {
    ServiceSpec {
        service_type: ServiceType::LoadBalancer,
        external_traffic_policy: TrafficPolicy::Local,
        health_check_node_port: 30_100,
        cluster_ips: ["10.96.0.10", "fd00:96::10"]
            .map(|ip| ip.parse().unwrap())
            .to_vec(),
        ports: vec![port("http"), port("admin")],
        ..ServiceSpec::default()
    }
}

fn ready(addr: &str, node: &str) -> Endpoint {
    Endpoint {
        addr: addr.parse().unwrap(),
        ready: true,
        serving: true,
        terminating: false,
        node_name: Some(node.into()),
        zone: None,
        for_zones: Vec::new(),
        for_nodes: Vec::new(),
    }
}

fn slice(port: &str, number: u16, endpoints: &[Endpoint]) -> EndpointSlice {
    EndpointSlice {
        hostnames: BTreeMap::new(),
        triggered: None,
        weight: None,
        service: ObjectName::new("ns", "web"),
        address_type: endpoints.first().map_or(Family::V4, |e| Family::of(e.addr)),
        ports: vec![EndpointPort {
            name: port.into(),
            protocol: Protocol::Tcp,
            port: number,
        }],
        endpoints: endpoints.to_vec(),
    }
}

/// What a whole resolution of the Service on node n1 gives.
fn check(spec: &ServiceSpec, slices: &[EndpointSlice]) -> Option<HealthCheck> {
    let node = NodeInfo {
        name: "n1".to_owned(),
        ..NodeInfo::default()
    };
    let policy = Policy {
        scheduler: Scheduler::named("rr"),
        schedulers: BTreeSet::new(),
        refused_schedulers: BTreeSet::new(),
        approximated: BTreeMap::new(),
        tunable: true,
        external_ip_cidrs: Vec::new(),
    };
    let view = View {
        name: &ObjectName::new("ns", "web"),
        spec,
        slices: &slices.iter().collect::<Vec<_>>(),
        node: &node,
        reserved: &Reserved::default(),
        node_port_addresses: &BTreeSet::new(),
        policy: &policy,
    };
    resolve(view).health_check
}

/// The counts of IPv4 and IPv6.
fn counts(slices: &[EndpointSlice]) -> (usize, usize) {
    let check = check(&spec(), slices).unwrap();
    assert_eq!(check.port, 30_100);
    (check.count(Family::V4), check.count(Family::V6))
}

/// 34, 35: who asks for one and who does not.
#[test]
fn only_load_balancers_that_keep_to_local_endpoints_have_one() {
    assert!(check(&spec(), &[]).is_some());
    let others: [fn(&mut ServiceSpec); 6] = [
        |spec| spec.service_type = ServiceType::NodePort,
        |spec| spec.service_type = ServiceType::ClusterIp,
        |spec| spec.external_traffic_policy = TrafficPolicy::Cluster,
        |spec| spec.health_check_node_port = 0,
        |spec| spec.cluster_ips.clear(),
        |spec| spec.other_proxy = Some("other".into()),
    ];
    for change in others {
        let mut spec = spec();
        change(&mut spec);
        assert_eq!(check(&spec, &[]), None, "{spec:?}");
    }
}

/// 37, 38.
#[test]
fn ready_endpoints_of_this_node_count() {
    assert_eq!(counts(&[]), (0, 0));
    let both = [ready("10.0.0.1", "n1"), ready("10.0.0.2", "n2")];
    assert_eq!(counts(&[slice("http", 8080, &both)]), (1, 0));
    let six = [ready("fd00::1", "n1"), ready("fd00::2", "n1")];
    let slices = [slice("http", 8080, &both), slice("http", 8080, &six)];
    assert_eq!(counts(&slices), (1, 2));
    let nowhere = Endpoint {
        node_name: None,
        ..ready("10.0.0.3", "")
    };
    assert_eq!(counts(&[slice("http", 8080, &[nowhere])]), (0, 0));
}

#[test]
fn those_that_terminate_or_are_not_ready_do_not_count() {
    let terminating = Endpoint {
        ready: false,
        terminating: true,
        ..ready("10.0.0.1", "n1")
    };
    let unready = Endpoint {
        ready: false,
        serving: false,
        ..ready("10.0.0.2", "n1")
    };
    assert_eq!(
        counts(&[slice("http", 8080, &[terminating, unready])]),
        (0, 0)
    );
}

#[test]
fn an_address_counts_once_over_all_ports_and_slices() {
    let one = [ready("10.0.0.1", "n1")];
    let two = [ready("10.0.0.1", "n1"), ready("10.0.0.2", "n1")];
    let slices = [
        slice("http", 8080, &one),
        slice("admin", 9090, &two),
        slice("http", 8080, &one),
    ];
    assert_eq!(counts(&slices), (2, 0));
}

#[test]
fn what_serves_no_port_of_the_service_does_not_count() {
    let one = [ready("10.0.0.1", "n1")];
    assert_eq!(counts(&[slice("metrics", 9100, &one)]), (0, 0));
    let loopback = [ready("127.0.0.1", "n1")];
    assert_eq!(counts(&[slice("http", 8080, &loopback)]), (0, 0));
}

#[test]
fn while_an_endpoint_moves_between_slices_the_better_copy_counts() {
    let elsewhere = Endpoint {
        node_name: None,
        ..ready("10.0.0.1", "")
    };
    let unready = Endpoint {
        ready: false,
        ..ready("10.0.0.1", "n1")
    };
    let slices = [
        slice("http", 8080, &[elsewhere]),
        slice("http", 8080, &[unready]),
    ];
    assert_eq!(counts(&slices), (1, 0));
}
