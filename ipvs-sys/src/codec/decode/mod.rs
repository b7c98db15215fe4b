//! Bytes to values: replies of the kernel, and requests too (for fakes and captures).
//!
//! Attributes may stand in any order. The service nest and the destination nest of replies are the
//! ones of requests with counters added, so one reader serves both.

mod daemon;
mod destination;
mod service;
mod stats;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::DecodeError;
use super::read::{Attr, attributes};
use crate::abi::attr::{command, info};
use crate::abi::{cmd, ctrl};
use crate::attribute::{Attribute, Nest};
use crate::command::Command;
use crate::daemon::{DaemonEntry, Info, Timeouts};
use crate::destination::DestinationEntry;
use crate::key::Family;
use crate::name::NameError;
use crate::service::ServiceEntry;
use daemon::RawDaemon;
use destination::RawDestination;
use service::RawService;

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
