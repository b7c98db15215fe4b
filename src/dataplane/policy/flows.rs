//! Which conntrack entries lead astray once the real servers of a tuple have changed. Pure.
//!
//! Over UDP nothing in the protocol ends a flow, so a client that never falls silent would be led to a
//! real server that is gone for as long as it speaks. TCP and SCTP connections end or move by
//! themselves, unless their real server is lost with its node, which nobody is left to tell.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Family, HostPort, Protocol, VipPort};
use crate::netfilter::conntrack::{self, ConntrackClient, Flow};

/// The protocol whose flows are ever forgotten.
pub const PROTOCOL: Protocol = Protocol::Udp;

/// What is to be forgotten: tuples, each with the real servers whose flows stay.
#[derive(Debug, Default)]
pub struct StaleFlows<'a>(BTreeMap<VipPort, &'a BTreeSet<HostPort>>);

impl<'a> FromIterator<(VipPort, &'a BTreeSet<HostPort>)> for StaleFlows<'a> {
    fn from_iter<I: IntoIterator<Item = (VipPort, &'a BTreeSet<HostPort>)>>(wanted: I) -> Self {
        Self(wanted.into_iter().collect())
    }
}

impl StaleFlows<'_> {
    /// Deletes them. One dump of the conntrack table for each family, whatever the number of tuples.
    pub fn forget(&self, conntrack: &mut ConntrackClient) -> Result<(), conntrack::Error> {
        let families = Family::ALL
            .into_iter()
            .filter(|family| self.any_of(*family));
        // What fails for one family does not concern the other.
        let results = families.map(|family| {
            conntrack
                .delete_where(family, PROTOCOL, &mut |flow| self.contains(flow))
                .map(|_| ())
        });
        results.fold(Ok(()), Result::and)
    }

    /// Whether any of this family is among them.
    pub fn any_of(&self, family: Family) -> bool {
        self.0.keys().any(|vip| vip.family() == family)
    }

    /// Whether a flow of [`PROTOCOL`] went to one of the tuples and is answered by nobody who serves
    /// it. One that was never balanced is answered by the VIP itself, which serves nothing.
    pub fn contains(&self, flow: &Flow) -> bool {
        let vip = VipPort {
            addr: flow.original.dst,
            protocol: PROTOCOL,
            port: flow.original.dst_port,
        };
        let answering = HostPort {
            addr: flow.reply.src,
            port: flow.reply.src_port,
        };
        let keep = self.0.get(&vip);
        keep.is_some_and(|keep| !keep.contains(&answering))
    }
}

/// Connections to real servers that are lost: tuples, each with those.
#[derive(Debug, Default)]
pub struct LostFlows<'a>(BTreeMap<VipPort, &'a BTreeSet<HostPort>>);

impl<'a> FromIterator<(VipPort, &'a BTreeSet<HostPort>)> for LostFlows<'a> {
    fn from_iter<I: IntoIterator<Item = (VipPort, &'a BTreeSet<HostPort>)>>(lost: I) -> Self {
        Self(lost.into_iter().collect())
    }
}

impl LostFlows<'_> {
    /// Forgets them: the client's next packet goes to somebody who does not know the connection and
    /// resets it. One dump of the conntrack table for each family and protocol.
    pub fn forget(&self, conntrack: &mut ConntrackClient) -> Result<(), conntrack::Error> {
        let tables: BTreeSet<(Family, Protocol)> = self
            .0
            .keys()
            .map(|vip| (vip.family(), vip.protocol))
            .collect();
        let results = tables.into_iter().map(|(family, protocol)| {
            conntrack
                .delete_where(family, protocol, &mut |flow| self.contains(protocol, flow))
                .map(|_| ())
        });
        results.fold(Ok(()), Result::and)
    }

    /// Whether a flow went to one of the tuples and is answered by one that is lost.
    fn contains(&self, protocol: Protocol, flow: &Flow) -> bool {
        let vip = VipPort {
            addr: flow.original.dst,
            protocol,
            port: flow.original.dst_port,
        };
        let answering = HostPort {
            addr: flow.reply.src,
            port: flow.reply.src_port,
        };
        self.0
            .get(&vip)
            .is_some_and(|lost| lost.contains(&answering))
    }
}
