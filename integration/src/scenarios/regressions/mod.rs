//! What went wrong for users of service proxies on IPVS, replayed: each story is named after its trouble.
//!
//! `docs/regressions.md` has the whole list, with the reports and with those that other stories replay.

pub mod addresses;
pub mod affinity;
pub mod drain;
pub mod neighbours;
pub mod sync;
pub mod udp;
pub mod window;

use std::fs;
use std::io::Read;
use std::net::{Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};

use crate::guest::namespace::inside;

/// Opens a connection from a given source port, and gives it with the name of who answers. The port may
/// have been used before.
fn stream_from_port(from: &str, port: u16, to: SocketAddr) -> Result<(TcpStream, String)> {
    inside(from, || {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        let any = match to {
            SocketAddr::V4(_) => SocketAddr::from(([0; 4], port)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
        };
        socket.bind(&any.into())?;
        socket.connect_timeout(&to.into(), LIMIT)?;
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(LIMIT))?;
        let mut line = [0; 128];
        let length = stream.read(&mut line)?;
        let line = String::from_utf8_lossy(&line[..length]).into_owned();
        let name = line.split(' ').next().unwrap_or_default().to_owned();
        Ok((stream, name))
    })?
}

/// How often a namespace has sent the first packet of a TCP connection again.
fn repeated_syns(namespace: &str) -> Result<u64> {
    let text = inside(namespace, || {
        fs::read_to_string("/proc/thread-self/net/netstat")
    })??;
    // A line of names, then a line of numbers.
    let mut rows = text.lines().filter(|line| line.starts_with("TcpExt: "));
    let names = rows.next().unwrap_or_default().split(' ');
    let mut columns = names.zip(rows.next().unwrap_or_default().split(' '));
    let found = columns.find(|(name, _)| *name == "TCPSynRetrans");
    let (_, number) = found.context("the kernel does not count repeated SYNs")?;
    Ok(number.parse()?)
}

/// An address and port as `ipvsadm` prints and takes them.
fn shown(addr: &str, port: u16) -> String {
    if addr.contains(':') {
        format!("[{addr}]:{port}")
    } else {
        format!("{addr}:{port}")
    }
}

const LIMIT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use crate::scenarios::ALL;

    #[test]
    fn every_story_that_the_list_names_is_there() {
        let list = include_str!("../../../../docs/regressions.md");
        let rows = list.lines().filter(|line| line.starts_with("| "));
        let last = rows.filter_map(|row| row.trim_end_matches(" |").rsplit(" | ").next());
        let names: Vec<&str> = last
            .flat_map(|cell| cell.split('`').skip(1).step_by(2))
            .collect();
        assert!(names.len() > 40, "{names:?}");
        for name in names {
            assert!(ALL.iter().any(|story| story.name == name), "{name}");
        }
    }
}
