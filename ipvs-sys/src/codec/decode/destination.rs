//! The nest of a destination.

use super::stats::Counters;
use super::{address, family, keep, required};
use crate::abi::attr::dest;
use crate::abi::tunnel;
use crate::attribute::{Attribute, Nest};
use crate::codec::DecodeError;
use crate::codec::read::{Attr, attributes};
use crate::destination::{Destination, DestinationEntry, ForwardMethod, Tunnel, TunnelFlags};
use crate::key::{DestinationKey, Family};

/// Attributes as they came, before it is known which ones are needed.
#[derive(Default)]
pub(super) struct RawDestination {
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
    pub(super) unknown: Vec<Attribute>,
}

impl RawDestination {
    pub(super) fn read(nest: &[u8]) -> Result<Self, DecodeError> {
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

    pub(super) fn key(&self, service_family: Family) -> Result<DestinationKey, DecodeError> {
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

    pub(super) fn finish(
        mut self,
        service_family: Family,
    ) -> Result<DestinationEntry, DecodeError> {
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
