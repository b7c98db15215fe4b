//! The netfilter sets: constant rules ask them, a change of a Service changes only them.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::key::ServerKey;
use crate::model::{
    Family, Protocol, RealServerKey, RealServers, Thresholds, Unserved, VipKind, VipPort,
    VirtualServer,
};
use crate::netfilter::ipset::SetType;

/// Elements that a set may hold; the kernel's default of 65,536 is too few for large clusters.
pub const MAX_ELEMENTS: u32 = 1 << 20;

/// One of the agent's sets; each exists once for each family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetKind {
    /// Every virtual server that is ours. Written before it and removed after it, so that
    /// ownership is known from the kernel whatever moment the agent dies at.
    Owned,
    /// The marks by which virtual servers of ours are found. Written and removed as `Owned` is.
    Marks,
    /// Traffic to these is always masqueraded: NodePorts, external and LoadBalancer IPs, unless
    /// their traffic policy is `Local`.
    External,
    /// (real server, port, source): a pod that reaches itself through its Service.
    Hairpin,
    /// Sources that are pods.
    Pods,
    /// Sources that are pods of this node, whose answers come back through it.
    NodePods,
    /// Tuples whose real servers take a limited number of connections, which one has to ask each
    /// virtual server for.
    Limited,
    /// Tuples that only some sources may reach.
    Ranged,
    /// The sources that may.
    Sources,
    /// No endpoint: new connections are refused.
    Refused,
    /// Endpoints, but none that the traffic policy permits: new connections get no answer.
    Dropped,
    /// Packets to these are routed to IPVS. An entry here is what makes a VIP live.
    Live,
    /// Clients on this node get the mark that an entry carries, and by it all endpoints.
    Near,
    /// UDP tuples of `Near`, until their flows are forgotten: what tells a next run that there may be
    /// some. Other tuples are in `Owned` for as long.
    NearFlows,
    /// Ports at which load balancers ask for the health of Services.
    HealthPorts,
}

impl SetKind {
    /// All sets, in the order in which an added virtual server enters them.
    pub const ALL: [Self; 15] = [
        Self::Owned,
        Self::Marks,
        Self::External,
        Self::Hairpin,
        Self::Pods,
        Self::NodePods,
        Self::Limited,
        Self::Ranged,
        Self::Sources,
        Self::Refused,
        Self::Dropped,
        Self::Live,
        Self::Near,
        Self::NearFlows,
        Self::HealthPorts,
    ];

    /// What its elements are.
    pub fn set_type(self) -> SetType {
        match self {
            Self::Hairpin => SetType::HashIpPortIp,
            Self::Pods | Self::NodePods | Self::Marks => SetType::HashNet,
            Self::Sources => SetType::HashIpPortNet,
            Self::Near => SetType::HashIpPortSkbmark,
            Self::HealthPorts => SetType::BitmapPort,
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
            Self::Marks => "MARKS",
            Self::External => "EXTERNAL",
            Self::Hairpin => "HAIRPIN",
            Self::Pods => "PODS",
            Self::NodePods => "NODE-PODS",
            Self::Limited => "LIMITED",
            Self::Ranged => "RANGED",
            Self::Sources => "SOURCES",
            Self::Refused => "REFUSED",
            Self::Dropped => "DROPPED",
            Self::Live => "LIVE",
            Self::Near => "NEAR",
            Self::NearFlows => "NEAR-FLOWS",
            Self::HealthPorts => "HEALTH-PORTS",
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
    /// A source that may reach a tuple.
    Source {
        vip: VipPort,
        net: IpNet,
    },
    /// A tuple with the mark that its packets get.
    Near {
        vip: VipPort,
        mark: u32,
    },
    /// A mark alone. Written as the address of the same number: `hash:ip,mark` is a set type that not
    /// every kernel has.
    Mark {
        family: Family,
        mark: u32,
    },
    /// A port of the node, in the set of one family.
    Port {
        family: Family,
        port: u16,
    },
}

impl Element {
    /// The family whose set the element belongs to.
    pub fn family(&self) -> Family {
        match self {
            Self::VipPort(vip)
            | Self::Hairpin(vip)
            | Self::Source { vip, .. }
            | Self::Near { vip, .. } => vip.family(),
            Self::Net(net) => Family::of(net.addr()),
            Self::Mark { family, .. } | Self::Port { family, .. } => *family,
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
            Self::Source { vip, net } => write!(f, "{},{net}", tuple(vip)),
            Self::Near { vip, mark } => write!(f, "{} skbmark {mark:#x}", tuple(vip)),
            Self::Mark { family, mark } => as_address(*family, *mark).fmt(f),
            Self::Port { port, .. } => port.fmt(f),
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

    /// The tuple whose virtual server, or whose clients', the entry is about.
    pub fn vip(&self) -> Option<VipPort> {
        match self.element {
            Element::VipPort(vip) | Element::Near { vip, .. } | Element::Source { vip, .. } => {
                Some(vip)
            }
            Element::Hairpin(_) | Element::Net(_) | Element::Mark { .. } | Element::Port { .. } => {
                None
            }
        }
    }

    /// The virtual server that the entry is about.
    pub fn server(&self) -> Option<ServerKey> {
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

    /// The entry by which a virtual server is known as ours.
    pub fn ownership(server: ServerKey) -> Self {
        match server {
            ServerKey::Tuple(vip) => Self {
                set: SetKind::Owned,
                element: Element::VipPort(vip),
            },
            ServerKey::Mark { family, mark } => Self {
                set: SetKind::Marks,
                element: Element::Mark { family, mark },
            },
        }
    }

    /// Whether it is such an entry.
    pub fn is_ownership(&self) -> bool {
        matches!(self.set, SetKind::Owned | SetKind::Marks)
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.set_name(), self.element)
    }
}

/// The address by which a set holds a mark.
pub fn as_address(family: Family, mark: u32) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from_bits(mark).into(),
        Family::V6 => Ipv6Addr::from_bits(mark.into()).into(),
    }
}

/// The mark that an address stands for.
pub fn as_mark(addr: IpAddr) -> Option<u32> {
    match addr {
        IpAddr::V4(v4) => Some(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits().try_into().ok(),
    }
}

/// The memberships that a virtual server asks for. `mark`: by what clients on this node find theirs.
pub fn memberships(
    vip: VipPort,
    server: &VirtualServer,
    mark: Option<u32>,
) -> impl Iterator<Item = Member> + '_ {
    let of_vip = move |set| Member {
        set,
        element: Element::VipPort(vip),
    };
    let serves = has_serving(&server.real_servers);
    let near = server.near.as_ref();
    let mark = mark.filter(|_| near.is_some_and(has_serving));
    let always_masqueraded = server.kind.is_external() && near.is_none();
    let unserved = (!serves).then_some(match server.unserved {
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
        // A draining virtual server stays ours by `plan`; where none is, there is nothing to own.
        serves.then_some(SetKind::Owned),
        always_masqueraded.then_some(SetKind::External),
        (serves && server.tuning.thresholds != Thresholds::default()).then_some(SetKind::Limited),
        (!server.source_ranges.is_empty()).then_some(SetKind::Ranged),
        unserved,
        is_live(vip, server.kind, serves || mark.is_some()).then_some(SetKind::Live),
        (mark.is_some() && vip.protocol == Protocol::Udp).then_some(SetKind::NearFlows),
    ]
    .into_iter()
    .flatten()
    .map(of_vip)
    .chain(server.source_ranges.iter().map(move |net| Member {
        set: SetKind::Sources,
        element: Element::Source { vip, net: *net },
    }))
    .chain(mark.map(|mark| Member {
        set: SetKind::Near,
        element: Element::Near { vip, mark },
    }))
    .chain(health_port(vip, server))
    .chain(hairpins.into_iter().map(move |key| Member {
        set: SetKind::Hairpin,
        element: hairpin(&key, vip),
    }))
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
