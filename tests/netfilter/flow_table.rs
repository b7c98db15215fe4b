//! The conntrack table in the words of `conntrack`.

use std::collections::BTreeMap;
use std::fmt::Write;

use ipvs_agent::model::{Family, Protocol};
use ipvs_agent::netfilter::conntrack::{Flow, Tuple};

use super::namespace::{feed, run};

pub const PROTOCOLS: [(Protocol, &str); 3] = [
    (Protocol::Tcp, "tcp"),
    (Protocol::Udp, "udp"),
    (Protocol::Sctp, "sctp"),
];

/// One line of `conntrack -L -o extended`, without the seconds that are left.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line(String);

impl Line {
    /// What it says about a flow, if it is of that family and protocol.
    pub fn flow(&self, family: Family, protocol: &str) -> Option<Flow> {
        let mut words = self.0.split_whitespace();
        let of_family = match family {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        };
        if words.next()? != of_family || words.nth(1)? != protocol {
            return None;
        }
        // Each key is there twice: first of the original direction, then of the answers.
        let mut values: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            values.entry(key).or_default().push(value);
        }
        let tuple = |way: usize| Tuple {
            src: values["src"][way].parse().unwrap(),
            dst: values["dst"][way].parse().unwrap(),
            src_port: values["sport"][way].parse().unwrap(),
            dst_port: values["dport"][way].parse().unwrap(),
        };
        Some(Flow {
            original: tuple(0),
            reply: tuple(1),
        })
    }
}

/// The table of both families, sorted.
pub fn table() -> Vec<Line> {
    let mut lines = Vec::new();
    for family in ["ipv4", "ipv6"] {
        let text = run(&format!("conntrack -L -f {family} -o extended"));
        for line in text.lines().filter(|line| line.starts_with(family)) {
            let mut words: Vec<&str> = line.split_whitespace().collect();
            words.remove(4);
            lines.push(Line(words.join(" ")));
        }
    }
    lines.sort();
    lines
}

/// A flow in the words of `conntrack -I`, by way of its standard input.
pub fn insert(text: &mut String, protocol: &str, from: (&str, u16), to: (&str, u16), rest: &str) {
    let state = match protocol {
        "tcp" => "--state ESTABLISHED",
        "sctp" => "--state ESTABLISHED --orig-vtag 1 --reply-vtag 2",
        _ => "-u SEEN_REPLY",
    };
    let ((src, sport), (dst, dport)) = (from, to);
    let _ = writeln!(
        text,
        "-I -p {protocol} -s {src} -d {dst} --sport {sport} --dport {dport} -t 3600 {state} {rest}"
    );
}

pub fn load(text: &str) {
    // By this name: the tool would open /dev/stdin, which a small system has not.
    feed("conntrack -R /proc/self/fd/0", text);
}

/// Clients of three Services, translated to real servers or not, in all protocols and families;
/// pings; one client in a conntrack zone of its own.
pub fn populate() -> Vec<Line> {
    let mut text = String::new();
    for (_, protocol) in PROTOCOLS {
        for (client, vips, real) in [
            ("10.1.0.1", ["10.96.0.10", "10.96.0.11"], "10.2.0.1:5353"),
            ("10.1.0.2", ["10.96.0.10", "10.1.0.1"], "10.2.0.2:53"),
            (
                "fd00:1::1",
                ["fd00:96::a", "fd00:96::b"],
                "[fd00:2::1]:5353",
            ),
            ("fd00:1::2", ["fd00:96::a", "fd00:1::1"], "[fd00:2::2]:53"),
        ] {
            for vip in vips {
                for port in [53, 80] {
                    let nat = format!("--dst-nat {real}");
                    insert(&mut text, protocol, (client, 4000), (vip, port), &nat);
                    insert(&mut text, protocol, (client, 4001), (vip, port), "");
                }
            }
            insert(&mut text, protocol, (client, 4000), (vips[0], 53), "-w 7");
        }
    }
    for (protocol, src, dst, kind) in [
        ("icmp", "10.1.0.1", "10.96.0.10", 8),
        ("icmpv6", "fd00:1::1", "fd00:96::a", 128),
    ] {
        let _ = writeln!(
            text,
            "-I -p {protocol} -s {src} -d {dst} --icmp{}-type {kind} --icmp{}-code 0 \
             --icmp{}-id 53 -t 3600",
            if protocol == "icmp" { "" } else { "v6" },
            if protocol == "icmp" { "" } else { "v6" },
            if protocol == "icmp" { "" } else { "v6" }
        );
    }
    load(&text);
    let lines = table();
    assert_eq!(lines.len(), text.lines().count(), "all were made");
    lines
}
