//! The decision matrix of Kubernetes, written down by hand: who asks what, under which policy, of which
//! endpoints; which endpoints must be there, whom they must see, and what must happen where there are none.

use std::collections::BTreeMap;

use super::*;
use crate::ask::explain::{ClientSeen, ExplainedService, Packet, Refusal, Trace, Verdict};
use crate::dataplane::policy::settings::DetectLocal;
use crate::model::{
    Endpoint, EndpointPort, EndpointSlice, ObjectName, Protocol, Scheduler, ServicePort,
    ServiceSpec, ServiceType, TrafficPolicy,
};
use crate::resolve::{View, resolve};

/// The node n1 with the Service `shop/web`: cluster IP, NodePort, load balancer's address.
struct Lab {
    node: NodeInfo,
    node_port_addresses: BTreeSet<IpAddr>,
    reserved: Reserved,
    policy: Policy,
    network: ClusterNetwork,
    settings: PolicySettings,
    spec: ServiceSpec,
    slice: EndpointSlice,
    foreign: BTreeSet<VipPort>,
    /// An older Service that claims the load balancer's address too.
    older: Option<ServiceSpec>,
}

const POD: &str = "10.244.1.9";
const POD_ELSEWHERE: &str = "10.244.3.9";
const NODE: &str = "192.0.2.1";
const OUTSIDE: &str = "203.0.113.9";
const CLUSTER_IP: &str = "10.96.0.10:80/TCP";
const NODE_PORT: &str = "192.0.2.1:30080/TCP";
const BALANCER: &str = "198.51.100.7:80/TCP";

fn name() -> ObjectName {
    ObjectName::new("shop", "web")
}

fn all<T: std::str::FromStr + Ord>(text: &str) -> BTreeSet<T>
where
    T::Err: std::fmt::Debug,
{
    text.split_whitespace()
        .map(|t| t.parse().unwrap())
        .collect()
}

/// `address node state`, in a line each; `host` as an address is the node's own.
fn lab(policy: TrafficPolicy, endpoints: &[&str]) -> Lab {
    let endpoint = |line: &&str| {
        let words: Vec<&str> = line.split(' ').collect();
        Endpoint {
            addr: words[0].parse().unwrap(),
            ready: words[2] == "ready",
            serving: words[2] != "unready",
            terminating: words[2] == "ending",
            node_name: Some(words[1].into()),
            zone: words.get(3).map(|zone| (*zone).into()),
            for_zones: words
                .get(3)
                .map(|zone| (*zone).into())
                .into_iter()
                .collect(),
            for_nodes: Vec::new(),
        }
    };
    Lab {
        node: NodeInfo {
            name: "n1".to_owned(),
            addresses: all(NODE),
            primary: BTreeMap::from([(Family::V4, NODE.parse().unwrap())]),
            labels: BTreeMap::from([("topology.kubernetes.io/zone".to_owned(), "a".to_owned())]),
            ..NodeInfo::default()
        },
        node_port_addresses: all(NODE),
        reserved: Reserved {
            node: all(NODE),
            service_cidrs: all("10.96.0.0/16"),
            ..Reserved::default()
        },
        policy: Policy {
            scheduler: Scheduler::named("rr"),
            schedulers: BTreeSet::new(),
            refused_schedulers: BTreeSet::new(),
            approximated: BTreeMap::new(),
            tunable: true,
            external_ip_cidrs: Vec::new(),
        },
        network: ClusterNetwork {
            service_cidrs: all("10.96.0.0/16"),
            pod_cidrs: all("10.244.0.0/16"),
            node_pod_cidrs: all("10.244.1.0/24"),
        },
        settings: PolicySettings::default(),
        spec: ServiceSpec {
            service_type: ServiceType::LoadBalancer,
            created_seconds: 20,
            cluster_ips: vec!["10.96.0.10".parse().unwrap()],
            load_balancer_ips: vec!["198.51.100.7".parse().unwrap()],
            internal_traffic_policy: policy,
            external_traffic_policy: policy,
            has_selector: true,
            ports: vec![ServicePort {
                name: "http".into(),
                protocol: Protocol::Tcp,
                port: 80,
                node_port: 30080,
            }],
            ..ServiceSpec::default()
        },
        slice: EndpointSlice {
            service: name(),
            address_type: Family::V4,
            ports: vec![EndpointPort {
                name: "http".into(),
                protocol: Protocol::Tcp,
                port: 8080,
            }],
            endpoints: endpoints.iter().map(endpoint).collect(),
            hostnames: BTreeMap::new(),
            weight: None,
            triggered: None,
        },
        foreign: BTreeSet::new(),
        older: None,
    }
}

impl Lab {
    fn with<T>(&self, of: impl FnOnce(&Facts<'_>, &[&EndpointSlice]) -> T) -> T {
        let mut desired = DesiredState::default();
        let older = ObjectName::new("infra", "older");
        let slices = [&self.slice];
        let services = [(Some(&self.spec), name(), &slices[..])]
            .into_iter()
            .chain([(self.older.as_ref(), older, &slices[..0])]);
        for (spec, name, slices) in services {
            let Some(spec) = spec else { continue };
            let resolved = resolve(View {
                name: &name,
                spec,
                slices,
                node: &self.node,
                node_port_addresses: &self.node_port_addresses,
                reserved: &self.reserved,
                policy: &self.policy,
            });
            desired.replace(&name, spec, resolved, &mut |_| {});
        }
        let facts = Facts {
            dataplane: "ipvs",
            node: &self.node,
            own_addresses: all("192.0.2.1 10.244.1.1"),
            node_port_addresses: &self.node_port_addresses,
            reserved: &self.reserved,
            policy: &self.policy,
            desired: &desired,
            foreign: self.foreign.clone(),
            network: &self.network,
            settings: &self.settings,
        };
        of(&facts, &slices)
    }

    fn trace(&self, from: &str, to: &str) -> Trace {
        let vip: VipPort = to.parse().unwrap();
        let packet = Packet {
            from: (from != "node").then(|| from.parse().unwrap()),
            to: vip.addr,
            port: vip.port,
            protocol: vip.protocol.into(),
        };
        self.with(|facts, _| follow(facts, packet))
    }

    /// `a, b: kept`, `REJECT`, `DROP` or `-`.
    fn verdict(&self, from: &str, to: &str) -> String {
        match self.trace(from, to).verdict {
            Verdict::Balanced { endpoints } => {
                let names: Vec<String> = endpoints.iter().map(|e| e.address.to_string()).collect();
                let seen: BTreeSet<&str> = endpoints
                    .iter()
                    .map(|e| match e.client_seen {
                        ClientSeen::Kept => "kept",
                        ClientSeen::Masqueraded => "masqueraded",
                    })
                    .collect();
                let seen: Vec<&str> = seen.into_iter().collect();
                format!("{}: {}", names.join(", "), seen.join(" and "))
            }
            Verdict::Refused {
                by: Refusal::TcpReset,
            } => "REJECT".to_owned(),
            Verdict::Refused { by } => format!("{by:?}"),
            Verdict::Dropped => "DROP".to_owned(),
            Verdict::NotOurs => "-".to_owned(),
        }
    }

    fn explained(&self) -> ExplainedService {
        self.with(|facts, slices| service(facts, &name(), &self.spec, slices, "cluster.local"))
    }
}

const HERE: &str = "10.244.1.2 n1 ready";
const THERE: &str = "10.244.2.2 n2 ready";

#[test]
fn the_decision_matrix() {
    use TrafficPolicy::{Cluster, Local};
    let both = |seen: &str| format!("10.244.1.2, 10.244.2.2: {seen}");
    let here = |seen: &str| format!("10.244.1.2: {seen}");
    for (policy, to, from, want, elsewhere_only) in [
        // ClusterIP, local pod.
        (Cluster, CLUSTER_IP, POD, both("kept"), "10.244.2.2: kept"),
        (Local, CLUSTER_IP, POD, here("kept"), "DROP"),
        // ClusterIP, node process and off-cluster.
        (
            Cluster,
            CLUSTER_IP,
            "node",
            both("masqueraded"),
            "10.244.2.2: masqueraded",
        ),
        (Local, CLUSTER_IP, "node", here("masqueraded"), "DROP"),
        (
            Cluster,
            CLUSTER_IP,
            OUTSIDE,
            both("masqueraded"),
            "10.244.2.2: masqueraded",
        ),
        (Local, CLUSTER_IP, OUTSIDE, here("masqueraded"), "DROP"),
        // External destinations, local pod.
        (
            Cluster,
            NODE_PORT,
            POD,
            both("masqueraded"),
            "10.244.2.2: masqueraded",
        ),
        (Local, NODE_PORT, POD, both("kept"), "10.244.2.2: kept"),
        (
            Cluster,
            BALANCER,
            POD,
            both("masqueraded"),
            "10.244.2.2: masqueraded",
        ),
        (Local, BALANCER, POD, both("kept"), "10.244.2.2: kept"),
        // The same, node process, by whichever of its addresses.
        (
            Cluster,
            NODE_PORT,
            "node",
            both("masqueraded"),
            "10.244.2.2: masqueraded",
        ),
        (
            Local,
            NODE_PORT,
            NODE,
            both("masqueraded"),
            "10.244.2.2: masqueraded",
        ),
        (
            Local,
            BALANCER,
            "10.244.1.1",
            both("masqueraded"),
            "10.244.2.2: masqueraded",
        ),
        // The same, anyone else: also a pod of another node.
        (
            Cluster,
            NODE_PORT,
            OUTSIDE,
            both("masqueraded"),
            "10.244.2.2: masqueraded",
        ),
        (Local, NODE_PORT, OUTSIDE, here("kept"), "DROP"),
        (Local, NODE_PORT, POD_ELSEWHERE, here("kept"), "DROP"),
        (Local, BALANCER, OUTSIDE, here("kept"), "DROP"),
    ] {
        let got = lab(policy, &[HERE, THERE]).verdict(from, to);
        assert_eq!(got, want, "{policy} {from} {to}");
        let got = lab(policy, &[THERE]).verdict(from, to);
        assert_eq!(
            got, elsewhere_only,
            "{policy} {from} {to}, endpoints elsewhere only"
        );
        for nobody in [&[][..], &["10.244.1.2 n1 unready"]] {
            let got = lab(policy, nobody).verdict(from, to);
            assert_eq!(got, "REJECT", "{policy} {from} {to}, no endpoint");
        }
    }
}

#[test]
fn each_set_falls_back_to_those_that_end_by_itself() {
    let ending = ["10.244.1.2 n1 ending", THERE];
    let local = lab(TrafficPolicy::Local, &ending);
    assert_eq!(local.verdict(OUTSIDE, NODE_PORT), "10.244.1.2: kept");
    assert_eq!(local.verdict(POD, NODE_PORT), "10.244.2.2: kept");
    let cluster = lab(TrafficPolicy::Cluster, &ending);
    assert_eq!(
        cluster.verdict(OUTSIDE, NODE_PORT),
        "10.244.2.2: masqueraded"
    );
}

#[test]
fn exceptions_of_the_source_address() {
    let cluster = lab(TrafficPolicy::Cluster, &[HERE, THERE]);
    // A pod to itself, beside another.
    let itself = cluster.trace("10.244.1.2", CLUSTER_IP);
    let Verdict::Balanced { endpoints } = &itself.verdict else {
        panic!("{itself:?}")
    };
    let seen: Vec<_> = endpoints
        .iter()
        .map(|e| (e.hairpin, e.client_seen))
        .collect();
    assert_eq!(
        seen,
        [(true, ClientSeen::Masqueraded), (false, ClientSeen::Kept)]
    );
    // A process of this node as endpoint.
    let host = lab(TrafficPolicy::Cluster, &["192.0.2.1 n1 ready"]);
    assert_eq!(host.verdict(OUTSIDE, NODE_PORT), "192.0.2.1: kept");
    // --masquerade-all, and where nothing tells pods from others.
    let mut all = lab(TrafficPolicy::Cluster, &[THERE]);
    all.settings.masquerade_all = true;
    assert_eq!(all.verdict(POD, CLUSTER_IP), "10.244.2.2: masqueraded");
    let mut none = lab(TrafficPolicy::Cluster, &[THERE]);
    none.network = ClusterNetwork::default();
    assert_eq!(none.verdict(POD, CLUSTER_IP), "10.244.2.2: kept");
    // Pods elsewhere are pods where pods are known by their addresses.
    let mut elsewhere = lab(TrafficPolicy::Cluster, &[THERE]);
    assert_eq!(
        elsewhere.verdict(POD_ELSEWHERE, CLUSTER_IP),
        "10.244.2.2: kept"
    );
    elsewhere.settings.detect_local = DetectLocal::Interface("veth+".to_owned());
    assert_eq!(
        elsewhere.verdict(POD_ELSEWHERE, CLUSTER_IP),
        "10.244.2.2: masqueraded"
    );
    assert_eq!(elsewhere.verdict(POD, CLUSTER_IP), "10.244.2.2: kept");
}

#[test]
fn source_ranges_hold_for_all_and_at_the_balancers_address_alone() {
    let mut lab = lab(TrafficPolicy::Cluster, &[THERE]);
    lab.spec.load_balancer_source_ranges = vec!["203.0.113.0/24".parse().unwrap()];
    for (from, to, want) in [
        (OUTSIDE, BALANCER, "10.244.2.2: masqueraded"),
        ("203.0.114.1", BALANCER, "DROP"),
        (POD, BALANCER, "DROP"),
        ("node", BALANCER, "DROP"),
        ("203.0.114.1", NODE_PORT, "10.244.2.2: masqueraded"),
        (POD, CLUSTER_IP, "10.244.2.2: kept"),
    ] {
        assert_eq!(lab.verdict(from, to), want, "{from} {to}");
    }
}

#[test]
fn what_no_service_has_is_nobodys_business_and_says_why() {
    let lab = lab(TrafficPolicy::Cluster, &[THERE]);
    for (to, part) in [
        (
            "10.96.0.10:81/TCP",
            "no such port; it has 80/TCP of shop/web:http",
        ),
        ("10.96.0.10:80/UDP", "no such port"),
        ("10.96.0.77:80/TCP", "no Service has it here"),
        ("192.0.2.1:30081/TCP", "the node itself answers"),
        (
            "127.0.0.1:30080/TCP",
            "does not answer on 127.0.0.1 but on 192.0.2.1",
        ),
        ("10.244.1.1:30080/TCP", "does not answer on 10.244.1.1"),
        ("8.8.8.8:53/UDP", "goes on as any other"),
    ] {
        let trace = lab.trace(POD, to);
        assert_eq!(trace.verdict, Verdict::NotOurs, "{to}");
        let said = &trace.steps.last().unwrap().finding;
        assert!(said.contains(part), "{to}: {said}");
    }
}

#[test]
fn a_foreign_virtual_server_decides_where_it_stands() {
    let mut lab = lab(TrafficPolicy::Cluster, &[THERE]);
    lab.foreign = all(CLUSTER_IP);
    assert_eq!(lab.verdict(POD, CLUSTER_IP), "-");
    let explained = lab.explained();
    let row = &explained.addresses[0];
    assert!(!row.served && row.reason.as_ref().unwrap().contains("somebody else's"));
    assert_eq!(explained.problems[0].reason, "ForeignVirtualServer");
}

#[test]
fn every_address_is_served_or_says_why_not() {
    let mut lab = lab(TrafficPolicy::Local, &[THERE]);
    lab.spec.external_ips = vec!["198.51.100.9".parse().unwrap()];
    lab.spec
        .load_balancer_ips
        .push("2001:db8::7".parse().unwrap());
    lab.older = Some(ServiceSpec {
        created_seconds: 10,
        ..lab.spec.clone()
    });
    lab.older.as_mut().unwrap().cluster_ips = vec!["10.96.0.11".parse().unwrap()];
    lab.older.as_mut().unwrap().ports[0].node_port = 0;
    let explained = lab.explained();
    let rows: Vec<(String, bool, &str)> = explained
        .addresses
        .iter()
        .map(|row| {
            let at = format!("{} {} {}", row.address, row.kind, row.policy);
            (at, row.served, row.reason.as_deref().unwrap_or_default())
        })
        .collect();
    let silent = "no endpoint on this node: clients hear nothing";
    let near =
        "no endpoint on this node: clients from elsewhere hear nothing, this node's are served";
    let want = [
        ("10.96.0.10 ClusterIP Local", false, silent),
        (
            "198.51.100.7 LoadBalancer Local",
            false,
            "the older Service infra/older has it",
        ),
        (
            "2001:db8::7 LoadBalancer Local",
            false,
            "the Service has no IPv6 cluster IP, so it has no address of that family",
        ),
        (
            "198.51.100.9 ExternalIP Local",
            false,
            "refused: no --external-ip-cidr of the agent contains it",
        ),
        ("192.0.2.1 NodePort Local", false, near),
    ];
    let want = want.map(|(at, served, reason)| (at.to_owned(), served, reason));
    assert_eq!(rows, want);
    let reasons: Vec<&str> = explained.problems.iter().map(|p| &*p.reason).collect();
    assert_eq!(reasons, ["RefusedExternalIP", "AddressConflict"]);
}

#[test]
fn a_node_port_without_an_address_of_a_family_says_so() {
    let mut lab = lab(TrafficPolicy::Cluster, &[HERE]);
    lab.spec.cluster_ips.push("fd00:96::10".parse().unwrap());
    let explained = lab.explained();
    let node_ports = explained.addresses.iter();
    let node_ports = node_ports.filter(|row| row.kind == "NodePort");
    let rows: Vec<(String, Option<&str>)> = node_ports
        .map(|row| (row.address.to_string(), row.reason.as_deref()))
        .collect();
    let none = "--node-port-addresses permits no IPv6 address of this node";
    assert_eq!(
        rows,
        [
            ("192.0.2.1".to_owned(), None),
            ("::".to_owned(), Some(none))
        ]
    );
}

#[test]
fn every_endpoint_is_used_or_says_why_not_in_each_set() {
    let lab = lab(
        TrafficPolicy::Local,
        &[
            "10.244.1.2 n1 ready a",
            "10.244.2.2 n2 ready b",
            "10.244.2.3 n2 ending a",
            "10.244.2.4 n2 unready a",
            "127.0.0.5 n2 ready a",
        ],
    );
    let explained = lab.explained();
    let told: Vec<String> = explained
        .endpoints
        .iter()
        .map(|e| {
            let set = |name: &str| e.sets[name].clone().unwrap_or_else(|| "used".to_owned());
            format!("{} {} / {}", e.address, set("Cluster"), set("Local"))
        })
        .collect();
    let elsewhere = "on another node, under a Local traffic policy";
    assert_eq!(
        told,
        [
            "10.244.1.2 used / used".to_owned(),
            format!("10.244.2.2 hinted for other zones / {elsewhere}"),
            format!("10.244.2.3 terminating while others are ready / {elsewhere}"),
            format!("10.244.2.4 not ready / {elsewhere}"),
            {
                let refused = "refused: loopback, link-local, multicast, unspecified or cluster IP";
                format!("127.0.0.5 {refused} / {refused}")
            },
        ]
    );
    assert_eq!(explained.topology, ["endpoints that are hinted for zone a"]);
    assert_eq!(explained.leading.len(), 3);
}

#[test]
fn what_is_skipped_says_so_and_keeps_its_names() {
    let mut headless = lab(TrafficPolicy::Cluster, &[HERE]);
    headless.spec = ServiceSpec {
        ports: headless.spec.ports.clone(),
        ..ServiceSpec::default()
    };
    let explained = headless.explained();
    assert_eq!(
        explained.skipped.as_deref(),
        Some("headless: it has no cluster IP")
    );
    assert!(explained.addresses.is_empty() && explained.environment.is_empty());
    assert_eq!(explained.endpoints.len(), 1);
    assert_eq!(
        explained.dns[0].name,
        "_http._tcp.web.shop.svc.cluster.local"
    );
    let mut other = lab(TrafficPolicy::Cluster, &[HERE]);
    other.spec.other_proxy = Some("cilium".into());
    let explained = other.explained();
    assert_eq!(
        explained.skipped.as_deref(),
        Some("served by the proxy \"cilium\"")
    );
    assert!(explained.addresses.iter().all(|row| !row.served));
}
