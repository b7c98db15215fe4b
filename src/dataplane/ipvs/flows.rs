//! Which conntrack entries lead astray once the real servers of a tuple have changed. Pure.
//!
//! Only UDP has them: nothing in the protocol ends a flow, so a client that never falls silent would
//! be led to a real server that is gone for as long as it speaks. TCP and SCTP connections end or
//! move by themselves.

use std::collections::{BTreeMap, BTreeSet};

use super::step::Step;
use crate::model::{Family, HostPort, Protocol, VipPort};
use crate::netfilter::conntrack::Flow;

/// The protocol whose flows are ever forgotten.
pub const PROTOCOL: Protocol = Protocol::Udp;

/// What a run of steps wants forgotten: tuples, each with the real servers whose flows stay.
#[derive(Debug, Default)]
pub struct StaleFlows<'a>(BTreeMap<VipPort, &'a BTreeSet<HostPort>>);

impl<'a> StaleFlows<'a> {
    /// Those that these steps are about.
    pub fn of(steps: &'a [Step]) -> Self {
        let wanted = steps.iter().filter_map(|step| match step {
            Step::ForgetFlows { vip, keep } => Some((*vip, keep)),
            _ => None,
        });
        Self(wanted.collect())
    }

    /// Whether any of this family is among them: it costs a dump.
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
