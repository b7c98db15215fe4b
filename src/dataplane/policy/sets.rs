//! The netfilter sets: constant rules ask them, a change of a Service changes only them.
//!
//! Both dataplanes share those that say the same to both, by name too: where one follows the other on
//! a node it finds them as they should be.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::model::{Family, VipPort};
use crate::netfilter::ipset::SetType;

/// Elements that a set may hold; the kernel's default of 65,536 is too few for large clusters.
pub const MAX_ELEMENTS: u32 = 1 << 20;

/// Longer than what it is for takes, and no longer than a client waits before its second try.
const HELD_SECONDS: u32 = 2;

/// One of the agent's sets; each exists once for each family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetKind {
    /// Tuples whose virtual servers are ours. Written before and removed after them, so that the rules
    /// that ask it have every connection that they lead somewhere, and a next run the flows that an
    /// earlier one left.
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
    /// New connections to these get no answer for a moment. Nothing stays here for long: should the agent not
    /// delete an entry, the kernel does.
    Held,
    /// Packets to these are routed to IPVS. An entry here is what makes a VIP live.
    Live,
    /// Clients on this node get the mark that an entry carries, and by it all endpoints.
    Near,
    /// UDP tuples of `Near`, until their flows are forgotten: what tells a next run that there may be
    /// some. Other tuples are in `Owned` for as long.
    NearFlows,
    /// Ports at which load balancers ask for the health of Services.
    HealthPorts,
    /// Tuples whose first packets the iptables dataplane balances. An entry here is what makes a VIP
    /// live.
    Balanced,
    /// Those of them under `externalTrafficPolicy: Local`.
    Split,
}

impl SetKind {
    /// What both dataplanes ask.
    pub const SHARED: [Self; 9] = [
        Self::External,
        Self::Hairpin,
        Self::Pods,
        Self::NodePods,
        Self::Ranged,
        Self::Sources,
        Self::Refused,
        Self::Dropped,
        Self::HealthPorts,
    ];

    /// What the iptables dataplane asks.
    pub const IPTABLES: [Self; 11] = [
        Self::External,
        Self::Hairpin,
        Self::Pods,
        Self::NodePods,
        Self::Ranged,
        Self::Sources,
        Self::Refused,
        Self::Dropped,
        Self::HealthPorts,
        Self::Balanced,
        Self::Split,
    ];

    /// What the IPVS dataplane asks, in the order in which an added virtual server enters them.
    pub const IPVS: [Self; 16] = [
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
        Self::Held,
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
            Self::Held => SetType::HashIpPortTimeout(HELD_SECONDS),
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
            Self::Held => "HELD",
            Self::Live => "LIVE",
            Self::Near => "NEAR",
            Self::NearFlows => "NEAR-FLOWS",
            Self::HealthPorts => "HEALTH-PORTS",
            Self::Balanced => "BALANCED",
            Self::Split => "SPLIT",
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
