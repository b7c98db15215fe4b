//! Which part of the table is shown.

use std::net::IpAddr;

use ipvs_sys::{DestinationKey, Protocol, ServiceKey};

use super::Row;
use super::names::Names;

/// All of it must hold; an empty filter lets everything pass.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Services of this namespace.
    pub namespace: Option<String>,
    /// This Service.
    pub service: Option<(String, String)>,
    /// Virtual servers at this address.
    pub vip: Option<Place>,
    /// Real servers at this address; virtual servers without such are left out.
    pub backend: Option<Place>,
    /// Virtual servers with this scheduler.
    pub scheduler: Option<String>,
    /// Virtual servers of this protocol.
    pub protocol: Option<Protocol>,
}

/// An address, and perhaps a port of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The address.
    pub addr: IpAddr,
    /// All ports without one.
    pub port: Option<u16>,
}

impl Place {
    /// Whether it is this.
    pub fn is(&self, addr: IpAddr, port: u16) -> bool {
        self.addr == addr && self.port.is_none_or(|own| own == port)
    }
}

impl std::str::FromStr for Place {
    type Err = String;

    /// `10.96.0.1`, `10.96.0.1:80`, `fd00::1`, `[fd00::1]:80`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(addr) = text.trim_matches(['[', ']']).parse() {
            return Ok(Self { addr, port: None });
        }
        let socket: std::net::SocketAddr = text.parse().map_err(|_| {
            "it takes an address, or an address and a port: 10.96.0.1:80".to_owned()
        })?;
        Ok(Self {
            addr: socket.ip(),
            port: Some(socket.port()),
        })
    }
}

impl Filter {
    /// Whether names are needed to tell.
    pub fn needs_names(&self) -> bool {
        self.namespace.is_some() || self.service.is_some()
    }

    /// Whether it passes, and of its real servers those that do.
    pub fn keep(&self, row: &mut Row, names: &Names) -> bool {
        if let Some(backend) = self.backend {
            let is = |key: DestinationKey| backend.is(key.addr, key.port);
            row.destinations.retain(|entry| is(entry.destination.key));
            if row.destinations.is_empty() {
                return false;
            }
        }
        let service = &row.service.service;
        let scheduler = service.scheduler.as_str();
        self.scheduler.as_deref().is_none_or(|own| own == scheduler)
            && self.passes(&service.key, names)
    }

    /// Whether a virtual server passes by what it is found by.
    pub fn passes(&self, key: &ServiceKey, names: &Names) -> bool {
        let name = names.get(key);
        let protocol_and_place = match key {
            ServiceKey::Address {
                protocol,
                addr,
                port,
            } => {
                self.vip.is_none_or(|vip| vip.is(*addr, *port))
                    && self.protocol.is_none_or(|own| own == *protocol)
            }
            ServiceKey::Mark { .. } => self.vip.is_none() && self.protocol.is_none(),
        };
        let namespace = |own: &String| name.is_some_and(|name| name.namespace == *own);
        let service = |(namespace, own): &(String, String)| {
            name.is_some_and(|name| name.namespace == *namespace && name.name == *own)
        };
        protocol_and_place
            && self.namespace.as_ref().is_none_or(namespace)
            && self.service.as_ref().is_none_or(service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_address_with_or_without_a_port() {
        let place = |text: &str| text.parse::<Place>().unwrap();
        let web: IpAddr = [10, 96, 0, 1].into();
        assert!(place("10.96.0.1").is(web, 80) && place("10.96.0.1").is(web, 81));
        assert!(place("10.96.0.1:80").is(web, 80) && !place("10.96.0.1:80").is(web, 81));
        assert!(place("[fd00::1]:80").is("fd00::1".parse().unwrap(), 80));
        assert_eq!(place("fd00::1"), place("[fd00::1]"));
        assert!("web".parse::<Place>().is_err() && "10.96.0.1:http".parse::<Place>().is_err());
    }
}
