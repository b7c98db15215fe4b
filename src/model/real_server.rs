//! Backends of a virtual server.

use std::collections::BTreeMap;

use super::addr::HostPort;

/// A real server is known by its address and port.
pub type RealServerKey = HostPort;

/// The real servers of one virtual server.
pub type RealServers = BTreeMap<RealServerKey, RealServer>;

/// How a real server takes part in balancing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RealServer {
    /// Share of new connections relative to its peers; 0 takes none and keeps those it has.
    pub weight: u32,
    /// Runs on this node. A pod here may reach itself through its Service (hairpin).
    pub local: bool,
    /// Takes no new connections and keeps those it has, at weight 0; is never added.
    pub draining: bool,
    /// Drains since it is not ready, and not because it is about to end. If it goes without more
    /// ado, its node is lost: nothing is left that could finish a connection.
    pub unready: bool,
}

/// The most that the agent gives a real server; the kernel's `atomic_t` would hold more.
pub const MAX_WEIGHT: u32 = 65_535;

/// Schedulers that share new connections out by weight.
pub const WEIGHTED_SCHEDULERS: [&str; 9] = [
    "wrr", "wlc", "sed", "nq", "lblc", "lblcr", "sh", "mh", "twos",
];

impl RealServer {
    /// One that serves.
    pub fn serving(local: bool, weight: u32) -> Self {
        Self {
            weight,
            local,
            draining: false,
            unready: false,
        }
    }

    /// One that only finishes what it has.
    pub fn draining(local: bool) -> Self {
        Self {
            weight: 0,
            local,
            draining: true,
            unready: false,
        }
    }

    /// One that is not ready.
    pub fn unready(local: bool) -> Self {
        Self {
            unready: true,
            ..Self::draining(local)
        }
    }
}
