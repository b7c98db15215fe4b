//! The node's own addresses, at which NodePorts answer.

use std::collections::BTreeSet;
use std::net::IpAddr;

use futures_util::TryStreamExt;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};

use super::{Error, RouteClient};

impl RouteClient {
    /// Every address of the node's interfaces but loopback and link-local ones.
    pub fn node_addresses(&mut self) -> Result<BTreeSet<IpAddr>, Error> {
        self.requests += 1;
        let addresses = self.handle.address().get().execute();
        let addresses: Vec<AddressMessage> = self
            .runtime
            .block_on(addresses.try_collect())
            .map_err(Error::Request)?;
        Ok(addresses
            .iter()
            .filter_map(address_of)
            .filter(is_reachable)
            .collect())
    }
}

/// `IFA_LOCAL` where there is one: on a point-to-point link `IFA_ADDRESS` is the peer's.
fn address_of(message: &AddressMessage) -> Option<IpAddr> {
    let attributes = || message.attributes.iter();
    attributes()
        .find_map(|attribute| match attribute {
            AddressAttribute::Local(addr) => Some(*addr),
            _ => None,
        })
        .or_else(|| {
            attributes().find_map(|attribute| match attribute {
                AddressAttribute::Address(addr) => Some(*addr),
                _ => None,
            })
        })
}

/// NodePorts never answer on loopback (CVE-2020-8558) nor on link-local addresses.
fn is_reachable(addr: &IpAddr) -> bool {
    match addr {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    }
}
