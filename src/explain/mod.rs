//! Why a Service is served as it is on this node, and what becomes of one packet. Pure.
//!
//! Nothing is decided here: `resolve` says what a Service means and the dataplane's settings say who is
//! masqueraded. This repeats it step by step, in words, with the rule behind each step.
//!
//! * `follow` one packet; `rules` the sentences of Kubernetes that it refers to
//! * `service` one Service: `endpoints`, `addresses`, and `names` by which clients find it
//! * `nearest` what somebody may have meant who names a Service that is not there

mod addresses;
mod endpoints;
mod follow;
mod names;
mod nearest;
mod rules;
mod service;

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::dataplane::ClusterNetwork;
use crate::dataplane::policy::PolicySettings;
use crate::model::{Family, NodeInfo, VipPort};
use crate::resolve::{DesiredState, Policy, Reserved};

pub use follow::follow;
pub use nearest::no_such_service;
pub use service::service;

/// All that an explanation goes by.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// `ipvs` or `iptables`.
    pub dataplane: &'static str,
    pub node: &'a NodeInfo,
    /// Addresses of the node's interfaces and those that Kubernetes knows it by.
    pub own_addresses: BTreeSet<IpAddr>,
    pub node_port_addresses: &'a BTreeSet<IpAddr>,
    pub reserved: &'a Reserved,
    pub policy: &'a Policy,
    /// What all Services together ask for.
    pub desired: &'a DesiredState,
    /// Tuples at which somebody else's virtual server stands.
    pub foreign: BTreeSet<VipPort>,
    pub network: &'a ClusterNetwork,
    /// Who is masqueraded, and how pods are known.
    pub settings: &'a PolicySettings,
}

impl Facts<'_> {
    /// An address of this node, loopback among them.
    fn is_own(&self, addr: IpAddr) -> bool {
        addr.is_loopback() || self.own_addresses.contains(&addr)
    }

    /// The address that a process of the node most likely sends from.
    fn sends_from(&self, family: Family) -> Option<IpAddr> {
        let primary = self.node.primary.get(&family).copied();
        let of_family = |addr: &&IpAddr| Family::of(**addr) == family && !addr.is_loopback();
        primary.or_else(|| self.own_addresses.iter().find(of_family).copied())
    }
}

#[cfg(test)]
mod tests;
