//! What `ipvsadm` printed of a table that was used, beside what is printed here of the same table:
//! the rules that made it, and the numbers that stood in the captures.

use std::collections::BTreeMap;

use ipvs_sys::{Command, DestinationEntry, ServiceEntry};

use super::*;
use crate::inspect::rules::file::steps;
use crate::inspect::rules::save::{Dialect, save};
use crate::inspect::rules::{Names, ServicePorts};
use crate::inspect::table::{Table, order};

const RULES: &str = include_str!("../captures.rules");
const CAPTURES: &str = include_str!("../captures.txt");

/// What a command line printed.
fn captured(command: &str) -> String {
    let heading = format!("$ ipvsadm {command}\n");
    let (_, rest) = CAPTURES.split_once(&heading).unwrap();
    rest.split("$ ipvsadm").next().unwrap().to_owned()
}

/// Numbers behind a real server's address, or behind a virtual server's name if `rows` says so, by
/// virtual server and real server.
fn numbers_of(command: &str) -> BTreeMap<(String, String), Vec<u64>> {
    let mut service = String::new();
    let mut found = BTreeMap::new();
    for line in captured(command).lines().skip(3) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (name, rest) = match words[..] {
            ["->", addr, ref rest @ ..] => (addr, rest),
            [kind, name, ref rest @ ..] => {
                let family = if rest.first() == Some(&"IPv6") {
                    " IPv6"
                } else {
                    ""
                };
                service = format!("{kind:<4} {name}{family}");
                ("", &rest[usize::from(!family.is_empty())..])
            }
            _ => panic!("{line:?}"),
        };
        let numbers = rest.iter().filter_map(|word| word.parse().ok()).collect();
        assert_eq!(
            found.insert((service.clone(), name.to_owned()), numbers),
            None
        );
    }
    found
}

/// The table, in the order in which the kernel told it.
fn table() -> Table {
    let ports = ServicePorts::default();
    let names = Names {
        ports: &ports,
        host: &|_| None,
    };
    let mut rows: Vec<Row> = Vec::new();
    for step in steps(RULES, names).unwrap() {
        match step.command {
            Command::NewService(service) => {
                let service = ServiceEntry::new(service);
                rows.push(Row {
                    service,
                    destinations: Vec::new(),
                });
            }
            // The newest comes first.
            Command::NewDest(_, new) => {
                let row = rows.last_mut().unwrap();
                row.destinations.insert(0, DestinationEntry::new(new));
            }
            other => panic!("{other}"),
        }
    }
    let [plain, persistent, counted, rated] =
        ["-Ln", "-Ln --persistent-conn", "-Ln --stats", "-Ln --rate"].map(numbers_of);
    for row in &mut rows {
        let service = service_name(&row.service.service.key);
        row.service.stats = stats(&counted, &rated, &(service.clone(), String::new()));
        for entry in &mut row.destinations {
            let place = (service.clone(), entry.destination.key.to_string());
            let [_, active, inactive] = plain[&place][..] else {
                panic!("{place:?}")
            };
            entry.active = u32::try_from(active).unwrap();
            entry.inactive = u32::try_from(inactive).unwrap();
            entry.persistent = u32::try_from(persistent[&place][1]).unwrap();
            entry.stats = stats(&counted, &rated, &place);
        }
    }
    Table {
        version: (1, 2, 1),
        connection_table_size: 4096,
        rows,
    }
}

type Numbers = BTreeMap<(String, String), Vec<u64>>;

fn stats(counted: &Numbers, rated: &Numbers, place: &(String, String)) -> Stats {
    let [conns, in_packets, out_packets, in_bytes, out_bytes] = counted[place][..] else {
        panic!("{place:?}")
    };
    let [cps, in_pps, out_pps, in_bps, out_bps] = rated[place][..] else {
        panic!("{place:?}")
    };
    Stats {
        conns,
        in_packets,
        out_packets,
        in_bytes,
        out_bytes,
        cps,
        in_pps,
        out_pps,
        in_bps,
        out_bps,
    }
}

fn sorted(table: Table) -> Table {
    let (services, mut destinations): (Vec<_>, BTreeMap<_, _>) = table
        .rows
        .into_iter()
        .map(|row| {
            (
                row.service.clone(),
                (row.service.service.key, row.destinations),
            )
        })
        .unzip();
    let rows = order::services(services).into_iter().map(|service| Row {
        destinations: order::destinations(destinations.remove(&service.service.key).unwrap()),
        service,
    });
    Table {
        rows: rows.collect(),
        ..table
    }
}

fn render(table: &Table, style: Style) -> String {
    let mut out = heading(table.version, table.connection_table_size, style);
    table
        .rows
        .iter()
        .for_each(|shown| row(&mut out, shown, style));
    out
}

fn saved(table: &Table, dialect: Dialect) -> String {
    let mut out = String::new();
    let unspeakable: usize = table
        .rows
        .iter()
        .map(|row| save(&mut out, row, dialect))
        .sum();
    assert_eq!(unspeakable, 0);
    out
}

#[test]
fn every_listing_is_what_ipvsadm_printed() {
    let kernels = table();
    let sorted = sorted(table());
    let style = |columns, exact| Style {
        columns,
        exact,
        single: false,
    };
    for (command, table, style) in [
        ("-Ln", &sorted, style(Columns::Plain, false)),
        ("-Ln --sort", &sorted, style(Columns::Plain, false)),
        ("-Ln --nosort", &kernels, style(Columns::Plain, false)),
        ("-Ln --stats", &sorted, style(Columns::Stats, false)),
        ("-Ln --stats --exact", &sorted, style(Columns::Stats, true)),
        ("-Ln --rate", &sorted, style(Columns::Rate, false)),
        ("-Ln --rate --exact", &sorted, style(Columns::Rate, true)),
        (
            "-Ln --thresholds",
            &sorted,
            style(Columns::Thresholds, false),
        ),
        (
            "-Ln --persistent-conn",
            &sorted,
            style(Columns::PersistentConn, false),
        ),
        ("-Ln --tun-info", &sorted, style(Columns::TunnelInfo, false)),
    ] {
        assert_eq!(render(table, style), captured(command), "{command}");
    }
}

#[test]
fn one_virtual_server_has_no_line_of_the_version() {
    for (command, name, columns) in [
        ("-Ln -t 10.96.0.1:443", "TCP  10.96.0.1:443", Columns::Plain),
        (
            "-Ln -u 10.96.0.10:53 --stats",
            "UDP  10.96.0.10:53",
            Columns::Stats,
        ),
        ("-Ln -f 100", "FWM  100", Columns::Plain),
    ] {
        let mut table = table();
        table
            .rows
            .retain(|row| service_name(&row.service.service.key) == name);
        let table = sorted(table);
        let style = Style {
            columns,
            exact: false,
            single: true,
        };
        assert_eq!(render(&table, style), captured(command), "{command}");
    }
}

#[test]
fn rules_are_what_ipvsadm_saved() {
    let table = sorted(table());
    assert_eq!(saved(&table, Dialect::Ipvsadm), captured("-Sn"));
    // What it loses is here.
    let whole = saved(&table, Dialect::Whole);
    let lost: Vec<_> = whole
        .lines()
        .filter(|line| !captured("-Sn").contains(line))
        .collect();
    assert_eq!(
        lost,
        [
            "-A -f 3000000000 -s wlc",
            "-a -t 10.96.0.1:443 -r 10.2.0.2:6443 -m -w 2 -x 100 -y 50"
        ]
        .map(|line| line.replace("10.2.0.2:6443 -m -w 2", "10.3.0.2:6443 -m -w 2"))
    );
}

/// 120 MB moved, on Linux 6.1; then numbers beyond what anybody has moved, by the rule that
/// `ipvsadm` has: nine digits, then thousands, millions, …
#[test]
fn large_numbers_are_shortened_unless_they_are_to_be_exact() {
    let shown = |number, exact| {
        let mut out = String::new();
        large(&mut out, number, exact);
        out
    };
    assert_eq!(shown(36_465, false), "    36465");
    assert_eq!(shown(126_877_032, false), "  126877K");
    assert_eq!(shown(126_877_032, true), " 126877032");
    assert_eq!(shown(99_999_999, false), " 99999999");
    assert_eq!(shown(1_000_000_000, false), "    1000M");
    assert_eq!(shown(100_000_000_000, false), "     100G");
    assert_eq!(shown(100_000_000_000_000, false), "     100T");
}
