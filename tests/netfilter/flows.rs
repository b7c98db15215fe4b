//! Of the conntrack table exactly the picked flows go; `conntrack` makes the flows and tells what
//! is left.

use std::net::IpAddr;

use ipvs_agent::model::{Family, Protocol};
use ipvs_agent::netfilter::conntrack::{ConntrackClient, Flow};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::flow_table::{Line, PROTOCOLS, insert, load, populate, table};
use super::namespace::{in_namespace, run};

fn sorted(flows: &[Flow]) -> Vec<String> {
    let mut texts: Vec<String> = flows.iter().map(|flow| format!("{flow:?}")).collect();
    texts.sort();
    texts
}

/// Deletes what `stale` picks and compares what it was shown, what it was told and what is left
/// with what `conntrack` said before.
fn deletes(
    family: Family,
    protocol: (Protocol, &str),
    before: &[Line],
    stale: &dyn Fn(&Flow) -> bool,
) {
    let of = |line: &Line| line.flow(family, protocol.1);
    let expected: Vec<Flow> = before.iter().filter_map(of).collect();
    let left: Vec<Line> = before
        .iter()
        .filter(|line| !of(line).is_some_and(|flow| stale(&flow)))
        .cloned()
        .collect();
    let mut shown = Vec::new();
    let deleted = ConntrackClient::open()
        .unwrap()
        .delete_where(family, protocol.0, &mut |flow| {
            shown.push(*flow);
            stale(flow)
        })
        .unwrap();
    assert_eq!(sorted(&shown), sorted(&expected));
    assert_eq!(deleted, before.len() - left.len());
    assert_eq!(table(), left);
}

/// 104, 108 of `docs/checklist.md`.
#[test]
fn the_flows_of_one_service_and_one_real_server_go_and_no_others() {
    in_namespace(|| {
        for (family, vip, real) in [
            (Family::V4, "10.96.0.10", "10.2.0.1"),
            (Family::V6, "fd00:96::a", "fd00:2::1"),
        ] {
            let (vip, real): (IpAddr, IpAddr) = (vip.parse().unwrap(), real.parse().unwrap());
            for protocol in PROTOCOLS {
                // The tool translates no SCTP ports.
                let port = if protocol.1 == "sctp" { 53 } else { 5353 };
                run("conntrack -F");
                let before = populate();
                let of_vip = |flow: &Flow| flow.original.dst == vip && flow.original.dst_port == 53;
                deletes(family, protocol, &before, &|flow| {
                    of_vip(flow) && flow.reply.src == real && flow.reply.src_port == port
                });
                assert_eq!(before.len() - table().len(), 1);
                let before = table();
                deletes(family, protocol, &before, &of_vip);
                assert_eq!(before.len() - table().len(), 5);
                deletes(family, protocol, &table(), &|_| false);
                deletes(family, protocol, &table(), &|_| true);
            }
        }
    });
}

#[test]
fn any_choice_of_flows_goes_and_no_others() {
    in_namespace(|| {
        let family = prop_oneof![Just(Family::V4), Just(Family::V6)];
        let protocol = prop::sample::select(PROTOCOLS.to_vec());
        let config = Config {
            cases: 16,
            failure_persistence: None,
            ..Config::default()
        };
        TestRunner::new(config)
            .run(
                &(family, protocol, any::<u64>()),
                |(family, protocol, choice)| {
                    run("conntrack -F");
                    // The same flow is always chosen alike, in whichever zone.
                    deletes(family, protocol, &populate(), &|flow| {
                        let sum: u64 = format!("{flow:?}").bytes().map(u64::from).sum();
                        choice >> (sum % 64) & 1 == 1
                    });
                    Ok::<(), TestCaseError>(())
                },
            )
            .unwrap();
    });
}

/// 106.
#[test]
fn thousands_of_flows_are_all_seen_and_half_of_them_go() {
    in_namespace(|| {
        let mut text = String::new();
        for port in 1..=5000 {
            let to = ("10.96.0.10", 53);
            insert(
                &mut text,
                "udp",
                ("10.1.0.1", port),
                to,
                "--dst-nat 10.2.0.1:53",
            );
        }
        load(&text);
        let before = table();
        assert_eq!(before.len(), 5000);
        let odd = |flow: &Flow| flow.original.src_port % 2 == 1;
        deletes(Family::V4, (Protocol::Udp, "udp"), &before, &odd);
        assert_eq!(table().len(), 2500);
    });
}

#[test]
fn a_flow_that_ends_meanwhile_is_no_error() {
    in_namespace(|| {
        let before = populate();
        let mut client = ConntrackClient::open().unwrap();
        let mut picked = 0;
        client
            .delete_where(Family::V4, Protocol::Udp, &mut |_| {
                picked += 1;
                if picked == 1 {
                    run("conntrack -D -f ipv4 -p udp");
                }
                true
            })
            .unwrap();
        let is_udp = |line: &&Line| line.flow(Family::V4, "udp").is_some();
        assert!(picked > 0);
        let others: Vec<Line> = before
            .iter()
            .filter(|line| !is_udp(line))
            .cloned()
            .collect();
        assert_eq!(table(), others);
    });
}

#[test]
fn a_flow_that_was_made_anew_meanwhile_stays() {
    const FLOW: &str = "-p udp -s 10.1.0.1 -d 10.96.0.10 --sport 4000 --dport 53";
    let id = || {
        let text = run("conntrack -L -p udp -s 10.1.0.1 -o id");
        text.split_whitespace()
            .find(|word| word.starts_with("id="))
            .unwrap()
            .to_owned()
    };
    in_namespace(|| {
        run(&format!("conntrack -I {FLOW} -t 3600"));
        let before = id();
        let mut client = ConntrackClient::open().unwrap();
        let mut others = 1..;
        client
            .delete_where(Family::V4, Protocol::Udp, &mut |_| {
                // The id comes from the entry's place in memory, which others must take first.
                while id() == before {
                    let mut text = format!("-D {FLOW}\n");
                    for port in others.by_ref().take(50) {
                        insert(&mut text, "udp", ("10.9.0.1", port), ("10.9.0.2", 53), "");
                    }
                    load(&format!("{text}-I {FLOW} -t 3600\n"));
                }
                true
            })
            .unwrap();
        assert_ne!(id(), before);
    });
}

#[test]
fn an_empty_table_and_other_namespaces_are_left_alone() {
    in_namespace(|| {
        let before = populate();
        in_namespace(|| {
            let mut client = ConntrackClient::open().unwrap();
            for family in Family::ALL {
                for (protocol, _) in PROTOCOLS {
                    let deleted = client.delete_where(family, protocol, &mut |_| true);
                    assert_eq!(deleted.unwrap(), 0);
                }
            }
        });
        assert_eq!(table(), before);
    });
}
