//! What all Services together ask for. Two that claim one address and port have one winner.

use std::collections::{BTreeMap, BTreeSet};

use super::Resolved;
use super::no_local::{NoLocal, lacking};
use crate::model::{ObjectName, ServiceSpec, VipPort, VirtualServer};

/// Order of precedence between Services that claim one tuple: the oldest, then by uid and name.
type Precedence = (i64, Box<str>, ObjectName);

/// The desired virtual servers, with every claim on each tuple.
#[derive(Debug, Clone, Default)]
pub struct DesiredState {
    claims: BTreeMap<VipPort, BTreeMap<Precedence, VirtualServer>>,
    services: BTreeMap<ObjectName, (Precedence, Vec<VipPort>)>,
    no_local: NoLocal,
}

/// One tuple whose winning virtual server changed.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    pub vip: VipPort,
    pub old: Option<&'a VirtualServer>,
    pub new: Option<&'a VirtualServer>,
}

/// A Service that asked for a tuple which an older one holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostClaim {
    pub vip: VipPort,
    pub winner: ObjectName,
}

impl DesiredState {
    /// The virtual server that a tuple should have.
    pub fn virtual_server(&self, vip: &VipPort) -> Option<&VirtualServer> {
        self.claims
            .get(vip)
            .and_then(|claims| claims.values().next())
    }

    /// The Services that ask for a tuple, the winner first.
    pub fn claimants(&self, vip: &VipPort) -> impl Iterator<Item = &ObjectName> {
        let claims = self.claims.get(vip).into_iter().flatten();
        claims.map(|(_, server)| &server.owner.service)
    }

    /// Services that lack endpoints on this node.
    pub fn no_local(&self) -> &NoLocal {
        &self.no_local
    }

    /// All tuples with their virtual servers, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&VipPort, &VirtualServer)> {
        self.claims
            .iter()
            .filter_map(|(vip, claims)| claims.values().next().map(|server| (vip, server)))
    }

    /// Number of virtual servers.
    pub fn len(&self) -> usize {
        self.claims.len()
    }

    /// Nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    /// Takes what a Service asks for now in place of what it asked for before. Costs the size of
    /// that Service. `on_change` hears of each tuple whose winner differs.
    pub fn replace(
        &mut self,
        service: &ObjectName,
        spec: &ServiceSpec,
        resolved: Resolved,
        on_change: &mut dyn FnMut(Change<'_>),
    ) -> Vec<LostClaim> {
        let precedence = (spec.created_seconds, spec.uid.clone(), service.clone());
        self.no_local.replace(service, lacking(spec, &resolved));
        let mut wanted = resolved.virtual_servers;
        let tuples: Vec<VipPort> = wanted.keys().copied().collect();
        let previous = if tuples.is_empty() {
            self.services.remove(service)
        } else {
            self.services
                .insert(service.clone(), (precedence.clone(), tuples.clone()))
        };
        let (old_precedence, old_tuples) = previous.unwrap_or((precedence.clone(), Vec::new()));

        for &vip in &old_tuples {
            self.swap(
                vip,
                &old_precedence,
                &precedence,
                wanted.remove(&vip),
                on_change,
            );
        }
        for (vip, server) in wanted {
            self.swap(vip, &old_precedence, &precedence, Some(server), on_change);
        }
        tuples
            .into_iter()
            .filter_map(|vip| {
                let winner = self.virtual_server(&vip)?.owner.service.clone();
                (winner != *service).then_some(LostClaim { vip, winner })
            })
            .collect()
    }

    /// Forgets a Service that is gone.
    pub fn remove(&mut self, service: &ObjectName, on_change: &mut dyn FnMut(Change<'_>)) {
        let Some((precedence, tuples)) = self.services.remove(service) else {
            return;
        };
        self.no_local.replace(service, BTreeSet::new());
        for vip in tuples {
            self.swap(vip, &precedence, &precedence, None, on_change);
        }
    }

    /// Replaces one Service's claim on one tuple.
    fn swap(
        &mut self,
        vip: VipPort,
        old_key: &Precedence,
        new_key: &Precedence,
        server: Option<VirtualServer>,
        on_change: &mut dyn FnMut(Change<'_>),
    ) {
        let claims = self.claims.entry(vip).or_default();
        let winner_was_ours = claims.keys().next() == Some(old_key);
        let old = claims.remove(old_key);
        // A claim that wins only now displaces the one that stands first at this moment.
        let displaced = if winner_was_ours {
            None
        } else {
            claims.values().next().cloned()
        };
        if let Some(server) = server {
            claims.insert(new_key.clone(), server);
        }
        let before = if winner_was_ours {
            old.as_ref()
        } else {
            displaced.as_ref()
        };
        let after = claims.values().next();
        if before != after {
            on_change(Change {
                vip,
                old: before,
                new: after,
            });
        }
        if claims.is_empty() {
            self.claims.remove(&vip);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::model::{
        Protocol, Scheduler, ServicePortName, TrafficPolicy, Tuning, Unserved, VipKind,
    };

    fn asks(service: &ObjectName, vip: &str, scheduler: &str) -> Resolved {
        let server = VirtualServer {
            owner: ServicePortName {
                service: service.clone(),
                port: "".into(),
                protocol: Protocol::Tcp,
            },
            kind: VipKind::ExternalIp,
            scheduler: Scheduler::named(scheduler),
            persistence: None,
            tuning: Tuning::default(),
            policy: TrafficPolicy::default(),
            real_servers: BTreeMap::new(),
            near: None,
            unserved: Unserved::Refuse,
            health_check_node_port: 0,
            source_ranges: BTreeSet::new(),
        };
        Resolved {
            virtual_servers: BTreeMap::from([(vip.parse().unwrap(), server)]),
            ..Resolved::default()
        }
    }

    fn created(seconds: i64) -> ServiceSpec {
        ServiceSpec {
            created_seconds: seconds,
            ..ServiceSpec::default()
        }
    }

    const VIP: &str = "192.0.2.1:80/TCP";

    #[test]
    fn the_oldest_claim_wins_whatever_the_order_of_arrival() {
        let (old, young) = (ObjectName::new("a", "old"), ObjectName::new("a", "young"));
        let mut state = DesiredState::default();
        let mut changes = Vec::new();
        let mut note = |c: Change<'_>| {
            let name = |s: Option<&VirtualServer>| s.map(|s| s.owner.service.name.to_string());
            changes.push((name(c.old), name(c.new)));
        };
        assert!(
            state
                .replace(&young, &created(20), asks(&young, VIP, "rr"), &mut note)
                .is_empty()
        );
        assert!(
            state
                .replace(&old, &created(10), asks(&old, VIP, "rr"), &mut note)
                .is_empty()
        );
        let lost = state.replace(&young, &created(20), asks(&young, VIP, "lc"), &mut note);
        assert_eq!(
            lost,
            [LostClaim {
                vip: VIP.parse().unwrap(),
                winner: old.clone()
            }]
        );
        state.remove(&old, &mut note);
        state.remove(&young, &mut note);
        let some = |s: &str| Some(s.to_owned());
        assert_eq!(
            changes,
            [
                (None, some("young")),
                (some("young"), some("old")),
                (some("old"), some("young")),
                (some("young"), None),
            ]
        );
        assert!(state.is_empty());
    }

    #[test]
    fn a_repeated_claim_is_no_change() {
        let name = ObjectName::new("a", "s");
        let mut state = DesiredState::default();
        state.replace(&name, &created(1), asks(&name, VIP, "rr"), &mut |_| {});
        let mut changes = 0;
        state.replace(&name, &created(1), asks(&name, VIP, "rr"), &mut |_| {
            changes += 1;
        });
        assert_eq!(changes, 0);
        state.replace(&name, &created(1), asks(&name, VIP, "wlc"), &mut |_| {
            changes += 1;
        });
        assert_eq!(changes, 1);
    }
}
