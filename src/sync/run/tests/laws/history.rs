//! What may happen to an agent, generated: few names, addresses and ports, so that things meet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::cluster::Event;
use crate::dataplane::ipvs::ServerKey;
use crate::dataplane::ipvs::testing::{Fault, LACKING};
use crate::model::{
    Endpoint, EndpointPort, EndpointSlice, Family, NodeInfo, NodeNetwork, ObjectName, Protocol,
    ServicePort, ServiceSpec, ServiceType, TrafficPolicy,
};

/// One thing that happens.
#[derive(Debug, Clone)]
pub enum Happening {
    Object(Change),
    /// The loop turns, over a kernel in which some steps go wrong.
    Turn {
        faults: BTreeMap<usize, Fault>,
        unreadable: bool,
    },
    /// Another process begins, with its objects in another order.
    Restart(u64),
    Wait(u64),
    /// Clients come.
    Traffic,
    /// Somebody else's virtual server comes or goes.
    Intruder(ServerKey, bool),
}

/// A change of an object.
#[derive(Debug, Clone)]
pub enum Change {
    Service(usize, Option<Box<ServiceSpec>>),
    Slice(usize, Option<Box<EndpointSlice>>),
    Node(Box<NodeInfo>),
    NodeDeleted,
    ServiceCidrs(BTreeSet<ipnet::IpNet>),
    Network(NodeNetwork),
}

/// The objects as they are.
#[derive(Debug, Default)]
pub struct Objects {
    services: BTreeMap<usize, Box<ServiceSpec>>,
    slices: BTreeMap<usize, Box<EndpointSlice>>,
    node: Option<Box<NodeInfo>>,
    service_cidrs: BTreeSet<ipnet::IpNet>,
    pub network: NodeNetwork,
}

impl Objects {
    /// Changes an object and gives the events that tell it.
    pub fn change(&mut self, change: &Change) -> Vec<Event> {
        match change {
            Change::Service(number, None) => {
                self.services.remove(number);
                vec![Event::ServiceDeleted(service_name(*number))]
            }
            Change::Service(number, Some(spec)) => {
                self.services.insert(*number, spec.clone());
                vec![Event::ServiceApplied(service_name(*number), spec.clone())]
            }
            Change::Slice(number, None) => {
                self.slices.remove(number);
                vec![Event::SliceDeleted(slice_name(*number))]
            }
            Change::Slice(number, Some(slice)) => {
                self.slices.insert(*number, slice.clone());
                vec![Event::SliceApplied(slice_name(*number), slice.clone())]
            }
            Change::Node(node) => {
                self.node = Some(node.clone());
                vec![Event::NodeApplied(node.clone())]
            }
            // Its last state stays in force; a list without it has nothing to go by, so that the
            // object is taken to be back before the next start.
            Change::NodeDeleted => vec![Event::NodeDeleted],
            Change::ServiceCidrs(cidrs) => {
                self.service_cidrs.clone_from(cidrs);
                vec![Event::ServiceCidrs(cidrs.clone())]
            }
            Change::Network(network) => {
                self.network = network.clone();
                Vec::new()
            }
        }
    }

    /// All of them as a list, in an order that the seed decides.
    pub fn events(&self, seed: u64) -> Vec<Event> {
        let services = self.services.iter();
        let services =
            services.map(|(n, spec)| Event::ServiceApplied(service_name(*n), spec.clone()));
        let slices = self.slices.iter();
        let slices = slices.map(|(n, slice)| Event::SliceApplied(slice_name(*n), slice.clone()));
        let node = self.node.iter().cloned().map(Event::NodeApplied);
        let cidrs = Event::ServiceCidrs(self.service_cidrs.clone());
        let mut events: Vec<Event> = services.chain(slices).chain(node).chain([cidrs]).collect();
        let mut state = seed;
        for last in (1..events.len()).rev() {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let other = usize::try_from(state >> 33).unwrap() % (last + 1);
            events.swap(last, other);
        }
        events
    }
}

/// A history: mostly objects and turns.
pub fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let happening = prop_oneof![
        12 => change().prop_map(Happening::Object),
        6 => Just(Happening::Turn { faults: BTreeMap::new(), unreadable: false }),
        3 => turn_with_faults(),
        1 => any::<u64>().prop_map(Happening::Restart),
        2 => select(vec![0, 1, 5, 45, 3600]).prop_map(Happening::Wait),
        2 => Just(Happening::Traffic),
        1 => (select(tuples()), any::<bool>()).prop_map(|(key, comes)| Happening::Intruder(key, comes)),
    ];
    prop::collection::vec(happening, 0..40)
}

fn turn_with_faults() -> impl Strategy<Value = Happening> {
    let fault = select(vec![
        Fault::Refused,
        Fault::DoneUnheard,
        Fault::LostUnheard,
        Fault::BatchBroken,
        Fault::Crash,
    ]);
    let faults = prop::collection::btree_map(0..50_usize, fault, 1..4);
    (faults, prop::bool::weighted(0.1))
        .prop_map(|(faults, unreadable)| Happening::Turn { faults, unreadable })
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        10 => (0..4_usize, prop::option::weighted(0.8, service()))
            .prop_map(|(n, spec)| Change::Service(n, spec.map(|mut spec| {
                spec.uid = format!("u{n}").into();
                Box::new(spec)
            }))),
        12 => (0..5_usize, prop::option::weighted(0.85, slice()))
            .prop_map(|(n, slice)| Change::Slice(n, slice.map(Box::new))),
        2 => node().prop_map(|node| Change::Node(Box::new(node))),
        1 => Just(Change::NodeDeleted),
        1 => nets(&["10.96.0.0/28", "fd00:96::/112", "10.97.0.0/28"]).prop_map(Change::ServiceCidrs),
        1 => network().prop_map(Change::Network),
    ]
}

fn service() -> impl Strategy<Value = ServiceSpec> {
    let addresses = (
        subsequence(vec!["10.96.0.1", "10.97.0.2", "10.96.0.3"], 0..=1),
        subsequence(vec!["fd00:96::1", "fd00:96::2"], 0..=1),
        subsequence(
            vec!["192.0.2.1", "192.0.2.2", "2001:db8::1", "10.96.0.9"],
            0..3,
        ),
        subsequence(
            vec!["192.0.2.1", "192.0.2.3", "2001:db8::1", "172.16.0.1"],
            0..3,
        ),
    );
    let policies = (
        policy(),
        policy(),
        prop::option::of(select(vec![60, 10_800])),
        select(vec![0, 30_100]),
        nets(&["198.51.100.0/24", "10.244.0.0/16", "2001:db8:1::/48"]),
    );
    let ports = vec![
        ("a", Protocol::Tcp, 80, 30_080),
        ("b", Protocol::Tcp, 53, 0),
        ("c", Protocol::Udp, 53, 30_053),
        ("d", Protocol::Sctp, 9, 30_009),
    ];
    let kind = select(vec![
        ServiceType::ClusterIp,
        ServiceType::NodePort,
        ServiceType::LoadBalancer,
        ServiceType::LoadBalancer,
        ServiceType::ExternalName,
    ]);
    let other_proxy = prop::bool::weighted(0.05);
    (
        addresses,
        policies,
        subsequence(ports, 0..=4),
        kind,
        (0..3_i64, other_proxy),
        annotations(),
    )
        .prop_map(
            |(addresses, policies, ports, service_type, (created_seconds, other), annotations)| {
                let (v4, v6, external, balancer) = addresses;
                let (internal, outer, affinity, health_check_node_port, ranges) = policies;
                let balanced = service_type == ServiceType::LoadBalancer;
                let reached = balanced || service_type == ServiceType::NodePort;
                let port = |(name, protocol, port, node_port): &(&str, _, _, u16)| ServicePort {
                    name: (*name).into(),
                    protocol: *protocol,
                    port: *port,
                    node_port: if reached { *node_port } else { 0 },
                };
                ServiceSpec {
                    created_seconds,
                    service_type,
                    cluster_ips: addrs(&[v4, v6].concat()),
                    external_ips: addrs(&external),
                    load_balancer_ips: if balanced {
                        addrs(&balancer)
                    } else {
                        Vec::new()
                    },
                    load_balancer_source_ranges: ranges.into_iter().collect(),
                    ports: ports.iter().map(port).collect(),
                    affinity_timeout_seconds: affinity,
                    internal_traffic_policy: internal,
                    external_traffic_policy: outer,
                    health_check_node_port: if balanced && outer == TrafficPolicy::Local {
                        health_check_node_port
                    } else {
                        0
                    },
                    other_proxy: other.then(|| "other".into()),
                    annotations,
                    ..ServiceSpec::default()
                }
            },
        )
}

fn annotations() -> impl Strategy<Value = BTreeMap<Box<str>, Box<str>>> {
    let known = vec![
        ("ipvs-agent.io/scheduler", "wrr"),
        ("ipvs-agent.io/scheduler", LACKING),
        ("ipvs-agent.io/scheduler", "nonsense"),
        ("ipvs-agent.io/one-packet", "true"),
        ("ipvs-agent.io/upper-threshold", "100"),
        ("ipvs-agent.io/slow-start", "30s"),
        ("ipvs-agent.io/weights", "node/n1=3,*=2"),
    ];
    let some = subsequence(known, 0..4);
    (prop::bool::weighted(0.5), some).prop_map(|(any, some)| {
        let some = some.into_iter().filter(|_| any);
        some.map(|(key, value)| (key.into(), value.into()))
            .collect()
    })
}

fn slice() -> impl Strategy<Value = EndpointSlice> {
    let ports = vec![
        ("a", Protocol::Tcp, 8080),
        ("b", Protocol::Tcp, 53),
        ("c", Protocol::Udp, 53),
        ("d", Protocol::Sctp, 9),
    ];
    let family = select(vec![Family::V4, Family::V4, Family::V6]);
    let endpoints = prop::collection::vec((1..5_u8, endpoint()), 0..4);
    (
        0..4_usize,
        family,
        subsequence(ports, 1..=4),
        endpoints,
        prop::option::of(1..4_u32),
    )
        .prop_map(|(owner, family, ports, endpoints, weight)| {
            let port = |(name, protocol, port): &(&str, _, _)| EndpointPort {
                name: (*name).into(),
                protocol: *protocol,
                port: *port,
            };
            let endpoint = |(number, endpoint): (u8, Endpoint)| Endpoint {
                addr: match family {
                    Family::V4 => IpAddr::from([10, 244, 0, number]),
                    Family::V6 => format!("fd00:244::{number}").parse().unwrap(),
                },
                ..endpoint
            };
            EndpointSlice {
                hostnames: BTreeMap::new(),
                triggered: None,
                service: service_name(owner),
                address_type: family,
                ports: ports.iter().map(port).collect(),
                endpoints: endpoints.into_iter().map(endpoint).collect(),
                weight: weight.filter(|weight| *weight > 2),
            }
        })
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let conditions = select(vec![
        (true, true, false),
        (true, true, false),
        (false, true, true),
        (false, false, true),
        (false, false, false),
    ]);
    let place = (
        select(vec![None, Some("n1"), Some("n1"), Some("n2")]),
        select(vec![None, Some("z1"), Some("z2")]),
        subsequence(vec!["z1", "z2"], 0..=1),
        subsequence(vec!["n1", "n2"], 0..=1),
    );
    (conditions, place).prop_map(
        |((ready, serving, terminating), (node, zone, zones, nodes))| Endpoint {
            addr: IpAddr::from([0; 4]),
            ready,
            serving,
            terminating,
            node_name: node.map(Into::into),
            zone: zone.map(Into::into),
            for_zones: zones.into_iter().map(Into::into).collect(),
            for_nodes: nodes.into_iter().map(Into::into).collect(),
        },
    )
}

fn node() -> impl Strategy<Value = NodeInfo> {
    let zone = select(vec![None, Some("z1"), Some("z2")]);
    let pods = nets(&["10.244.0.0/24", "10.244.1.0/24", "fd00:244::/112"]);
    let addresses = subsequence(vec!["172.16.0.1", "172.16.0.2", "fd00:172::1"], 0..3);
    (zone, pods, addresses).prop_map(|(zone, pods, addresses)| {
        let addresses = addrs(&addresses);
        let label = |zone: &str| ("topology.kubernetes.io/zone".to_owned(), zone.to_owned());
        NodeInfo {
            name: "n1".to_owned(),
            labels: zone.into_iter().map(label).collect(),
            pod_cidrs: pods.into_iter().collect(),
            primary: addresses
                .iter()
                .rev()
                .map(|addr| (Family::of(*addr), *addr))
                .collect(),
            addresses: addresses.into_iter().collect(),
            leaving: None,
        }
    })
}

fn network() -> impl Strategy<Value = NodeNetwork> {
    // Among them addresses that Services may claim.
    let addresses = nets(&[
        "172.16.0.1/24",
        "172.16.0.2/24",
        "192.0.2.1/32",
        "fd00:172::1/64",
    ]);
    let gateways = subsequence(vec!["172.16.0.254", "192.0.2.2"], 0..=1);
    (addresses, gateways).prop_map(|(addresses, gateways)| NodeNetwork {
        addresses,
        gateways: addrs(&gateways).into_iter().collect(),
        sources: BTreeMap::new(),
    })
}

/// Where somebody else's virtual servers may stand.
fn tuples() -> Vec<ServerKey> {
    let mut keys: Vec<ServerKey> = ["10.96.0.1:80/TCP", "192.0.2.1:53/UDP", "203.0.113.1:80/TCP"]
        .map(|vip| ServerKey::Tuple(vip.parse().unwrap()))
        .into();
    keys.push(ServerKey::Mark {
        family: Family::V4,
        mark: 1,
    });
    keys
}

fn policy() -> impl Strategy<Value = TrafficPolicy> {
    select(vec![TrafficPolicy::Cluster, TrafficPolicy::Local])
}

fn nets(of: &[&str]) -> impl Strategy<Value = BTreeSet<ipnet::IpNet>> + use<> {
    let nets: Vec<ipnet::IpNet> = of.iter().map(|net| net.parse().unwrap()).collect();
    let all = nets.len();
    subsequence(nets, 0..=all).prop_map(|nets| nets.into_iter().collect())
}

fn addrs(of: &[&str]) -> Vec<IpAddr> {
    of.iter().map(|addr| addr.parse().unwrap()).collect()
}

fn service_name(number: usize) -> ObjectName {
    ObjectName::new("ns", &format!("s{number}"))
}

fn slice_name(number: usize) -> ObjectName {
    ObjectName::new("ns", &format!("s-{number}"))
}
