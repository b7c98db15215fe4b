//! What `ipvsadm` printed of the kernel's table of connections, beside what is printed here.

use ipvs_sys::procfs;

use super::*;
use crate::inspect::connections::count::{By, Count, Counts};

/// `/proc/net/ip_vs_conn`, four minutes or so after [`CAPTURES`] were made: the same connections.
const FILE: &str = include_str!("../../../ipvs-sys/tests/captures/proc-ip_vs_conn.txt");
const CAPTURES: &str = include_str!("captures.txt");

fn connections() -> Vec<ProcConnection> {
    procfs::connections(FILE.as_bytes())
        .map(Result::unwrap)
        .collect()
}

fn captured(command: &str) -> String {
    let (_, rest) = CAPTURES
        .split_once(&format!("$ ipvsadm {command}\n"))
        .unwrap();
    rest.split("$ ipvsadm").next().unwrap().to_owned()
}

/// Seconds went by between the two captures.
fn without_expiry(text: &str) -> Vec<String> {
    let without = |line: &str| {
        let (start, rest) = line.split_at(line.find(' ').unwrap_or(0));
        match rest
            .find(':')
            .filter(|_| rest.trim_start().starts_with(|c: char| c.is_ascii_digit()))
        {
            Some(at) => format!("{start} {}", &rest[at + 3..]),
            None => line.to_owned(),
        }
    };
    text.lines().map(without).collect()
}

#[test]
fn connections_look_as_ipvsadm_prints_them() {
    for (command, heading, engine) in [
        ("-Lcn", text::HEADING, false),
        ("-Lcn --persistent-conn", text::ENGINE_HEADING, true),
    ] {
        let mut printed = heading.to_owned();
        for connection in connections() {
            printed += &text::ipvsadm_line(&connection, engine);
        }
        assert_eq!(
            without_expiry(&printed),
            without_expiry(&captured(command)),
            "{command}"
        );
    }
    let mut connection = connections().remove(7);
    connection.expires = 10_796;
    assert!(captured("-Lcn").contains(&text::ipvsadm_line(&connection, false)));
}

#[test]
fn counts_tell_connections_and_templates_apart() {
    let names = Names::new();
    let mut counts = Counts::default();
    let all = connections();
    all.iter()
        .for_each(|connection| counts.add(By::Service, connection, &names));
    let counts = counts.sorted();
    let of = |key: &str| {
        counts
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, count)| *count)
    };
    let count = |connections, established, templates| {
        Some(Count {
            connections,
            established,
            templates,
        })
    };
    assert_eq!(of("TCP 10.96.0.1:443"), count(3, 1, 0));
    assert_eq!(of("TCP 10.96.0.10:53"), count(2, 1, 1));
    assert_eq!(of("UDP 10.96.0.50:5060"), count(1, 0, 1));
    let total: u64 = counts
        .iter()
        .map(|(_, count)| count.connections + count.templates)
        .sum();
    assert_eq!(total, all.len() as u64);
    assert_eq!(counts[0].0, "TCP 10.96.0.1:443");
}

#[test]
fn a_selection_is_by_every_end_and_by_state() {
    let names = Names::new();
    let shown = |selection: &Selection| {
        connections()
            .iter()
            .filter(|c| selection.passes(c, &names))
            .count()
    };
    let place = |text: &str| Some(text.parse().unwrap());
    let table = |filter: Filter| Selection {
        table: filter,
        ..Selection::default()
    };
    assert_eq!(shown(&Selection::default()), connections().len());
    assert_eq!(
        shown(&Selection {
            client: place("10.1.0.2"),
            ..Selection::default()
        }),
        11
    );
    assert_eq!(
        shown(&Selection {
            client: place("10.1.0.2:40001"),
            ..Selection::default()
        }),
        1
    );
    let state = Some("established".to_owned());
    assert_eq!(
        shown(&Selection {
            state,
            ..Selection::default()
        }),
        4
    );
    assert_eq!(
        shown(&table(Filter {
            vip: place("10.96.0.10"),
            ..Filter::default()
        })),
        3
    );
    assert_eq!(
        shown(&table(Filter {
            backend: place("10.3.0.2"),
            ..Filter::default()
        })),
        2
    );
    let protocol = Some(Protocol::Udp);
    assert_eq!(
        shown(&table(Filter {
            protocol,
            ..Filter::default()
        })),
        2
    );
    let namespace = Some("shop".to_owned());
    assert_eq!(
        shown(&table(Filter {
            namespace,
            ..Filter::default()
        })),
        0
    );
}
