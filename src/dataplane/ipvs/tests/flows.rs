//! What upstream's own unit tests ask of conntrack cleanup. Numbers are those of
//! `docs/checklist.md`.

use super::bench::{addrs, bench, slice};
use super::*;
use crate::dataplane::policy::flows::{self, StaleFlows};
use crate::model::ServiceType;
use crate::netfilter::conntrack::{Flow, Tuple};

fn flow(vip: &VipPort, answering: &str) -> Flow {
    let client: (std::net::IpAddr, u16) = ([10, 244, 0, 77].into(), 12345);
    let answering: HostPort = answering.parse().unwrap();
    Flow {
        original: Tuple {
            src: client.0,
            dst: vip.addr,
            src_port: client.1,
            dst_port: vip.port,
        },
        reply: Tuple {
            src: answering.addr,
            dst: client.0,
            src_port: answering.port,
            dst_port: client.1,
        },
    }
}

/// 104, 105: of all flows only those of UDP go that lead to a Service and to nobody who serves it.
#[test]
fn only_udp_flows_of_services_that_nobody_answers_are_forgotten() {
    let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let ports = protocols.map(|p| format!("{p} {p} 53 30053"));
    let mut bench = bench("10.96.0.10", &ports.each_ref().map(String::as_str));
    bench.spec.service_type = ServiceType::LoadBalancer;
    bench.spec.external_ips = addrs("198.51.100.9");
    bench.spec.load_balancer_ips = addrs("203.0.113.7");
    bench.node_addresses = "192.0.2.1";
    let with = |endpoints| {
        protocols
            .map(|p| slice(&format!("{p} {p} 5353"), endpoints))
            .into()
    };
    bench.slices = with("10.244.0.1 10.244.0.2 10.244.0.3");
    bench.steps();
    bench.slices = with("10.244.0.1 10.244.0.2/unready");
    let steps = bench.steps();
    let wanted = steps.iter().filter_map(Step::stale_flows);
    let stale: StaleFlows<'_> = wanted.collect();
    assert!(stale.any_of(Family::V4) && !stale.any_of(Family::V6));

    let served = [
        ("10.96.0.10", 53),
        ("203.0.113.7", 53),
        ("198.51.100.9", 53),
        ("192.0.2.1", 30053),
    ];
    let others = [
        ("10.96.0.10", 54),
        ("203.0.113.7", 54),
        ("198.51.100.9", 54),
        ("10.96.0.11", 53),
        ("192.0.2.1", 53),
    ];
    let answers = [
        ("10.244.0.1:5353", false),
        ("10.244.0.2:5353", true),
        ("10.244.0.3:5353", true),
    ];
    let mut deleted = 0;
    for protocol in protocols {
        let tuples = served.map(|tuple| (tuple, true)).into_iter();
        for ((addr, port), ours) in tuples.chain(others.map(|tuple| (tuple, false))) {
            let addr = addr.parse().unwrap();
            let vip = VipPort {
                addr,
                protocol,
                port,
            };
            // One that was never balanced is answered by the VIP.
            let unbalanced = HostPort { addr, port }.to_string();
            let answers = answers.into_iter().chain([(&*unbalanced, true)]);
            for (answering, gone) in answers {
                let goes = protocol == flows::PROTOCOL && stale.contains(&flow(&vip, answering));
                let want = protocol == Protocol::Udp && ours && gone;
                assert_eq!(goes, want, "{vip} answered by {answering}");
                deleted += usize::from(goes);
            }
        }
    }
    assert_eq!(deleted, 4 * 3);
}

/// 107: upstream lets the flows of a Service be that nobody serves any more. Here they go, or a
/// client that never falls silent would not learn that it is refused; and they go again when
/// somebody serves, so that none made in between leads nowhere.
#[test]
fn flows_go_with_the_last_endpoint_and_when_the_first_comes() {
    let mut bench = bench("10.96.0.10", &["dns UDP 53 0"]);
    let one = slice("dns UDP 5353", "10.244.0.1");
    let forget = |count| {
        format!("conntrack -D -p udp --orig-dst 10.96.0.10:53/UDP (all but {count} real servers)")
    };
    assert_eq!(bench.sync(), [""; 0]);
    bench.slices = vec![one.clone()];
    assert_eq!(bench.sync().last(), Some(&forget(1)));
    bench.slices.clear();
    assert_eq!(bench.sync().last(), Some(&forget(0)));
    // Nothing changes while nobody serves, and nothing is forgotten.
    assert_eq!(bench.sync(), [""; 0]);
    bench.slices = vec![one];
    assert_eq!(bench.sync().last(), Some(&forget(1)));
}

/// 62: a UDP port that is taken off a Service, and a whole Service that goes.
#[test]
fn flows_of_a_udp_port_go_with_it_and_those_of_others_stay() {
    let mut bench = bench("10.96.0.10", &["a UDP 53 0", "b UDP 54 0", "c TCP 53 0"]);
    bench.slices = ["a UDP 1053", "b UDP 1054", "c TCP 1053"]
        .map(|of| slice(of, "10.244.0.1"))
        .into();
    bench.sync();
    let forgets = |told: Vec<String>| -> Vec<String> {
        let flows = told
            .iter()
            .filter_map(|text| text.strip_prefix("conntrack "));
        flows.map(str::to_owned).collect()
    };
    let gone =
        |port| format!("-D -p udp --orig-dst 10.96.0.10:{port}/UDP (all but 0 real servers)");
    bench.spec.ports.remove(0);
    assert_eq!(forgets(bench.sync()), [gone(53)]);
    bench.spec.cluster_ips.clear();
    assert_eq!(forgets(bench.sync()), [gone(54)]);
}

#[test]
fn udp_flows_to_a_real_server_that_is_gone_are_forgotten() {
    let vip: VipPort = "10.96.0.1:53/UDP".parse().unwrap();
    let real = |n: u8| HostPort {
        addr: [10, 244, 0, n].into(),
        port: 8080,
    };
    let with = |reals: &[u8]| {
        let reals = reals.iter().map(|n| (real(*n), (false, false))).collect();
        Wish::from([(vip, Wished::new(VipKind::ClusterIp, reals))])
    };
    let mut kernel = empty_kernel();
    let wanted = desired(&with(&[1, 2]));
    converge(&mut kernel, &wanted, &target(&wanted));
    let wanted = desired(&with(&[2, 3]));
    let target = target(&wanted);
    let steps = plan(
        &wanted,
        &target,
        &kernel,
        &target.everything(&wanted, &kernel),
        NOW,
    );
    let forgotten: Vec<_> = steps
        .iter()
        .filter_map(|step| match step {
            Step::ForgetFlows { vip, keep } => Some((*vip, keep.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(forgotten, [(vip, BTreeSet::from([real(2), real(3)]))]);
}
