//! Services that keep to endpoints of this node where there is none: what operators watch for when
//! they set a `Local` traffic policy. Counted as Services come and go, at the cost of the one that does.

use std::collections::{BTreeMap, BTreeSet};

use super::Resolved;
use crate::model::{
    Family, ObjectName, ServiceSpec, TrafficPolicy, Unserved, VipPort, VirtualServer,
};

/// Traffic of one kind that meets nobody here, though others serve the Service elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Absence {
    /// Under `externalTrafficPolicy`; if not, under `internalTrafficPolicy`.
    pub external: bool,
    pub family: Family,
}

impl Absence {
    /// Every kind that there is.
    pub fn all() -> impl Iterator<Item = Self> {
        let families = Family::ALL.into_iter();
        families.flat_map(|family| [false, true].map(|external| Self { external, family }))
    }
}

/// Which Services lack endpoints here, and how many.
#[derive(Debug, Clone, Default)]
pub struct NoLocal {
    services: BTreeMap<ObjectName, BTreeSet<Absence>>,
    counts: BTreeMap<Absence, usize>,
}

impl NoLocal {
    /// Number of Services that lack endpoints here for such traffic.
    pub fn count(&self, absence: Absence) -> usize {
        self.counts.get(&absence).copied().unwrap_or_default()
    }

    /// Takes what a Service lacks now in place of what it lacked before.
    pub(super) fn replace(&mut self, service: &ObjectName, lacks: BTreeSet<Absence>) {
        for absence in &lacks {
            *self.counts.entry(*absence).or_default() += 1;
        }
        let before = if lacks.is_empty() {
            self.services.remove(service)
        } else {
            self.services.insert(service.clone(), lacks)
        };
        for absence in before.unwrap_or_default() {
            if let Some(count) = self.counts.get_mut(&absence) {
                *count = count.saturating_sub(1);
            }
        }
    }
}

/// What a Service lacks on this node. One port that does is enough, and a port that nobody serves
/// anywhere lacks nothing.
pub(super) fn lacking(spec: &ServiceSpec, resolved: &Resolved) -> BTreeSet<Absence> {
    let lacks = |(vip, server): (&VipPort, &VirtualServer)| {
        let external = server.kind.is_external();
        let policy = if external {
            spec.external_traffic_policy
        } else {
            spec.internal_traffic_policy
        };
        let served = server.real_servers.values().any(|real| !real.draining);
        let lacks = policy == TrafficPolicy::Local && server.unserved == Unserved::Drop && !served;
        lacks.then(|| Absence {
            external,
            family: vip.family(),
        })
    };
    resolved.virtual_servers.iter().filter_map(lacks).collect()
}
