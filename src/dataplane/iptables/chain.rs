//! Names of the chains that follow from Services.

use std::fmt;
use std::str::FromStr;

use crate::dataplane::policy::digest::Digest;
use crate::model::{Family, ServicePortName, TrafficPolicy};
use crate::netfilter::ruleset::CHAIN_PREFIX;

/// A chain of the table `nat` that comes and goes with Services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainKey {
    pub family: Family,
    pub kind: ChainKind,
    pub digest: Digest,
}

/// What such a chain is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChainKind {
    /// Balances among the endpoints of one Service port.
    Service,
    /// A branch of the tree that leads from an address to its Service.
    Branch,
}

impl ChainKey {
    /// The chain of a Service port's endpoints under a traffic policy.
    pub fn service(family: Family, owner: &ServicePortName, policy: TrafficPolicy) -> Self {
        let policy = match policy {
            TrafficPolicy::Cluster => "cluster",
            TrafficPolicy::Local => "local",
        };
        let (name, protocol) = (owner.to_string(), owner.protocol.to_string());
        Self {
            family,
            kind: ChainKind::Service,
            digest: Digest::of(&[&name, &protocol, policy]),
        }
    }

    /// The name of a chain, if it is one of these.
    pub fn of_name(family: Family, name: &str) -> Option<Self> {
        let rest = name.strip_prefix(CHAIN_PREFIX)?;
        let (kind, digest) = match rest.split_at_checked(1)? {
            ("S", digest) => (ChainKind::Service, digest),
            ("T", digest) => (ChainKind::Branch, digest),
            _ => return None,
        };
        Some(Self {
            family,
            kind,
            digest: Digest::from_str(digest).ok()?,
        })
    }
}

/// 28 letters, as many as a chain's name may have (`XT_EXTENSION_MAXNAMELEN`).
impl fmt::Display for ChainKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ChainKind::Service => "S",
            ChainKind::Branch => "T",
        };
        write!(f, "{CHAIN_PREFIX}{kind}{}", self.digest)
    }
}
