//! The node's own addresses, its gateways, and the addresses that its default routes send from.
//!
//! A read costs a dump of the links and one of the addresses (as many as the node has pods, and
//! some), and one of the main table for each family, which the kernel picks out of all tables by
//! itself (`NETLINK_GET_STRICT_CHK`): the table of the virtual addresses is not walked through.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use futures_util::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType, RouteVia,
};

use super::{Error, RouteClient, errno, is_unsupported};
use crate::model::{Family, NodeNetwork};

impl RouteClient {
    /// Where the node stands: addresses of its interfaces but loopback and link-local ones, and
    /// but those that other proxies keep their virtual addresses on; gateways.
    pub fn node_network(&mut self) -> Result<NodeNetwork, Error> {
        self.requests += 4;
        let links = self.handle.link().get().execute();
        let links: Vec<LinkMessage> = self.wait(links.try_collect())?;
        let addresses = self.handle.address().get().execute();
        let addresses: Vec<AddressMessage> = self.wait(addresses.try_collect())?;
        let mut routes = Vec::new();
        for family in Family::ALL {
            routes.extend(self.default_routes(family)?);
        }
        Ok(network(&links, &addresses, &routes))
    }

    /// The main table's default routes of a family.
    fn default_routes(&mut self, family: Family) -> Result<Vec<DefaultRoute>, Error> {
        let (connection, handle, _) = {
            let _entered = self.runtime.enter();
            rtnetlink::new_connection_with_strict_check().map_err(Error::Open)?
        };
        // Ends with its handle.
        self.runtime.spawn(connection);
        let mut message = RouteMessage::default();
        message.header.address_family = match family {
            Family::V4 => AddressFamily::Inet,
            Family::V6 => AddressFamily::Inet6,
        };
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        let routes = handle.route().get(message).execute();
        match self.wait(routes.try_collect::<Vec<_>>()) {
            Ok(routes) => Ok(routes
                .iter()
                .filter_map(|route| DefaultRoute::of(family, route))
                .collect()),
            // A namespace without a route has no table either.
            Err(Error::Request(error))
                if is_unsupported(&error) || errno(&error) == Some(ENOENT) =>
            {
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }
}

/// What counts of a default route.
#[derive(Debug, Clone, PartialEq, Eq)]
struct DefaultRoute {
    family: Family,
    metric: u32,
    interface: Option<u32>,
    source: Option<IpAddr>,
    gateways: Vec<IpAddr>,
}

impl DefaultRoute {
    fn of(family: Family, route: &RouteMessage) -> Option<Self> {
        let header = &route.header;
        // A kernel before 4.20 hands out all tables.
        if header.destination_prefix_length != 0
            || header.kind != RouteType::Unicast
            || header.table != RouteHeader::RT_TABLE_MAIN
        {
            return None;
        }
        let mut this = Self {
            family,
            metric: 0,
            interface: None,
            source: None,
            gateways: Vec::new(),
        };
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::Priority(metric) => this.metric = *metric,
                RouteAttribute::Oif(interface) => this.interface = Some(*interface),
                RouteAttribute::PrefSource(addr) => this.source = ip_of(addr),
                RouteAttribute::MultiPath(hops) => {
                    this.interface = this
                        .interface
                        .or_else(|| hops.first().map(|hop| hop.interface_index));
                    let attributes = hops.iter().flat_map(|hop| &hop.attributes);
                    this.gateways.extend(attributes.filter_map(gateway_of));
                }
                other => this.gateways.extend(gateway_of(other)),
            }
        }
        Some(this)
    }
}

/// Puts the answers together. Pure.
fn network(
    links: &[LinkMessage],
    addresses: &[AddressMessage],
    routes: &[DefaultRoute],
) -> NodeNetwork {
    let others: BTreeSet<u32> = links
        .iter()
        .filter(|link| is_of_another_proxy(link))
        .map(|link| link.header.index)
        .collect();
    let usable: Vec<(u32, IpNet)> = addresses
        .iter()
        .filter(|address| !others.contains(&address.header.index))
        .filter_map(|address| Some((address.header.index, usable_address(address)?)))
        .collect();
    let mut sources = BTreeMap::new();
    for family in Family::ALL {
        let route = routes
            .iter()
            .filter(|route| route.family == family)
            .min_by_key(|route| route.metric);
        let source = route.and_then(|route| {
            let of_interface = |(interface, net): &&(u32, IpNet)| {
                route.interface == Some(*interface) && Family::of(net.addr()) == family
            };
            let first = || usable.iter().find(of_interface).map(|(_, net)| net.addr());
            route.source.or_else(first)
        });
        sources.extend(source.map(|source| (family, source)));
    }
    NodeNetwork {
        addresses: usable.iter().map(|(_, net)| *net).collect(),
        gateways: routes
            .iter()
            .flat_map(|route| route.gateways.iter().copied())
            .collect(),
        sources,
    }
}

/// Whether an interface belongs to another proxy.
pub(super) fn is_of_another_proxy(link: &LinkMessage) -> bool {
    link.attributes.iter().any(|attribute| {
        matches!(attribute, LinkAttribute::IfName(name) if PROXY_INTERFACES.contains(&name.as_str()))
    })
}

/// An address that others may reach the node at: NodePorts never answer on loopback
/// (CVE-2020-8558) nor on link-local addresses, nor can a duplicate be reached.
pub(super) fn usable_address(message: &AddressMessage) -> Option<IpNet> {
    let duplicate = AddressHeaderFlags::Dadfailed;
    let addr = address_of(message).filter(is_reachable)?;
    if message.header.flags.contains(duplicate) {
        return None;
    }
    IpNet::new(addr, message.header.prefix_len).ok()
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

fn is_reachable(addr: &IpAddr) -> bool {
    match addr {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    }
}

fn gateway_of(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(addr) => ip_of(addr),
        // An IPv4 route by way of an IPv6 neighbour.
        RouteAttribute::Via(RouteVia::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Via(RouteVia::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

fn ip_of(addr: &RouteAddress) -> Option<IpAddr> {
    match addr {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

/// Where kube-proxy in IPVS mode, kube-router and NodeLocal DNSCache put virtual addresses.
const PROXY_INTERFACES: [&str; 3] = ["kube-ipvs0", "kube-dummy-if", "nodelocaldns"];
const ENOENT: i32 = rustix::io::Errno::NOENT.raw_os_error();

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str) -> LinkMessage {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes = vec![LinkAttribute::IfName(name.to_owned())];
        link
    }

    fn address(interface: u32, text: &str) -> AddressMessage {
        let net: IpNet = text.parse().unwrap();
        let mut address = AddressMessage::default();
        address.header.index = interface;
        address.header.prefix_len = net.prefix_len();
        address.attributes = vec![AddressAttribute::Address(net.addr())];
        address
    }

    fn default_route(attributes: Vec<RouteAttribute>) -> DefaultRoute {
        let mut route = RouteMessage::default();
        route.header.kind = RouteType::Unicast;
        route.header.table = RouteHeader::RT_TABLE_MAIN;
        route.attributes = attributes;
        DefaultRoute::of(Family::V4, &route).unwrap()
    }

    fn via(addr: &str) -> RouteAttribute {
        RouteAttribute::Gateway(RouteAddress::Inet(addr.parse().unwrap()))
    }

    /// 85 of `docs/checklist.md`.
    #[test]
    fn only_what_others_can_reach_the_node_at_is_an_address_of_it() {
        let links = [link(1, "lo"), link(2, "eth0"), link(3, "kube-ipvs0")];
        let mut duplicate = address(2, "2001:db8::2/64");
        duplicate.header.flags = AddressHeaderFlags::Dadfailed;
        let mut peer = address(2, "198.51.100.1/32");
        let own = "198.51.100.2".parse().unwrap();
        peer.attributes.push(AddressAttribute::Local(own));
        let addresses = [
            address(1, "127.0.0.1/8"),
            address(1, "::1/128"),
            address(2, "192.0.2.1/24"),
            address(2, "fe80::1/64"),
            address(2, "169.254.1.1/16"),
            address(2, "2001:db8::1/64"),
            address(3, "10.96.0.1/32"),
            // On `lo`, and yet an address of the node.
            address(1, "203.0.113.5/32"),
            duplicate,
            peer,
        ];
        let network = network(&links, &addresses, &[]);
        let found: Vec<String> = network.addresses.iter().map(IpNet::to_string).collect();
        assert_eq!(
            found,
            [
                "192.0.2.1/24",
                "198.51.100.2/32",
                "203.0.113.5/32",
                "2001:db8::1/64"
            ]
        );
    }

    #[test]
    fn the_best_default_route_says_what_the_node_sends_from() {
        let addresses = [address(2, "192.0.2.1/24"), address(3, "198.51.100.1/24")];
        let metered = default_route(vec![
            RouteAttribute::Priority(200),
            RouteAttribute::Oif(2),
            via("192.0.2.254"),
        ]);
        let best = default_route(vec![
            RouteAttribute::Priority(100),
            RouteAttribute::Oif(3),
            via("198.51.100.254"),
        ]);
        let both = network(&[], &addresses, &[metered.clone(), best.clone()]);
        let first: IpAddr = "198.51.100.1".parse().unwrap();
        assert_eq!(both.sources[&Family::V4], first);
        let gateways: Vec<String> = both.gateways.iter().map(ToString::to_string).collect();
        assert_eq!(gateways, ["192.0.2.254", "198.51.100.254"]);
        // A route that names its source is believed.
        let named = DefaultRoute {
            source: Some("203.0.113.9".parse().unwrap()),
            ..best
        };
        let named = network(&[], &addresses, &[metered, named]);
        let source: IpAddr = "203.0.113.9".parse().unwrap();
        assert_eq!(named.sources[&Family::V4], source);
    }

    #[test]
    fn other_routes_are_no_default_routes() {
        let mut route = RouteMessage::default();
        route.header.kind = RouteType::Unicast;
        route.header.table = RouteHeader::RT_TABLE_MAIN;
        assert!(DefaultRoute::of(Family::V4, &route).is_some());
        let mut narrow = route.clone();
        narrow.header.destination_prefix_length = 8;
        let mut blackhole = route.clone();
        blackhole.header.kind = RouteType::BlackHole;
        let mut elsewhere = route;
        elsewhere.header.table = 100;
        for other in [narrow, blackhole, elsewhere] {
            assert_eq!(DefaultRoute::of(Family::V4, &other), None);
        }
    }
}
