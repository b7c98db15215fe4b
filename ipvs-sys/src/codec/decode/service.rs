//! The nest of a service.

use std::num::NonZeroU32;

use super::stats::Counters;
use super::{address, bad_name, family, keep, required};
use crate::abi::attr::service;
use crate::attribute::{Attribute, Nest};
use crate::codec::DecodeError;
use crate::codec::read::{Attr, attributes};
use crate::key::{Family, Protocol, ServiceKey};
use crate::name::{PeName, SchedulerName};
use crate::service::{Service, ServiceEntry, ServiceFlags};

/// Attributes as they came, before it is known which ones are needed.
#[derive(Default)]
pub(super) struct RawService<'a> {
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
    pub(super) unknown: Vec<Attribute>,
}

impl<'a> RawService<'a> {
    pub(super) fn read(nest: &'a [u8]) -> Result<Self, DecodeError> {
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

    pub(super) fn key(&self) -> Result<ServiceKey, DecodeError> {
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

    pub(super) fn finish(mut self) -> Result<ServiceEntry, DecodeError> {
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
