//! Bytes to values: replies of the kernel, and requests too (for fakes and captures).
//!
//! Attributes may stand in any order. The service nest and the destination nest of replies are the
//! ones of requests with counters added, so one reader serves both.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

use super::DecodeError;
use super::read::{Attr, attributes};
use crate::abi::attr::{command, daemon, dest, info, service, stats};
use crate::abi::{cmd, ctrl, tunnel};
use crate::attribute::{Attribute, Nest};
use crate::command::Command;
use crate::daemon::{Daemon, DaemonEntry, DaemonState, Info, Timeouts};
use crate::destination::{Destination, DestinationEntry, ForwardMethod, Tunnel, TunnelFlags};
use crate::key::{DestinationKey, Family, Protocol, ServiceKey};
use crate::name::{InterfaceName, NameError, PeName, SchedulerName};
use crate::service::{Service, ServiceEntry, ServiceFlags};
use crate::stats::Stats;

/// An answer of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply {
    /// To `IPVS_CMD_GET_SERVICE`.
    Service(ServiceEntry),
    /// To `IPVS_CMD_GET_DEST`.
    Destination(DestinationEntry),
    /// To `IPVS_CMD_GET_DAEMON`.
    Daemon(DaemonEntry),
    /// To `IPVS_CMD_GET_CONFIG`.
    Timeouts {
        /// The values.
        timeouts: Timeouts,
        /// What this version of the crate does not understand, as it came.
        unknown: Vec<Attribute>,
    },
    /// To `IPVS_CMD_GET_INFO`.
    Info(Info),
}

impl Reply {
    /// Reads the payload of a message of the family. `family` is that of the service that was asked
    /// about: kernels before 3.18 do not tell the family of a destination.
    ///
    /// # Errors
    /// When the bytes are no such reply.
    pub fn decode(payload: &[u8], family: Family) -> Result<Self, DecodeError> {
        let (command, body) = genl(payload)?;
        if command == cmd::IPVS_CMD_SET_INFO {
            return decode_info(body).map(Self::Info);
        }
        let top = Top::read(body)?;
        match command {
            cmd::IPVS_CMD_NEW_SERVICE => {
                let mut raw = top.service.ok_or(SERVICE_MISSING)?;
                raw.unknown.extend(top.unknown);
                raw.finish().map(Self::Service)
            }
            cmd::IPVS_CMD_NEW_DEST => {
                let mut raw = top.destination.ok_or(DEST_MISSING)?;
                raw.unknown.extend(top.unknown);
                raw.finish(family).map(Self::Destination)
            }
            cmd::IPVS_CMD_NEW_DAEMON => {
                let mut raw = top.daemon.ok_or(DAEMON_MISSING)?;
                raw.unknown.extend(top.unknown);
                raw.finish().map(Self::Daemon)
            }
            cmd::IPVS_CMD_SET_CONFIG => Ok(Self::Timeouts {
                timeouts: top.timeouts,
                unknown: top.unknown,
            }),
            command => Err(DecodeError::Command { command }),
        }
    }
}

/// Reads a request that changes something: the inverse of
/// [`encode_command`](super::encode_command), for fakes and captures. Attributes that are unknown
/// are passed over, as the kernel does.
///
/// # Errors
/// When the bytes are no such request.
pub fn decode_command(payload: &[u8]) -> Result<Command, DecodeError> {
    let (command, body) = genl(payload)?;
    let Top {
        service,
        destination,
        daemon,
        timeouts,
        ..
    } = Top::read(body)?;
    let key = || service.as_ref().ok_or(SERVICE_MISSING)?.key();
    let destination = || destination.ok_or(DEST_MISSING);
    Ok(match command {
        cmd::IPVS_CMD_NEW_SERVICE => {
            Command::NewService(service.ok_or(SERVICE_MISSING)?.finish()?.service)
        }
        cmd::IPVS_CMD_SET_SERVICE => {
            Command::SetService(service.ok_or(SERVICE_MISSING)?.finish()?.service)
        }
        cmd::IPVS_CMD_DEL_SERVICE => Command::DelService(key()?),
        cmd::IPVS_CMD_NEW_DEST => {
            let key = key()?;
            Command::NewDest(key, destination()?.finish(key.family())?.destination)
        }
        cmd::IPVS_CMD_SET_DEST => {
            let key = key()?;
            Command::SetDest(key, destination()?.finish(key.family())?.destination)
        }
        cmd::IPVS_CMD_DEL_DEST => {
            let key = key()?;
            Command::DelDest(key, destination()?.key(key.family())?)
        }
        cmd::IPVS_CMD_NEW_DAEMON => {
            Command::NewDaemon(daemon.ok_or(DAEMON_MISSING)?.finish()?.daemon)
        }
        cmd::IPVS_CMD_DEL_DAEMON => Command::DelDaemon(daemon.ok_or(DAEMON_MISSING)?.state()?),
        cmd::IPVS_CMD_SET_CONFIG => Command::SetTimeouts(timeouts),
        cmd::IPVS_CMD_ZERO if service.is_none() => Command::Zero(None),
        cmd::IPVS_CMD_ZERO => Command::Zero(Some(key()?)),
        cmd::IPVS_CMD_FLUSH => Command::Flush,
        command => return Err(DecodeError::Command { command }),
    })
}

/// Reads the controller's answer to a look-up: the number of the family.
///
/// # Errors
/// When the bytes are no such answer.
pub fn decode_family_id(payload: &[u8]) -> Result<u16, DecodeError> {
    let (command, body) = genl(payload)?;
    if command != ctrl::CTRL_CMD_NEWFAMILY {
        return Err(DecodeError::Command { command });
    }
    for attribute in attributes(body) {
        let attribute = attribute?;
        if attribute.kind == ctrl::CTRL_ATTR_FAMILY_ID {
            return attribute.u16("CTRL_ATTR_FAMILY_ID");
        }
    }
    Err(DecodeError::Missing {
        attribute: "CTRL_ATTR_FAMILY_ID",
    })
}

/// Splits `struct genlmsghdr` off.
fn genl(payload: &[u8]) -> Result<(u8, &[u8]), DecodeError> {
    let (header, body) =
        payload
            .split_first_chunk::<{ ctrl::GENL_HDRLEN }>()
            .ok_or(DecodeError::Malformed {
                what: "a generic netlink header",
            })?;
    let [command, ..] = *header;
    Ok((command, body))
}

fn decode_info(body: &[u8]) -> Result<Info, DecodeError> {
    let mut version = None;
    let mut size = None;
    let mut unknown = Vec::new();
    for attribute in attributes(body) {
        let a = attribute?;
        match a.kind {
            info::IPVS_INFO_ATTR_VERSION => version = Some(a.u32("IPVS_INFO_ATTR_VERSION")?),
            info::IPVS_INFO_ATTR_CONN_TAB_SIZE => {
                size = Some(a.u32("IPVS_INFO_ATTR_CONN_TAB_SIZE")?);
            }
            _ => unknown.push(keep(Nest::Command, &a)),
        }
    }
    let [_, major, minor, patch] = required(version, "IPVS_INFO_ATTR_VERSION")?.to_be_bytes();
    Ok(Info {
        version: (major, minor, patch),
        connection_table_size: required(size, "IPVS_INFO_ATTR_CONN_TAB_SIZE")?,
        unknown,
    })
}

/// The first level of every message but the answer to `IPVS_CMD_GET_INFO`.
#[derive(Default)]
struct Top<'a> {
    service: Option<RawService<'a>>,
    destination: Option<RawDestination>,
    daemon: Option<RawDaemon<'a>>,
    timeouts: Timeouts,
    unknown: Vec<Attribute>,
}

impl<'a> Top<'a> {
    fn read(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut top = Self::default();
        for attribute in attributes(body) {
            let a = attribute?;
            match a.kind {
                command::IPVS_CMD_ATTR_SERVICE => top.service = Some(RawService::read(a.value)?),
                command::IPVS_CMD_ATTR_DEST => {
                    top.destination = Some(RawDestination::read(a.value)?);
                }
                command::IPVS_CMD_ATTR_DAEMON => top.daemon = Some(RawDaemon::read(a.value)?),
                command::IPVS_CMD_ATTR_TIMEOUT_TCP => {
                    top.timeouts.tcp = a.u32("IPVS_CMD_ATTR_TIMEOUT_TCP")?;
                }
                command::IPVS_CMD_ATTR_TIMEOUT_TCP_FIN => {
                    top.timeouts.tcp_fin = a.u32("IPVS_CMD_ATTR_TIMEOUT_TCP_FIN")?;
                }
                command::IPVS_CMD_ATTR_TIMEOUT_UDP => {
                    top.timeouts.udp = a.u32("IPVS_CMD_ATTR_TIMEOUT_UDP")?;
                }
                _ => top.unknown.push(keep(Nest::Command, &a)),
            }
        }
        Ok(top)
    }
}

#[derive(Default)]
struct RawService<'a> {
    family: Option<u16>,
    protocol: Option<u16>,
    addr: Option<&'a [u8]>,
    port: Option<u16>,
    mark: Option<u32>,
    scheduler: Option<&'a str>,
    flags: Option<u32>,
    timeout: Option<u32>,
    netmask: Option<Attr<'a>>,
    pe_name: Option<&'a str>,
    counters: Counters,
    unknown: Vec<Attribute>,
}

impl<'a> RawService<'a> {
    fn read(nest: &'a [u8]) -> Result<Self, DecodeError> {
        let mut raw = Self::default();
        for attribute in attributes(nest) {
            let a = attribute?;
            match a.kind {
                service::IPVS_SVC_ATTR_AF => raw.family = Some(a.u16("IPVS_SVC_ATTR_AF")?),
                service::IPVS_SVC_ATTR_PROTOCOL => {
                    raw.protocol = Some(a.u16("IPVS_SVC_ATTR_PROTOCOL")?);
                }
                service::IPVS_SVC_ATTR_ADDR => raw.addr = Some(a.value),
                service::IPVS_SVC_ATTR_PORT => raw.port = Some(a.be16("IPVS_SVC_ATTR_PORT")?),
                service::IPVS_SVC_ATTR_FWMARK => raw.mark = Some(a.u32("IPVS_SVC_ATTR_FWMARK")?),
                service::IPVS_SVC_ATTR_SCHED_NAME => {
                    raw.scheduler = Some(a.text("IPVS_SVC_ATTR_SCHED_NAME")?);
                }
                service::IPVS_SVC_ATTR_PE_NAME => {
                    raw.pe_name = Some(a.text("IPVS_SVC_ATTR_PE_NAME")?);
                }
                service::IPVS_SVC_ATTR_FLAGS => raw.flags = Some(a.pair("IPVS_SVC_ATTR_FLAGS")?.0),
                service::IPVS_SVC_ATTR_TIMEOUT => {
                    raw.timeout = Some(a.u32("IPVS_SVC_ATTR_TIMEOUT")?);
                }
                service::IPVS_SVC_ATTR_NETMASK => raw.netmask = Some(a),
                service::IPVS_SVC_ATTR_STATS => raw.counters.read_32(&a, &mut raw.unknown)?,
                service::IPVS_SVC_ATTR_STATS64 => raw.counters.read_64(&a, &mut raw.unknown)?,
                _ => raw.unknown.push(keep(Nest::Service, &a)),
            }
        }
        Ok(raw)
    }

    fn key(&self) -> Result<ServiceKey, DecodeError> {
        let family = family("IPVS_SVC_ATTR_AF", self.family)?;
        if let Some(mark) = self.mark.and_then(NonZeroU32::new) {
            return Ok(ServiceKey::Mark { family, mark });
        }
        Ok(ServiceKey::Address {
            protocol: Protocol::from(required(self.protocol, "IPVS_SVC_ATTR_PROTOCOL")?),
            addr: address(self.addr, family, "IPVS_SVC_ATTR_ADDR")?,
            port: required(self.port, "IPVS_SVC_ATTR_PORT")?,
        })
    }

    fn finish(mut self) -> Result<ServiceEntry, DecodeError> {
        let key = self.key()?;
        let scheduler = required(self.scheduler, "IPVS_SVC_ATTR_SCHED_NAME")?;
        let flags = required(self.flags, "IPVS_SVC_ATTR_FLAGS")?;
        let netmask = required(self.netmask, "IPVS_SVC_ATTR_NETMASK")?;
        let netmask = self.prefix(key.family(), &netmask)?;
        Ok(ServiceEntry {
            service: Service {
                key,
                scheduler: SchedulerName::new(scheduler)
                    .map_err(bad_name("IPVS_SVC_ATTR_SCHED_NAME", scheduler))?,
                flags: ServiceFlags::from_bits_retain(flags) - ServiceFlags::HASHED,
                timeout: required(self.timeout, "IPVS_SVC_ATTR_TIMEOUT")?,
                netmask,
                pe_name: match self.pe_name {
                    None | Some("") => None,
                    Some(name) => {
                        Some(PeName::new(name).map_err(bad_name("IPVS_SVC_ATTR_PE_NAME", name))?)
                    }
                },
            },
            stats: self.counters.finish(),
            unknown: self.unknown,
        })
    }

    /// The mask as a number of bits. A mask with holes has no such number: it is kept as it came.
    fn prefix(&mut self, family: Family, netmask: &Attr<'_>) -> Result<u8, DecodeError> {
        const NAME: &str = "IPVS_SVC_ATTR_NETMASK";
        match family {
            Family::Inet => {
                let mask = netmask.be32(NAME)?;
                let bits = mask.leading_ones();
                if bits != mask.count_ones() {
                    self.unknown.push(keep(Nest::Service, netmask));
                }
                Ok(u8::try_from(bits).unwrap_or(32))
            }
            Family::Inet6 => {
                let bits = netmask.u32(NAME)?;
                u8::try_from(bits).map_err(|_| DecodeError::Value {
                    attribute: NAME,
                    value: bits.to_string(),
                })
            }
        }
    }
}

#[derive(Default)]
struct RawDestination {
    addr: Option<Vec<u8>>,
    port: Option<u16>,
    method: Option<u32>,
    weight: Option<u32>,
    upper: Option<u32>,
    lower: Option<u32>,
    active: u32,
    inactive: u32,
    persistent: u32,
    family: Option<u16>,
    tunnel_kind: u8,
    tunnel_port: u16,
    tunnel_flags: u16,
    /// The attributes of the tunnel as they came, for methods that have none.
    tunnel_raw: Vec<Attribute>,
    counters: Counters,
    unknown: Vec<Attribute>,
}

impl RawDestination {
    fn read(nest: &[u8]) -> Result<Self, DecodeError> {
        let mut raw = Self::default();
        for attribute in attributes(nest) {
            raw.take(&attribute?)?;
        }
        Ok(raw)
    }

    fn take(&mut self, a: &Attr<'_>) -> Result<(), DecodeError> {
        match a.kind {
            dest::IPVS_DEST_ATTR_ADDR => self.addr = Some(a.value.to_vec()),
            dest::IPVS_DEST_ATTR_PORT => self.port = Some(a.be16("IPVS_DEST_ATTR_PORT")?),
            dest::IPVS_DEST_ATTR_FWD_METHOD => {
                self.method = Some(a.u32("IPVS_DEST_ATTR_FWD_METHOD")?);
            }
            dest::IPVS_DEST_ATTR_WEIGHT => self.weight = Some(a.u32("IPVS_DEST_ATTR_WEIGHT")?),
            dest::IPVS_DEST_ATTR_U_THRESH => self.upper = Some(a.u32("IPVS_DEST_ATTR_U_THRESH")?),
            dest::IPVS_DEST_ATTR_L_THRESH => self.lower = Some(a.u32("IPVS_DEST_ATTR_L_THRESH")?),
            dest::IPVS_DEST_ATTR_ACTIVE_CONNS => {
                self.active = a.u32("IPVS_DEST_ATTR_ACTIVE_CONNS")?;
            }
            dest::IPVS_DEST_ATTR_INACT_CONNS => {
                self.inactive = a.u32("IPVS_DEST_ATTR_INACT_CONNS")?;
            }
            dest::IPVS_DEST_ATTR_PERSIST_CONNS => {
                self.persistent = a.u32("IPVS_DEST_ATTR_PERSIST_CONNS")?;
            }
            dest::IPVS_DEST_ATTR_ADDR_FAMILY => {
                self.family = Some(a.u16("IPVS_DEST_ATTR_ADDR_FAMILY")?);
            }
            dest::IPVS_DEST_ATTR_TUN_TYPE => {
                self.tunnel_kind = a.u8("IPVS_DEST_ATTR_TUN_TYPE")?;
                self.tunnel_raw.push(keep(Nest::Destination, a));
            }
            dest::IPVS_DEST_ATTR_TUN_PORT => {
                self.tunnel_port = a.be16("IPVS_DEST_ATTR_TUN_PORT")?;
                self.tunnel_raw.push(keep(Nest::Destination, a));
            }
            dest::IPVS_DEST_ATTR_TUN_FLAGS => {
                self.tunnel_flags = a.u16("IPVS_DEST_ATTR_TUN_FLAGS")?;
                self.tunnel_raw.push(keep(Nest::Destination, a));
            }
            dest::IPVS_DEST_ATTR_STATS => self.counters.read_32(a, &mut self.unknown)?,
            dest::IPVS_DEST_ATTR_STATS64 => self.counters.read_64(a, &mut self.unknown)?,
            _ => self.unknown.push(keep(Nest::Destination, a)),
        }
        Ok(())
    }

    fn key(&self, service_family: Family) -> Result<DestinationKey, DecodeError> {
        let family = match self.family {
            // Old kernels send 0 where they mean the family of the service.
            None | Some(0) => service_family,
            number => family("IPVS_DEST_ATTR_ADDR_FAMILY", number)?,
        };
        Ok(DestinationKey {
            addr: address(self.addr.as_deref(), family, "IPVS_DEST_ATTR_ADDR")?,
            port: required(self.port, "IPVS_DEST_ATTR_PORT")?,
        })
    }

    fn finish(mut self, service_family: Family) -> Result<DestinationEntry, DecodeError> {
        let key = self.key(service_family)?;
        let forward = self.forward()?;
        Ok(DestinationEntry {
            destination: Destination {
                key,
                forward,
                weight: required(self.weight, "IPVS_DEST_ATTR_WEIGHT")?,
                upper_threshold: required(self.upper, "IPVS_DEST_ATTR_U_THRESH")?,
                lower_threshold: required(self.lower, "IPVS_DEST_ATTR_L_THRESH")?,
            },
            active: self.active,
            inactive: self.inactive,
            persistent: self.persistent,
            stats: self.counters.finish(),
            unknown: self.unknown,
        })
    }

    fn forward(&mut self) -> Result<ForwardMethod, DecodeError> {
        const METHODS: [ForwardMethod; 4] = [
            ForwardMethod::Masquerade,
            ForwardMethod::Local,
            ForwardMethod::DirectRoute,
            ForwardMethod::Bypass,
        ];
        let number = required(self.method, "IPVS_DEST_ATTR_FWD_METHOD")?;
        let port = self.tunnel_port;
        let flags = TunnelFlags::from_bits_retain(self.tunnel_flags);
        let tunnel = match self.tunnel_kind {
            tunnel::IP_VS_CONN_F_TUNNEL_TYPE_IPIP if port == 0 => Tunnel::Ipip { flags },
            tunnel::IP_VS_CONN_F_TUNNEL_TYPE_GUE => Tunnel::Gue { port, flags },
            tunnel::IP_VS_CONN_F_TUNNEL_TYPE_GRE if port == 0 => Tunnel::Gre { flags },
            kind => Tunnel::Other { kind, port, flags },
        };
        if number == crate::abi::forward::IP_VS_CONN_F_TUNNEL {
            return Ok(ForwardMethod::Tunnel(tunnel));
        }
        if tunnel != Tunnel::default() {
            self.unknown.append(&mut self.tunnel_raw);
        }
        Ok(METHODS
            .into_iter()
            .find(|method| method.number() == number)
            .unwrap_or(ForwardMethod::Other(number)))
    }
}

#[derive(Default)]
struct RawDaemon<'a> {
    state: Option<u32>,
    interface: Option<&'a str>,
    sync_id: Option<u32>,
    max_len: Option<u16>,
    group: Option<IpAddr>,
    port: Option<u16>,
    ttl: Option<u8>,
    unknown: Vec<Attribute>,
}

impl<'a> RawDaemon<'a> {
    fn read(nest: &'a [u8]) -> Result<Self, DecodeError> {
        let mut raw = Self::default();
        for attribute in attributes(nest) {
            let a = attribute?;
            match a.kind {
                daemon::IPVS_DAEMON_ATTR_STATE => {
                    raw.state = Some(a.u32("IPVS_DAEMON_ATTR_STATE")?);
                }
                daemon::IPVS_DAEMON_ATTR_MCAST_IFN => {
                    raw.interface = Some(a.text("IPVS_DAEMON_ATTR_MCAST_IFN")?);
                }
                daemon::IPVS_DAEMON_ATTR_SYNC_ID => {
                    raw.sync_id = Some(a.u32("IPVS_DAEMON_ATTR_SYNC_ID")?);
                }
                daemon::IPVS_DAEMON_ATTR_SYNC_MAXLEN => {
                    raw.max_len = Some(a.u16("IPVS_DAEMON_ATTR_SYNC_MAXLEN")?);
                }
                daemon::IPVS_DAEMON_ATTR_MCAST_GROUP => {
                    let group = a.be32("IPVS_DAEMON_ATTR_MCAST_GROUP")?;
                    raw.group = Some(Ipv4Addr::from_bits(group).into());
                }
                daemon::IPVS_DAEMON_ATTR_MCAST_GROUP6 => {
                    let group = a.u128("IPVS_DAEMON_ATTR_MCAST_GROUP6")?;
                    raw.group = Some(Ipv6Addr::from(group).into());
                }
                daemon::IPVS_DAEMON_ATTR_MCAST_PORT => {
                    raw.port = Some(a.u16("IPVS_DAEMON_ATTR_MCAST_PORT")?);
                }
                daemon::IPVS_DAEMON_ATTR_MCAST_TTL => {
                    raw.ttl = Some(a.u8("IPVS_DAEMON_ATTR_MCAST_TTL")?);
                }
                _ => raw.unknown.push(keep(Nest::Daemon, &a)),
            }
        }
        Ok(raw)
    }

    fn state(&self) -> Result<DaemonState, DecodeError> {
        const NAME: &str = "IPVS_DAEMON_ATTR_STATE";
        let number = required(self.state, NAME)?;
        DaemonState::from_number(number).ok_or_else(|| DecodeError::Value {
            attribute: NAME,
            value: number.to_string(),
        })
    }

    fn finish(self) -> Result<DaemonEntry, DecodeError> {
        let interface = required(self.interface, "IPVS_DAEMON_ATTR_MCAST_IFN")?;
        Ok(DaemonEntry {
            daemon: Daemon {
                state: self.state()?,
                interface: InterfaceName::new(interface)
                    .map_err(bad_name("IPVS_DAEMON_ATTR_MCAST_IFN", interface))?,
                sync_id: required(self.sync_id, "IPVS_DAEMON_ATTR_SYNC_ID")?,
                max_len: self.max_len,
                group: self.group,
                port: self.port,
                ttl: self.ttl,
            },
            unknown: self.unknown,
        })
    }
}

/// Both nests of counters; the one of 64 bits wins.
#[derive(Default)]
struct Counters {
    narrow: Option<Stats>,
    wide: Option<Stats>,
}

impl Counters {
    fn read_32(
        &mut self,
        nest: &Attr<'_>,
        unknown: &mut Vec<Attribute>,
    ) -> Result<(), DecodeError> {
        self.narrow = Some(read_stats(nest.value, Nest::Stats, unknown)?);
        Ok(())
    }

    fn read_64(
        &mut self,
        nest: &Attr<'_>,
        unknown: &mut Vec<Attribute>,
    ) -> Result<(), DecodeError> {
        self.wide = Some(read_stats(nest.value, Nest::Stats64, unknown)?);
        Ok(())
    }

    fn finish(&self) -> Stats {
        self.wide.or(self.narrow).unwrap_or_default()
    }
}

/// Reads either nest: byte counters have 64 bits in both, the rest 32 or 64.
fn read_stats(
    nest: &[u8],
    place: Nest,
    unknown: &mut Vec<Attribute>,
) -> Result<Stats, DecodeError> {
    let mut read = Stats::default();
    for attribute in attributes(nest) {
        let a = attribute?;
        let value = || match a.value.len() {
            4 => a.u32("IPVS_STATS_ATTR").map(u64::from),
            _ => a.u64("IPVS_STATS_ATTR"),
        };
        match a.kind {
            stats::IPVS_STATS_ATTR_CONNS => read.conns = value()?,
            stats::IPVS_STATS_ATTR_INPKTS => read.in_packets = value()?,
            stats::IPVS_STATS_ATTR_OUTPKTS => read.out_packets = value()?,
            stats::IPVS_STATS_ATTR_INBYTES => read.in_bytes = value()?,
            stats::IPVS_STATS_ATTR_OUTBYTES => read.out_bytes = value()?,
            stats::IPVS_STATS_ATTR_CPS => read.cps = value()?,
            stats::IPVS_STATS_ATTR_INPPS => read.in_pps = value()?,
            stats::IPVS_STATS_ATTR_OUTPPS => read.out_pps = value()?,
            stats::IPVS_STATS_ATTR_INBPS => read.in_bps = value()?,
            stats::IPVS_STATS_ATTR_OUTBPS => read.out_bps = value()?,
            stats::IPVS_STATS_ATTR_PAD => {}
            _ => unknown.push(keep(place, &a)),
        }
    }
    Ok(read)
}

fn keep(nest: Nest, attribute: &Attr<'_>) -> Attribute {
    Attribute {
        nest,
        kind: attribute.raw_kind,
        value: attribute.value.to_vec(),
    }
}

fn required<T>(value: Option<T>, attribute: &'static str) -> Result<T, DecodeError> {
    value.ok_or(DecodeError::Missing { attribute })
}

fn family(attribute: &'static str, number: Option<u16>) -> Result<Family, DecodeError> {
    let number = required(number, attribute)?;
    Family::from_number(number).ok_or_else(|| DecodeError::Value {
        attribute,
        value: number.to_string(),
    })
}

/// IPv4 takes the first four bytes of what may be sixteen.
fn address(
    bytes: Option<&[u8]>,
    family: Family,
    attribute: &'static str,
) -> Result<IpAddr, DecodeError> {
    let bytes = required(bytes, attribute)?;
    let length = DecodeError::Length {
        attribute,
        length: bytes.len(),
    };
    match family {
        Family::Inet => bytes
            .first_chunk()
            .map(|octets| Ipv4Addr::from(*octets).into()),
        Family::Inet6 => bytes
            .first_chunk()
            .map(|octets| Ipv6Addr::from(*octets).into()),
    }
    .ok_or(length)
}

fn bad_name(attribute: &'static str, name: &str) -> impl FnOnce(NameError) -> DecodeError {
    let value = name.escape_default().to_string();
    move |_| DecodeError::Value { attribute, value }
}

const SERVICE_MISSING: DecodeError = DecodeError::Missing {
    attribute: "IPVS_CMD_ATTR_SERVICE",
};
const DEST_MISSING: DecodeError = DecodeError::Missing {
    attribute: "IPVS_CMD_ATTR_DEST",
};
const DAEMON_MISSING: DecodeError = DecodeError::Missing {
    attribute: "IPVS_CMD_ATTR_DAEMON",
};
