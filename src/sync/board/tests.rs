//! Numbers are those of `docs/checklist.md`.

use std::time::UNIX_EPOCH;

use super::*;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// 83: changes from before the start waited for the agent, not for the kernel.
#[test]
fn a_change_before_the_start_is_not_measured() {
    let started = at(1000);
    let took = |triggered, now| latency(at(triggered), started, at(now));
    assert_eq!(took(999, 1005), None);
    assert_eq!(took(1000, 1005), None);
    assert_eq!(took(1001, 1005), Some(Duration::from_secs(4)));
    // Written by a clock that is ahead.
    assert_eq!(took(1007, 1005), Some(Duration::ZERO));
}

/// The buckets of kube-proxy's source (`pkg/proxy/metrics`): 0.25 and 0.5, 1 to 59, 60 to 115 by
/// fives, 120 to 300 by thirties.
#[test]
fn programming_is_told_by_family_in_kube_proxys_buckets() {
    let board = Board::new(SourceBoard::default());
    // Later than any clock shows that this runs by.
    let year_2200 = 7_258_118_400;
    let changes = [
        (Family::V4, at(year_2200)),
        (Family::V4, at(year_2200 + 100)),
        (Family::V6, at(5)),
    ];
    board.programmed(&changes, at(year_2200 + 102));
    let text = board.metrics(Moment::default()).unwrap();
    let name = "kubeproxy_network_programming_duration_seconds";
    let value = |metric: &str| {
        let mut lines = text.lines();
        let found = lines.find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
        found
            .unwrap_or_else(|| panic!("no {metric} in\n{text}"))
            .to_owned()
    };
    let bucket = |le: &str| value(&format!("{name}_bucket{{le=\"{le}\",ip_family=\"IPv4\"}}"));
    for (le, count) in [
        ("0.25", "0"),
        ("0.5", "0"),
        ("1.0", "0"),
        ("2.0", "1"),
        ("59.0", "1"),
        ("60.0", "1"),
        ("100.0", "1"),
        ("105.0", "2"),
        ("115.0", "2"),
        ("120.0", "2"),
        ("300.0", "2"),
        ("+Inf", "2"),
    ] {
        assert_eq!(bucket(le), count, "{le}");
    }
    assert_eq!(value(&format!("{name}_sum{{ip_family=\"IPv4\"}}")), "104.0");
    let buckets = text
        .lines()
        .filter(|line| line.starts_with(&format!("{name}_bucket")));
    assert_eq!(buckets.count(), 2 + 59 + 12 + 7 + 1);
}

/// 108. The name and the label of kube-proxy's source (`pkg/proxy/metrics`).
#[test]
fn deleted_flows_are_told_by_family_under_kube_proxys_name() {
    use crate::model::Family::{V4, V6};
    let board = Board::new(SourceBoard::default());
    let deleted = |counts: &[(Family, u64)]| {
        board.counters(Counters {
            deleted_flows: counts.iter().copied().collect(),
            ..Counters::default()
        });
        let text = board.metrics(Moment::default()).unwrap();
        let name = "kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family=\"";
        let told = text.lines().filter_map(|line| line.strip_prefix(name));
        let mut told: Vec<String> = told.map(str::to_owned).collect();
        told.sort();
        told
    };
    assert_eq!(deleted(&[]), ["IPv4\"} 0", "IPv6\"} 0"]);
    assert_eq!(deleted(&[(V4, 3)]), ["IPv4\"} 3", "IPv6\"} 0"]);
    assert_eq!(deleted(&[(V4, 3), (V6, 2)]), ["IPv4\"} 3", "IPv6\"} 2"]);
    assert_eq!(deleted(&[(V4, 7), (V6, 2)]), ["IPv4\"} 7", "IPv6\"} 2"]);
}

/// A value for every metric.
fn with_everything() -> Board {
    use crate::cluster::Kind;
    use crate::dataplane::Outcome;
    let sources = SourceBoard::default();
    sources.good(Kind::Services, true);
    let board = Board::new(sources);
    board.serves_by("ipvs", "available", &["add_member"]);
    board.events_taken(&[
        Event::ServiceDeleted(ObjectName::new("ns", "a")),
        Event::SliceDeleted(ObjectName::new("ns", "a-1")),
        Event::SliceDeleted(ObjectName::new("ns", "a-2")),
        Event::NodeDeleted,
    ]);
    board.phase(Phase::Plan, Duration::from_millis(3));
    let mut tally = Tally::default();
    tally.add("add_member", Outcome::Applied);
    tally.add("add_member", Outcome::Applied);
    tally.add("add_member", Outcome::Skipped);
    board.stepped(&tally);
    board.counters(Counters {
        netlink: BTreeMap::from([(
            "ipset",
            Netlink {
                messages: 7,
                sends: 2,
                errors: 1,
            },
        )]),
        ..Counters::default()
    });
    board.passed(&Pass::default(), Moment::default());
    board.shadowed(&BTreeMap::new(), Moment::default());
    board.no_local(&NoLocal::default());
    let written = wall() + Duration::from_secs(1000);
    board.programmed(&[(Family::V4, written)], written);
    board.events("made", 1);
    let requests = &board.sources.meter.requests;
    requests.ended("GET", "192.0.2.1:6443", Some(200), Some(0.1));
    board.healthz_answered(200);
    board.livez_answered(200);
    board
}

/// The reference is made of the entries, so they must be what is told: name, kind, help and labels.
#[test]
fn what_is_told_is_what_the_entries_say() {
    use crate::metrics::catalogue::tests::told;
    let board = with_everything();
    let (text, entries) = (
        board.metrics(Moment::default()).unwrap(),
        board.metrics.catalogue.entries(),
    );
    let entries = entries
        .iter()
        .filter(|entry| !entry.name.starts_with("ipvs_agent_traffic"))
        .filter(|entry| !entry.name.starts_with("ipvs_agent_service_"))
        .filter(|entry| !entry.name.starts_with("ipvs_agent_backend_"));
    assert_eq!(told(&text), entries.cloned().map(Into::into).collect());
}

/// kube-proxy's meaning (`pkg/proxy/metrics`): changes are pending until a sync takes them up.
#[test]
fn changes_are_pending_until_a_pass_takes_them_up() {
    let board = with_everything();
    let value = |name: &str| {
        let text = board.metrics(Moment::default()).unwrap();
        let mut lines = text.lines();
        let found = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        found
            .unwrap_or_else(|| panic!("no {name} in\n{text}"))
            .to_owned()
    };
    let name = |of: &str| format!("kubeproxy_sync_proxy_rules_{of}");
    assert_eq!(value(&name("endpoint_changes_pending")), "2");
    assert_eq!(value(&name("service_changes_pending")), "1");
    board.taken_up();
    assert_eq!(value(&name("endpoint_changes_pending")), "0");
    assert_eq!(value(&name("service_changes_pending")), "0");
    assert_eq!(value(&name("endpoint_changes_total")), "2");
    assert_eq!(value(&name("service_changes_total")), "1");
    assert_eq!(value("ipvs_agent_source_events_total"), "4");
    let steps = |outcome: &str| {
        format!("ipvs_agent_steps_total{{kind=\"add_member\",outcome=\"{outcome}\"}}")
    };
    assert_eq!(value(&steps("applied")), "2");
    assert_eq!(value(&steps("failed")), "0");
    assert_eq!(value(&steps("skipped")), "1");
    let errors = "ipvs_agent_netlink_errors_total{subsystem=\"ipset\"}";
    assert_eq!(value(errors), "1");
    board.counters(Counters {
        netlink: BTreeMap::from([(
            "ipset",
            Netlink {
                messages: 9,
                sends: 3,
                errors: 5,
            },
        )]),
        ..Counters::default()
    });
    assert_eq!(value(errors), "5");
}
