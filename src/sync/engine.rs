//! What the agent knows and wants, and the plan between them. Pure but for what it is handed.
//!
//! One path for everything: `plan` over the scope that events have touched, or over everything.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::place::{Moved, Place, PlaceConfig};
use crate::cluster::{Event, Index};
use crate::dataplane::{ClusterNetwork, Dataplane};
use crate::explain::Facts;
use crate::model::{
    HealthCheck, HealthCheckChange, Moment, Named, NodeNetwork, ObjectName, Problem, Reason,
    Scheduler, VipKind, VipPort, VirtualServer,
};
use crate::resolve::desired::LostClaim;
use crate::resolve::{Change, DesiredState, Policy, Resolved, View, resolve};

/// Settings of the engine that come from the command line.
#[derive(Debug, Clone)]
pub struct EngineConfig<S> {
    pub node_name: String,
    pub policy: Policy,
    pub settings: S,
    /// Used in place of ServiceCIDR objects where any are given.
    pub service_cidrs: BTreeSet<ipnet::IpNet>,
    /// Used in place of the node's own pod CIDRs where any are given.
    pub pod_cidrs: BTreeSet<ipnet::IpNet>,
    pub place: PlaceConfig,
}

impl<S> EngineConfig<S> {
    /// The same for a dataplane with other settings.
    pub fn with_settings<T>(self, settings: T) -> EngineConfig<T> {
        EngineConfig {
            node_name: self.node_name,
            policy: self.policy,
            settings,
            service_cidrs: self.service_cidrs,
            pod_cidrs: self.pod_cidrs,
            place: self.place,
        }
    }
}

/// Knowledge and wishes of one agent.
pub struct Engine<D: Dataplane> {
    config: EngineConfig<D::Settings>,
    index: Index,
    place: Place,
    desired: DesiredState,
    target: D::Target,
    network: ClusterNetwork,
    observed: Option<D::Observed>,
    complaints: BTreeMap<ObjectName, Complaint>,
    /// How many Services have a complaint of each kind.
    refused: BTreeMap<Reason, usize>,
    health_checks: BTreeMap<ObjectName, HealthCheck>,
    started: bool,
}

/// A Service of which something is wrong, or right again (no complaints).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    pub service: ObjectName,
    /// `metadata.uid`; empty once the Service is gone.
    pub uid: Box<str>,
    pub problems: Vec<Problem>,
}

impl Complaint {
    fn reasons(&self) -> BTreeSet<Reason> {
        self.problems.iter().map(|problem| problem.reason).collect()
    }
}

/// None for any reason that a Service itself can give.
fn refused_for_reasons() -> BTreeMap<Reason, usize> {
    Reason::OF_MEANING.map(|reason| (reason, 0)).into()
}

/// What one Service wants told to the outside.
#[derive(Default)]
struct Told {
    uid: Box<str>,
    problems: Vec<Problem>,
    health_check: Option<HealthCheck>,
}

/// What a round of resolving touched.
pub struct Resolution<S> {
    pub scope: S,
    pub services: usize,
    /// Complaints that are new or gone since the last round.
    pub complaints: Vec<Complaint>,
    /// Health checks that changed.
    pub health_checks: Vec<HealthCheckChange>,
    /// Tuples that are somebody else's now.
    pub renamed: Vec<Named>,
}

impl<D: Dataplane> Engine<D> {
    /// An engine that knows nothing yet.
    pub fn new(config: EngineConfig<D::Settings>) -> Self {
        let network = ClusterNetwork {
            service_cidrs: config.service_cidrs.clone(),
            pod_cidrs: config.pod_cidrs.clone(),
            node_pod_cidrs: BTreeSet::new(),
        };
        let desired = DesiredState::default();
        Self {
            index: Index::new(&config.node_name),
            place: Place::new(config.place.clone()),
            target: D::target(&config.settings, &network, &desired),
            network,
            desired,
            observed: None,
            complaints: BTreeMap::new(),
            refused: refused_for_reasons(),
            health_checks: BTreeMap::new(),
            started: false,
            config,
        }
    }

    /// Takes one event in.
    pub fn take(&mut self, event: Event) {
        self.index.apply(event);
    }

    pub fn node_name(&self) -> &str {
        &self.config.node_name
    }

    pub fn index(&self) -> &Index {
        &self.index
    }

    /// What all Services together ask for.
    pub fn desired(&self) -> &DesiredState {
        &self.desired
    }

    /// How many Services are refused in part, by the reason.
    pub fn refused(&self) -> &BTreeMap<Reason, usize> {
        &self.refused
    }

    pub fn target(&self) -> &D::Target {
        &self.target
    }

    pub fn observed(&self) -> Option<&D::Observed> {
        self.observed.as_ref()
    }

    /// The mirror, for the shell that reads and writes the kernel.
    pub fn observed_mut(&mut self) -> &mut Option<D::Observed> {
        &mut self.observed
    }

    /// What explanations go by. Costs the virtual servers that are somebody else's.
    pub fn facts(&self) -> Facts<'_> {
        let node = self.index.node();
        let own = self
            .place
            .own_addresses()
            .chain(node.addresses.iter().copied());
        Facts {
            dataplane: D::name(),
            node,
            own_addresses: own.collect(),
            node_port_addresses: self.place.node_ports(),
            reserved: self.place.reserved(),
            policy: &self.config.policy,
            desired: &self.desired,
            foreign: self.observed.iter().flat_map(D::foreign).collect(),
            network: &self.network,
            settings: D::policy(&self.config.settings),
        }
    }

    /// Says where the node stands. What follows from it is part of the next resolving.
    pub fn set_node_network(&mut self, network: NodeNetwork) {
        self.place.set_network(network);
    }

    /// Addresses that NodePorts answer on.
    pub fn node_port_addresses(&self) -> &BTreeSet<IpAddr> {
        self.place.node_ports()
    }

    /// Marks the Services dirty that the node's place has a new meaning for.
    fn settle_place(&mut self) {
        let moved = self.place.settle(&self.index, &self.network.service_cidrs);
        if moved != Moved::default() {
            self.index.mark_dirty(|spec| {
                let claims = !spec.external_ips.is_empty() || !spec.load_balancer_ips.is_empty();
                let node_ports = spec.ports.iter().any(|port| port.node_port != 0);
                moved.endpoints || (moved.claims && claims) || (moved.node_ports && node_ports)
            });
        }
    }

    /// Resolves the dirty Services. `only` narrows it to some of them, for what must come first.
    pub fn resolve_dirty(
        &mut self,
        only: Option<&dyn Fn(&ObjectName) -> bool>,
    ) -> Resolution<D::Scope> {
        let mut scope = D::Scope::default();
        let (mut complaints, mut health_checks) = (Vec::new(), Vec::new());
        let mut renamed = Vec::new();
        self.settle_place();
        let (now, later): (BTreeSet<_>, BTreeSet<_>) = self
            .index
            .take_dirty()
            .into_iter()
            .partition(|name| only.is_none_or(|wanted| wanted(name)));
        self.index.mark_again(later);
        let mut services = 0;
        let mut todo = now;
        while let Some(name) = todo.pop_first() {
            services += 1;
            let told = self.resolve_one(&name, &mut scope, &mut renamed);
            complaints.extend(self.complain(&name, &told));
            health_checks.extend(self.check_health(name, told));
            if only.is_none() {
                // Those that won or lost a tuple by this one: they ask for what they asked before,
                // so that touches nobody again.
                todo.extend(self.index.take_dirty());
            }
            if only.is_none() && todo.is_empty() {
                // An address of an interface may have become a Service's.
                self.settle_place();
                todo.extend(self.index.take_dirty());
            }
        }
        Resolution {
            scope,
            services,
            complaints,
            health_checks,
            renamed,
        }
    }

    /// Takes changed service and pod CIDRs over. True if everything has to be planned anew.
    pub fn refresh_network(&mut self) -> bool {
        if !self.index.take_network_changed() {
            return false;
        }
        let or = |configured: &BTreeSet<ipnet::IpNet>, known: BTreeSet<ipnet::IpNet>| {
            if configured.is_empty() {
                known
            } else {
                configured.clone()
            }
        };
        let pods: BTreeSet<_> = self.index.node().pod_cidrs.iter().copied().collect();
        let network = ClusterNetwork {
            service_cidrs: or(
                &self.config.service_cidrs,
                self.index.service_cidrs().clone(),
            ),
            pod_cidrs: or(&self.config.pod_cidrs, pods.clone()),
            node_pod_cidrs: pods,
        };
        if network == self.network {
            return false;
        }
        self.network = network;
        self.target = D::target(&self.config.settings, &self.network, &self.desired);
        true
    }

    /// Whose each tuple is. Costs all virtual servers.
    pub fn names(&self) -> impl Iterator<Item = Named> {
        let servers = self.desired.iter();
        servers.map(|(vip, server)| named::<D>(&self.target, *vip, Some(server)))
    }

    /// The scope of an audit: all that is desired or there.
    pub fn everything(&self) -> Option<D::Scope> {
        let observed = self.observed.as_ref()?;
        Some(D::everything(&self.desired, &self.target, observed))
    }

    /// The scope in which steps after a reading mean that somebody else changed the kernel.
    pub fn settled(&self) -> Option<D::Scope> {
        let observed = self.observed.as_ref()?;
        Some(D::settled(&self.desired, &self.target, observed))
    }

    /// The steps that `scope` needs; none before the kernel has been observed.
    pub fn plan(&self, scope: &D::Scope, now: Moment) -> Vec<D::Step> {
        let Some(observed) = &self.observed else {
            return Vec::new();
        };
        D::plan(&self.desired, &self.target, observed, scope, now)
    }

    /// Notes that everything has been tried once.
    pub fn set_started(&mut self) {
        self.started = true;
    }

    /// Whether everything has been tried once since the start.
    pub fn started(&self) -> bool {
        self.started
    }

    /// Takes note of schedulers that the kernel does not have: Services that ask for one by
    /// annotation get the default, and the default gives way to the nearest. Gives the default that
    /// did. Costs all Services.
    pub fn refuse_schedulers(&mut self, names: BTreeSet<String>) -> Option<Scheduler> {
        let policy = &mut self.config.policy;
        let known = policy.refused_schedulers.len();
        policy.refused_schedulers.extend(names);
        if policy.refused_schedulers.len() == known {
            return None;
        }
        let refused = policy.refused_schedulers.contains(&policy.scheduler.name);
        let default_falls = refused && policy.scheduler.name != Scheduler::NEAREST;
        let fallen = default_falls.then(|| {
            let nearest = Scheduler::named(Scheduler::NEAREST);
            std::mem::replace(&mut policy.scheduler, nearest)
        });
        self.index
            .mark_dirty(|spec| fallen.is_some() || !spec.annotations.is_empty());
        fallen
    }

    /// Virtual servers that are desired and cannot be, since somebody else's stands there. Costs
    /// the number of those.
    pub fn shadowed(&self) -> BTreeMap<VipPort, (ObjectName, VipKind)> {
        let Some(observed) = &self.observed else {
            return BTreeMap::new();
        };
        D::foreign(observed)
            .filter_map(|vip| {
                let server = self.desired.virtual_server(&vip)?;
                Some((vip, (server.owner.service.clone(), server.kind)))
            })
            .collect()
    }

    /// A complaint if other things are wrong with the Service than before.
    fn complain(&mut self, name: &ObjectName, told: &Told) -> Option<Complaint> {
        let now = (!told.problems.is_empty()).then(|| Complaint {
            service: name.clone(),
            uid: told.uid.clone(),
            problems: told.problems.clone(),
        });
        let before = self.complaints.get(name);
        if before == now.as_ref() {
            return None;
        }
        for reason in before.iter().flat_map(|complaint| complaint.reasons()) {
            let count = self.refused.entry(reason).or_default();
            *count = count.saturating_sub(1);
        }
        for reason in now.iter().flat_map(Complaint::reasons) {
            *self.refused.entry(reason).or_default() += 1;
        }
        match now {
            Some(complaint) => {
                self.complaints.insert(name.clone(), complaint.clone());
                Some(complaint)
            }
            None => self.complaints.remove(name).map(|before| Complaint {
                problems: Vec::new(),
                ..before
            }),
        }
    }

    /// A change if the Service wants another health check than before.
    fn check_health(&mut self, service: ObjectName, told: Told) -> Option<HealthCheckChange> {
        let check = told.health_check;
        if self.health_checks.get(&service) == check.as_ref() {
            return None;
        }
        match &check {
            Some(check) => self.health_checks.insert(service.clone(), check.clone()),
            None => self.health_checks.remove(&service),
        };
        Some(HealthCheckChange {
            service,
            uid: told.uid,
            check,
        })
    }

    /// Resolves one Service and takes the result in.
    fn resolve_one(
        &mut self,
        name: &ObjectName,
        scope: &mut D::Scope,
        renamed: &mut Vec<Named>,
    ) -> Told {
        let target = &mut self.target;
        let mut changed_hands = Vec::new();
        let mut on_change = |change: Change<'_>| {
            let owner = |server: Option<&VirtualServer>| server.map(|s| s.owner.service.clone());
            if owner(change.old) != owner(change.new) {
                changed_hands.push(change.vip);
            }
            D::retarget(target, change, scope);
            renamed.push(named::<D>(target, change.vip, change.new));
        };
        let Some(spec) = self.index.service(name) else {
            self.place.claim(name, BTreeSet::new());
            self.desired.remove(name, &mut on_change);
            self.revisit(&changed_hands, name);
            return Told::default();
        };
        let slices = self.index.slices(name);
        let resolved = resolve(View {
            name,
            spec,
            slices: &slices,
            node: self.index.node(),
            node_port_addresses: self.place.node_ports(),
            reserved: self.place.reserved(),
            policy: &self.config.policy,
        });
        let mut told = Told {
            uid: spec.uid.clone(),
            problems: resolved.problems(),
            health_check: resolved.health_check.clone(),
        };
        self.place.claim(name, claimed(&resolved));
        let lost = self.desired.replace(name, spec, resolved, &mut on_change);
        told.problems.extend(lost.iter().map(LostClaim::problem));
        self.revisit(&changed_hands, name);
        told
    }

    /// Whoever claims a tuple that has another winner now has something else to be told: the new
    /// winner, the old one, and those who go on losing it. `resolved` was told just now.
    fn revisit(&mut self, changed_hands: &[VipPort], resolved: &ObjectName) {
        let claimants = changed_hands
            .iter()
            .flat_map(|vip| self.desired.claimants(vip));
        let others = claimants.filter(|name| *name != resolved).cloned();
        let others: BTreeSet<ObjectName> = others.collect();
        self.index.mark_again(others);
    }
}

fn named<D: Dataplane>(target: &D::Target, vip: VipPort, server: Option<&VirtualServer>) -> Named {
    Named {
        vip,
        owner: server.map(|server| server.owner.clone()),
        mark: server.and_then(|server| D::near_mark(target, vip, server)),
    }
}

/// The LoadBalancer and external IPs among what a Service asks for.
fn claimed(resolved: &Resolved) -> BTreeSet<IpAddr> {
    let is_vip = |kind| matches!(kind, VipKind::LoadBalancer | VipKind::ExternalIp);
    let servers = resolved.virtual_servers.iter();
    let vips = servers.filter(|(_, server)| is_vip(server.kind));
    vips.map(|(vip, _)| vip.addr).collect()
}
