//! Where the node stands, and what follows from it for Services: the addresses that NodePorts
//! answer on, and those that no Service may take. Pure.
//!
//! Everything here is decided anew from what is known whenever something is resolved: it costs the
//! number of the node's addresses, and only a difference touches Services.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::cluster::Index;
use crate::model::{NodeNetwork, ObjectName};
use crate::resolve::node_addresses::{NodePortAddresses, Surroundings, choose};
use crate::resolve::reserved::{Reserved, own_addresses};

/// What is asked for, from the command line.
#[derive(Debug, Clone, Default)]
pub struct PlaceConfig {
    pub node_port_addresses: NodePortAddresses,
    /// Where the agent itself reaches the API server, as far as these are addresses.
    pub api_servers: BTreeSet<IpAddr>,
}

/// The node's place in the network.
#[derive(Debug, Default)]
pub struct Place {
    config: PlaceConfig,
    network: NodeNetwork,
    /// LoadBalancer and external IPs of each Service that has any.
    claims: BTreeMap<ObjectName, BTreeSet<IpAddr>>,
    /// The same addresses, with how many Services have each.
    vips: BTreeMap<IpAddr, usize>,
    node_ports: BTreeSet<IpAddr>,
    reserved: Reserved,
}

/// What a new look at the place has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moved {
    /// NodePorts answer elsewhere.
    pub node_ports: bool,
    /// Other addresses may be claimed.
    pub claims: bool,
    /// Other endpoints may be used.
    pub endpoints: bool,
}

impl Place {
    pub fn new(config: PlaceConfig) -> Self {
        Self {
            config,
            ..Self::default()
        }
    }

    /// Takes over what the kernel says.
    pub fn set_network(&mut self, network: NodeNetwork) {
        self.network = network;
    }

    /// Addresses that NodePorts answer on.
    pub fn node_ports(&self) -> &BTreeSet<IpAddr> {
        &self.node_ports
    }

    /// Addresses of the node's interfaces.
    pub fn own_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.network.addresses.iter().map(IpNet::addr)
    }

    pub fn reserved(&self) -> &Reserved {
        &self.reserved
    }

    /// Takes note of the LoadBalancer and external IPs that a Service asks for now. Not of what it
    /// gets, which depends on others.
    pub fn claim(&mut self, service: &ObjectName, vips: BTreeSet<IpAddr>) {
        let before = if vips.is_empty() {
            self.claims.remove(service)
        } else {
            self.claims.insert(service.clone(), vips.clone())
        };
        for vip in vips {
            *self.vips.entry(vip).or_default() += 1;
        }
        for vip in before.unwrap_or_default() {
            if let Some(count) = self.vips.get_mut(&vip) {
                *count -= 1;
                if *count == 0 {
                    self.vips.remove(&vip);
                }
            }
        }
    }

    /// Decides anew.
    pub fn settle(&mut self, index: &Index, service_cidrs: &BTreeSet<IpNet>) -> Moved {
        let on_interfaces = self.network.addresses.iter().map(IpNet::addr);
        let vips = on_interfaces
            .filter(|addr| self.vips.contains_key(addr))
            .collect();
        let node_ports = choose(
            &self.config.node_port_addresses,
            Surroundings {
                node: index.node(),
                network: &self.network,
                service_cidrs,
                vips: &vips,
            },
        );
        let mut api_servers = self.config.api_servers.clone();
        for slice in index.slices(&ObjectName::new("default", "kubernetes")) {
            api_servers.extend(slice.endpoints.iter().map(|endpoint| endpoint.addr));
        }
        let reserved = Reserved {
            node: own_addresses(index.node(), &self.network),
            api_servers,
            gateways: self.network.gateways.clone(),
            service_cidrs: service_cidrs.clone(),
        };
        let moved = Moved {
            node_ports: node_ports != self.node_ports,
            claims: reserved != self.reserved,
            endpoints: reserved.service_cidrs != self.reserved.service_cidrs,
        };
        self.node_ports = node_ports;
        self.reserved = reserved;
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Event;
    use crate::model::{Endpoint, EndpointSlice, Family, NodeInfo};

    fn network(addresses: &str) -> NodeNetwork {
        NodeNetwork {
            addresses: addresses
                .split(' ')
                .map(|text| text.parse().unwrap())
                .collect(),
            ..NodeNetwork::default()
        }
    }

    fn node(addresses: &[&str]) -> Event {
        let addresses: Vec<IpAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
        Event::NodeApplied(Box::new(NodeInfo {
            name: "n1".to_owned(),
            primary: addresses.iter().map(|a| (Family::of(*a), *a)).collect(),
            addresses: addresses.into_iter().collect(),
            ..NodeInfo::default()
        }))
    }

    fn node_ports(place: &Place) -> Vec<String> {
        place.node_ports().iter().map(IpAddr::to_string).collect()
    }

    #[test]
    fn the_primary_address_follows_the_node_object() {
        let mut index = Index::new("n1");
        let mut place = Place::new(PlaceConfig {
            node_port_addresses: NodePortAddresses::Primary,
            ..PlaceConfig::default()
        });
        place.set_network(network("192.0.2.1/24 198.51.100.1/24"));
        index.apply(node(&["192.0.2.1"]));
        let cidrs = BTreeSet::new();
        assert!(place.settle(&index, &cidrs).node_ports);
        assert_eq!(node_ports(&place), ["192.0.2.1"]);
        assert_eq!(place.settle(&index, &cidrs), Moved::default());
        index.apply(node(&["198.51.100.1"]));
        assert!(place.settle(&index, &cidrs).node_ports);
        assert_eq!(node_ports(&place), ["198.51.100.1"]);
    }

    #[test]
    fn an_address_is_a_services_for_as_long_as_one_claims_it() {
        let mut index = Index::new("n1");
        index.apply(node(&["192.0.2.1"]));
        let mut place = Place::default();
        place.set_network(network("192.0.2.1/24 203.0.113.9/32"));
        let vips: BTreeSet<IpAddr> = ["203.0.113.9", "203.0.113.10"]
            .map(|addr| addr.parse().unwrap())
            .into();
        let [first, second] = ["a", "b"].map(|name| ObjectName::new("ns", name));
        let settle = |place: &mut Place| {
            place.settle(&index, &BTreeSet::new());
            node_ports(place)
        };
        assert_eq!(settle(&mut place), ["192.0.2.1", "203.0.113.9"]);
        place.claim(&first, vips.clone());
        place.claim(&first, vips.clone());
        place.claim(&second, vips.clone());
        assert_eq!(settle(&mut place), ["192.0.2.1"]);
        place.claim(&first, BTreeSet::new());
        assert_eq!(settle(&mut place), ["192.0.2.1"]);
        place.claim(&second, BTreeSet::new());
        assert_eq!(settle(&mut place), ["192.0.2.1", "203.0.113.9"]);
    }

    #[test]
    fn the_api_servers_own_endpoints_are_nobodys_to_claim() {
        let mut index = Index::new("n1");
        let mut place = Place::new(PlaceConfig {
            api_servers: BTreeSet::from(["192.0.2.10".parse().unwrap()]),
            ..PlaceConfig::default()
        });
        let addr: IpAddr = "192.0.2.11".parse().unwrap();
        index.apply(Event::SliceApplied(
            ObjectName::new("default", "kubernetes"),
            Box::new(EndpointSlice {
                hostnames: BTreeMap::new(),
                triggered: None,
                weight: None,
                service: ObjectName::new("default", "kubernetes"),
                address_type: Family::V4,
                ports: Vec::new(),
                endpoints: vec![Endpoint {
                    addr,
                    ready: true,
                    serving: true,
                    terminating: false,
                    node_name: None,
                    zone: None,
                    for_zones: Vec::new(),
                    for_nodes: Vec::new(),
                }],
            }),
        ));
        let moved = place.settle(&index, &BTreeSet::new());
        assert!(moved.claims && !moved.endpoints);
        let known = place.reserved().api_servers.iter();
        let known: Vec<String> = known.map(IpAddr::to_string).collect();
        assert_eq!(known, ["192.0.2.10", "192.0.2.11"]);
        // Other endpoints are pods' that come and go: they change nothing here.
        let cidrs = BTreeSet::from(["10.96.0.0/16".parse().unwrap()]);
        assert!(place.settle(&index, &cidrs).endpoints);
    }
}
