//! The memberships that a virtual server asks for whatever balances it: who may reach it, who is
//! turned away, who is masqueraded. Pure.

use std::collections::BTreeSet;

use super::sets::{Element, Member, SetKind};
use crate::dataplane::ClusterNetwork;
use crate::model::{RealServerKey, RealServers, Unserved, VipPort, VirtualServer};

/// Entries of the shared sets that a virtual server needs.
pub fn memberships(vip: VipPort, server: &VirtualServer) -> impl Iterator<Item = Member> + '_ {
    let near = server.near.as_ref();
    let always_masqueraded = server.kind.is_external() && near.is_none();
    let unserved = (!has_serving(&server.real_servers)).then_some(match server.unserved {
        Unserved::Refuse => SetKind::Refused,
        Unserved::Drop => SetKind::Dropped,
    });
    let local = |servers: &'_ RealServers| {
        let local = servers.iter().filter(|(_, real)| real.local);
        local.map(|(key, _)| *key).collect::<BTreeSet<_>>()
    };
    let mut hairpins = local(&server.real_servers);
    hairpins.extend(near.map(local).unwrap_or_default());
    [
        always_masqueraded.then_some(SetKind::External),
        (!server.source_ranges.is_empty()).then_some(SetKind::Ranged),
        unserved,
    ]
    .into_iter()
    .flatten()
    .map(move |set| of_tuple(set, vip))
    .chain(server.source_ranges.iter().map(move |net| Member {
        set: SetKind::Sources,
        element: Element::Source { vip, net: *net },
    }))
    .chain(health_port(vip, server))
    .chain(hairpins.into_iter().map(move |key| Member {
        set: SetKind::Hairpin,
        element: hairpin(&key, vip),
    }))
}

/// A tuple in a set of tuples.
pub fn of_tuple(set: SetKind, vip: VipPort) -> Member {
    Member {
        set,
        element: Element::VipPort(vip),
    }
}

/// Where pods are, as far as it is known.
pub fn pods(network: &ClusterNetwork) -> impl Iterator<Item = Member> {
    let nets = [
        (SetKind::Pods, network.pod_cidrs.clone()),
        (SetKind::NodePods, network.pods_of_this_node()),
    ];
    nets.into_iter().flat_map(|(set, nets)| {
        let member = move |net| Member {
            set,
            element: Element::Net(net),
        };
        nets.into_iter().map(member)
    })
}

/// Each virtual server of a Service asks for its port: whoever is the last holds it.
fn health_port(vip: VipPort, server: &VirtualServer) -> Option<Member> {
    let port = server.health_check_node_port;
    (port != 0).then(|| Member {
        set: SetKind::HealthPorts,
        element: Element::Port {
            family: vip.family(),
            port,
        },
    })
}

/// Whether anything takes new connections.
pub fn has_serving(real_servers: &RealServers) -> bool {
    real_servers.values().any(|real| !real.draining)
}

fn hairpin(real: &RealServerKey, vip: VipPort) -> Element {
    Element::Hairpin(VipPort {
        addr: real.addr,
        protocol: vip.protocol,
        port: real.port,
    })
}
