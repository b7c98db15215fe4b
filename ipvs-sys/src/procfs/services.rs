//! `/proc/net/ip_vs`: services and destinations (`ip_vs_info_seq_show` of the kernel).

use std::io::BufRead;
use std::net::IpAddr;
use std::num::NonZeroU32;

use super::{IP_VS, ProcError, address, hex16, hex32, line_error, protocol};
use crate::key::{DestinationKey, Family, Protocol, ServiceKey};
use crate::name::SchedulerName;

/// What a service is found by, as far as the file tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProcKey {
    /// Protocol, address, port.
    Address {
        /// Protocol of the packet.
        protocol: Protocol,
        /// The virtual address.
        addr: IpAddr,
        /// The virtual port.
        port: u16,
    },
    /// A firewall mark of either family: the file may have two lines for one mark.
    Mark(NonZeroU32),
}

impl ProcKey {
    /// Whether the line may be about this service.
    #[must_use]
    pub fn matches(&self, key: &ServiceKey) -> bool {
        *self == Self::from(*key)
    }
}

impl From<ServiceKey> for ProcKey {
    fn from(key: ServiceKey) -> Self {
        match key {
            ServiceKey::Address {
                protocol,
                addr,
                port,
            } => Self::Address {
                protocol,
                addr,
                port,
            },
            ServiceKey::Mark { mark, .. } => Self::Mark(mark),
        }
    }
}

/// Persistence as the file tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcPersistence {
    /// In ticks of the kernel (`CONFIG_HZ` a second: 100, 250, 300 or 1000).
    pub timeout_ticks: u32,
    /// The word as it is printed; [`Self::prefix`] understands it.
    pub netmask: u32,
}

impl ProcPersistence {
    /// Bits of the netmask, if it is one of this family.
    #[must_use]
    pub fn prefix(&self, family: Family) -> Option<u8> {
        let bits = match family {
            Family::Inet => {
                let bits = self.netmask.leading_ones();
                (bits == self.netmask.count_ones()).then_some(bits)?
            }
            // The kernel swaps the bytes of the prefix length as if it were an address.
            Family::Inet6 => u32::from_be(self.netmask),
        };
        u8::try_from(bits)
            .ok()
            .filter(|bits| *bits <= family.bits())
    }
}

/// How packets get to a destination, without the kind of tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProcForward {
    /// `Masq`: the kernel's word for every method without a word of its own, `Bypass` included.
    Masquerade,
    /// `Local`.
    Local,
    /// `Tunnel`.
    Tunnel,
    /// `Route`.
    DirectRoute,
}

/// A line of a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct ProcDestination {
    /// Address and port of the real server.
    pub key: DestinationKey,
    /// How packets get there.
    pub forward: ProcForward,
    /// Share of new connections.
    pub weight: u32,
    /// Connections that are established.
    pub active: u32,
    /// Connections in any other state.
    pub inactive: u32,
}

/// A line of a service and the lines of its destinations.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcService {
    /// What it is found by.
    pub key: ProcKey,
    /// Who picks a destination.
    pub scheduler: SchedulerName,
    /// One-packet scheduling; the kernel does not tell it of IPv6 addresses.
    pub one_packet: Option<bool>,
    /// Persistence, if it is persistent.
    pub persistence: Option<ProcPersistence>,
    /// In the kernel's order: the newest first.
    pub destinations: Vec<ProcDestination>,
}

/// Reads the text of `/proc/net/ip_vs`.
///
/// # Errors
/// At the first line that the kernel would not write.
pub fn services(text: &str) -> Result<Vec<ProcService>, ProcError> {
    let mut services = Vec::new();
    for line in text.lines() {
        add(&mut services, line)?;
    }
    Ok(services)
}

/// The same from a reader, without holding the text.
pub(super) fn services_from(mut reader: impl BufRead) -> Result<Vec<ProcService>, ProcError> {
    let (mut services, mut line) = (Vec::new(), String::new());
    loop {
        line.clear();
        match reader.read_line(&mut line) {
            Ok(0) => return Ok(services),
            Ok(_) => add(&mut services, &line)?,
            Err(source) => {
                let file = IP_VS;
                return Err(ProcError::Read { file, source });
            }
        }
    }
}

fn add(services: &mut Vec<ProcService>, line: &str) -> Result<(), ProcError> {
    let fields = line.split_ascii_whitespace();
    if line.starts_with("IP Virtual Server") || line.starts_with("Prot ") {
        return Ok(());
    }
    if line.starts_with("  -> RemoteAddress") || line.trim().is_empty() {
        return Ok(());
    }
    if line.starts_with("  -> ") {
        let destination = destination(fields).ok_or_else(|| line_error(line))?;
        let service = services.last_mut().ok_or_else(|| line_error(line))?;
        service.destinations.push(destination);
    } else {
        services.push(service(fields).ok_or_else(|| line_error(line))?);
    }
    Ok(())
}

fn service<'a>(mut fields: impl Iterator<Item = &'a str>) -> Option<ProcService> {
    let kind = fields.next()?;
    let place = fields.next()?;
    let key = if kind == "FWM" {
        ProcKey::Mark(NonZeroU32::new(hex32(place)?)?)
    } else {
        let (addr, port) = addr_port(place)?;
        ProcKey::Address {
            protocol: protocol(kind)?,
            addr,
            port,
        }
    };
    let scheduler = SchedulerName::new(fields.next()?).ok()?;
    let tells_one_packet = !matches!(key, ProcKey::Address { addr, .. } if addr.is_ipv6());
    let mut service = ProcService {
        key,
        scheduler,
        one_packet: tells_one_packet.then_some(false),
        persistence: None,
        destinations: Vec::new(),
    };
    while let Some(flag) = fields.next() {
        match flag {
            "ops" => service.one_packet = Some(true),
            "persistent" => {
                service.persistence = Some(ProcPersistence {
                    timeout_ticks: fields.next()?.parse().ok()?,
                    netmask: hex32(fields.next()?)?,
                });
            }
            _ => return None,
        }
    }
    Some(service)
}

fn destination<'a>(mut fields: impl Iterator<Item = &'a str>) -> Option<ProcDestination> {
    let (addr, port) = addr_port(fields.nth(1)?)?;
    Some(ProcDestination {
        key: DestinationKey { addr, port },
        forward: match fields.next()? {
            "Masq" => ProcForward::Masquerade,
            "Local" => ProcForward::Local,
            "Tunnel" => ProcForward::Tunnel,
            "Route" => ProcForward::DirectRoute,
            _ => return None,
        },
        weight: fields.next()?.parse().ok()?,
        active: fields.next()?.parse().ok()?,
        inactive: fields.next()?.parse().ok()?,
    })
}

/// `0A600001:01BB`, or IPv6 in brackets.
fn addr_port(text: &str) -> Option<(IpAddr, u16)> {
    let (addr, port) = text.rsplit_once(':')?;
    let addr = addr
        .strip_prefix('[')
        .map_or(Some(addr), |rest| rest.strip_suffix(']'))?;
    Some((address(addr)?, hex16(port)?))
}
