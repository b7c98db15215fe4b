//! The node's own addresses, at which NodePorts answer.

use std::collections::BTreeSet;
use std::net::IpAddr;

use futures_util::TryStreamExt;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkMessage};

use super::{Error, RouteClient};

impl RouteClient {
    /// Every address of the node's interfaces but loopback and link-local ones, and but those that
    /// other proxies keep their virtual addresses on.
    pub fn node_addresses(&mut self) -> Result<BTreeSet<IpAddr>, Error> {
        self.requests += 2;
        let links = self.handle.link().get().execute();
        let links: Vec<LinkMessage> = self.wait(links.try_collect())?;
        let others: BTreeSet<u32> = links
            .iter()
            .filter(|link| is_of_another_proxy(link))
            .map(|link| link.header.index)
            .collect();
        let addresses = self.handle.address().get().execute();
        let addresses: Vec<AddressMessage> = self.wait(addresses.try_collect())?;
        Ok(addresses
            .iter()
            .filter(|address| !others.contains(&address.header.index))
            .filter_map(address_of)
            .filter(is_reachable)
            .collect())
    }
}

fn is_of_another_proxy(link: &LinkMessage) -> bool {
    link.attributes.iter().any(|attribute| {
        matches!(attribute, LinkAttribute::IfName(name) if PROXY_INTERFACES.contains(&name.as_str()))
    })
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

/// Where kube-proxy in IPVS mode, kube-router and NodeLocal DNSCache put virtual addresses.
const PROXY_INTERFACES: [&str; 3] = ["kube-ipvs0", "kube-dummy-if", "nodelocaldns"];
