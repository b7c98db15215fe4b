//! Connections as text: `ipvsadm -Lcn`, byte for byte, and with the names that an agent knows.

use ipvs_sys::procfs::ProcConnection;

use super::super::table::names::Names;
use super::{is_template, name, protocol};

/// The heading of `ipvsadm -Lcn`.
pub const HEADING: &str = "IPVS connection entries\n\
    pro expire state       source             virtual            destination\n";

/// The heading of `ipvsadm -Lcn --persistent-conn`.
pub const ENGINE_HEADING: &str = "IPVS connection entries\n\
    pro expire state       source             virtual            destination        pe name          pe_data\n";

/// A line as `ipvsadm -Lcn` has it, with `--persistent-conn` if `engine`.
pub fn ipvsadm_line(connection: &ProcConnection, engine: bool) -> String {
    let protocol = protocol(connection.protocol);
    let expires = expires(connection.expires);
    let state = &*connection.state;
    let client = connection.client.to_string();
    let vip = connection.virtual_addr.to_string();
    let real = connection.destination.to_string();
    let start = format!("{protocol:<3} {expires:<6} {state:<11} {client:<18} {vip:<18}");
    match connection.engine.as_ref().filter(|_| engine) {
        Some((name, data)) => format!("{start} {real:<16} {name:<18} {data}\n"),
        None => format!("{start} {real}\n"),
    }
}

/// Minutes, however many, and seconds.
fn expires(seconds: u32) -> String {
    format!("{:02}:{:02}", seconds / 60, seconds % 60)
}

/// The heading of `ipvs-agent connections`.
pub fn heading() -> String {
    line([
        "PROTO", "CLIENT", "VIRTUAL", "BACKEND", "STATE", "EXPIRES", "SERVICE",
    ])
}

/// A line of `ipvs-agent connections`.
pub fn named_line(connection: &ProcConnection, names: &Names) -> String {
    let service = name(connection, names).map(super::super::table::names::ServerName::full);
    let state = if is_template(connection) {
        "template"
    } else {
        &*connection.state
    };
    line([
        &protocol(connection.protocol),
        &connection.client.to_string(),
        &connection.virtual_addr.to_string(),
        &connection.destination.to_string(),
        state,
        &expires(connection.expires),
        &service.unwrap_or_else(|| "-".to_owned()),
    ])
}

/// Widths that IPv4 never exceeds; they cannot be those of what is still to come.
fn line([protocol, client, vip, real, state, expires, service]: [&str; 7]) -> String {
    format!("{protocol:<5} {client:<21} {vip:<21} {real:<21} {state:<11} {expires:>7} {service}\n")
}
