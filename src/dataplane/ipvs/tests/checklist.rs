//! What upstream's own unit tests ask of an IPVS proxier. Numbers are those of `docs/checklist.md`.

use ipnet::IpNet;

use super::bench::{addrs, bench, port, slice, web};
use super::*;
use crate::model::{ServicePort, TrafficPolicy};

/// 84, 86, 53, 54.
#[test]
fn virtual_servers_of_cluster_ips_and_node_ports() {
    let v4 = ("10.96.0.10", "10.244.0.1 10.244.0.2");
    let v6 = ("fd00:96::10", "fd00:244::1 fd00:244::2");
    for (what, (vip, endpoints), protocol, node_port, node, want) in [
        (
            "a cluster IP of IPv4",
            v4,
            "TCP",
            0,
            "",
            &["10.96.0.10:80/TCP -> 10.244.0.1:8080 10.244.0.2:8080"][..],
        ),
        (
            "and of IPv6",
            v6,
            "TCP",
            0,
            "",
            &["[fd00:96::10]:80/TCP -> [fd00:244::1]:8080 [fd00:244::2]:8080"],
        ),
        (
            "NodePort: each node IP",
            v4,
            "TCP",
            30080,
            "192.0.2.1 192.0.2.2",
            &[
                "10.96.0.10:80/TCP -> 10.244.0.1:8080 10.244.0.2:8080",
                "192.0.2.1:30080/TCP -> 10.244.0.1:8080 10.244.0.2:8080",
                "192.0.2.2:30080/TCP -> 10.244.0.1:8080 10.244.0.2:8080",
            ],
        ),
        (
            "NodePort over IPv6",
            v6,
            "TCP",
            30080,
            "2001:db8::1 192.0.2.1",
            &[
                "[2001:db8::1]:30080/TCP -> [fd00:244::1]:8080 [fd00:244::2]:8080",
                "[fd00:96::10]:80/TCP -> [fd00:244::1]:8080 [fd00:244::2]:8080",
            ],
        ),
        (
            "UDP",
            (v4.0, "10.244.0.1"),
            "UDP",
            30080,
            "192.0.2.1",
            &[
                "10.96.0.10:80/UDP -> 10.244.0.1:8080",
                "192.0.2.1:30080/UDP -> 10.244.0.1:8080",
            ],
        ),
        (
            "SCTP on two node IPs",
            (v4.0, "10.244.0.1"),
            "SCTP",
            30080,
            "192.0.2.1 192.0.2.2",
            &[
                "10.96.0.10:80/SCTP -> 10.244.0.1:8080",
                "192.0.2.1:30080/SCTP -> 10.244.0.1:8080",
                "192.0.2.2:30080/SCTP -> 10.244.0.1:8080",
            ],
        ),
        (
            "endpoints of the other family",
            (v4.0, v6.1),
            "TCP",
            0,
            "",
            &[],
        ),
    ] {
        let mut bench = bench(vip, &[&format!("http {protocol} 80 {node_port}")]);
        bench.slices = vec![slice(&format!("http {protocol} 8080"), endpoints)];
        bench.node_addresses = node;
        bench.sync();
        let (mut held, mut want) = (bench.held(), want.to_vec());
        held.sort();
        want.sort_unstable();
        assert_eq!(held, want, "{what}");
        assert_eq!(bench.sync(), [""; 0], "{what}: twice");
    }
}

/// 84, 86 without endpoints: upstream leaves a virtual server without real servers. Here there is
/// none, and the tuples are refused.
#[test]
fn without_endpoints_there_is_no_virtual_server_and_clients_are_refused() {
    let mut bench = web("");
    bench.spec.ports[0].node_port = 30080;
    bench.node_addresses = "192.0.2.1";
    assert_eq!(bench.sync(), [""; 0]);
    assert_eq!(bench.held(), [""; 0]);
    let tuples = ["10.96.0.10,tcp:80", "192.0.2.1,tcp:30080"];
    assert_eq!(bench.set(SetKind::Refused), tuples);
}

/// 87: an earlier run died while it drained; the endpoint is ready.
#[test]
fn a_real_server_left_at_weight_0_serves_again_after_a_restart() {
    let mut bench = web("10.244.0.1 10.244.0.2");
    bench.sync();
    let servers = bench.kernel.virtual_servers.values_mut();
    let first = servers
        .flat_map(|server| server.real_servers.values_mut())
        .next();
    first.unwrap().weight = 0;
    assert_eq!(
        bench.sync(),
        ["-e -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1"]
    );
}

/// 88, 89: who is masqueraded always, who keeps their address, who is limited to sources.
#[test]
fn external_addresses_and_load_balancers() {
    let both = "10.244.0.1/here 10.244.0.2";
    let external = |policy, endpoints| {
        let mut bench = web(endpoints);
        bench.spec.external_ips = addrs("198.51.100.9");
        bench.spec.load_balancer_ips = addrs("203.0.113.7 2001:db8::7");
        bench.spec.load_balancer_source_ranges = vec!["203.0.113.0/28".parse().unwrap()];
        bench.spec.external_traffic_policy = policy;
        bench.sync();
        bench
    };
    let outside = ["198.51.100.9,tcp:80", "203.0.113.7,tcp:80"];

    let cluster = external(TrafficPolicy::Cluster, both);
    let reals = "10.244.0.1:8080 10.244.0.2:8080";
    assert_eq!(
        cluster.held(),
        ["10.96.0.10", "198.51.100.9", "203.0.113.7"].map(|ip| format!("{ip}:80/TCP -> {reals}"))
    );
    assert_eq!(cluster.set(SetKind::External), outside);
    assert_eq!(cluster.set(SetKind::Ranged), ["203.0.113.7,tcp:80"]);
    let sources = ["203.0.113.7,tcp:80,203.0.113.0/28"];
    assert_eq!(cluster.set(SetKind::Sources), sources);

    let local = external(TrafficPolicy::Local, both);
    let mut held = local.held();
    held.sort();
    let want = [
        format!("10.96.0.10:80/TCP -> {reals}"),
        "198.51.100.9:80/TCP -> 10.244.0.1:8080".to_owned(),
        "203.0.113.7:80/TCP -> 10.244.0.1:8080".to_owned(),
        format!("near -> {reals}"),
    ];
    assert_eq!(held, want);
    assert_eq!(local.set(SetKind::External), [""; 0]);
    assert_eq!(local.set(SetKind::Near).len(), 2);
    assert_eq!(local.set(SetKind::Sources), sources);

    let none = external(TrafficPolicy::Cluster, "");
    assert_eq!(none.held(), [""; 0]);
    assert_eq!(none.set(SetKind::Refused)[1..], outside);
    let elsewhere = external(TrafficPolicy::Local, "10.244.0.2");
    assert_eq!(elsewhere.set(SetKind::Dropped), outside);
}

/// 91, 92: from one Service to another, and all that is done to virtual servers.
#[test]
fn a_virtual_server_is_written_only_when_it_differs() {
    type Edit = fn(&mut ServiceSpec);
    let none: Edit = |_| {};
    let sticky: Edit = |spec| spec.affinity_timeout_seconds = Some(10_800);
    let shorter: Edit = |spec| spec.affinity_timeout_seconds = Some(60);
    let hashed: Edit = |spec| {
        let key = "ipvs-agent.io/scheduler".into();
        spec.annotations.insert(key, "sh".into());
    };
    let renamed: Edit = |spec| spec.uid = "another".into();
    for (what, before, after, want) in [
        ("equal", none, none, None),
        ("equal, with affinity", sticky, sticky, None),
        ("what the kernel does not hold", none, renamed, None),
        ("affinity", none, sticky, Some("-s rr -p 10800")),
        ("another timeout", sticky, shorter, Some("-s rr -p 60")),
        ("affinity no more", sticky, none, Some("-s rr")),
        (
            "another scheduler",
            none,
            hashed,
            Some("-s sh -b sh-fallback"),
        ),
        ("the first again", hashed, none, Some("-s rr")),
    ] {
        let mut bench = web("10.244.0.1");
        let plain = bench.spec.clone();
        before(&mut bench.spec);
        assert!(
            bench.sync()[0].starts_with("-A -t 10.96.0.10:80 -s "),
            "new"
        );
        bench.spec = plain;
        after(&mut bench.spec);
        let want: Vec<_> = want
            .iter()
            .map(|to| format!("-E -t 10.96.0.10:80 {to}"))
            .collect();
        assert_eq!(bench.sync(), want, "{what}");
    }
}

/// Nothing else makes the kernel refuse those who come.
#[test]
fn clients_are_held_around_a_change_of_scheduler_alone() {
    let mut bench = web("10.244.0.1");
    bench.sync();
    bench.spec.affinity_timeout_seconds = Some(60);
    let texts = |steps: Vec<Step>| steps.iter().map(Step::to_string).collect::<Vec<_>>();
    assert_eq!(
        texts(bench.steps()),
        ["ipvsadm -E -t 10.96.0.10:80 -s rr -p 60"]
    );
    let key = "ipvs-agent.io/scheduler".into();
    bench.spec.annotations.insert(key, "wlc".into());
    assert_eq!(
        texts(bench.steps()),
        [
            "ipset add IPVS-AGENT-4-HELD 10.96.0.10,tcp:80",
            "ipvsadm -E -t 10.96.0.10:80 -s wlc -p 60",
            "ipset del IPVS-AGENT-4-HELD 10.96.0.10,tcp:80",
        ]
    );
}

/// 92: what makes a VIP answer, in place of an address on an interface; 95: it goes with the last
/// port.
#[test]
fn a_vip_lives_until_its_last_port_goes() {
    let ports = ["http TCP 80 0", "dns UDP 53 0"].map(port);
    let mut bench = bench("", &[]);
    bench.spec.cluster_ips = addrs("10.96.0.10");
    bench.spec.load_balancer_ips = addrs("203.0.113.7");
    bench.slices = vec![
        slice("http TCP 8080", "10.244.0.1"),
        slice("dns UDP 5353", "10.244.0.1"),
    ];
    let route: IpNet = "203.0.113.7/32".parse().unwrap();
    let mut lives = |ports: &[ServicePort]| {
        bench.spec.ports = ports.to_vec();
        bench.sync();
        let live = bench.set(SetKind::Live);
        let of_vip = live
            .iter()
            .filter(|entry| entry.starts_with("203.0.113.7,"));
        (of_vip.count(), bench.kernel.routes.contains(&route))
    };
    assert_eq!(lives(&ports), (2, true));
    assert_eq!(lives(&ports), (2, true));
    assert_eq!(lives(&ports[1..]), (1, true));
    assert_eq!(lives(&[]), (0, false));
}

/// 96: policies from end to end, terminating endpoints, and slices that go.
#[test]
fn policies_terminating_endpoints_and_slices_that_go() {
    let held = |policy, endpoints: &str| {
        let mut bench = web(endpoints);
        bench.spec.internal_traffic_policy = policy;
        bench.sync();
        bench.held().concat()
    };
    use TrafficPolicy::{Cluster, Local};
    let vip = "10.96.0.10:80/TCP ->";
    for (policy, endpoints, want) in [
        (
            Cluster,
            "10.244.0.1/here 10.244.0.2",
            " 10.244.0.1:8080 10.244.0.2:8080",
        ),
        (Local, "10.244.0.1/here 10.244.0.2", " 10.244.0.1:8080"),
        (Cluster, "10.244.0.1 10.244.0.2/term", " 10.244.0.1:8080"),
        (
            Cluster,
            "10.244.0.1/term 10.244.0.2/unready",
            " 10.244.0.1:8080",
        ),
    ] {
        assert_eq!(
            held(policy, endpoints),
            format!("{vip}{want}"),
            "{endpoints}"
        );
    }
    assert_eq!(held(Local, "10.244.0.2"), "");

    let mut bench = web("10.244.0.1/here");
    bench.sync();
    assert_eq!(
        bench.set(SetKind::Hairpin),
        ["10.244.0.1,tcp:8080,10.244.0.1"]
    );
    bench.slices.clear();
    // 102: it drains first, since it may have connections; idle ones go.
    assert_eq!(
        bench.sync(),
        ["-e -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 0"]
    );
    assert_eq!(bench.held(), [format!("{vip} 10.244.0.1:8080=0")]);
    read_idle_connections(&mut bench.kernel);
    bench.sync();
    assert_eq!(bench.held(), [""; 0]);
    assert_eq!(bench.set(SetKind::Hairpin), [""; 0]);
}

/// 103: sets get the difference, and their names fit the kernel.
#[test]
fn sets_get_what_is_missing_and_lose_what_is_too_much() {
    let mut bench = web("10.244.0.1");
    bench.sync();
    let entry = |text: &str| Member {
        set: SetKind::Live,
        element: Element::VipPort(text.parse().unwrap()),
    };
    let (ours, stale) = (entry("10.96.0.10:80/TCP"), entry("10.96.0.99:80/TCP"));
    bench.kernel.members.remove(&ours);
    bench.kernel.members.insert(stale);
    let steps: BTreeSet<_> = bench.steps().iter().map(ToString::to_string).collect();
    let want = [format!("ipset add {ours}"), format!("ipset del {stale}")];
    assert_eq!(steps, want.into());
    assert!(bench.steps().is_empty());
    for (set, family) in SetKind::IPVS
        .into_iter()
        .flat_map(|set| Family::ALL.map(|f| (set, f)))
    {
        assert!(set.name(family).len() <= 31, "{set}");
    }
}
