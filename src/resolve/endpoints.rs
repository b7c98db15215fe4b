//! Which endpoints of a Service port take new connections, and why the others do not.

use std::collections::BTreeMap;
use std::fmt;

use super::View;
use crate::model::{Endpoint, Family, HostPort, RealServer, RealServerKey, ServicePort};

/// The endpoints of one Service port in one family, sorted out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// Serving and draining ones.
    pub real_servers: BTreeMap<RealServerKey, RealServer>,
    pub excluded: Vec<(HostPort, ExclusionReason)>,
}

/// Why an endpoint takes no new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExclusionReason {
    /// Neither ready nor (terminating and serving).
    NotReady,
    /// Terminating while others are ready; it keeps the connections it has.
    Draining,
    /// Loopback, link-local, multicast or unspecified (CVE-2021-25737).
    RefusedAddress,
}

impl fmt::Display for ExclusionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotReady => "not ready",
            Self::Draining => "terminating while others are ready",
            Self::RefusedAddress => "loopback, link-local, multicast or unspecified address",
        })
    }
}

/// What the slices say of one address and port, copies merged.
#[derive(Debug, Clone, Copy, Default)]
struct Merged {
    ready: bool,
    serving: bool,
    terminating: bool,
    local: bool,
}

/// Sorts the endpoints of `port`: those that are ready serve; if none is, those that terminate
/// but still serve do; the rest drain (KEP-1672, KEP-1669). One that is not ready takes no new
/// connections and keeps those that it has, for as long as it is listed.
pub fn select(view: View<'_>, family: Family, port: &ServicePort) -> Selection {
    let mut selection = Selection::default();
    let merged = merge(view, family, port, &mut selection.excluded);
    let any_ready = merged.values().any(|e| e.ready);
    for (key, endpoint) in merged {
        let serves_while_terminating = endpoint.serving && endpoint.terminating;
        if endpoint.ready || (!any_ready && serves_while_terminating) {
            selection
                .real_servers
                .insert(key, RealServer::serving(endpoint.local));
        } else {
            selection
                .real_servers
                .insert(key, RealServer::draining(endpoint.local));
            let reason = if endpoint.terminating {
                ExclusionReason::Draining
            } else {
                ExclusionReason::NotReady
            };
            selection.excluded.push((key, reason));
        }
    }
    selection
}

/// One entry for each address and port. While an endpoint moves between slices two copies exist;
/// the better condition and `local` win, so that it never disappears half-way.
fn merge(
    view: View<'_>,
    family: Family,
    port: &ServicePort,
    excluded: &mut Vec<(HostPort, ExclusionReason)>,
) -> BTreeMap<RealServerKey, Merged> {
    let mut merged: BTreeMap<RealServerKey, Merged> = BTreeMap::new();
    for slice in view
        .slices
        .iter()
        .filter(|slice| slice.address_type == family)
    {
        let numbers = slice
            .ports
            .iter()
            .filter(|p| p.name == port.name && p.protocol == port.protocol)
            .map(|p| p.port);
        for number in numbers {
            for endpoint in &slice.endpoints {
                let key = HostPort {
                    addr: endpoint.addr,
                    port: number,
                };
                if Family::of(endpoint.addr) != family {
                    continue;
                }
                if !is_permitted(endpoint) {
                    excluded.push((key, ExclusionReason::RefusedAddress));
                    continue;
                }
                let local = endpoint.node_name.as_deref() == Some(view.node.name.as_str());
                let entry = merged.entry(key).or_insert(Merged {
                    terminating: true,
                    ..Merged::default()
                });
                entry.ready |= endpoint.ready;
                entry.serving |= endpoint.serving;
                entry.terminating &= endpoint.terminating;
                entry.local |= local;
            }
        }
    }
    merged
}

/// A Service must not be a way to a node's own loopback or link (CVE-2021-25737).
fn is_permitted(endpoint: &Endpoint) -> bool {
    let addr = endpoint.addr;
    let link_local = match addr {
        std::net::IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        std::net::IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(addr.is_loopback() || addr.is_multicast() || addr.is_unspecified() || link_local)
}
