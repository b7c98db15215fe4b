//! Numbers in comments are those of `docs/checklist.md`: what upstream's own unit tests ask.

mod services;
mod traffic;

use super::*;
use crate::model::{Endpoint, EndpointPort, Family, Protocol, RealServer, ServicePort, VipKind};

struct Lab {
    name: ObjectName,
    spec: ServiceSpec,
    slices: Vec<EndpointSlice>,
    node: NodeInfo,
    node_port_addresses: BTreeSet<IpAddr>,
    reserved: Reserved,
    policy: Policy,
}

fn lab() -> Lab {
    let port = ServicePort {
        name: "http".into(),
        protocol: Protocol::Tcp,
        port: 80,
        node_port: 0,
    };
    Lab {
        name: ObjectName::new("ns", "web"),
        spec: ServiceSpec {
            cluster_ips: vec!["10.96.0.10".parse().unwrap()],
            ports: vec![port],
            ..ServiceSpec::default()
        },
        slices: Vec::new(),
        node: NodeInfo {
            name: "n1".to_owned(),
            ..NodeInfo::default()
        },
        node_port_addresses: BTreeSet::from(["192.0.2.1".parse().unwrap()]),
        reserved: Reserved::default(),
        policy: Policy {
            scheduler: Scheduler::named("rr"),
            schedulers: BTreeSet::new(),
            refused_schedulers: BTreeSet::new(),
            approximated: BTreeMap::new(),
            tunable: true,
            external_ip_cidrs: Vec::new(),
        },
    }
}

impl Lab {
    fn slice(mut self, port: &str, number: u16, endpoints: &[Endpoint]) -> Self {
        self.slices.push(EndpointSlice {
            hostnames: BTreeMap::new(),
            triggered: None,
            weight: None,
            service: ObjectName::new("ns", "web"),
            address_type: Family::V4,
            ports: vec![EndpointPort {
                name: port.into(),
                protocol: Protocol::Tcp,
                port: number,
            }],
            endpoints: endpoints.to_vec(),
        });
        self
    }

    fn view<'a>(&'a self, slices: &'a [&'a EndpointSlice]) -> View<'a> {
        View {
            name: &self.name,
            spec: &self.spec,
            slices,
            node: &self.node,
            node_port_addresses: &self.node_port_addresses,
            reserved: &self.reserved,
            policy: &self.policy,
        }
    }

    fn resolve(&self) -> Resolved {
        resolve(self.view(&self.slices.iter().collect::<Vec<_>>()))
    }

    /// Real servers of the cluster IP, as `address:port` with `drain` and `local` marks.
    fn real_servers(&self) -> Vec<String> {
        let resolved = self.resolve();
        let vip: VipPort = "10.96.0.10:80/TCP".parse().unwrap();
        let mark = |(key, real): (&HostPort, &RealServer)| {
            let drain = if real.draining { " drain" } else { "" };
            let local = if real.local { " local" } else { "" };
            format!("{key}{drain}{local}")
        };
        resolved.virtual_servers[&vip]
            .real_servers
            .iter()
            .map(mark)
            .collect()
    }
}

fn ready(addr: &str) -> Endpoint {
    Endpoint {
        addr: addr.parse().unwrap(),
        ready: true,
        serving: true,
        terminating: false,
        node_name: None,
        zone: None,
        for_zones: Vec::new(),
        for_nodes: Vec::new(),
    }
}

fn unready(addr: &str) -> Endpoint {
    Endpoint {
        ready: false,
        serving: false,
        ..ready(addr)
    }
}

fn terminating(addr: &str) -> Endpoint {
    Endpoint {
        ready: false,
        terminating: true,
        ..ready(addr)
    }
}

#[test]
fn ready_endpoints_serve_and_others_do_not() {
    let lab = lab().slice("http", 8080, &[ready("10.0.0.1"), unready("10.0.0.2")]);
    // It keeps the connections that it has: readiness is about new ones.
    assert_eq!(lab.real_servers(), ["10.0.0.1:8080", "10.0.0.2:8080 drain"]);
    assert_eq!(lab.resolve().excluded[0].reason, ExclusionReason::NotReady);
}

#[test]
fn terminating_ones_serve_only_while_none_is_ready() {
    // 24, 25
    let only = lab().slice(
        "http",
        8080,
        &[terminating("10.0.0.1"), unready("10.0.0.2")],
    );
    assert_eq!(
        only.real_servers(),
        ["10.0.0.1:8080", "10.0.0.2:8080 drain"]
    );
    let both = lab().slice("http", 8080, &[terminating("10.0.0.1"), ready("10.0.0.2")]);
    assert_eq!(
        both.real_servers(),
        ["10.0.0.1:8080 drain", "10.0.0.2:8080"]
    );
    // Terminating and not serving: it drains, and nothing serves.
    let dead = Endpoint {
        serving: false,
        ..terminating("10.0.0.1")
    };
    assert_eq!(
        lab().slice("http", 8080, &[dead]).real_servers(),
        ["10.0.0.1:8080 drain"]
    );
}

#[test]
fn slices_merge_by_address_and_port_and_local_wins() {
    // 79
    let here = Endpoint {
        node_name: Some("n1".into()),
        ..ready("10.0.0.1")
    };
    let lab = lab()
        .slice("http", 8080, &[ready("10.0.0.1"), ready("10.0.0.2")])
        .slice("http", 8080, &[here])
        .slice("http", 9090, &[ready("10.0.0.1")]);
    assert_eq!(
        lab.real_servers(),
        ["10.0.0.1:8080 local", "10.0.0.1:9090", "10.0.0.2:8080"]
    );
}

#[test]
fn ports_are_matched_by_name_and_protocol_never_by_number() {
    let lab = lab()
        .slice("other", 80, &[ready("10.0.0.1")])
        .slice("http", 7, &[ready("10.0.0.2")]);
    assert_eq!(lab.real_servers(), ["10.0.0.2:7"]);
}

#[test]
fn an_endpoint_that_is_a_cluster_ip_is_refused() {
    let mut lab = lab().slice("http", 80, &[ready("10.96.0.99"), ready("10.0.0.1")]);
    lab.reserved.service_cidrs = BTreeSet::from(["10.96.0.0/16".parse().unwrap()]);
    assert_eq!(lab.real_servers(), ["10.0.0.1:80"]);
    assert_eq!(
        lab.resolve().excluded[0].reason,
        ExclusionReason::RefusedAddress
    );
}

#[test]
fn endpoints_that_lead_to_the_node_itself_are_refused() {
    // CVE-2021-25737; 97
    for addr in [
        "127.0.0.1",
        "169.254.169.254",
        "224.0.0.1",
        "0.0.0.0",
        "255.255.255.255",
    ] {
        let lab = lab().slice("http", 80, &[ready(addr)]);
        assert_eq!(lab.real_servers(), Vec::<String>::new(), "{addr}");
        assert_eq!(
            lab.resolve().excluded[0].reason,
            ExclusionReason::RefusedAddress
        );
    }
}

#[test]
fn headless_external_name_and_other_proxies_services_are_skipped() {
    // 52, 58, 65
    let mut headless = lab();
    headless.spec.cluster_ips.clear();
    assert_eq!(headless.resolve().skipped, Some(SkipReason::Headless));
    let mut alias = lab();
    alias.spec.service_type = ServiceType::ExternalName;
    assert_eq!(alias.resolve().skipped, Some(SkipReason::ExternalName));
    let mut other = lab();
    other.spec.other_proxy = Some("them".into());
    assert_eq!(
        other.resolve().skipped,
        Some(SkipReason::OtherProxy("them".into()))
    );
    for lab in [headless, alias, other] {
        assert!(lab.resolve().virtual_servers.is_empty());
    }
}

#[test]
fn every_kind_of_address_gets_a_virtual_server_in_its_own_family_only() {
    let mut lab = lab();
    lab.policy.external_ip_cidrs = vec!["198.51.100.0/24".parse().unwrap()];
    lab.spec.external_ips = ["198.51.100.9", "203.0.113.1"]
        .map(|a| a.parse().unwrap())
        .to_vec();
    // The Service has no cluster IP in the other family, so it has no VIPs there at all.
    lab.spec.load_balancer_ips = ["192.0.2.50", "fd00::50"]
        .map(|a| a.parse().unwrap())
        .to_vec();
    lab.spec.ports[0].node_port = 30080;
    lab.node_port_addresses.insert("fd00::1".parse().unwrap());
    let resolved = lab.resolve();
    let found: Vec<_> = resolved
        .virtual_servers
        .iter()
        .map(|(vip, s)| (vip.to_string(), s.kind))
        .collect();
    let expected = [
        ("10.96.0.10:80/TCP", VipKind::ClusterIp),
        ("192.0.2.1:30080/TCP", VipKind::NodePort),
        ("192.0.2.50:80/TCP", VipKind::LoadBalancer),
        ("198.51.100.9:80/TCP", VipKind::ExternalIp),
    ];
    assert_eq!(found, expected.map(|(vip, kind)| (vip.to_owned(), kind)));
    // CVE-2020-8554
    assert_eq!(resolved.findings.len(), 1);
    assert_eq!(resolved.findings[0].value, "203.0.113.1");
}

#[test]
fn a_scheduler_annotation_counts_and_a_bad_one_is_told() {
    let annotated = |key: &str, value: &str| {
        let mut lab = lab();
        lab.policy.schedulers = ["rr", "mh", "wlc"].map(str::to_owned).into();
        lab.spec.annotations.insert(key.into(), value.into());
        let resolved = lab.resolve();
        let server = resolved.virtual_servers.into_values().next().unwrap();
        (server.scheduler.to_string(), resolved.findings)
    };
    let ours = "ipvs-agent.io/scheduler";
    assert_eq!(annotated(ours, "wlc").0, "wlc");
    // Hashing schedulers always fall back, or a draining real server's clients are refused.
    assert_eq!(annotated(ours, "mh").0, "mh mh-fallback");
    assert_eq!(annotated(ours, "mh,port").0, "mh mh-fallback mh-port");
    assert_eq!(
        annotated("kube-router.io/service.scheduler", "mh").0,
        "mh mh-fallback"
    );
    for bad in ["nosuch", "sed", "wlc,port", "", "rr; reboot"] {
        let (scheduler, findings) = annotated(ours, bad);
        assert_eq!(scheduler, "rr", "{bad}");
        assert_eq!(findings.len(), 1, "{bad}");
        assert!(findings[0].field.contains(ours));
    }
}

#[test]
fn affinity_carries_its_timeout() {
    // 91
    let mut lab = lab();
    lab.spec.affinity_timeout_seconds = Some(10_800);
    let server = lab.resolve().virtual_servers.into_values().next().unwrap();
    assert_eq!(
        server.persistence,
        Some(Persistence {
            timeout_seconds: 10_800
        })
    );
}
