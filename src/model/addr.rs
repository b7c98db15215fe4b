//! Protocols, address families and the tuples by which a virtual server is found.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;

/// IPv4 or IPv6. Every Service, set, rule and route belongs to one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// Both families, in the order in which they are worked on.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub fn of(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// Prefix length of a single address: 32 or 128 bits.
    pub fn host_prefix(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// The three protocols that a Service port may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// The number in the IP header (IANA protocol numbers).
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    /// Kubernetes' spelling: `TCP`, `UDP`, `SCTP`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

impl FromStr for Protocol {
    type Err = ParseAddrError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s {
            "TCP" | "tcp" => Ok(Self::Tcp),
            "UDP" | "udp" => Ok(Self::Udp),
            "SCTP" | "sctp" => Ok(Self::Sctp),
            _ => Err(ParseAddrError {
                text: s.to_owned(),
                wanted: "TCP, UDP or SCTP",
            }),
        }
    }
}

/// An address and a port of one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    pub addr: IpAddr,
    pub port: u16,
}

impl fmt::Display for HostPort {
    /// `10.0.0.1:80`, `[fd00::1]:80`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.addr, self.port).fmt(f)
    }
}

impl FromStr for HostPort {
    type Err = ParseAddrError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let addr: SocketAddr = s.parse().map_err(|_| ParseAddrError {
            text: s.to_owned(),
            wanted: "ADDRESS:PORT, an IPv6 address in brackets",
        })?;
        Ok(Self {
            addr: addr.ip(),
            port: addr.port(),
        })
    }
}

/// The tuple by which the kernel finds a virtual server: destination address, port, protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VipPort {
    pub addr: IpAddr,
    pub protocol: Protocol,
    pub port: u16,
}

impl VipPort {
    /// The family of its address.
    pub fn family(&self) -> Family {
        Family::of(self.addr)
    }
}

impl fmt::Display for VipPort {
    /// `10.96.0.1:443/TCP`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}",
            SocketAddr::new(self.addr, self.port),
            self.protocol
        )
    }
}

impl FromStr for VipPort {
    type Err = ParseAddrError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let wanted = "ADDRESS:PORT/PROTOCOL";
        let (host, protocol) = s.split_once('/').ok_or_else(|| ParseAddrError {
            text: s.to_owned(),
            wanted,
        })?;
        let HostPort { addr, port } = host.parse()?;
        Ok(Self {
            addr,
            protocol: protocol.parse()?,
            port,
        })
    }
}

/// A CIDR, its host bits kept; none for what others might read otherwise. `ipnet`'s own parser reads
/// `010.0.0.0/8` as `10.0.0.0/8`, where some see octal numbers (CVE-2021-29923), and takes IPv4
/// addresses dressed as IPv6.
pub fn parse_cidr(text: &str) -> Option<IpNet> {
    let (addr, len) = text.split_once('/')?;
    // `std`'s parser of addresses refuses leading zeros and zones.
    let addr: IpAddr = addr.parse().ok()?;
    let canonical =
        len.bytes().all(|byte| byte.is_ascii_digit()) && (len == "0" || !len.starts_with('0'));
    let len: u8 = len.parse().ok().filter(|_| canonical)?;
    let mapped = matches!(addr, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    if mapped {
        return None;
    }
    IpNet::new(addr, len).ok()
}

/// A text that is not what its place asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseAddrError {
    pub text: String,
    pub wanted: &'static str,
}

impl fmt::Display for ParseAddrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not {}", self.text, self.wanted)
    }
}

impl std::error::Error for ParseAddrError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vip_port_text_round_trips() {
        for text in ["10.96.0.1:443/TCP", "[fd00::1]:53/UDP", "192.0.2.7:1/SCTP"] {
            assert_eq!(text.parse::<VipPort>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn cidrs_are_parsed_strictly() {
        let ok = |text: &str| parse_cidr(text).map(|net| net.to_string());
        assert_eq!(ok("10.1.2.3/8").as_deref(), Some("10.1.2.3/8"));
        assert_eq!(ok("0.0.0.0/0").as_deref(), Some("0.0.0.0/0"));
        assert_eq!(ok("FD00::1/64").as_deref(), Some("fd00::1/64"));
        for odd in [
            "",
            "/",
            "10.0.0.0",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "010.0.0.0/8",
            "fd00::/129",
            "fe80::1%eth0/64",
            "::ffff:10.0.0.0/104",
            "10.0.0.0/255.0.0.0",
            " 10.0.0.0/8",
        ] {
            assert_eq!(ok(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn vip_port_refuses_what_is_not_one() {
        for text in [
            "10.96.0.1:443",
            "10.96.0.01:443/TCP",
            "fd00::1:53/UDP",
            "1.2.3.4:99999/TCP",
            "1.2.3.4:1/ICMP",
        ] {
            assert!(text.parse::<VipPort>().is_err(), "{text}");
        }
    }
}
