//! Which endpoints traffic policies and topology leave: the checklist that upstream's own unit
//! tests make up, row by row. This node is n1.

use super::*;
use crate::model::TrafficPolicy::{Cluster, Local};
use crate::resolve::annotations::Weights;
use crate::resolve::endpoints::{Set, select};

/// `NUMBER:WORD,…`: an endpoint at 10.1.0.NUMBER. Words: `ready` (else not), `term` (terminating and
/// serving), `dead` (terminating), `here` (on n1), `za` (hinted for zone a), `n1` (hinted for node
/// n1).
fn endpoint(text: &str) -> Endpoint {
    let (number, words) = text.split_once(':').unwrap();
    let words: Vec<&str> = words.split(',').collect();
    let has = |word: &str| words.contains(&word);
    let hints = |prefix: char| -> Vec<Box<str>> {
        let hints = words.iter().filter(|word| word.len() == 2);
        let hints = hints.filter(|word| word.starts_with(prefix));
        hints.map(|word| (*word).into()).collect()
    };
    Endpoint {
        addr: format!("10.1.0.{number}").parse().unwrap(),
        ready: has("ready"),
        serving: has("ready") || has("term"),
        terminating: has("term") || has("dead"),
        node_name: Some(if has("here") { "n1" } else { "n9" }.into()),
        zone: None,
        for_zones: hints('z'),
        for_nodes: hints('n'),
    }
}

fn with(zone: Option<&str>, endpoints: &str) -> Lab {
    let endpoints: Vec<_> = endpoints.split_whitespace().map(endpoint).collect();
    let mut lab = lab().slice("http", 80, &endpoints);
    let label = "topology.kubernetes.io/zone".to_owned();
    lab.node
        .labels
        .extend(zone.map(|zone| (label, zone.to_owned())));
    lab
}

/// The numbers of those that serve.
fn serving(set: &Set) -> String {
    let serving = set.real_servers.iter().filter(|(_, real)| !real.draining);
    let numbers = serving.map(|(key, _)| {
        let addr = key.addr.to_string();
        addr.rsplit('.').next().unwrap().to_owned()
    });
    numbers.collect::<Vec<_>>().join(" ")
}

#[test]
fn each_policy_has_its_endpoints() {
    let a = Some("za");
    // (rows of the checklist, this node's zone, endpoints, for Cluster, for Local, any at all)
    for (row, zone, endpoints, cluster, local, any) in [
        (
            "1",
            a,
            "1:ready,za 2:ready,zb 3:ready,zb 4:ready,za",
            "1 4",
            "",
            true,
        ),
        ("4", None, "1:ready,za 2:ready,zb", "1 2", "", true),
        ("5", Some(""), "1:ready,za 2:ready,zb", "1 2", "", true),
        ("6", Some("zc"), "1:ready,za 2:ready,zb", "1 2", "", true),
        ("7", a, "1:ready,za 2:ready,zb 3:ready", "1 2 3", "", true),
        (
            "8",
            a,
            "1:ready,za,zb 2:ready,zb,zc 3:ready,zc 4:ready,zc,za",
            "1 4",
            "",
            true,
        ),
        ("9", a, "1:ready,za 2:no,za 3:ready,zb", "1", "", true),
        ("10", a, "1:no,za 2:ready,zb 3:ready,zb", "2 3", "", true),
        (
            "11",
            a,
            "1:ready,za,n1 2:ready,za,n2 3:ready,zb,n3",
            "1",
            "",
            true,
        ),
        ("12", a, "1:ready,za,n2 2:ready,zb,n3", "1", "", true),
        ("13", a, "1:ready,n1 2:ready,n2 3:ready", "1 2 3", "", true),
        ("15 16", a, "1:ready,zb,here 2:ready,za", "2", "1", true),
        ("18 26", None, "", "", "", false),
        ("19 29", None, "1:ready 2:ready", "1 2", "", true),
        ("20", None, "1:ready,here 2:ready,here", "1 2", "1 2", true),
        ("21 27 28", None, "1:ready,here 2:ready", "1 2", "1", true),
        ("22", None, "1:no,here 2:no", "", "", false),
        ("23", None, "1:no,here 2:ready", "2", "", true),
        ("24", None, "1:term,here 2:term", "1 2", "1", true),
        ("25", None, "1:ready,here 2:term,here", "1", "1", true),
        ("30", None, "1:term 2:term", "1 2", "", true),
        (
            "31",
            None,
            "1:ready 2:term,here 3:dead,here",
            "1",
            "2",
            true,
        ),
        (
            "topology does not matter where nothing is ready",
            a,
            "1:term,za 2:term,zb",
            "1 2",
            "",
            true,
        ),
        (
            "one that only terminates needs no hint",
            a,
            "1:ready,za 2:ready,zb 3:term",
            "1",
            "",
            true,
        ),
    ] {
        let lab = with(zone, endpoints);
        let slices: Vec<_> = lab.slices.iter().collect();
        let selection = select(
            lab.view(&slices),
            Family::V4,
            &lab.spec.ports[0],
            &Weights::default(),
        );
        assert_eq!(serving(selection.of(Cluster)), cluster, "{row}: Cluster");
        assert_eq!(serving(selection.of(Local)), local, "{row}: Local");
        assert_eq!(selection.any, any, "{row}: any");
        // Whoever does not serve is left out for a reason, and drains.
        for set in [&selection.cluster, &selection.local] {
            let idle = set.real_servers.iter().filter(|(_, real)| real.draining);
            let told: BTreeSet<_> = set.excluded.iter().map(|(key, _)| *key).collect();
            assert_eq!(told, idle.map(|(key, _)| *key).collect(), "{row}");
        }
    }
}

#[test]
fn every_reason_is_told_as_it_is() {
    let lab = with(
        Some("za"),
        "1:ready,za,here 2:ready,zb 3:no,za 4:term,za,here",
    );
    let mut lab = lab;
    lab.spec.external_traffic_policy = Local;
    let told: BTreeSet<_> = lab.resolve().excluded.into_iter().collect();
    let told: Vec<_> = told
        .into_iter()
        .map(|excluded| {
            let addr = excluded.endpoint.addr.to_string();
            (
                excluded.policy,
                addr.rsplit('.').next().unwrap().to_owned(),
                excluded.reason,
            )
        })
        .collect();
    use ExclusionReason::{Draining, NotReady, OtherNode, OtherZone};
    let expected = [
        (Cluster, "2", OtherZone),
        (Cluster, "3", NotReady),
        (Cluster, "4", Draining),
        (Local, "2", OtherNode),
        (Local, "3", OtherNode),
        (Local, "4", Draining),
    ];
    let expected =
        expected.map(|(policy, number, reason)| (Some(policy), number.to_owned(), reason));
    assert_eq!(told, expected);
}

/// What a Service with every kind of address gives each of them, on n1.
fn by_kind(internal: TrafficPolicy, external: TrafficPolicy, endpoints: &str) -> Vec<String> {
    let mut lab = with(None, endpoints);
    lab.policy.external_ip_cidrs = vec!["198.51.100.0/24".parse().unwrap()];
    lab.spec.external_ips = vec!["198.51.100.9".parse().unwrap()];
    lab.spec.load_balancer_ips = vec!["192.0.2.50".parse().unwrap()];
    lab.spec.ports[0].node_port = 30080;
    lab.spec.internal_traffic_policy = internal;
    lab.spec.external_traffic_policy = external;
    let set = |real_servers: &crate::model::RealServers| {
        serving(&Set {
            real_servers: real_servers.clone(),
            excluded: Vec::new(),
        })
    };
    let mut lines: Vec<String> = lab
        .resolve()
        .virtual_servers
        .values()
        .map(|server| {
            let near = server.near.as_ref().map_or("-".to_owned(), set);
            let unserved = server.unserved;
            format!(
                "{}: [{}] near [{near}] else {unserved:?}",
                server.kind,
                set(&server.real_servers)
            )
        })
        .collect();
    lines.sort();
    lines
}

#[test]
fn each_kind_of_address_follows_its_own_policy() {
    let endpoints = "1:ready,here 2:ready";
    // 27
    assert_eq!(
        by_kind(Cluster, Local, endpoints),
        [
            "ClusterIP: [1 2] near [-] else Drop",
            "ExternalIP: [1] near [1 2] else Drop",
            "LoadBalancer: [1] near [1 2] else Drop",
            "NodePort: [1] near [1 2] else Drop",
        ]
    );
    // 26
    assert_eq!(
        by_kind(Local, Cluster, endpoints),
        [
            "ClusterIP: [1] near [-] else Drop",
            "ExternalIP: [1 2] near [-] else Drop",
            "LoadBalancer: [1 2] near [-] else Drop",
            "NodePort: [1 2] near [-] else Drop",
        ]
    );
    // 19: endpoints, but none here. 18: none at all.
    assert_eq!(
        by_kind(Local, Cluster, "2:ready")[0],
        "ClusterIP: [] near [-] else Drop"
    );
    assert_eq!(
        by_kind(Local, Local, "2:no")[0],
        "ClusterIP: [] near [-] else Refuse"
    );
}

#[test]
fn an_external_policy_means_nothing_without_an_external_address() {
    // 32
    let mut lab = with(None, "1:ready,here 2:ready");
    lab.spec.external_traffic_policy = Local;
    let servers = lab.resolve().virtual_servers;
    assert_eq!(servers.len(), 1);
    assert!(servers.values().all(|server| server.near.is_none()));
}

#[test]
fn source_ranges_limit_the_load_balancers_addresses_of_their_family() {
    // 60, 89
    let ranges = |texts: &[&str]| {
        let mut lab = with(None, "1:ready");
        lab.spec.load_balancer_ips = vec!["192.0.2.50".parse().unwrap()];
        lab.spec.ports[0].node_port = 30080;
        lab.spec.load_balancer_source_ranges = texts.iter().map(|t| t.parse().unwrap()).collect();
        let servers = lab.resolve().virtual_servers;
        let limited = servers
            .into_iter()
            .filter(|(_, server)| !server.source_ranges.is_empty());
        let texts = limited.map(|(vip, server)| {
            let nets: Vec<_> = server.source_ranges.iter().map(IpNet::to_string).collect();
            format!("{vip} {}", nets.join(" "))
        });
        texts.collect::<Vec<_>>()
    };
    let limited = ["192.0.2.50:80/TCP 10.0.0.0/8 192.168.1.0/24"];
    assert_eq!(
        ranges(&["192.168.1.7/24", "10.0.0.0/8", "fd00::/8"]),
        limited
    );
    // A family without a range is open, and so is one that a range holds whole.
    assert_eq!(ranges(&["fd00::/8"]), [""; 0]);
    assert_eq!(ranges(&["10.0.0.0/8", "0.0.0.0/0"]), [""; 0]);
    assert_eq!(ranges(&[]), [""; 0]);
}

/// 98: Services that keep to this node's endpoints while all are elsewhere. With none anywhere there is
/// nothing that the policy could be blamed for.
#[test]
fn services_without_local_endpoints_are_counted() {
    use TrafficPolicy::{Cluster, Local};
    let here = Endpoint {
        node_name: Some("n1".into()),
        ..ready("10.0.0.1")
    };
    let there = Endpoint {
        node_name: Some("n2".into()),
        ..ready("10.0.0.2")
    };
    let mut state = DesiredState::default();
    let mut counts = |internal, external, endpoints: &[&Endpoint]| {
        let endpoints: Vec<Endpoint> = endpoints.iter().copied().cloned().collect();
        let mut lab = lab().slice("http", 8080, &endpoints);
        lab.spec.service_type = ServiceType::NodePort;
        lab.spec.ports[0].node_port = 30080;
        lab.spec.internal_traffic_policy = internal;
        lab.spec.external_traffic_policy = external;
        state.replace(&lab.name, &lab.spec, lab.resolve(), &mut |_| {});
        counted(&state)
    };
    assert_eq!(counts(Local, Cluster, &[&here, &there]), [0, 0]);
    assert_eq!(counts(Local, Cluster, &[&there]), [1, 0]);
    assert_eq!(counts(Cluster, Local, &[&here, &there]), [0, 0]);
    assert_eq!(counts(Cluster, Local, &[&there]), [0, 1]);
    assert_eq!(counts(Local, Local, &[&here]), [0, 0]);
    assert_eq!(counts(Local, Local, &[&there]), [1, 1]);
    assert_eq!(counts(Local, Local, &[]), [0, 0]);
    assert_eq!(counts(Cluster, Cluster, &[&there]), [0, 0]);
    // One that still serves while it ends is an endpoint like others.
    let ends = Endpoint {
        node_name: Some("n1".into()),
        ..terminating("10.0.0.3")
    };
    assert_eq!(counts(Local, Local, &[&ends, &there]), [0, 0]);
    // They are counted once each, and not when they are gone.
    assert_eq!(counts(Local, Local, &[&there]), [1, 1]);
    let name = ObjectName::new("ns", "web");
    state.remove(&name, &mut |_| {});
    assert_eq!(counted(&state), [0, 0]);
}

/// Services that lack local endpoints for internal and for external traffic.
fn counted(state: &DesiredState) -> [usize; 2] {
    [false, true].map(|external| {
        let family = Family::V4;
        state
            .no_local()
            .count(no_local::Absence { external, family })
    })
}
