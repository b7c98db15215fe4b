//! What the agent knows of each virtual server: whose it is, and in what state its endpoints are.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// `GET /v1/table`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    /// The agent's version.
    pub agent: String,
    pub node: String,
    /// In the order of their keys.
    pub virtual_servers: Vec<NamedServer>,
}

/// By what the kernel finds a virtual server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ServerKey {
    /// `protocol` is `TCP`, `UDP` or `SCTP`.
    Tuple {
        protocol: Protocol,
        address: IpAddr,
        port: u16,
    },
    /// A firewall mark, by which clients on this node are led.
    Mark { mark: u32, family: Family },
}

/// The protocol of a Service port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Family {
    #[serde(rename = "IPv4")]
    V4,
    #[serde(rename = "IPv6")]
    V6,
}

/// One virtual server that the agent wants or lets finish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamedServer {
    #[serde(flatten)]
    pub key: ServerKey,
    pub namespace: String,
    pub service: String,
    /// Name of the Service's port; empty for a single unnamed one.
    pub port_name: String,
    /// `ClusterIP`, `ExternalIP`, `LoadBalancer` or `NodePort`.
    pub kind: String,
    /// `Cluster` or `Local`.
    pub policy: String,
    pub scheduler: String,
    /// Serves clients on this node alone, at the tuples of a virtual server with policy `Local`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub near: bool,
    pub real_servers: Vec<NamedRealServer>,
}

/// One endpoint of a virtual server, whether it takes connections or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamedRealServer {
    pub address: IpAddr,
    pub port: u16,
    pub state: EndpointState,
    /// Takes new connections here.
    pub used: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Seconds after which it is removed though it still has connections; absent where there is no such
    /// end, as long as the endpoint is listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_seconds_left: Option<u64>,
}

/// What the slices say of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndpointState {
    Ready,
    /// Terminating, and still answers.
    Serving,
    Terminating,
    NotReady,
    /// In no slice any more; it finishes what it has.
    Gone,
}

impl From<&crate::model::Endpoint> for EndpointState {
    fn from(endpoint: &crate::model::Endpoint) -> Self {
        if endpoint.ready {
            Self::Ready
        } else if endpoint.terminating && endpoint.serving {
            Self::Serving
        } else if endpoint.terminating {
            Self::Terminating
        } else {
            Self::NotReady
        }
    }
}

impl fmt::Display for EndpointState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ready => "ready",
            Self::Serving => "serving",
            Self::Terminating => "terminating",
            Self::NotReady => "not-ready",
            Self::Gone => "gone",
        })
    }
}

impl From<crate::model::Protocol> for Protocol {
    fn from(protocol: crate::model::Protocol) -> Self {
        match protocol {
            crate::model::Protocol::Tcp => Self::Tcp,
            crate::model::Protocol::Udp => Self::Udp,
            crate::model::Protocol::Sctp => Self::Sctp,
        }
    }
}

impl From<Protocol> for crate::model::Protocol {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
            Protocol::Sctp => Self::Sctp,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::model::Protocol::from(*self).fmt(f)
    }
}

impl From<crate::model::Family> for Family {
    fn from(family: crate::model::Family) -> Self {
        match family {
            crate::model::Family::V4 => Self::V4,
            crate::model::Family::V6 => Self::V6,
        }
    }
}

impl From<crate::model::VipPort> for ServerKey {
    fn from(vip: crate::model::VipPort) -> Self {
        Self::Tuple {
            protocol: vip.protocol.into(),
            address: vip.addr,
            port: vip.port,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_is_as_documented_and_reads_back() {
        let server = |key, near| NamedServer {
            key,
            namespace: "shop".to_owned(),
            service: "web".to_owned(),
            port_name: "http".to_owned(),
            kind: "LoadBalancer".to_owned(),
            policy: "Local".to_owned(),
            scheduler: "rr".to_owned(),
            near,
            real_servers: vec![NamedRealServer {
                address: [10, 244, 1, 7].into(),
                port: 8080,
                state: EndpointState::NotReady,
                used: false,
                node: Some("n2".to_owned()),
                zone: None,
                drain_seconds_left: Some(12),
            }],
        };
        let vip: crate::model::VipPort = "203.0.113.7:80/TCP".parse().unwrap();
        let mark = ServerKey::Mark {
            mark: 1,
            family: Family::V4,
        };
        let table = Table {
            agent: "0.1.0".to_owned(),
            node: "n1".to_owned(),
            virtual_servers: vec![server(vip.into(), false), server(mark, true)],
        };
        let json = serde_json::to_value(&table).unwrap();
        let of = |n: usize, key: &str| json["virtualServers"][n][key].clone();
        assert_eq!(of(0, "protocol"), "TCP");
        assert_eq!(of(0, "address"), "203.0.113.7");
        assert_eq!(of(0, "port"), 80);
        assert_eq!(of(0, "near"), serde_json::Value::Null);
        assert_eq!(of(1, "mark"), 1);
        assert_eq!(of(1, "family"), "IPv4");
        assert_eq!(of(0, "realServers")[0]["state"], "not-ready");
        assert_eq!(of(0, "realServers")[0]["drainSecondsLeft"], 12);
        assert_eq!(serde_json::from_value::<Table>(json).unwrap(), table);
    }
}
