//! The mirror: what the kernel holds of ours, as last read and as changed by our steps since.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use ipvs_sys::{Service, Timeouts};

use super::key::ServerKey;
use super::step::Step;
use crate::dataplane::Drains;
use crate::dataplane::policy::sets::{Element, Member, SetKind};
use crate::model::{Family, Moment, Protocol, RealServerKey, Thresholds, VipPort};
use crate::netfilter::ObservedRules;
use crate::routing::PolicyRule;

/// Kernel state, as far as it is ours or in our way.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Virtual servers that are ours.
    pub virtual_servers: BTreeMap<ServerKey, ObservedVirtualServer>,
    /// Where somebody else's virtual server stands. Never touched.
    pub foreign: BTreeSet<ServerKey>,
    pub members: BTreeSet<Member>,
    /// Routes in our table.
    pub routes: BTreeSet<IpNet>,
    /// UDP tuples whose conntrack entries may lead to real servers that are gone.
    pub owed_flows: BTreeSet<VipPort>,
    /// Virtual servers of which nobody knows whether they came into being.
    pub uncertain: BTreeSet<ServerKey>,
    pub base: Base,
    /// Drains since the start.
    pub drained: Drains,
    /// With a real server that drains.
    draining: BTreeSet<ServerKey>,
    /// With one whose weight grows.
    ramping: BTreeSet<ServerKey>,
    real_server_count: usize,
}

/// The objects that are the same for all Services.
#[derive(Debug, Clone, Default)]
pub struct Base {
    /// Families that this kernel has.
    pub families: BTreeSet<Family>,
    pub sets: BTreeSet<(SetKind, Family)>,
    pub rules: BTreeMap<Family, ObservedRules>,
    /// Policy rules of ours, an earlier run's with other settings among them.
    pub policy_rules: BTreeSet<(Family, PolicyRule)>,
    /// Routes of ours in other tables: an earlier run's.
    pub stray_routes: BTreeSet<(u32, IpNet)>,
    /// Values of the sysctls that matter, by name; absent ones do not exist on this kernel.
    pub sysctls: BTreeMap<&'static str, String>,
    /// `None` without IPVS.
    pub timeouts: Option<Timeouts>,
    /// Seconds for which conntrack keeps an established connection.
    pub conntrack_established: Option<u32>,
}

/// One virtual server in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedVirtualServer {
    pub service: Service,
    pub real_servers: BTreeMap<RealServerKey, ObservedRealServer>,
}

/// One real server in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObservedRealServer {
    pub weight: u32,
    /// Forwarded by masquerading, as all of ours are.
    pub masquerade: bool,
    pub thresholds: Thresholds,
    pub draining: Option<Draining>,
    /// When it joined others, for as long as its weight grows.
    pub ramps_since: Option<Moment>,
}

/// A real server that only finishes what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Draining {
    /// When its endpoint left the slices; `None` while it is still listed as terminating.
    pub gone_since: Option<Moment>,
    /// While it was listed last it was not ready.
    pub unready: bool,
    /// Connections, active and inactive, read after its weight became 0.
    pub connections: Option<u64>,
}

impl Drains {
    /// One that drained is deleted.
    fn ended(&mut self, draining: Option<Draining>) {
        match draining.map(|draining| draining.connections) {
            None => {}
            Some(Some(0)) => self.idle += 1,
            Some(_) => self.cut += 1,
        }
    }
}

impl Observed {
    /// Takes the success of a step in. One that contradicts the mirror (a real server added
    /// where no virtual server is) changes nothing; the audit will tell.
    pub fn record(&mut self, step: &Step, now: Moment) {
        match step {
            Step::SetSysctl(wanted) => {
                let value = wanted.value.to_owned();
                self.base.sysctls.insert(wanted.name, value);
            }
            Step::SetTimeouts(timeouts) => {
                self.base.timeouts = Some(*timeouts);
            }
            Step::CreateSet { set, family } => {
                self.base.sets.insert((*set, *family));
            }
            Step::DestroySet { set, family } => {
                self.base.sets.remove(&(*set, *family));
            }
            Step::WriteRules { family, after, .. } => {
                self.base.rules.insert(*family, after.clone());
            }
            Step::AddPolicyRule { family, rule } => {
                self.base.policy_rules.insert((*family, *rule));
            }
            Step::DelPolicyRule { family, rule } => {
                self.base.policy_rules.remove(&(*family, *rule));
            }
            Step::AddMember(member) => {
                // A tuple carries one mark: the new one takes the place of another.
                if let Element::Near { vip, .. } = member.element {
                    for old in self.near(vip) {
                        self.members.remove(&old);
                    }
                }
                self.members.insert(*member);
            }
            Step::DelMember(member) => {
                self.members.remove(member);
            }
            // The kernel lets them in by itself, should the agent not.
            Step::HoldClients(_) | Step::LetClientsIn(_) => {}
            Step::AddRoute(net) => {
                self.routes.insert(*net);
            }
            Step::DelRoute(net) => {
                self.routes.remove(net);
            }
            Step::DelStrayRoute { table, net } => {
                self.base.stray_routes.remove(&(*table, *net));
            }
            Step::AddVirtualServer(server, service) => {
                self.owe_flows(server);
                let made = ObservedVirtualServer {
                    service: service.clone(),
                    real_servers: BTreeMap::new(),
                };
                self.virtual_servers.insert(*server, made);
            }
            Step::SetVirtualServer(server, service) => {
                if let Some(have) = self.virtual_servers.get_mut(server) {
                    have.service = service.clone();
                }
            }
            Step::DelVirtualServer(server) => {
                self.owe_flows(server);
                if let Some(gone) = self.virtual_servers.remove(server) {
                    self.real_server_count -= gone.real_servers.len();
                    let drains = gone.real_servers.values().filter_map(|real| real.draining);
                    self.drained.deleted += drains.count() as u64;
                }
                self.draining.remove(server);
                self.ramping.remove(server);
            }
            Step::AddRealServer(server, key, share) | Step::SetRealServer(server, key, share) => {
                self.drained.returned += u64::from(self.draining_of(server, key).is_some());
                self.change_real_servers(server, |servers| {
                    let before = servers.get(key).and_then(|real| real.ramps_since);
                    let real = ObservedRealServer {
                        weight: share.weight,
                        masquerade: true,
                        thresholds: share.thresholds,
                        draining: None,
                        ramps_since: share.ramps.then(|| before.unwrap_or(now)),
                    };
                    servers.insert(*key, real);
                });
            }
            Step::DrainRealServer {
                server,
                real_server,
                listed,
                unready,
            } => {
                self.drained.begun += u64::from(self.draining_of(server, real_server).is_none());
                self.change_real_servers(server, |servers| {
                    if let Some(real) = servers.get_mut(real_server) {
                        real.weight = 0;
                        real.thresholds = Thresholds::default();
                        real.ramps_since = None;
                        let draining = real.draining.get_or_insert_default();
                        draining.gone_since = (!listed).then_some(now);
                        draining.unready = *unready;
                    }
                });
            }
            Step::DelRealServer(server, key) => {
                self.owe_flows(server);
                self.drained.ended(self.draining_of(server, key));
                self.change_real_servers(server, |servers| {
                    servers.remove(key);
                });
            }
            Step::ForgetFlows { vip, .. } => {
                self.owed_flows.remove(vip);
            }
        }
    }

    /// Leaves out of sight what the iptables dataplane uses too.
    pub fn spare_shared(&mut self) {
        let shared = |set: SetKind| SetKind::SHARED.contains(&set);
        self.base.sets.retain(|(set, _)| !shared(*set));
        self.members.retain(|member| !shared(member.set));
    }

    /// Owes the flows of all UDP tuples that are ours, or were until their virtual server went: an
    /// earlier run may have died before it paid.
    pub fn owe_all_flows(&mut self) {
        let served = |member: &&Member| matches!(member.set, SetKind::Owned | SetKind::NearFlows);
        let marked = self.members.iter().filter(served).filter_map(Member::vip);
        let tuples = marked.chain(self.virtual_servers.keys().filter_map(ServerKey::tuple));
        self.owed_flows = tuples.filter(|vip| vip.protocol == Protocol::Udp).collect();
    }

    /// Notes that flows of a UDP tuple may lead elsewhere than its real servers are now. Those of a
    /// virtual server by mark are noted when they are planned: only the plan knows its tuples.
    fn owe_flows(&mut self, server: &ServerKey) {
        let tuple = server.tuple();
        let udp = tuple.filter(|vip| vip.protocol == Protocol::Udp);
        self.owed_flows.extend(udp);
    }

    fn draining_of(&self, server: &ServerKey, real: &RealServerKey) -> Option<Draining> {
        let server = self.virtual_servers.get(server)?;
        server.real_servers.get(real)?.draining
    }

    /// Whether clients on this node find a tuple's virtual server by a mark.
    pub fn is_marked(&self, vip: VipPort) -> bool {
        !self.near(vip).is_empty()
    }

    /// The entries that give a tuple's packets a mark; at most one.
    fn near(&self, vip: VipPort) -> Vec<Member> {
        let entry = |mark| Member {
            set: SetKind::Near,
            element: Element::Near { vip, mark },
        };
        let entries = self.members.range(entry(0)..=entry(u32::MAX));
        entries.copied().collect()
    }

    /// Real servers that drain. Costs the virtual servers that have one.
    pub fn drains(&self) -> impl Iterator<Item = (ServerKey, RealServerKey, Draining)> {
        self.draining.iter().flat_map(|key| {
            let reals = self.virtual_servers.get(key).into_iter();
            let reals = reals.flat_map(|server| &server.real_servers);
            reals.filter_map(|(real, state)| Some((*key, *real, state.draining?)))
        })
    }

    /// Virtual servers with a draining real server.
    pub fn draining(&self) -> &BTreeSet<ServerKey> {
        &self.draining
    }

    /// Virtual servers with a real server whose weight grows.
    pub fn ramping(&self) -> &BTreeSet<ServerKey> {
        &self.ramping
    }

    /// Real servers of all virtual servers that are ours.
    pub fn real_server_count(&self) -> usize {
        self.real_server_count
    }

    /// Puts a virtual server in as it was read, in place of what was known of it.
    pub fn put_virtual_server(&mut self, key: ServerKey, server: ObservedVirtualServer) {
        self.real_server_count += server.real_servers.len();
        let previous = self.virtual_servers.insert(key, server);
        self.real_server_count -= previous.map_or(0, |server| server.real_servers.len());
        self.index(key);
    }

    fn change_real_servers(
        &mut self,
        key: &ServerKey,
        change: impl FnOnce(&mut BTreeMap<RealServerKey, ObservedRealServer>),
    ) {
        let Some(server) = self.virtual_servers.get_mut(key) else {
            return;
        };
        self.real_server_count -= server.real_servers.len();
        change(&mut server.real_servers);
        self.real_server_count += server.real_servers.len();
        self.index(*key);
    }

    /// Notes whether a virtual server waits for something.
    fn index(&mut self, key: ServerKey) {
        let Some(server) = self.virtual_servers.get(&key) else {
            return;
        };
        let any = |what: fn(&ObservedRealServer) -> bool| server.real_servers.values().any(what);
        for (set, holds) in [
            (&mut self.draining, any(|real| real.draining.is_some())),
            (&mut self.ramping, any(|real| real.ramps_since.is_some())),
        ] {
            if holds {
                set.insert(key);
            } else {
                set.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::convert;
    use super::super::share::Share;
    use super::*;

    /// One that goes without ever draining is none.
    #[test]
    fn drains_are_counted_by_how_they_end() {
        let vip: VipPort = "192.0.2.1:80/TCP".parse().unwrap();
        let server = ServerKey::from(vip);
        let service = Service::new(convert::service_key(server), "rr".parse().unwrap());
        let real = |n: u8| RealServerKey {
            addr: [10, 0, 0, n].into(),
            port: 8080,
        };
        let mut observed = Observed::default();
        let mut act = |step: Step, connections: Option<u64>| {
            let servers = observed.virtual_servers.get_mut(&server);
            let reals = servers.map(|server| server.real_servers.values_mut());
            let drains = reals.into_iter().flatten();
            for draining in drains.filter_map(|real| real.draining.as_mut()) {
                draining.connections = connections;
            }
            observed.record(&step, Moment::default());
            observed.drained
        };
        let drain = |n, listed| Step::DrainRealServer {
            server,
            real_server: real(n),
            listed,
            unready: false,
        };
        let share = Share {
            weight: 1,
            ..Share::NONE
        };
        act(Step::AddVirtualServer(server, service), None);
        for n in 1..=5 {
            act(Step::AddRealServer(server, real(n), share), None);
        }
        act(Step::DelRealServer(server, real(5)), None);
        // Its endpoint terminates, and then is gone: that is one drain.
        act(drain(1, true), None);
        act(drain(1, false), Some(3));
        act(Step::DelRealServer(server, real(1)), Some(0));
        act(drain(2, true), None);
        act(Step::DelRealServer(server, real(2)), Some(7));
        act(drain(3, true), None);
        act(Step::SetRealServer(server, real(3), share), Some(1));
        act(drain(4, true), None);
        let drained = act(Step::DelVirtualServer(server), None);
        let wanted = Drains {
            begun: 4,
            idle: 1,
            cut: 1,
            deleted: 1,
            returned: 1,
        };
        assert_eq!(drained, wanted);
    }
}
