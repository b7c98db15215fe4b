//! The desired state in kernel objects that several virtual servers may share, counted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::sets::{Element, Member, SetKind, memberships, route_of};
use super::{Observed, Settings};
use crate::dataplane::{self, ClusterNetwork};
use crate::model::{Family, VipPort, VirtualServer};
use crate::resolve::{Change, DesiredState};

/// Sets and routes that should be there, with the number of virtual servers that need each.
#[derive(Debug, Clone)]
pub struct Target {
    /// Shapes of rules and sets; `None` when everything is to be removed.
    pub base: Option<TargetBase>,
    pub members: BTreeMap<Member, usize>,
    pub routes: BTreeMap<IpNet, usize>,
    /// Virtual servers of each family.
    served: BTreeMap<Family, usize>,
}

/// What the constant objects depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetBase {
    pub settings: Settings,
    pub network: ClusterNetwork,
}

/// The objects that one plan looks at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    pub vips: BTreeSet<VipPort>,
    pub members: BTreeSet<Member>,
    pub routes: BTreeSet<IpNet>,
    /// Sets, rules, the policy rule and sysctls too.
    pub base: bool,
}

impl dataplane::Scope for Scope {
    fn base() -> Self {
        Self {
            base: true,
            ..Self::default()
        }
    }

    fn extend(&mut self, other: Self) {
        self.vips.extend(other.vips);
        self.members.extend(other.members);
        self.routes.extend(other.routes);
        self.base |= other.base;
    }
}

impl Target {
    /// The target of an agent that has no Services yet. VIPs inside a service CIDR share its
    /// route; every other VIP has one of its own.
    pub fn new(settings: Settings, network: ClusterNetwork) -> Self {
        let pods = network
            .pod_cidrs
            .iter()
            .map(|net| {
                (
                    Member {
                        set: SetKind::Pods,
                        element: Element::Net(*net),
                    },
                    1,
                )
            })
            .collect();
        let routes = network.service_cidrs.iter().map(|net| (*net, 1)).collect();
        Self {
            base: Some(TargetBase { settings, network }),
            members: pods,
            routes,
            served: BTreeMap::new(),
        }
    }

    /// The target of `cleanup`: nothing at all.
    pub fn nothing() -> Self {
        Self {
            base: None,
            members: BTreeMap::new(),
            routes: BTreeMap::new(),
            served: BTreeMap::new(),
        }
    }

    /// The target that `desired` asks for, counted afresh: for a change of settings or of
    /// service CIDRs. Costs all virtual servers.
    pub fn of(settings: Settings, network: ClusterNetwork, desired: &DesiredState) -> Self {
        let mut target = Self::new(settings, network);
        let mut ignored = Scope::default();
        for (&vip, server) in desired.iter() {
            target.replace(
                Change {
                    vip,
                    old: None,
                    new: Some(server),
                },
                &mut ignored,
            );
        }
        target
    }

    /// Takes one changed virtual server in. Costs its real servers.
    pub fn replace(&mut self, change: Change<'_>, scope: &mut Scope) {
        scope.vips.insert(change.vip);
        let by = isize::from(change.new.is_some()) - isize::from(change.old.is_some());
        if by != 0 && adjust(&mut self.served, change.vip.family(), by) {
            // The first of a family, or the last: sysctls depend on it.
            scope.base = true;
        }
        // Counted up first: what both sides need must not be seen to vanish in between.
        if let Some(server) = change.new {
            self.count(change.vip, server, scope, 1);
        }
        if let Some(server) = change.old {
            self.count(change.vip, server, scope, -1);
        }
    }

    /// Everything that is desired or there.
    pub fn everything(&self, desired: &DesiredState, observed: &Observed) -> Scope {
        let servers = desired.iter().map(|(vip, _)| *vip);
        Scope {
            vips: servers
                .chain(observed.virtual_servers.keys().copied())
                .chain(observed.owed_flows.iter().copied())
                .collect(),
            members: self
                .members
                .keys()
                .chain(&observed.members)
                .copied()
                .collect(),
            routes: self
                .routes
                .keys()
                .chain(&observed.routes)
                .copied()
                .collect(),
            base: true,
        }
    }

    /// Whether any virtual server is of this family.
    pub fn serves(&self, family: Family) -> bool {
        self.served.contains_key(&family)
    }

    fn count(&mut self, vip: VipPort, server: &VirtualServer, scope: &mut Scope, by: isize) {
        for member in memberships(vip, server) {
            if adjust(&mut self.members, member, by) {
                scope.members.insert(member);
            }
        }
        if let Some(addr) = route_of(vip, server)
            && !self.in_service_cidr(addr)
        {
            let net = host_net(addr);
            if adjust(&mut self.routes, net, by) {
                scope.routes.insert(net);
            }
        }
    }
}

impl Target {
    fn in_service_cidr(&self, addr: IpAddr) -> bool {
        let cidrs = self
            .base
            .iter()
            .flat_map(|base| &base.network.service_cidrs);
        cidrs.into_iter().any(|cidr| cidr.contains(&addr))
    }
}

/// The /32 or /128 of an address.
pub fn host_net(addr: IpAddr) -> IpNet {
    IpNet::new_assert(addr, Family::of(addr).host_prefix())
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
