//! Fast readers of `/proc/net/ip_vs` and `/proc/net/ip_vs_conn`.
//!
//! One read of `ip_vs` tells all services with all destinations, where netlink needs a dump for
//! each service. It tells less: no thresholds, tunnels, persistence engines, scheduler flags or
//! counters; not the family of firewall marks; timeouts in ticks. Enough to see whether something
//! differs. As with dumps, a table that changes while it is read may miss or repeat lines.
//!
//! The parsers are pure; [`read_services`] and [`read_connections`] open the files of the calling
//! thread's network namespace. The files exist only once the module is loaded.

mod connections;
mod services;

use std::fs::File;
use std::io::{self, BufReader};
use std::net::{IpAddr, Ipv4Addr};

pub use connections::{Connections, ProcConnection, connections, parse_connection};
pub use services::{ProcDestination, ProcForward, ProcKey, ProcPersistence, ProcService, services};

use crate::key::Protocol;

/// The table of services, of the calling thread's network namespace.
pub const IP_VS: &str = "/proc/thread-self/net/ip_vs";
/// The table of connections, of the calling thread's network namespace.
pub const IP_VS_CONN: &str = "/proc/thread-self/net/ip_vs_conn";

/// Why a file of `/proc` cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcError {
    /// The file cannot be opened or read; it does not exist without the module.
    #[error("cannot read {file}")]
    Read {
        /// Its path.
        file: &'static str,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A line is not what the kernel writes.
    #[error("cannot understand `{line}`")]
    Line {
        /// The line.
        line: String,
    },
}

impl ProcError {
    /// The file does not exist: the module `ip_vs` is not loaded.
    #[must_use]
    pub fn is_no_module(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Reads [`IP_VS`].
///
/// # Errors
/// When the file cannot be read or understood.
pub fn read_services() -> Result<Vec<ProcService>, ProcError> {
    services::services_from(open(IP_VS)?)
}

/// Opens [`IP_VS_CONN`] and reads it line by line.
///
/// # Errors
/// When the file cannot be opened.
pub fn read_connections() -> Result<Connections<BufReader<File>>, ProcError> {
    Ok(connections(open(IP_VS_CONN)?))
}

fn open(file: &'static str) -> Result<BufReader<File>, ProcError> {
    let opened = File::open(file).map_err(|source| ProcError::Read { file, source })?;
    Ok(BufReader::with_capacity(READ_BUFFER, opened))
}

fn line_error(line: &str) -> ProcError {
    ProcError::Line {
        line: line.trim_end().to_owned(),
    }
}

/// `ip_vs_proto_name` of the kernel.
fn protocol(name: &str) -> Option<Protocol> {
    Some(match name {
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        "SCTP" => Protocol::Sctp,
        "IP" => Protocol::Other(0),
        "ICMP" => Protocol::Other(1),
        "ICMPv6" => Protocol::Other(58),
        other => Protocol::from(other.strip_prefix("IP_")?.parse::<u16>().ok()?),
    })
}

/// Eight hexadecimal digits, or IPv6 in full length.
fn address(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        text.parse().ok().map(IpAddr::V6)
    } else {
        hex32(text).map(|bits| Ipv4Addr::from_bits(bits).into())
    }
}

fn hex16(text: &str) -> Option<u16> {
    u16::from_str_radix(text, 16).ok()
}

fn hex32(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 16).ok()
}

const READ_BUFFER: usize = 64 << 10;
