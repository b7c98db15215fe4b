//! What in the sets speaks of IPVS: ownership of virtual servers, and the way of packets to them.

use std::net::IpAddr;

use super::key::ServerKey;
use crate::dataplane::policy::members::{self, has_serving, of_tuple};
use crate::dataplane::policy::sets::{Element, Member, SetKind};
use crate::model::{Protocol, Thresholds, VipKind, VipPort, VirtualServer};

/// An entry of a set as it speaks of a virtual server.
pub trait OfServer {
    /// The virtual server that the entry is about.
    fn server(&self) -> Option<ServerKey>;
    /// The entry by which a virtual server is known as ours.
    fn ownership(server: ServerKey) -> Self;
    /// Whether it is such an entry.
    fn is_ownership(&self) -> bool;
}

impl OfServer for Member {
    fn server(&self) -> Option<ServerKey> {
        match self.element {
            Element::VipPort(vip) | Element::Source { vip, .. } => Some(vip.into()),
            Element::Near { vip, mark } => Some(ServerKey::Mark {
                family: vip.family(),
                mark,
            }),
            Element::Mark { family, mark } => Some(ServerKey::Mark { family, mark }),
            Element::Hairpin(_) | Element::Net(_) | Element::Port { .. } => None,
        }
    }

    fn ownership(server: ServerKey) -> Self {
        match server {
            ServerKey::Tuple(vip) => of_tuple(SetKind::Owned, vip),
            ServerKey::Mark { family, mark } => Self {
                set: SetKind::Marks,
                element: Element::Mark { family, mark },
            },
        }
    }

    fn is_ownership(&self) -> bool {
        matches!(self.set, SetKind::Owned | SetKind::Marks)
    }
}

/// The memberships that a virtual server asks for. `mark`: by what clients on this node find theirs.
pub fn memberships(
    vip: VipPort,
    server: &VirtualServer,
    mark: Option<u32>,
) -> impl Iterator<Item = Member> + '_ {
    let serves = has_serving(&server.real_servers);
    let mark = mark.filter(|_| server.near.as_ref().is_some_and(has_serving));
    [
        // A draining virtual server stays ours by `plan`; where none is, there is nothing to own.
        serves.then_some(SetKind::Owned),
        (serves && server.tuning.thresholds != Thresholds::default()).then_some(SetKind::Limited),
        is_live(vip, server.kind, serves || mark.is_some()).then_some(SetKind::Live),
        (mark.is_some() && vip.protocol == Protocol::Udp).then_some(SetKind::NearFlows),
    ]
    .into_iter()
    .flatten()
    .map(move |set| of_tuple(set, vip))
    .chain(mark.map(|mark| Member {
        set: SetKind::Near,
        element: Element::Near { vip, mark },
    }))
    .chain(members::memberships(vip, server))
}

/// Whether packets are routed to IPVS. A node's own address is local already. UDP and SCTP that
/// nothing serves must not become local: the kernel sends no ICMP error from a VIP that no interface
/// has, so they are turned away on their way through. TCP stays, for the connections that drain; its
/// resets need no address of the node's.
fn is_live(vip: VipPort, kind: VipKind, served: bool) -> bool {
    kind != VipKind::NodePort && (vip.protocol == Protocol::Tcp || served)
}

/// The route that makes a VIP local once its packets are marked; `None` for a node's own address.
pub fn route_of(vip: VipPort, server: &VirtualServer) -> Option<IpAddr> {
    (server.kind != VipKind::NodePort).then_some(vip.addr)
}
