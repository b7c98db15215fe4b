//! A packet's way, step by step.

use std::fmt::Write;

use super::layout::{heading, table, verdict};
use crate::ask::explain::{ClientSeen, Led, Refusal, Trace, Verdict};

/// The text.
pub fn render(trace: &Trace, colours: bool) -> String {
    let mut text = String::new();
    let Trace {
        node,
        dataplane,
        packet,
        ..
    } = trace;
    let _ = writeln!(text, "{packet}, on node {node} ({dataplane})");
    for step in &trace.steps {
        heading(&mut text, &step.about, colours);
        let _ = writeln!(text, "  {}", step.finding);
        let _ = writeln!(text, "  rule: {} [{}]", step.rule, step.see);
    }
    heading(&mut text, "verdict", colours);
    let (words, good) = words(&trace.verdict);
    let _ = writeln!(text, "  {}", verdict(words, good, colours));
    if let Verdict::Balanced { endpoints } = &trace.verdict {
        let rows: Vec<Vec<String>> = endpoints.iter().map(row).collect();
        table(&mut text, &rows);
    }
    text
}

/// Whether an endpoint gets it, in words.
fn words(verdict: &Verdict) -> (&'static str, bool) {
    match verdict {
        Verdict::Balanced { endpoints } if endpoints.len() == 1 => ("served by", true),
        Verdict::Balanced { .. } => ("served by one of", true),
        Verdict::Refused {
            by: Refusal::TcpReset,
        } => ("refused: a TCP reset", false),
        Verdict::Refused {
            by: Refusal::IcmpPortUnreachable,
        } => ("refused: ICMP port unreachable", false),
        Verdict::Dropped => ("dropped: the client hears nothing", false),
        Verdict::NotOurs => ("not a Service's here", false),
    }
}

fn row(led: &Led) -> Vec<String> {
    let at = std::net::SocketAddr::new(led.address, led.port);
    let place = if led.local {
        "this node"
    } else {
        "another node"
    };
    let seen = match (led.hairpin, led.client_seen) {
        (true, _) => "the client itself; sees an address of this node",
        (false, ClientSeen::Kept) => "sees the client's own address",
        (false, ClientSeen::Masqueraded) => "sees an address of this node",
    };
    let weight = format!("weight {}", led.weight);
    vec![format!("  {at}"), place.to_owned(), weight, seen.to_owned()]
}
