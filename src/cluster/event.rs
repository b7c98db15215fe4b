//! What a source tells: changes of objects, and that it has told everything once.

use std::collections::BTreeSet;
use std::fmt;

use ipnet::IpNet;

use crate::model::{EndpointSlice, NodeInfo, ObjectName, ServiceSpec, SliceName};

/// One change, as values. Sources send them in order; a repeated event is harmless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    ServiceApplied(ObjectName, Box<ServiceSpec>),
    ServiceDeleted(ObjectName),
    SliceApplied(SliceName, Box<EndpointSlice>),
    SliceDeleted(SliceName),
    /// This node, whole.
    NodeApplied(Box<NodeInfo>),
    /// There is no such node, or none any more.
    NodeDeleted,
    /// All CIDRs of all ServiceCIDR objects, whole.
    ServiceCidrs(BTreeSet<IpNet>),
    /// The source has listed this kind of object once (again, after a new list). On a relist
    /// the source itself sends the deletions of what is no longer there before it says this.
    Listed(Kind),
}

/// Kinds of objects that must be listed before anything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Services,
    EndpointSlices,
    Node,
    ServiceCidrs,
}

impl Kind {
    pub const ALL: [Self; 4] = [
        Self::Services,
        Self::EndpointSlices,
        Self::Node,
        Self::ServiceCidrs,
    ];

    /// As it ends the path at which the API server has them.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::EndpointSlices => "endpointslices",
            Self::Node => "nodes",
            Self::ServiceCidrs => "servicecidrs",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
