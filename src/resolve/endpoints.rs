//! Which endpoints of a Service port take new connections, and why the others do not.
//!
//! Two sets: what a `Cluster` traffic policy may use and what a `Local` one may. Each falls back to
//! endpoints that terminate but still serve on its own (KEP-1669). Topology narrows the first only.

use std::collections::BTreeMap;
use std::fmt;

use super::View;
use super::annotations::Weights;
use super::merge::{Merged, merge};
use super::topology::{self, Topology};
use crate::model::{
    Family, HostPort, NodeInfo, RealServer, RealServerKey, RealServers, ServicePort, TrafficPolicy,
};

/// The endpoints of one Service port in one family, sorted out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// For `Cluster` policies.
    pub cluster: Set,
    /// For `Local` policies.
    pub local: Set,
    /// Endpoints that no policy would use.
    pub refused: Vec<(HostPort, ExclusionReason)>,
    /// Whether any endpoint anywhere is ready, or terminating and serving.
    pub any: bool,
    /// By which hints the first set is narrowed.
    pub topology: Topology,
}

/// What one traffic policy makes of the endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Set {
    /// Those that serve, and as draining all others that are listed: one that a change of policy
    /// or topology leaves out keeps the connections that it has.
    pub real_servers: RealServers,
    pub excluded: Vec<(HostPort, ExclusionReason)>,
}

impl Selection {
    pub fn of(&self, policy: TrafficPolicy) -> &Set {
        match policy {
            TrafficPolicy::Cluster => &self.cluster,
            TrafficPolicy::Local => &self.local,
        }
    }
}

/// Why an endpoint takes no new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExclusionReason {
    /// Neither ready nor (terminating and serving).
    NotReady,
    /// Terminating while others are ready; it keeps the connections it has.
    Draining,
    /// Loopback, link-local, multicast or unspecified (CVE-2021-25737), or a cluster IP.
    RefusedAddress,
    /// On another node, and the traffic policy is `Local`.
    OtherNode,
    /// Hinted for other nodes than this one.
    OtherNodeHint,
    /// Hinted for other zones than this node's.
    OtherZone,
}

impl fmt::Display for ExclusionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotReady => "not ready",
            Self::Draining => "terminating while others are ready",
            Self::RefusedAddress => "loopback, link-local, multicast, unspecified or cluster IP",
            Self::OtherNode => "on another node, under a Local traffic policy",
            Self::OtherNodeHint => "hinted for other nodes",
            Self::OtherZone => "hinted for other zones",
        })
    }
}

/// Sorts the endpoints of `port`: those that are ready serve; if none is, those that terminate
/// but still serve do; the rest drain (KEP-1672, KEP-1669). One that is not ready takes no new
/// connections and keeps those that it has, for as long as it is listed.
pub(super) fn select(
    view: View<'_>,
    family: Family,
    port: &ServicePort,
    weights: &Weights,
) -> Selection {
    let mut refused = Vec::new();
    let merged = merge(view, family, port, weights, &mut |endpoint| {
        refused.push((endpoint, ExclusionReason::RefusedAddress));
    });
    let topology = topology::mode(view.node, &merged);
    Selection {
        cluster: set(&merged, |endpoint| {
            near_enough(view.node, &topology, endpoint)
        }),
        local: set(&merged, |endpoint| {
            if endpoint.local {
                Ok(())
            } else {
                Err(ExclusionReason::OtherNode)
            }
        }),
        refused,
        any: merged
            .values()
            .any(|endpoint| endpoint.ready || endpoint.serves_while_terminating()),
        topology,
    }
}

fn near_enough(
    node: &NodeInfo,
    topology: &Topology,
    endpoint: &Merged,
) -> Result<(), ExclusionReason> {
    // Where nothing is ready topology does not matter: what still serves is few enough.
    if !endpoint.ready {
        return Ok(());
    }
    match topology {
        Topology::Node if !endpoint.for_nodes.contains(node.name.as_str()) => {
            Err(ExclusionReason::OtherNodeHint)
        }
        Topology::Zone(zone) if !endpoint.for_zones.contains(zone.as_str()) => {
            Err(ExclusionReason::OtherZone)
        }
        _ => Ok(()),
    }
}

/// The ready ones among the `eligible`; if there is none, those that terminate and still serve.
fn set(
    merged: &BTreeMap<RealServerKey, Merged>,
    eligible: impl Fn(&Merged) -> Result<(), ExclusionReason>,
) -> Set {
    let mut set = Set::default();
    let any_ready = merged
        .values()
        .any(|endpoint| endpoint.ready && eligible(endpoint).is_ok());
    for (key, endpoint) in merged {
        let may_serve = eligible(endpoint).and(
            if endpoint.ready || (!any_ready && endpoint.serves_while_terminating()) {
                Ok(())
            } else if endpoint.terminating {
                Err(ExclusionReason::Draining)
            } else {
                Err(ExclusionReason::NotReady)
            },
        );
        let real = match may_serve {
            Ok(()) => RealServer::serving(endpoint.local, endpoint.weight),
            Err(reason) => {
                set.excluded.push((*key, reason));
                if reason == ExclusionReason::NotReady {
                    RealServer::unready(endpoint.local)
                } else {
                    RealServer::draining(endpoint.local)
                }
            }
        };
        set.real_servers.insert(*key, real);
    }
    set
}
