//! What the kernel accepts although it cannot work, refused before it is sent.
//!
//! The kernel checks little: it stores services of protocol 50, of address 0.0.0.0, of port 0
//! without persistence, and then forwards nothing. Other mistakes it answers with a bare `EINVAL`.
//! Here each has its own words.

use std::net::{IpAddr, Ipv4Addr};

use crate::command::Command;
use crate::daemon::Daemon;
use crate::destination::{Destination, ForwardMethod, Tunnel};
use crate::key::{Family, Protocol, ServiceKey};
use crate::service::{Service, ServiceFlags};

/// Longest persistence in seconds, 31 days, as `ipvsadm` has it. Far beyond, the kernel's
/// multiplication by its tick rate overflows.
pub const MAX_PERSISTENCE: u32 = 31 * 24 * 60 * 60;
/// Largest weight, as `ipvsadm` 1.31 has it: the kernel keeps an `int`. Schedulers multiply weights by
/// connections, so that beyond 65,535 few connections make the product overflow.
pub const MAX_WEIGHT: u32 = i32::MAX as u32;
/// Largest threshold in connections: the kernel keeps an `int`.
pub const MAX_THRESHOLD: u32 = i32::MAX as u32;

/// Why a command cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// IPVS balances TCP, UDP and SCTP.
    #[error("protocol {0} cannot be balanced, only TCP, UDP and SCTP")]
    Protocol(u16),
    /// 0.0.0.0, `::`, broadcast or multicast.
    #[error("{0} is not the address of a virtual service")]
    ServiceAddress(IpAddr),
    /// Port 0 means every port.
    #[error("port 0 needs a persistent service")]
    PortZero,
    /// `ServiceFlags::ONE_PACKET` on anything but UDP.
    #[error("one-packet scheduling is for UDP only")]
    OnePacket,
    /// Outside 1 to [`MAX_PERSISTENCE`] seconds, or beyond it without persistence.
    #[error("a persistence of {0} s is outside 1 to {MAX_PERSISTENCE}")]
    Persistence(u32),
    /// Outside 1 to 32 or 128.
    #[error("a netmask of {bits} bits is outside 1 to {max}")]
    Netmask {
        /// What was given.
        bits: u8,
        /// Bits of an address of the family.
        max: u8,
    },
    /// Not a host's own address.
    #[error("{0} is not the address of a host")]
    DestinationAddress(IpAddr),
    /// A destination of the other family is reached through a tunnel only.
    #[error("a destination of another address family than its service needs a tunnel")]
    MixedFamily,
    /// Packets that are tunnelled or routed keep their port.
    #[error(
        "a tunnelled or directly routed destination has the port of its service, {service}, not {destination}"
    )]
    Port {
        /// Port of the service.
        service: u16,
        /// Port of the destination.
        destination: u16,
    },
    /// [`ForwardMethod::Other`].
    #[error("forwarding method {0} is not known")]
    Forward(u32),
    /// [`Tunnel::Other`].
    #[error("tunnel type {0} is not known")]
    Tunnel(u8),
    /// GUE without a UDP port.
    #[error("a GUE tunnel needs a port")]
    TunnelPort,
    /// Above [`MAX_WEIGHT`].
    #[error("a weight of {0} is above {MAX_WEIGHT}")]
    Weight(u32),
    /// Above [`MAX_THRESHOLD`], or lower above upper.
    #[error("thresholds of {upper} (upper) and {lower} (lower) connections do not go together")]
    Thresholds {
        /// As given.
        upper: u32,
        /// As given.
        lower: u32,
    },
    /// Above 255.
    #[error("synchronisation id {0} is above 255")]
    SyncId(u32),
    /// Not a multicast address.
    #[error("{0} is not a multicast group")]
    Group(IpAddr),
}

impl Command {
    /// Checks what the kernel would accept or refuse without a word.
    ///
    /// # Errors
    /// When the command cannot work, whatever the state of the kernel.
    pub fn validate(&self) -> Result<(), Invalid> {
        match self {
            Self::NewService(service) | Self::SetService(service) => check_service(service),
            // A service that should not exist must still be deletable.
            Self::DelService(_) | Self::DelDest(..) | Self::Zero(_) => Ok(()),
            Self::NewDest(key, destination) | Self::SetDest(key, destination) => {
                check_destination(key, destination)
            }
            Self::NewDaemon(daemon) => check_daemon(daemon),
            Self::Flush | Self::DelDaemon(_) | Self::SetTimeouts(_) => Ok(()),
        }
    }
}

fn check_service(service: &Service) -> Result<(), Invalid> {
    let persistent = service.flags.contains(ServiceFlags::PERSISTENT);
    if let ServiceKey::Address {
        protocol,
        addr,
        port,
    } = service.key
    {
        if let Protocol::Other(number) = protocol {
            return Err(Invalid::Protocol(number));
        }
        if addr.is_unspecified() || addr.is_multicast() || addr == Ipv4Addr::BROADCAST {
            return Err(Invalid::ServiceAddress(addr));
        }
        if port == 0 && !persistent {
            return Err(Invalid::PortZero);
        }
        if service.flags.contains(ServiceFlags::ONE_PACKET) && protocol != Protocol::Udp {
            return Err(Invalid::OnePacket);
        }
    }
    if service.timeout > MAX_PERSISTENCE || (persistent && service.timeout == 0) {
        return Err(Invalid::Persistence(service.timeout));
    }
    let max = service.key.family().bits();
    if service.netmask == 0 || service.netmask > max {
        return Err(Invalid::Netmask {
            bits: service.netmask,
            max,
        });
    }
    Ok(())
}

fn check_destination(service: &ServiceKey, destination: &Destination) -> Result<(), Invalid> {
    let addr = destination.key.addr;
    if !is_host(addr) {
        return Err(Invalid::DestinationAddress(addr));
    }
    match destination.forward {
        ForwardMethod::Other(number) => return Err(Invalid::Forward(number)),
        ForwardMethod::Tunnel(Tunnel::Other { kind, .. }) => return Err(Invalid::Tunnel(kind)),
        ForwardMethod::Tunnel(Tunnel::Gue { port: 0, .. }) => return Err(Invalid::TunnelPort),
        _ => {}
    }
    let tunnelled = matches!(destination.forward, ForwardMethod::Tunnel(_));
    if Family::of(addr) != service.family() && !tunnelled {
        return Err(Invalid::MixedFamily);
    }
    let keeps_port = tunnelled || destination.forward == ForwardMethod::DirectRoute;
    // A mark has no port; the kernel and `ipvsadm` take any for its destinations.
    let by_address = matches!(service, ServiceKey::Address { .. });
    if keeps_port && by_address && destination.key.port != service.port() {
        return Err(Invalid::Port {
            service: service.port(),
            destination: destination.key.port,
        });
    }
    if destination.weight > MAX_WEIGHT {
        return Err(Invalid::Weight(destination.weight));
    }
    let (upper, lower) = (destination.upper_threshold, destination.lower_threshold);
    if upper > MAX_THRESHOLD || lower > upper {
        return Err(Invalid::Thresholds { upper, lower });
    }
    Ok(())
}

/// The kernel's own rule: unicast, and of global or site scope for IPv6.
fn is_host(addr: IpAddr) -> bool {
    if addr.is_unspecified() || addr.is_multicast() {
        return false;
    }
    match addr {
        IpAddr::V4(addr) => addr != Ipv4Addr::BROADCAST,
        IpAddr::V6(addr) => !addr.is_unicast_link_local(),
    }
}

fn check_daemon(daemon: &Daemon) -> Result<(), Invalid> {
    if daemon.sync_id > 255 {
        return Err(Invalid::SyncId(daemon.sync_id));
    }
    match daemon.group {
        Some(group) if !group.is_multicast() => Err(Invalid::Group(group)),
        _ => Ok(()),
    }
}
