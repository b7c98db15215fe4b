//! Small servers that tell their name and who asks.
//!
//! TCP and SCTP: a line `NAME CLIENT-ADDRESS` on connect; TCP then sends back what it gets. UDP: the
//! same line for each datagram, but one that begins with `echo` as it came.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::namespace::inside;

/// Serves until dropped.
pub struct Server {
    stopped: Arc<AtomicBool>,
}

impl Server {
    /// Serves at a port over TCP, UDP and, where the kernel has it, SCTP, IPv4 and IPv6.
    pub fn start(namespace: &str, name: &str, port: u16) -> Result<Self> {
        Self::start_at(
            namespace,
            name,
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
        )
    }

    /// The same at one address. Where a namespace has several, an answer over UDP or SCTP from a server at
    /// all of them may leave from another one than was asked.
    pub fn start_at(namespace: &str, name: &str, at: SocketAddr) -> Result<Self> {
        let (tcp, udp, sctp) = inside(namespace, || -> Result<_> {
            Ok((
                TcpListener::bind(at)?,
                UdpSocket::bind(at)?,
                sctp_listener(at)?,
            ))
        })??;
        let stopped = Arc::new(AtomicBool::new(false));
        let name: Arc<str> = name.into();
        udp.set_read_timeout(Some(TICK))?;
        tcp.set_nonblocking(true)?;
        {
            let (stopped, name) = (stopped.clone(), name.clone());
            std::thread::spawn(move || serve_udp(&udp, &name, &stopped));
        }
        {
            let (stopped, name) = (stopped.clone(), name.clone());
            std::thread::spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    match tcp.accept() {
                        Ok((stream, peer)) => {
                            let (stopped, name) = (stopped.clone(), name.clone());
                            std::thread::spawn(move || echo(stream, peer, &name, &stopped));
                        }
                        Err(_) => std::thread::sleep(Duration::from_millis(5)),
                    }
                }
            });
        }
        if let Some(sctp) = sctp {
            sctp.set_nonblocking(true)?;
            let stopped = stopped.clone();
            std::thread::spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    match sctp.accept() {
                        Ok((mut socket, peer)) => {
                            let peer = peer.as_socket().map(|peer| plain(peer.ip()));
                            let _ = socket.set_nonblocking(false);
                            let _ = writeln!(socket, "{name} {}", peer.unwrap_or(ANY));
                        }
                        Err(_) => std::thread::sleep(Duration::from_millis(10)),
                    }
                }
            });
        }
        Ok(Self { stopped })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

fn serve_udp(socket: &UdpSocket, name: &str, stopped: &AtomicBool) {
    let mut buffer = [0; 8192];
    while !stopped.load(Ordering::Relaxed) {
        if let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let came = &buffer[..length];
            if came.starts_with(ECHO) {
                let _ = socket.send_to(came, peer);
                continue;
            }
            let _ = socket.send_to(format!("{name} {}", plain(peer.ip())).as_bytes(), peer);
        }
    }
}

fn echo(mut stream: TcpStream, peer: SocketAddr, name: &str, stopped: &AtomicBool) {
    let _ = stream.set_nonblocking(false);
    let _ = stream.set_read_timeout(Some(TICK));
    if writeln!(stream, "{name} {}", plain(peer.ip())).is_err() {
        return;
    }
    let mut buffer = [0; 2048];
    while !stopped.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(n) => {
                if stream.write_all(&buffer[..n]).is_err() {
                    return;
                }
            }
            Err(error) if is_timeout(&error) => {}
            Err(_) => return,
        }
    }
}

/// Nothing on a kernel that has no SCTP at all: what asks over it finds nobody.
fn sctp_listener(at: SocketAddr) -> Result<Option<Socket>> {
    let domain = Domain::for_address(at);
    let socket = match Socket::new(domain, Type::STREAM, Some(Protocol::from(132))) {
        Err(error) if error.raw_os_error() == Some(Errno::PROTONOSUPPORT.raw_os_error()) => {
            return Ok(None);
        }
        socket => socket?,
    };
    socket.bind(&at.into())?;
    socket.listen(64)?;
    Ok(Some(socket))
}

/// An IPv4 client of an IPv6 socket is one all the same.
fn plain(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(addr, IpAddr::V4),
        IpAddr::V4(_) => addr,
    }
}

pub fn is_timeout(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
    )
}

const ANY: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
/// Begins a datagram that wants to come back.
pub const ECHO: &[u8] = b"echo";
const TICK: Duration = Duration::from_millis(200);
