//! Listeners on all addresses or on one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

/// Cannot serve at an address.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}; is a kube-proxy or another ipvs-agent at work there?")]
pub struct ListenError {
    pub address: SocketAddr,
    #[source]
    pub source: io::Error,
}

/// Opens a listener. Done at start, so that an address in use is told at once. `0.0.0.0` means
/// both families where the node has IPv6, as it does in Go and so for kube-proxy.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let failed = |source| ListenError { address, source };
    if address.ip() == IpAddr::V4(Ipv4Addr::UNSPECIFIED) {
        match both_families(address.port()) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(failed(error)),
            Err(_) => {}
            Ok(listener) => return Ok(listener),
        }
    }
    TcpListener::bind(address).await.map_err(failed)
}

/// A listener on all addresses of both families, whatever `net.ipv6.bindv6only` says.
fn both_families(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v6()?;
    rustix::net::sockopt::set_ipv6_v6only(&socket, false)?;
    // As `TcpListener::bind` does: closed connections must not hold the port.
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port))?;
    socket.listen(BACKLOG)
}

const BACKLOG: u32 = 1024;
