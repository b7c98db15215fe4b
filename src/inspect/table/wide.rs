//! The table with the names that an agent knows, in columns as wide as they must be.
//!
//! Without an agent the columns of names show `-`.

use std::fmt::Write;

use super::names::{Endpoint, Names};
use super::text::{configuration, forward, service_name};
use super::{Row, Table};
use crate::inspect::plain::plain;

/// The table as text, in its own order.
pub fn render(table: &Table, names: &Names) -> String {
    let services: Vec<[String; 5]> = table.rows.iter().map(|row| service(row, names)).collect();
    let servers: Vec<Vec<[String; 9]>> = table
        .rows
        .iter()
        .map(|row| real_servers(row, names))
        .collect();
    let service_widths = widths(&SERVICE, services.iter());
    let server_widths = widths(&SERVER, servers.iter().flatten());
    let mut out = String::new();
    line(&mut out, "", &SERVICE.map(str::to_owned), &service_widths);
    line(&mut out, ARROW, &SERVER.map(str::to_owned), &server_widths);
    for (service, servers) in services.iter().zip(&servers) {
        line(&mut out, "", service, &service_widths);
        for server in servers {
            line(&mut out, ARROW, server, &server_widths);
        }
    }
    out
}

fn service(row: &Row, names: &Names) -> [String; 5] {
    let key = &row.service.service.key;
    let name = names.get(key);
    let known = |text: Option<String>| text.unwrap_or_else(nothing);
    [
        service_name(key),
        configuration(&row.service),
        known(name.map(super::names::ServerName::full)),
        known(name.map(|name| name.vip_kind.clone())),
        known(name.map(|name| name.policy.clone())),
    ]
}

fn real_servers(row: &Row, names: &Names) -> Vec<[String; 9]> {
    let name = names.get(&row.service.service.key);
    let line = |entry: &ipvs_sys::DestinationEntry| {
        let destination = &entry.destination;
        let endpoint = name.and_then(|name| name.endpoints.get(&destination.key));
        let known =
            |of: fn(&Endpoint) -> Option<String>| endpoint.and_then(of).unwrap_or_else(nothing);
        [
            destination.key.to_string(),
            forward(&destination.forward).to_owned(),
            destination.weight.to_string(),
            entry.active.to_string(),
            entry.inactive.to_string(),
            known(|endpoint| Some(endpoint.state.clone())),
            plain(&known(|endpoint| endpoint.node.clone())).into_owned(),
            plain(&known(|endpoint| endpoint.zone.clone())).into_owned(),
            known(|endpoint| endpoint.drain_seconds_left.map(|left| format!("{left}s"))),
        ]
    };
    row.destinations.iter().map(line).collect()
}

fn nothing() -> String {
    "-".to_owned()
}

fn widths<'a, const N: usize>(
    heading: &[&str; N],
    lines: impl Iterator<Item = &'a [String; N]>,
) -> [usize; N] {
    let mut widths = heading.map(str::len);
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    widths
}

/// No blanks at the end of a line.
fn line<const N: usize>(out: &mut String, before: &str, cells: &[String; N], widths: &[usize; N]) {
    let mut text = before.to_owned();
    for (cell, width) in cells.iter().zip(widths) {
        let _ = write!(text, "{cell:<width$}  ");
    }
    out.push_str(text.trim_end());
    out.push('\n');
}

const ARROW: &str = "  -> ";
const SERVICE: [&str; 5] = [
    "Prot LocalAddress:Port",
    "Scheduler Flags",
    "Service",
    "VIP",
    "Policy",
];
const SERVER: [&str; 9] = [
    "RemoteAddress:Port",
    "Forward",
    "Weight",
    "ActiveConn",
    "InActConn",
    "State",
    "Node",
    "Zone",
    "Drain",
];
