//! The desired state in kernel objects that several virtual servers may share, counted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::key::ServerKey;
use super::marks::Marks;
use super::members::{OfServer, memberships, route_of};
use super::{Observed, Settings};
use crate::dataplane::policy::members::pods;
use crate::dataplane::policy::sets::Member;
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
    /// Virtual servers for clients on this node, by mark.
    near: BTreeMap<ServerKey, Near>,
    marks: Marks,
    /// Virtual servers of each family.
    served: BTreeMap<Family, usize>,
}

/// What clients on this node meet in place of the virtual server of a tuple.
#[derive(Debug, Clone)]
pub struct Near {
    pub server: VirtualServer,
    /// The tuples of one Service port that share it.
    pub tuples: BTreeSet<VipPort>,
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
    pub servers: BTreeSet<ServerKey>,
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
        self.servers.extend(other.servers);
        self.members.extend(other.members);
        self.routes.extend(other.routes);
        self.base |= other.base;
    }
}

impl Target {
    /// The target of an agent that has no Services yet. VIPs inside a service CIDR share its
    /// route; every other VIP has one of its own.
    pub fn new(settings: Settings, network: ClusterNetwork) -> Self {
        let pods = pods(&network).map(|member| (member, 1)).collect();
        let routes = network.service_cidrs.iter().map(|net| (*net, 1)).collect();
        Self {
            marks: Marks::new(settings.near_marks, settings.route_mark),
            near: BTreeMap::new(),
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
            marks: Marks::new(0, 0),
            near: BTreeMap::new(),
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
        scope.servers.insert(change.vip.into());
        let by = isize::from(change.new.is_some()) - isize::from(change.old.is_some());
        if by != 0 && adjust(&mut self.served, change.vip.family(), by) {
            // The first of a family, or the last: sysctls depend on it.
            scope.base = true;
        }
        // Counted up first: what both sides need must not be seen to vanish in between.
        if let Some(server) = change.new {
            if server.near.is_some() {
                self.marks.acquire(&server.owner);
            }
            self.put_near(change.vip, server, scope);
            self.count(change.vip, server, scope, 1);
        }
        if let Some(server) = change.old {
            self.count(change.vip, server, scope, -1);
            if server.near.is_some() {
                self.remove_near(change, server, scope);
                self.marks.release(&server.owner);
            }
        }
    }

    /// What clients on this node are to meet at a mark.
    pub fn near(&self, key: &ServerKey) -> Option<&Near> {
        self.near.get(key)
    }

    /// By what clients on this node find a tuple's virtual server, if it is another one for them.
    pub fn near_key(&self, vip: VipPort, server: &VirtualServer) -> Option<ServerKey> {
        let mark = server
            .near
            .as_ref()
            .and_then(|_| self.marks.get(&server.owner))?;
        Some(ServerKey::Mark {
            family: vip.family(),
            mark,
        })
    }

    /// All tuples of one port ask for the same; the last one's wish stands for all.
    fn put_near(&mut self, vip: VipPort, server: &VirtualServer, scope: &mut Scope) {
        let Some((key, real_servers)) = self.near_key(vip, server).zip(server.near.clone()) else {
            return;
        };
        let server = VirtualServer {
            real_servers,
            near: None,
            ..server.clone()
        };
        let ownership = Member::ownership(key);
        if adjust(&mut self.members, ownership, 1) {
            scope.members.insert(ownership);
        }
        scope.servers.insert(key);
        let near = self.near.entry(key).or_insert_with(|| Near {
            server: server.clone(),
            tuples: BTreeSet::new(),
        });
        near.server = server;
        near.tuples.insert(vip);
    }

    fn remove_near(&mut self, change: Change<'_>, old: &VirtualServer, scope: &mut Scope) {
        let Some(key) = self.near_key(change.vip, old) else {
            return;
        };
        let ownership = Member::ownership(key);
        if adjust(&mut self.members, ownership, -1) {
            scope.members.insert(ownership);
        }
        let stays = change
            .new
            .is_some_and(|new| new.near.is_some() && new.owner == old.owner);
        if stays {
            return;
        }
        scope.servers.insert(key);
        if let Some(near) = self.near.get_mut(&key) {
            near.tuples.remove(&change.vip);
            if near.tuples.is_empty() {
                self.near.remove(&key);
            }
        }
    }

    /// Everything that is desired or there.
    pub fn everything(&self, desired: &DesiredState, observed: &Observed) -> Scope {
        let servers = desired.iter().map(|(vip, _)| ServerKey::from(*vip));
        let owed = observed.owed_flows.iter().copied().map(ServerKey::from);
        Scope {
            servers: servers
                .chain(self.near.keys().copied())
                .chain(observed.virtual_servers.keys().copied())
                .chain(owed)
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
        let mark = self.marks.get(&server.owner);
        for member in memberships(vip, server, mark) {
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
