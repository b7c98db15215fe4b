//! A client's request and what came of it.

use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::Result;
use socket2::{Domain, Protocol, Socket, Type};

use super::namespace::inside;
use super::server::is_timeout;

/// Transport of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    Tcp,
    Udp,
    Sctp,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// Who answered, and whom it saw.
    From {
        name: String,
        client: IpAddr,
    },
    Refused,
    Timeout,
    Other(String),
}

impl Answer {
    /// Who answered, or how it failed.
    pub fn who(&self) -> String {
        match self {
            Self::From { name, .. } => name.clone(),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::From { name, client } => write!(f, "{name} (saw {client})"),
            Self::Refused => f.write_str("refused"),
            Self::Timeout => f.write_str("timeout"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// Sends one request from a namespace.
pub fn probe(from: &str, transport: Transport, to: SocketAddr) -> Result<Answer> {
    request(from, 0, transport, to, LIMIT)
}

/// The same for one that need not be waited for long.
pub fn probe_within(
    limit: Duration,
    from: &str,
    transport: Transport,
    to: SocketAddr,
) -> Result<Answer> {
    request(from, 0, transport, to, limit)
}

/// The same from a given source port.
pub fn probe_from_port(
    from: &str,
    port: u16,
    transport: Transport,
    to: SocketAddr,
) -> Result<Answer> {
    request(from, port, transport, to, LIMIT)
}

fn request(
    from: &str,
    port: u16,
    transport: Transport,
    to: SocketAddr,
    limit: Duration,
) -> Result<Answer> {
    inside(from, || {
        let line = match transport {
            Transport::Tcp => tcp(to, limit),
            Transport::Udp => udp(port, to, limit),
            Transport::Sctp => sctp(to, limit),
        };
        match line {
            Ok(line) => match line.trim().split_once(' ') {
                Some((name, client)) if client.parse::<IpAddr>().is_ok() => Answer::From {
                    name: name.to_owned(),
                    client: client.parse().unwrap_or(IpAddr::from([0; 4])),
                },
                _ => Answer::Other(format!("odd answer {line:?}")),
            },
            // A rule in OUTPUT that rejects a datagram tells the sender by EPERM.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ConnectionRefused | ErrorKind::PermissionDenied
                ) =>
            {
                Answer::Refused
            }
            Err(error) if is_timeout(&error) => Answer::Timeout,
            Err(error) => Answer::Other(error.to_string()),
        }
    })
}

/// A connection that stays open; what is sent comes back.
pub fn open_stream(from: &str, to: SocketAddr) -> Result<(TcpStream, String)> {
    inside(from, || {
        let mut stream = TcpStream::connect_timeout(&to, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        let line = line_of(&mut stream)?;
        let name = line.split(' ').next().unwrap_or_default().to_owned();
        Ok((stream, name))
    })?
}

fn tcp(to: SocketAddr, limit: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, limit)?;
    stream.set_read_timeout(Some(limit))?;
    line_of(&mut stream)
}

fn udp(port: u16, to: SocketAddr, limit: Duration) -> io::Result<String> {
    let any: SocketAddr = if to.is_ipv4() {
        SocketAddr::from(([0; 4], port))
    } else {
        SocketAddr::from(([0_u16; 8], port))
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(limit))?;
    socket.send(b"who")?;
    let mut buffer = [0; 256];
    let length = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

fn sctp(to: SocketAddr, limit: Duration) -> io::Result<String> {
    let mut socket = Socket::new(
        Domain::for_address(to),
        Type::STREAM,
        Some(Protocol::from(132)),
    )?;
    socket.connect_timeout(&to.into(), limit)?;
    socket.set_read_timeout(Some(limit))?;
    line_of(&mut socket)
}

fn line_of(stream: &mut impl Read) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0; 256];
    while !line.contains(&b'\n') {
        match stream.read(&mut byte)? {
            0 => break,
            n => line.extend_from_slice(&byte[..n]),
        }
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

const LIMIT: Duration = Duration::from_secs(2);
