//! What an operator may choose about the IPVS dataplane.

use std::time::Duration;

use crate::dataplane::policy::PolicySettings;
use crate::routing::PolicyRule;

/// Settings that shape kernel objects. All agents on one node must agree on them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// One bit: the packet is to be routed to IPVS. Network plugins own some bits.
    pub route_mark: u32,
    /// What both dataplanes hold to.
    pub policy: PolicySettings,
    /// The bits of which marks for clients on this node are made, under a `Local` traffic policy. The
    /// mark is the packet's only one from mangle to IPVS and gone after it.
    pub near_marks: u32,
    /// Routing table that holds the VIPs.
    pub route_table: u32,
    /// Priority of the policy rule; before the main table (32766), after `local` (0).
    pub rule_priority: u32,
    /// How long a real server that is gone may finish its TCP connections.
    pub drain_timeout: Duration,
    pub timeouts: TimeoutSettings,
}

/// How long connections are kept on which nothing moves; `None`: as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TimeoutSettings {
    pub tcp: TcpTimeout,
    /// Seconds after a FIN.
    pub tcp_fin: Option<u32>,
    /// Seconds.
    pub udp: Option<u32>,
}

/// How long an established TCP connection is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TcpTimeout {
    #[default]
    AsConntrack,
    Seconds(u32),
    Keep,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            route_mark: 1 << 13,
            policy: PolicySettings::default(),
            near_marks: NEAR_MARKS,
            route_table: 10256,
            rule_priority: 90,
            drain_timeout: Duration::from_secs(60),
            timeouts: TimeoutSettings::default(),
        }
    }
}

/// Free of bits that others test between mangle and IPVS: 8 to 11 are Cilium's, 13 to 15 ours and
/// the kubelet's, 16 to 19 Calico's.
pub const NEAR_MARKS: u32 = 0x7ff0_00ff;

impl Settings {
    /// The rule that leads marked packets to the VIPs' table.
    pub fn policy_rule(&self) -> PolicyRule {
        PolicyRule {
            mark: self.route_mark,
            table: self.route_table,
            priority: self.rule_priority,
        }
    }
}
