//! What an agent on the node knows of the table: whose a virtual server is, and in what state its
//! endpoints are. All of it may be missing; the table is read from the kernel.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use ipvs_sys::{DestinationKey, Family, Protocol, ServiceKey};
use serde::Serialize;

use crate::ask;

/// By virtual server. Empty without an agent.
pub type Names = BTreeMap<ServiceKey, ServerName>;

/// Whose a virtual server is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerName {
    /// Of the Service.
    pub namespace: String,
    /// Of the Service.
    pub name: String,
    /// Of the Service's port; empty for a single unnamed one.
    pub port_name: String,
    /// `ClusterIP`, `ExternalIP`, `LoadBalancer` or `NodePort`.
    pub vip_kind: String,
    /// `Cluster` or `Local`.
    pub policy: String,
    /// What is known of the real servers.
    #[serde(skip)]
    pub endpoints: BTreeMap<DestinationKey, Endpoint>,
}

/// What is known of a real server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// `ready`, `serving`, `terminating`, `not-ready` or `gone`.
    pub state: String,
    /// Where it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Of its node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Seconds after which it goes although it has connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_seconds_left: Option<u64>,
}

impl ServerName {
    /// `namespace/name:port`.
    pub fn full(&self) -> String {
        let Self {
            namespace,
            name,
            port_name,
            ..
        } = self;
        if port_name.is_empty() {
            format!("{namespace}/{name}")
        } else {
            format!("{namespace}/{name}:{port_name}")
        }
    }
}

/// The names in what an agent told. What it calls by a number that the kernel cannot have is left out.
pub fn names(told: &ask::Table) -> Names {
    let name = |server: &ask::NamedServer| {
        let endpoint = |real: &ask::NamedRealServer| {
            let endpoint = Endpoint {
                state: real.state.to_string(),
                node: real.node.clone(),
                zone: real.zone.clone(),
                drain_seconds_left: real.drain_seconds_left,
            };
            (DestinationKey::new(real.address, real.port), endpoint)
        };
        let name = ServerName {
            namespace: server.namespace.clone(),
            name: server.service.clone(),
            port_name: server.port_name.clone(),
            vip_kind: server.kind.clone(),
            policy: server.policy.clone(),
            endpoints: server.real_servers.iter().map(endpoint).collect(),
        };
        Some((key(&server.key)?, name))
    };
    told.virtual_servers.iter().filter_map(name).collect()
}

fn key(told: &ask::ServerKey) -> Option<ServiceKey> {
    Some(match *told {
        ask::ServerKey::Tuple {
            protocol,
            address,
            port,
        } => {
            let protocol = match protocol {
                ask::table::Protocol::Tcp => Protocol::Tcp,
                ask::table::Protocol::Udp => Protocol::Udp,
                ask::table::Protocol::Sctp => Protocol::Sctp,
            };
            ServiceKey::Address {
                protocol,
                addr: address,
                port,
            }
        }
        ask::ServerKey::Mark { mark, family } => ServiceKey::Mark {
            family: match family {
                ask::table::Family::V4 => Family::Inet,
                ask::table::Family::V6 => Family::Inet6,
            },
            mark: NonZeroU32::new(mark)?,
        },
    })
}
