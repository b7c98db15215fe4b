//! What names a thing in the kernel: address families, protocols, services and destinations.
//!
//! These are small `Copy` values with a total order, made to be keys of maps. Their `Display`
//! is how `ipvsadm` writes the same thing on its command line.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

use crate::abi;

/// An address family: `AF_INET` or `AF_INET6`, `u16` in host order on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4, `AF_INET` (2).
    Inet,
    /// IPv6, `AF_INET6` (10).
    Inet6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub const fn of(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(_) => Self::Inet,
            IpAddr::V6(_) => Self::Inet6,
        }
    }

    /// The kernel's number.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Inet => abi::AF_INET,
            Self::Inet6 => abi::AF_INET6,
        }
    }

    /// The family with the kernel's number, if IPVS knows it.
    #[must_use]
    pub const fn from_number(number: u16) -> Option<Self> {
        match number {
            abi::AF_INET => Some(Self::Inet),
            abi::AF_INET6 => Some(Self::Inet6),
            _ => None,
        }
    }

    /// Bits of a whole address: 32 or 128, the prefix length that persists single clients.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::Inet => 32,
            Self::Inet6 => 128,
        }
    }
}

/// A transport protocol by its IANA number (`linux/in.h`), `u16` in host order on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// 6.
    Tcp,
    /// 17.
    Udp,
    /// 132.
    Sctp,
    /// Any other number: the kernel accepts and lists it, and forwards nothing. Sending is refused.
    Other(u16),
}

impl Protocol {
    /// The IANA number.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
            Self::Other(number) => number,
        }
    }
}

impl From<u16> for Protocol {
    fn from(number: u16) -> Self {
        match number {
            6 => Self::Tcp,
            17 => Self::Udp,
            132 => Self::Sctp,
            other => Self::Other(other),
        }
    }
}

impl From<Protocol> for u16 {
    fn from(protocol: Protocol) -> Self {
        protocol.number()
    }
}

impl fmt::Display for Protocol {
    /// `TCP`, `UDP`, `SCTP`, or the number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp => f.write_str("TCP"),
            Self::Udp => f.write_str("UDP"),
            Self::Sctp => f.write_str("SCTP"),
            Self::Other(number) => write!(f, "{number}"),
        }
    }
}

/// What the kernel finds a virtual service by.
///
/// Equivalent to `ipvsadm -t|-u|--sctp-service ADDR:PORT` and `ipvsadm -f MARK [-6]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceKey {
    /// The destination of a packet.
    Address {
        /// Protocol of the packet.
        protocol: Protocol,
        /// The virtual address.
        addr: IpAddr,
        /// The virtual port; 0 (every port) only for persistent services.
        port: u16,
    },
    /// The firewall mark of a packet. The same mark may exist once in each family.
    Mark {
        /// Family of the packets.
        family: Family,
        /// The mark, compared as a whole. The kernel takes 0 for "no mark".
        mark: NonZeroU32,
    },
}

impl ServiceKey {
    /// A key of an address, `ipvsadm -t ADDR:PORT`.
    #[must_use]
    pub const fn tcp(addr: SocketAddr) -> Self {
        Self::address(Protocol::Tcp, addr)
    }

    /// A key of an address, `ipvsadm -u ADDR:PORT`.
    #[must_use]
    pub const fn udp(addr: SocketAddr) -> Self {
        Self::address(Protocol::Udp, addr)
    }

    /// A key of an address, `ipvsadm --sctp-service ADDR:PORT`.
    #[must_use]
    pub const fn sctp(addr: SocketAddr) -> Self {
        Self::address(Protocol::Sctp, addr)
    }

    /// A key of an address. Scope and flow label of an IPv6 socket address are not used.
    #[must_use]
    pub const fn address(protocol: Protocol, addr: SocketAddr) -> Self {
        Self::Address {
            protocol,
            addr: addr.ip(),
            port: addr.port(),
        }
    }

    /// The address family of the service.
    #[must_use]
    pub const fn family(&self) -> Family {
        match self {
            Self::Address { addr, .. } => Family::of(*addr),
            Self::Mark { family, .. } => *family,
        }
    }

    /// The port that destinations of tunnels and direct routing must share; 0 for a mark.
    #[must_use]
    pub const fn port(&self) -> u16 {
        match self {
            Self::Address { port, .. } => *port,
            Self::Mark { .. } => 0,
        }
    }
}

impl fmt::Display for ServiceKey {
    /// As on the command line of `ipvsadm`: `-t 10.0.0.1:80`, `-u [fd00::1]:53`, `-f 7 -6`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address {
                protocol,
                addr,
                port,
            } => {
                let addr = SocketAddr::new(*addr, *port);
                match protocol {
                    Protocol::Tcp => write!(f, "-t {addr}"),
                    Protocol::Udp => write!(f, "-u {addr}"),
                    Protocol::Sctp => write!(f, "--sctp-service {addr}"),
                    Protocol::Other(number) => write!(f, "--protocol {number} {addr}"),
                }
            }
            Self::Mark {
                family: Family::Inet,
                mark,
            } => write!(f, "-f {mark}"),
            Self::Mark {
                family: Family::Inet6,
                mark,
            } => write!(f, "-f {mark} -6"),
        }
    }
}

/// What the kernel finds a destination by, within its service.
///
/// Equivalent to `ipvsadm -r ADDR:PORT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DestinationKey {
    /// Address of the real server; a family other than the service's only through a tunnel.
    pub addr: IpAddr,
    /// Port of the real server; 0 keeps the port of the packet.
    pub port: u16,
}

impl DestinationKey {
    /// The key of a real server.
    #[must_use]
    pub const fn new(addr: IpAddr, port: u16) -> Self {
        Self { addr, port }
    }
}

impl From<SocketAddr> for DestinationKey {
    fn from(addr: SocketAddr) -> Self {
        Self::new(addr.ip(), addr.port())
    }
}

impl fmt::Display for DestinationKey {
    /// `10.2.0.2:8080`, `[fd00::2]:8080`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.addr, self.port).fmt(f)
    }
}
