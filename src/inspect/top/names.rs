//! Whose a virtual server is, from what the agent tells (`/v1/table`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ipvs_sys::{DestinationKey, Family, Protocol, ServiceKey};

use crate::ask::table;
use crate::ask::{EndpointState, ServerKey, Table};

/// A Service's port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceName {
    pub namespace: String,
    pub service: String,
    /// Empty for a single unnamed one.
    pub port: String,
}

impl fmt::Display for ServiceName {
    /// `shop/web:http`, `shop/web`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.service)?;
        if !self.port.is_empty() {
            write!(f, ":{}", self.port)?;
        }
        Ok(())
    }
}

/// What the agent told last; nothing where none runs.
#[derive(Debug, Default)]
pub struct Names {
    /// The node's name in the cluster.
    pub node: Option<String>,
    servers: BTreeMap<ServerKey, Named>,
}

#[derive(Debug)]
struct Named {
    service: ServiceName,
    endpoints: BTreeMap<DestinationKey, EndpointState>,
}

impl From<Table> for Names {
    fn from(table: Table) -> Self {
        let servers = table.virtual_servers.into_iter().map(|server| {
            let endpoints = server.real_servers.iter().map(|endpoint| {
                let key = DestinationKey::new(endpoint.address, endpoint.port);
                (key, endpoint.state)
            });
            let named = Named {
                endpoints: endpoints.collect(),
                service: ServiceName {
                    namespace: server.namespace,
                    service: server.service,
                    port: server.port_name,
                },
            };
            (server.key, named)
        });
        Self {
            node: Some(table.node),
            servers: servers.collect(),
        }
    }
}

impl Names {
    /// The Service port that a virtual server is for; nothing for one that is not the agent's.
    pub fn service(&self, key: &ServiceKey) -> Option<&ServiceName> {
        Some(&self.servers.get(&server_key(key)?)?.service)
    }

    /// What the slices say of a backend.
    pub fn endpoint(&self, key: &ServiceKey, backend: &DestinationKey) -> Option<EndpointState> {
        let named = self.servers.get(&server_key(key)?)?;
        named.endpoints.get(backend).copied()
    }

    /// Of these, the ones without a name.
    pub fn unknown<'a>(&self, keys: impl Iterator<Item = &'a ServiceKey>) -> BTreeSet<ServiceKey> {
        keys.filter(|key| self.service(key).is_none())
            .copied()
            .collect()
    }
}

/// The key as the agent writes it. It makes no other protocols.
fn server_key(key: &ServiceKey) -> Option<ServerKey> {
    Some(match *key {
        ServiceKey::Address {
            protocol,
            addr,
            port,
        } => ServerKey::Tuple {
            protocol: match protocol {
                Protocol::Tcp => table::Protocol::Tcp,
                Protocol::Udp => table::Protocol::Udp,
                Protocol::Sctp => table::Protocol::Sctp,
                Protocol::Other(_) => return None,
            },
            address: addr,
            port,
        },
        ServiceKey::Mark { family, mark } => ServerKey::Mark {
            mark: mark.get(),
            family: match family {
                Family::Inet => table::Family::V4,
                Family::Inet6 => table::Family::V6,
            },
        },
    })
}

/// `10.96.0.1:443/TCP`, `[fd00::1]:53/UDP`, `mark 256`, `mark 256 IPv6`.
pub fn server_text(key: &ServiceKey) -> String {
    match *key {
        ServiceKey::Address {
            protocol,
            addr,
            port,
        } => format!("{}/{protocol}", DestinationKey::new(addr, port)),
        ServiceKey::Mark {
            family: Family::Inet,
            mark,
        } => format!("mark {mark}"),
        ServiceKey::Mark { mark, .. } => format!("mark {mark} IPv6"),
    }
}
