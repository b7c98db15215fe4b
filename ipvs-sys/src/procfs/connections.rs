//! `/proc/net/ip_vs_conn`: connections and templates of persistence (`ip_vs_conn_seq_show` of the
//! kernel). Read line by line: there may be millions.

use std::borrow::Cow;
use std::io::BufRead;
use std::net::SocketAddr;

use super::{IP_VS_CONN, ProcError, address, hex16, line_error, protocol};
use crate::key::Protocol;

/// A connection, or (client port 0, state `ASSURED` or `NONE`) what ties a client to a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcConnection {
    /// Protocol; number 0 for templates of firewall marks.
    pub protocol: Protocol,
    /// The client, masked by the netmask for a template.
    pub client: SocketAddr,
    /// What the client sent to; a template of a firewall mark has the mark for an address.
    pub virtual_addr: SocketAddr,
    /// The real server.
    pub destination: SocketAddr,
    /// The kernel's name of the state: `ESTABLISHED`, `TIME_WAIT`, `UDP`, `ASSURED`, …
    pub state: Cow<'static, str>,
    /// Seconds until it is forgotten, if nothing comes.
    pub expires: u32,
    /// The persistence engine and what it remembers.
    pub engine: Option<(String, String)>,
}

/// Reads a line of `/proc/net/ip_vs_conn`, but its heading.
///
/// # Errors
/// When the kernel would not write such a line.
pub fn parse_connection(line: &str) -> Result<ProcConnection, ProcError> {
    connection(line).ok_or_else(|| line_error(line))
}

/// Reads `/proc/net/ip_vs_conn` from a reader.
pub const fn connections<R: BufRead>(reader: R) -> Connections<R> {
    Connections {
        reader,
        line: String::new(),
    }
}

/// See [`connections`]. Ends after an error of the reader; a line that cannot be understood is an
/// item and does not end it.
#[derive(Debug)]
pub struct Connections<R> {
    reader: R,
    line: String,
}

impl<R: BufRead> Iterator for Connections<R> {
    type Item = Result<ProcConnection, ProcError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.line.clear();
            match self.reader.read_line(&mut self.line) {
                Ok(0) => return None,
                Ok(_) if self.line.starts_with("Pro ") || self.line.trim().is_empty() => {}
                Ok(_) => return Some(parse_connection(&self.line)),
                Err(source) => {
                    let file = IP_VS_CONN;
                    return Some(Err(ProcError::Read { file, source }));
                }
            }
        }
    }
}

fn connection(line: &str) -> Option<ProcConnection> {
    let mut fields = line.split_ascii_whitespace();
    let protocol = protocol(fields.next()?)?;
    let client = socket(&mut fields)?;
    let virtual_addr = socket(&mut fields)?;
    let destination = socket(&mut fields)?;
    let state = state(fields.next()?);
    let expires = fields.next()?.parse().ok()?;
    let engine = fields.next().map(|name| {
        let data: Vec<_> = fields.collect();
        (name.to_owned(), data.join(" "))
    });
    Some(ProcConnection {
        protocol,
        client,
        virtual_addr,
        destination,
        state,
        expires,
        engine,
    })
}

fn socket<'a>(fields: &mut impl Iterator<Item = &'a str>) -> Option<SocketAddr> {
    let addr = address(fields.next()?)?;
    Some(SocketAddr::new(addr, hex16(fields.next()?)?))
}

/// Most lines need no allocation.
fn state(name: &str) -> Cow<'static, str> {
    STATES
        .into_iter()
        .find(|known| *known == name)
        .map_or_else(|| Cow::Owned(name.to_owned()), Cow::Borrowed)
}

/// `tcp_state_name_table`, `udp_state_name_table`, `sctp_state_name_table` and the templates'.
const STATES: [&str; 25] = [
    "ESTABLISHED",
    "TIME_WAIT",
    "UDP",
    "SYN_RECV",
    "FIN_WAIT",
    "CLOSE",
    "ASSURED",
    "NONE",
    "SYN_SENT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "SYNACK",
    "INIT1",
    "INIT",
    "COOKIE_SENT",
    "COOKIE_REPLIED",
    "COOKIE_WAIT",
    "COOKIE",
    "COOKIE_ECHOED",
    "SHUTDOWN_SENT",
    "SHUTDOWN_RECEIVED",
    "SHUTDOWN_ACK_SENT",
    "REJECTED",
    "CLOSED",
];
