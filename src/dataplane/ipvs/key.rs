//! By what the kernel finds a virtual server.

use std::fmt;

use crate::model::{Family, VipPort};

/// A virtual server of ours is found by destination or, for clients on this node under a `Local`
/// traffic policy, by the mark that their packets carry. Marks go first (`ip_vs_service_find`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServerKey {
    Tuple(VipPort),
    Mark { family: Family, mark: u32 },
}

impl ServerKey {
    pub fn family(&self) -> Family {
        match self {
            Self::Tuple(vip) => vip.family(),
            Self::Mark { family, .. } => *family,
        }
    }

    /// The destination, where that is the key.
    pub fn tuple(&self) -> Option<VipPort> {
        match self {
            Self::Tuple(vip) => Some(*vip),
            Self::Mark { .. } => None,
        }
    }
}

impl From<VipPort> for ServerKey {
    fn from(vip: VipPort) -> Self {
        Self::Tuple(vip)
    }
}

impl fmt::Display for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tuple(vip) => vip.fmt(f),
            Self::Mark { family, mark } => write!(f, "mark {mark:#x} ({family})"),
        }
    }
}
