//! How many connections there are, by what somebody wants to know.

use std::collections::BTreeMap;

use ipvs_sys::procfs::ProcConnection;
use serde::Serialize;

use super::super::table::names::{Names, ServerName};
use super::{is_template, name, protocol};

/// By what is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Service port, or virtual server where no name is known.
    Service,
    /// Address and port of the real server.
    Backend,
    /// Address of the client.
    Client,
}

/// Connections of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Count {
    /// All but templates.
    pub connections: u64,
    /// In the state `ESTABLISHED`.
    pub established: u64,
    /// Clients that persistence ties to a real server.
    pub templates: u64,
}

/// The counts so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts(BTreeMap<String, Count>);

impl Counts {
    /// One more.
    pub fn add(&mut self, by: By, connection: &ProcConnection, names: &Names) {
        let key = match by {
            By::Service => name(connection, names).map_or_else(
                || {
                    format!(
                        "{} {}",
                        protocol(connection.protocol),
                        connection.virtual_addr
                    )
                },
                ServerName::full,
            ),
            By::Backend => connection.destination.to_string(),
            By::Client => connection.client.ip().to_string(),
        };
        let count = self.0.entry(key).or_default();
        if is_template(connection) {
            count.templates += 1;
        } else {
            count.connections += 1;
            count.established += u64::from(connection.state == "ESTABLISHED");
        }
    }

    /// Most connections first.
    pub fn sorted(self) -> Vec<(String, Count)> {
        let mut counts: Vec<_> = self.0.into_iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(count.connections));
        counts
    }
}

/// A table of counts.
pub fn render(by: By, counts: &[(String, Count)]) -> String {
    let heading = match by {
        By::Service => "SERVICE",
        By::Backend => "BACKEND",
        By::Client => "CLIENT",
    };
    let width = counts.iter().map(|(key, _)| key.chars().count());
    let width = width.max().unwrap_or_default().max(heading.len());
    let mut out = format!("{heading:<width$} CONNECTIONS ESTABLISHED TEMPLATES\n");
    for (key, count) in counts {
        let Count {
            connections,
            established,
            templates,
        } = count;
        out += &format!("{key:<width$} {connections:>11} {established:>11} {templates:>9}\n");
    }
    out
}
