//! The desired state in kernel objects, kept up to date change by change.

use std::collections::{BTreeMap, BTreeSet};

use super::balance::{affinity_sets, chain_of};
use super::chain::ChainKey;
use super::tree::{Prefix, Tree};
use crate::dataplane::ClusterNetwork;
use crate::dataplane::policy::PolicySettings;
use crate::dataplane::policy::affinity::AffinitySet;
use crate::dataplane::policy::members::{has_serving, memberships, of_tuple, pods};
use crate::dataplane::policy::sets::{Member, SetKind};
use crate::model::{
    Family, Protocol, RealServerKey, RealServers, TrafficPolicy, VipPort, VirtualServer,
};
use crate::resolve::{Change, DesiredState};

/// Sets and chains that should be there.
#[derive(Debug, Clone, Default)]
pub struct Target {
    /// Shapes of rules; `None` when everything is to be removed.
    pub base: Option<TargetBase>,
    /// With the number of virtual servers that need each.
    pub members: BTreeMap<Member, usize>,
    pub affinity_sets: BTreeMap<AffinitySet, usize>,
    pub tree: Tree,
    /// Chains of Service ports, with the tuples that lead to each.
    users: BTreeMap<ChainKey, BTreeSet<VipPort>>,
    /// Virtual servers of each family.
    served: BTreeMap<Family, usize>,
}

/// What the constant rules depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetBase {
    pub settings: PolicySettings,
    pub network: ClusterNetwork,
}

/// The objects that one plan looks at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    pub members: BTreeSet<Member>,
    pub affinity_sets: BTreeSet<AffinitySet>,
    /// Chains of Service ports, and others of which only the name is known.
    pub chains: BTreeSet<ChainKey>,
    pub branches: BTreeSet<Prefix>,
    /// UDP tuples whose endpoints changed.
    pub flows: BTreeSet<VipPort>,
    /// Endpoints that went with their node, and the tuples that led to them.
    pub lost: BTreeMap<VipPort, BTreeSet<RealServerKey>>,
    /// Sets, constant rules, the root of the tree and sysctls too.
    pub base: bool,
}

impl crate::dataplane::Scope for Scope {
    fn base() -> Self {
        Self {
            base: true,
            ..Self::default()
        }
    }

    fn extend(&mut self, other: Self) {
        self.members.extend(other.members);
        self.affinity_sets.extend(other.affinity_sets);
        self.chains.extend(other.chains);
        self.branches.extend(other.branches);
        self.flows.extend(other.flows);
        for (vip, lost) in other.lost {
            self.lost.entry(vip).or_default().extend(lost);
        }
        self.base |= other.base;
    }
}

impl Target {
    /// The target that `desired` asks for. Costs all virtual servers.
    pub fn of(settings: PolicySettings, network: ClusterNetwork, desired: &DesiredState) -> Self {
        let mut target = Self {
            members: pods(&network).map(|member| (member, 1)).collect(),
            base: Some(TargetBase { settings, network }),
            ..Self::default()
        };
        let mut ignored = Scope::default();
        for (&vip, server) in desired.iter() {
            let new = Some(server);
            target.replace(
                Change {
                    vip,
                    old: None,
                    new,
                },
                &mut ignored,
            );
        }
        target
    }

    /// Takes one changed virtual server in. Costs its real servers and the way to it in the tree.
    pub fn replace(&mut self, change: Change<'_>, scope: &mut Scope) {
        let Change { vip, old, new } = change;
        let by = isize::from(new.is_some()) - isize::from(old.is_some());
        if by != 0 && adjust(&mut self.served, vip.family(), by) {
            // The first of a family, or the last: sysctls depend on it.
            scope.base = true;
        }
        // Counted up first: what both sides need must not be seen to vanish in between.
        for (server, by) in [(new, 1), (old, -1)] {
            if let Some(server) = server {
                self.count(vip, server, by, scope);
            }
        }
        self.lead(change, scope);
        let leads = new.is_some_and(is_balanced);
        scope.branches.extend(self.tree.set(vip, leads));
        // Where it leads may be another.
        scope.branches.extend(self.tree.listing(vip));
        if vip.protocol == Protocol::Udp && may_lead_astray(old, new) {
            scope.flows.insert(vip);
        }
        let lost: BTreeSet<RealServerKey> = match old {
            Some(old) => lost_by(old, new).collect(),
            // A client that came before the Service was in is led nowhere for as long as it tries from
            // that port: two minutes over TCP. What the tuple itself answers was never led.
            None if vip.protocol != Protocol::Udp => [RealServerKey {
                addr: vip.addr,
                port: vip.port,
            }]
            .into(),
            None => BTreeSet::new(),
        };
        if !lost.is_empty() {
            scope.lost.entry(vip).or_default().extend(lost);
        }
    }

    fn count(&mut self, vip: VipPort, server: &VirtualServer, by: isize, scope: &mut Scope) {
        for member in members(vip, server) {
            if adjust(&mut self.members, member, by) {
                scope.members.insert(member);
            }
        }
        for (_, real_servers) in served_by(vip.family(), server) {
            for set in affinity_sets(vip.family(), server, real_servers) {
                if adjust(&mut self.affinity_sets, set, by) {
                    scope.affinity_sets.insert(set);
                }
            }
        }
    }

    /// Notes which chains a tuple leads to now.
    fn lead(&mut self, change: Change<'_>, scope: &mut Scope) {
        let vip = change.vip;
        let chains = |server: Option<&VirtualServer>| -> BTreeSet<ChainKey> {
            let servers = server.into_iter();
            let chains = servers.flat_map(|server| served_by(vip.family(), server));
            chains.map(|(key, _)| key).collect()
        };
        let (old, new) = (chains(change.old), chains(change.new));
        for key in old.difference(&new) {
            if let Some(users) = self.users.get_mut(key) {
                users.remove(&vip);
                if users.is_empty() {
                    self.users.remove(key);
                }
            }
        }
        for key in &new {
            self.users.entry(*key).or_default().insert(vip);
        }
        scope.chains.extend(old);
        scope.chains.extend(new);
    }

    /// The tuples that lead to a chain.
    pub fn users(&self, key: ChainKey) -> impl Iterator<Item = VipPort> + '_ {
        self.users.get(&key).into_iter().flatten().copied()
    }

    /// Everything that is desired or there.
    pub fn everything(&self, observed: &super::Observed) -> Scope {
        let trees = Family::ALL.into_iter();
        Scope {
            members: self
                .members
                .keys()
                .chain(&observed.members)
                .copied()
                .collect(),
            affinity_sets: self
                .affinity_sets
                .keys()
                .chain(&observed.affinity_sets)
                .copied()
                .collect(),
            chains: self
                .users
                .keys()
                .chain(observed.chains.keys())
                .copied()
                .collect(),
            branches: trees.flat_map(|family| self.tree.chains(family)).collect(),
            flows: observed.owed_flows.clone(),
            lost: BTreeMap::new(),
            base: true,
        }
    }

    /// Whether any virtual server is of this family.
    pub fn serves(&self, family: Family) -> bool {
        self.served.contains_key(&family)
    }
}

/// Whether first packets are led anywhere.
fn is_balanced(server: &VirtualServer) -> bool {
    has_serving(&server.real_servers) || server.near.as_ref().is_some_and(has_serving)
}

/// Whether flows may be left that lead to nobody who serves: somebody ceased to, or nobody did.
fn may_lead_astray(old: Option<&VirtualServer>, new: Option<&VirtualServer>) -> bool {
    let serving = |server: Option<&VirtualServer>| -> BTreeSet<RealServerKey> {
        let all = server.map(|server| server.near.iter().chain([&server.real_servers]));
        let all = all.into_iter().flatten().flatten();
        let serving = all.filter(|(_, real)| !real.draining);
        serving.map(|(key, _)| *key).collect()
    };
    let (old, new) = (serving(old), serving(new));
    old.is_empty() != new.is_empty() || !old.is_subset(&new)
}

/// Endpoints that vanished while they were not ready: nothing is left that could finish a connection.
fn lost_by<'a>(
    old: &'a VirtualServer,
    new: Option<&'a VirtualServer>,
) -> impl Iterator<Item = RealServerKey> + 'a {
    let all = |server: &'a VirtualServer| server.near.iter().chain([&server.real_servers]);
    let listed = move |key: &RealServerKey| {
        let mut now = new.into_iter().flat_map(all);
        now.any(|servers| servers.contains_key(key))
    };
    let unready = all(old).flatten().filter(|(_, real)| real.unready);
    unready.map(|(key, _)| *key).filter(move |key| !listed(key))
}

/// The chains that a tuple leads to, with the endpoints of each: those for everybody, and those for
/// clients on this node.
pub fn served_by(
    family: Family,
    server: &VirtualServer,
) -> impl Iterator<Item = (ChainKey, &RealServers)> {
    let near = server.near.as_ref().filter(|near| has_serving(near));
    let near = near.map(|near| {
        let key = ChainKey::service(family, &server.owner, TrafficPolicy::Cluster);
        (key, near)
    });
    let all =
        has_serving(&server.real_servers).then(|| (chain_of(family, server), &server.real_servers));
    all.into_iter().chain(near)
}

fn members(vip: VipPort, server: &VirtualServer) -> impl Iterator<Item = Member> + '_ {
    let own = [
        is_balanced(server).then_some(SetKind::Balanced),
        server.near.is_some().then_some(SetKind::Split),
    ];
    let own = own.into_iter().flatten();
    own.map(move |set| of_tuple(set, vip))
        .chain(memberships(vip, server))
}

/// Counts up or down; true if the object appeared or vanished by it.
fn adjust<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K, by: isize) -> bool {
    let count = counts.get(&key).copied().unwrap_or(0);
    let next = count.saturating_add_signed(by);
    if next == 0 {
        counts.remove(&key);
    } else {
        counts.insert(key, next);
    }
    (count == 0) != (next == 0)
}
