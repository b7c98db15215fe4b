//! The netfilter sets: constant rules ask them, a change of a Service changes only them.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::{Family, Protocol, RealServerKey, VipKind, VipPort, VirtualServer};
use crate::netfilter::ipset::SetType;

/// Elements that a set may hold; the kernel's default of 65,536 is too few for large clusters.
pub const MAX_ELEMENTS: u32 = 1 << 20;

/// One of the agent's sets; each exists once for each family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetKind {
    /// Every virtual server that is ours. Written before it and removed after it, so that
    /// ownership is known from the kernel whatever moment the agent dies at.
    Owned,
    /// Traffic to these is always masqueraded: NodePorts, external and LoadBalancer IPs.
    External,
    /// (real server, port, source): a pod that reaches itself through its Service.
    Hairpin,
    /// Sources that are local pods.
    Pods,
    /// No endpoint: new connections are refused.
    Refused,
    /// Packets to these are routed to IPVS. An entry here is what makes a VIP live.
    Live,
}

impl SetKind {
    /// All sets, in the order in which an added virtual server enters them.
    pub const ALL: [Self; 6] = [
        Self::Owned,
        Self::External,
        Self::Hairpin,
        Self::Pods,
        Self::Refused,
        Self::Live,
    ];

    /// What its elements are.
    pub fn set_type(self) -> SetType {
        match self {
            Self::Hairpin => SetType::HashIpPortIp,
            Self::Pods => SetType::HashNet,
            _ => SetType::HashIpPort,
        }
    }

    /// `IPVS-AGENT-4-OWNED`: at most 31 bytes.
    pub fn name(self, family: Family) -> String {
        let number = match family {
            Family::V4 => 4,
            Family::V6 => 6,
        };
        format!("{SET_PREFIX}{number}-{self}")
    }
}

/// Every set of the agent, and none other, is named with this.
pub const SET_PREFIX: &str = "IPVS-AGENT-";

impl fmt::Display for SetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Owned => "OWNED",
            Self::External => "EXTERNAL",
            Self::Hairpin => "HAIRPIN",
            Self::Pods => "PODS",
            Self::Refused => "REFUSED",
            Self::Live => "LIVE",
        })
    }
}

/// An element of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Element {
    VipPort(VipPort),
    /// A real server's tuple with the address that it reaches itself from: its own.
    Hairpin(VipPort),
    Net(IpNet),
}

impl Element {
    /// The family whose set the element belongs to.
    pub fn family(&self) -> Family {
        match self {
            Self::VipPort(vip) | Self::Hairpin(vip) => vip.family(),
            Self::Net(net) => Family::of(net.addr()),
        }
    }
}

impl fmt::Display for Element {
    /// As `ipset add` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tuple = |vip: &VipPort| {
            let protocol = vip.protocol.to_string().to_lowercase();
            format!("{},{protocol}:{}", vip.addr, vip.port)
        };
        match self {
            Self::VipPort(vip) => f.write_str(&tuple(vip)),
            Self::Hairpin(vip) => write!(f, "{},{}", tuple(vip), vip.addr),
            Self::Net(net) => net.fmt(f),
        }
    }
}

/// An element in its set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    pub set: SetKind,
    pub element: Element,
}

impl Member {
    /// The set's full name.
    pub fn set_name(&self) -> String {
        self.set.name(self.element.family())
    }

    /// The tuple, for sets of tuples.
    pub fn vip(&self) -> Option<VipPort> {
        match self.element {
            Element::VipPort(vip) => Some(vip),
            _ => None,
        }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.set_name(), self.element)
    }
}

/// The memberships that a virtual server asks for.
pub fn memberships(vip: VipPort, server: &VirtualServer) -> impl Iterator<Item = Member> + '_ {
    let of_vip = move |set| Member {
        set,
        element: Element::VipPort(vip),
    };
    let refused = !has_serving(server);
    [
        // A draining virtual server stays ours by `plan`; where none is, there is nothing to own.
        (!refused).then_some(SetKind::Owned),
        server.kind.is_external().then_some(SetKind::External),
        refused.then_some(SetKind::Refused),
        is_live(vip, server, refused).then_some(SetKind::Live),
    ]
    .into_iter()
    .flatten()
    .map(of_vip)
    .chain(
        server
            .real_servers
            .iter()
            .filter(|(_, real)| real.local)
            .map(move |(key, _)| Member {
                set: SetKind::Hairpin,
                element: hairpin(key, vip),
            }),
    )
}

/// Whether packets are routed to IPVS. A node's own address is local already. Refused UDP and SCTP
/// must not become local: the kernel sends no ICMP error from a VIP that no interface has, so they
/// are refused on the way through. TCP stays, for the connections that drain; its resets need no
/// address of the node's.
fn is_live(vip: VipPort, server: &VirtualServer, refused: bool) -> bool {
    server.kind != VipKind::NodePort && (vip.protocol == Protocol::Tcp || !refused)
}

/// The route that makes a VIP local once its packets are marked; `None` for a node's own address.
pub fn route_of(vip: VipPort, server: &VirtualServer) -> Option<IpAddr> {
    (server.kind != VipKind::NodePort).then_some(vip.addr)
}

/// Whether anything takes new connections.
pub fn has_serving(server: &VirtualServer) -> bool {
    server.real_servers.values().any(|real| !real.draining)
}

fn hairpin(real: &RealServerKey, vip: VipPort) -> Element {
    Element::Hairpin(VipPort {
        addr: real.addr,
        protocol: vip.protocol,
        port: real.port,
    })
}
