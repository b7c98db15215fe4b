//! `GET /v1/explain/packet?from=…&to=…&port=…&protocol=…`

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::ask::table::Protocol;

/// The first packet of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet {
    /// Absent: a process of the node that is asked, from whichever address it uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<IpAddr>,
    pub to: IpAddr,
    pub port: u16,
    pub protocol: Protocol,
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.from {
            Some(from) => from.fmt(f)?,
            None => f.write_str("node")?,
        }
        let to = SocketAddr::new(self.to, self.port);
        write!(f, " -> {to}/{}", self.protocol)
    }
}

/// What becomes of it on this node, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    pub node: String,
    /// By what the node serves: `ipvs` or `iptables`.
    pub dataplane: String,
    pub packet: Packet,
    pub client: ClientKind,
    /// In the order in which the packet meets them.
    pub steps: Vec<Step>,
    pub verdict: Verdict,
}

/// Who sends it, as this node tells clients apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientKind {
    NodeProcess,
    PodOfThisNode,
    PodElsewhere,
    Outside,
}

/// One thing that is decided about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// `client`, `destination`, `source ranges`, `endpoints`, `source address`, `affinity`.
    pub about: String,
    pub finding: String,
    /// What Kubernetes asks for in such a case.
    pub rule: String,
    /// Where that is written.
    pub see: String,
}

/// How it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Verdict {
    /// It goes to one of these.
    Balanced { endpoints: Vec<Led> },
    /// The client is told.
    Refused { by: Refusal },
    /// Silence.
    Dropped,
    /// No Service served here has anything to do with it.
    NotOurs,
}

/// How a client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    TcpReset,
    IcmpPortUnreachable,
}

/// An endpoint that the packet may go to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Led {
    pub address: IpAddr,
    pub port: u16,
    /// On this node.
    pub local: bool,
    pub weight: u32,
    /// The client is the endpoint.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hairpin: bool,
    pub client_seen: ClientSeen,
}

/// Whom the endpoint takes for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientSeen {
    /// The client's own address.
    Kept,
    /// An address of this node: that of the interface by which the packet leaves.
    Masqueraded,
}
