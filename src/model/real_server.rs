//! Backends of a virtual server.

use super::addr::HostPort;

/// A real server is known by its address and port.
pub type RealServerKey = HostPort;

/// How a real server takes part in balancing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RealServer {
    /// Share of new connections relative to its peers; 0 takes none and keeps those it has.
    pub weight: u32,
    /// Runs on this node. A pod here may reach itself through its Service (hairpin).
    pub local: bool,
}
