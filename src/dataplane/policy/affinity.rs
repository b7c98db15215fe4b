//! Sets of clients: which client is bound to which endpoint, where iptables balances.

use std::fmt;
use std::str::FromStr;

use super::digest::Digest;
use super::sets::SET_PREFIX;
use crate::model::{Family, RealServerKey, ServicePortName};

/// The clients that stay with one endpoint of one Service port (`sessionAffinity: ClientIP`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AffinitySet {
    pub family: Family,
    digest: Digest,
}

impl AffinitySet {
    pub fn new(family: Family, owner: &ServicePortName, real_server: &RealServerKey) -> Self {
        let (owner, real_server) = (owner.to_string(), real_server.to_string());
        Self {
            family,
            digest: Digest::of(&[&owner, &real_server]),
        }
    }
}

/// `IPVS-AGENT-4-C` and a digest.
impl fmt::Display for AffinitySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = match self.family {
            Family::V4 => 4,
            Family::V6 => 6,
        };
        write!(f, "{SET_PREFIX}{number}-C{}", self.digest)
    }
}

/// A name that is none of such a set's.
#[derive(Debug, PartialEq, Eq)]
pub struct NotOurs;

impl FromStr for AffinitySet {
    type Err = NotOurs;

    fn from_str(name: &str) -> Result<Self, NotOurs> {
        let rest = name.strip_prefix(SET_PREFIX).ok_or(NotOurs)?;
        let (number, digest) = rest.split_once("-C").ok_or(NotOurs)?;
        let family = match number {
            "4" => Family::V4,
            "6" => Family::V6,
            _ => return Err(NotOurs),
        };
        let digest = digest.parse().map_err(|_| NotOurs)?;
        Ok(Self { family, digest })
    }
}
