//! The kernel's table of connections, as people look at it. It is read line by line: there may be
//! millions, and nothing here holds more than one of them, or a count.

pub mod count;
pub mod document;
pub mod text;

use ipvs_sys::procfs::ProcConnection;
use ipvs_sys::{Protocol, ServiceKey};

use super::table::filter::{Filter, Place};
use super::table::names::{Names, ServerName};

/// Which connections are shown. All of it must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// By Service, virtual address, real server and protocol.
    pub table: Filter,
    /// Of this client.
    pub client: Option<Place>,
    /// In this state, whatever its case.
    pub state: Option<String>,
}

impl Selection {
    /// Whether a connection is shown.
    pub fn passes(&self, connection: &ProcConnection, names: &Names) -> bool {
        let is = |place: Option<Place>, at: std::net::SocketAddr| {
            place.is_none_or(|place| place.is(at.ip(), at.port()))
        };
        let state = self.state.as_deref();
        is(self.client, connection.client)
            && is(self.table.backend, connection.destination)
            && state.is_none_or(|state| state.eq_ignore_ascii_case(&connection.state))
            && self.table.passes(&key(connection), names)
    }
}

/// By what the kernel found its virtual server, unless that was a mark: the table does not tell it.
pub fn key(connection: &ProcConnection) -> ServiceKey {
    ServiceKey::address(connection.protocol, connection.virtual_addr)
}

/// Whose it is.
pub fn name<'a>(connection: &ProcConnection, names: &'a Names) -> Option<&'a ServerName> {
    names.get(&key(connection))
}

/// No connection, but what ties a client to a real server.
pub fn is_template(connection: &ProcConnection) -> bool {
    connection.client.port() == 0 && matches!(&*connection.state, "NONE" | "ASSURED")
}

/// The kernel's word (`ip_vs_proto_name`).
pub fn protocol(protocol: Protocol) -> String {
    match protocol {
        Protocol::Other(0) => "IP".to_owned(),
        Protocol::Other(1) => "ICMP".to_owned(),
        Protocol::Other(58) => "ICMPv6".to_owned(),
        Protocol::Other(number) => format!("IP_{number}"),
        known => known.to_string(),
    }
}

#[cfg(test)]
mod tests;
