//! Connections as JSON and YAML; `docs/shell.md` documents the fields.

use std::net::SocketAddr;

use ipvs_sys::procfs::ProcConnection;
use serde::Serialize;

use super::super::table::names::{Names, ServerName};
use super::count::Count;
use super::{is_template, name, protocol};

/// One connection.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Connection<'a> {
    protocol: String,
    client: SocketAddr,
    #[serde(rename = "virtual")]
    virtual_addr: SocketAddr,
    backend: SocketAddr,
    state: &'a str,
    template: bool,
    expires_seconds: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<Engine<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a ServerName>,
}

#[derive(Debug, Serialize)]
struct Engine<'a> {
    name: &'a str,
    data: &'a str,
}

/// Of `--by`.
#[derive(Debug, Serialize)]
pub struct Counts<'a> {
    /// Most connections first.
    pub counts: Vec<Counted<'a>>,
}

/// Connections by one key.
#[derive(Debug, Serialize)]
pub struct Counted<'a> {
    /// Service, backend or client.
    pub key: &'a str,
    /// How many.
    #[serde(flatten)]
    pub count: Count,
}

/// The fields of a connection.
pub fn connection<'a>(connection: &'a ProcConnection, names: &'a Names) -> Connection<'a> {
    let engine = connection.engine.as_ref();
    Connection {
        protocol: protocol(connection.protocol),
        client: connection.client,
        virtual_addr: connection.virtual_addr,
        backend: connection.destination,
        state: &connection.state,
        template: is_template(connection),
        expires_seconds: connection.expires,
        engine: engine.map(|(name, data)| Engine { name, data }),
        service: name(connection, names),
    }
}
