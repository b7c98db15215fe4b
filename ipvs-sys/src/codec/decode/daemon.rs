//! The nest of a synchronisation daemon.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{bad_name, keep, required};
use crate::abi::attr::daemon;
use crate::attribute::{Attribute, Nest};
use crate::codec::DecodeError;
use crate::codec::read::attributes;
use crate::daemon::{Daemon, DaemonEntry, DaemonState};
use crate::name::InterfaceName;

/// Attributes as they came, before it is known which ones are needed.
#[derive(Default)]
pub(super) struct RawDaemon<'a> {
    state: Option<u32>,
    interface: Option<&'a str>,
    sync_id: Option<u32>,
    max_len: Option<u16>,
    group: Option<IpAddr>,
    port: Option<u16>,
    ttl: Option<u8>,
    pub(super) unknown: Vec<Attribute>,
}

impl<'a> RawDaemon<'a> {
    pub(super) fn read(nest: &'a [u8]) -> Result<Self, DecodeError> {
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

    pub(super) fn state(&self) -> Result<DaemonState, DecodeError> {
        const NAME: &str = "IPVS_DAEMON_ATTR_STATE";
        let number = required(self.state, NAME)?;
        DaemonState::from_number(number).ok_or_else(|| DecodeError::Value {
            attribute: NAME,
            value: number.to_string(),
        })
    }

    pub(super) fn finish(self) -> Result<DaemonEntry, DecodeError> {
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
