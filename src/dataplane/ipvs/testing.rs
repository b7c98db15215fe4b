//! A kernel for the laws: it holds what steps make, is as strict as the real one, and fails where it
//! is told to. What is above it (plan, mirror, the order of steps and what a failure leaves out) is
//! the agent's own.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use ipvs_sys::Service;

use super::drift::drift;
use super::kernel::apply::{Outcome, Subsystem, apply_by};
use super::observed::{Base, Draining, ObservedRealServer, ObservedVirtualServer};
use super::share::Share;
use super::signature::is_signed;
use super::{IpvsDataplane, Observed, Scope, ServerKey, Settings, Step, Target, convert, sysctl};
use crate::dataplane::policy::PolicySettings;
use crate::dataplane::policy::sets::{Element, Member, SetKind};
use crate::dataplane::{ClusterNetwork, Counters, Dataplane, Drain, Error, Holdings, Report};
use crate::model::{
    Drift, Family, HostPort, Moment, NodeNetwork, Protocol, Thresholds, VipPort, VirtualServer,
};
use crate::netfilter::ObservedRules;
use crate::resolve::{Change, DesiredState};

/// What goes wrong with a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The kernel says no.
    Refused,
    /// Done, and the answer is lost.
    DoneUnheard,
    /// Not done, and nobody knows.
    LostUnheard,
    /// The socket breaks: this step of the batch and those before it are done, and all of the batch
    /// are told to have failed. IPVS batches have no such end: their outcomes are told one by one.
    BatchBroken,
    /// The process ends before this step.
    Crash,
}

/// One real server: what it takes of new connections, and how many it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Real {
    pub share: (u32, Thresholds),
    pub connections: u64,
}

/// One virtual server, with its record as `ipvsadm` would print it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    pub service: Service,
    pub reals: BTreeMap<HostPort, Real>,
    pub foreign: bool,
}

/// What there is, and what will go wrong.
#[derive(Debug, Clone, Default)]
pub struct Kernel {
    pub servers: BTreeMap<ServerKey, Server>,
    pub members: BTreeSet<Member>,
    pub routes: BTreeSet<IpNet>,
    pub base: Base,
    /// UDP conntrack entries: the tuple, and who answers.
    pub flows: BTreeSet<(VipPort, HostPort)>,
    pub network: NodeNetwork,
    /// By the number of the step since the list was set.
    pub faults: BTreeMap<usize, Fault>,
    pub unreadable: bool,
    pub steps_seen: usize,
    pub crashed: bool,
}

impl Kernel {
    pub fn new() -> Self {
        let mut kernel = Self::default();
        kernel.base.families = Family::ALL.into();
        for family in Family::ALL {
            kernel.base.rules.insert(family, ObservedRules::default());
        }
        for wanted in sysctl::wanted() {
            kernel.base.sysctls.insert(wanted.name, "0".to_owned());
        }
        kernel
    }

    /// Somebody else's virtual server, which is at nobody's disposal. Over UDP one that is as ours are
    /// when they have just been made.
    pub fn intrude(&mut self, key: ServerKey) {
        let alike = key.tuple().is_some_and(|vip| vip.protocol == Protocol::Udp);
        let scheduler = if alike { "rr" } else { "lblcr" };
        let service = Service::new(convert::service_key(key), scheduler.parse().unwrap());
        let mut reals = BTreeMap::from([(
            HostPort {
                addr: [198, 51, 100, 1].into(),
                port: 1,
            },
            Real {
                share: (7, Thresholds::default()),
                connections: 3,
            },
        )]);
        reals.retain(|_, _| !alike);
        self.servers.entry(key).or_insert(Server {
            service,
            reals,
            foreign: true,
        });
    }

    pub fn withdraw(&mut self, key: ServerKey) {
        if self.servers.get(&key).is_some_and(|server| server.foreign) {
            self.servers.remove(&key);
        }
    }

    /// Time passes for the flows of tuples that a process took its marks off before it ended: the next
    /// one cannot know of them.
    pub fn forget_unmarked(&mut self) {
        let served = |member: &&Member| matches!(member.set, SetKind::Owned | SetKind::Near);
        let marked = self.members.iter().filter(served);
        let known: BTreeSet<VipPort> = marked.filter_map(Member::vip).collect();
        self.flows.retain(|(vip, _)| known.contains(vip));
    }

    /// Clients come: a flow and a connection for every real server that takes them.
    pub fn traffic(&mut self) {
        let mut flows = BTreeSet::new();
        for (key, server) in self
            .servers
            .iter_mut()
            .filter(|(_, server)| !server.foreign)
        {
            let tuples: Vec<VipPort> = match key {
                ServerKey::Tuple(vip) => vec![*vip],
                ServerKey::Mark { family, mark } => {
                    let near = self
                        .members
                        .iter()
                        .filter_map(|member| match member.element {
                            Element::Near { vip, mark: of } if of == *mark => Some(vip),
                            _ => None,
                        });
                    near.filter(|vip| vip.family() == *family).collect()
                }
            };
            for (real, state) in server.reals.iter_mut().filter(|(_, real)| real.share.0 > 0) {
                state.connections += 1;
                let udp = tuples.iter().filter(|vip| vip.protocol == Protocol::Udp);
                flows.extend(udp.map(|vip| (*vip, *real)));
            }
        }
        self.flows.extend(flows);
    }

    /// Every client is gone.
    pub fn hush(&mut self) {
        for server in self.servers.values_mut().filter(|server| !server.foreign) {
            for real in server.reals.values_mut() {
                real.connections = 0;
            }
        }
    }

    /// What is there of ours, as an agent reads it that remembers `previous`.
    fn read(&self, previous: Option<&Observed>) -> Observed {
        let mut observed = Observed::default();
        observed.members.clone_from(&self.members);
        observed.routes.clone_from(&self.routes);
        observed.base.clone_from(&self.base);
        for (key, server) in &self.servers {
            let known = previous.and_then(|previous| previous.virtual_servers.get(key));
            if known.is_none() && !is_signed(&server.service) {
                observed.foreign.insert(*key);
                continue;
            }
            let real = |(real, state): (&HostPort, &Real)| {
                let before = known.and_then(|known| known.real_servers.get(real));
                let connections = (state.share.0 == 0).then_some(state.connections);
                let read = ObservedRealServer {
                    weight: state.share.0,
                    masquerade: true,
                    thresholds: state.share.1,
                    draining: before
                        .and_then(|before| before.draining)
                        .map(|draining| Draining {
                            connections,
                            ..draining
                        }),
                    ramps_since: before.and_then(|before| before.ramps_since),
                };
                (*real, read)
            };
            let server = ObservedVirtualServer {
                service: server.service.clone(),
                real_servers: server.reals.iter().map(real).collect(),
            };
            observed.put_virtual_server(*key, server);
        }
        match previous {
            Some(previous) => observed.owed_flows.clone_from(&previous.owed_flows),
            None => observed.owe_all_flows(),
        }
        observed
    }

    /// One run of steps, as far as faults let it.
    fn carry_out(&mut self, subsystem: Subsystem, run: &[Step]) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        let mut broken = false;
        for step in run {
            let number = self.steps_seen;
            self.steps_seen += 1;
            let fault = self.faults.get(&number).copied();
            self.crashed |= fault == Some(Fault::Crash);
            if self.crashed || broken {
                outcomes.push(failed("nobody hears this"));
                continue;
            }
            let outcome = match fault {
                Some(Fault::Refused) => failed("refused"),
                Some(Fault::LostUnheard) => unheard(subsystem),
                _ => self.act(step),
            };
            match fault {
                Some(Fault::DoneUnheard) => outcomes.push(unheard(subsystem)),
                Some(Fault::BatchBroken) if subsystem == Subsystem::Sets => {
                    broken = true;
                    outcomes = outcomes.iter().map(|_| failed("broken")).collect();
                    outcomes.push(failed("broken"));
                }
                _ => outcomes.push(outcome),
            }
        }
        outcomes
    }

    /// What the kernel says to one step.
    fn act(&mut self, step: &Step) -> Outcome {
        let done = match step {
            Step::SetSysctl(wanted) => {
                let value = wanted.value.to_owned();
                self.base.sysctls.insert(wanted.name, value);
                true
            }
            Step::CreateSet { set, family } => self.base.sets.insert((*set, *family)),
            Step::DestroySet { set, family } => {
                let of = |member: &Member| (member.set, member.element.family());
                let used = self
                    .members
                    .iter()
                    .any(|member| of(member) == (*set, *family));
                !used && self.base.sets.remove(&(*set, *family))
            }
            Step::WriteRules { family, after, .. } => {
                let whole = SetKind::IPVS
                    .iter()
                    .all(|set| self.base.sets.contains(&(*set, *family)));
                if whole {
                    self.base.rules.insert(*family, after.clone());
                }
                whole
            }
            Step::AddPolicyRule { family, rule } => self.base.policy_rules.insert((*family, *rule)),
            Step::DelPolicyRule { family, rule } => {
                self.base.policy_rules.remove(&(*family, *rule))
            }
            Step::DelStrayRoute { .. } => true,
            Step::AddMember(member) => self.add_member(*member),
            Step::DelMember(member) => self.del_member(*member),
            // Not seen by who reads, and gone by itself.
            Step::HoldClients(_) | Step::LetClientsIn(_) => true,
            Step::AddRoute(net) => {
                self.routes.insert(*net);
                true
            }
            Step::DelRoute(net) => {
                self.routes.remove(net);
                true
            }
            Step::ForgetFlows { vip, keep } => {
                self.flows
                    .retain(|(of, real)| of != vip || keep.contains(real));
                true
            }
            step => return self.act_on_server(step),
        };
        if done { Outcome::Applied } else { failed("no") }
    }

    fn act_on_server(&mut self, step: &Step) -> Outcome {
        let Some(key) = step.server() else {
            return failed("a step that this kernel does not know");
        };
        match step {
            Step::AddVirtualServer(_, service) | Step::SetVirtualServer(_, service)
                if *service.scheduler.as_str() == *LACKING =>
            {
                return Outcome::NoScheduler(Error::new("program IPVS", "no such scheduler"));
            }
            Step::AddVirtualServer(_, service) => {
                if self.servers.contains_key(&key) {
                    return Outcome::Taken(Error::new("program IPVS", "exists"));
                }
                let server = Server {
                    service: service.clone(),
                    reals: BTreeMap::new(),
                    foreign: false,
                };
                self.servers.insert(key, server);
                return Outcome::Applied;
            }
            _ => {}
        }
        if let Some(server) = self.servers.get(&key) {
            assert!(!server.foreign, "{step}: it is somebody else's");
        }
        let Some(server) = self.servers.get_mut(&key) else {
            // To delete what is gone is a success.
            let gone = matches!(step, Step::DelRealServer(..) | Step::DelVirtualServer(_));
            return if gone {
                Outcome::Applied
            } else {
                failed("no such service")
            };
        };
        let done = match step {
            Step::SetVirtualServer(_, service) => {
                server.service = service.clone();
                true
            }
            Step::DelVirtualServer(_) => self.servers.remove(&key).is_some(),
            Step::AddRealServer(_, real, share) => {
                let new = !server.reals.contains_key(real);
                if new {
                    let connections = 0;
                    let share = (share.weight, share.thresholds);
                    server.reals.insert(*real, Real { share, connections });
                }
                new
            }
            Step::SetRealServer(_, real, share) => set(server, real, *share),
            Step::DrainRealServer { real_server, .. } => set(server, real_server, Share::NONE),
            Step::DelRealServer(_, real) => {
                server.reals.remove(real);
                true
            }
            _ => false,
        };
        if done { Outcome::Applied } else { failed("no") }
    }

    fn add_member(&mut self, member: Member) -> bool {
        if !self
            .base
            .sets
            .contains(&(member.set, member.element.family()))
        {
            return false;
        }
        self.drop_mark(member);
        self.members.insert(member);
        true
    }

    fn del_member(&mut self, member: Member) -> bool {
        self.drop_mark(member);
        self.members.remove(&member);
        true
    }

    /// A mark is the value of a tuple's one entry, not part of its key.
    fn drop_mark(&mut self, member: Member) {
        if let Element::Near { vip, .. } = member.element {
            self.members.retain(
                |other| !matches!(other.element, Element::Near { vip: of, .. } if of == vip),
            );
        }
    }
}

impl Dataplane for Kernel {
    type Settings = Settings;
    type Target = Target;
    type Observed = Observed;
    type Scope = Scope;
    type Step = Step;

    fn name() -> &'static str {
        IpvsDataplane::name()
    }

    const STEP_KINDS: &'static [&'static str] = IpvsDataplane::STEP_KINDS;

    fn kind(step: &Step) -> &'static str {
        step.kind()
    }

    fn family(step: &Step) -> Option<Family> {
        step.family()
    }

    fn policy(settings: &Settings) -> &PolicySettings {
        &settings.policy
    }

    fn target(settings: &Settings, network: &ClusterNetwork, desired: &DesiredState) -> Target {
        IpvsDataplane::target(settings, network, desired)
    }

    fn nothing() -> Target {
        Target::nothing()
    }

    fn spare_shared(observed: &mut Observed) {
        observed.spare_shared();
    }

    fn retarget(target: &mut Target, change: Change<'_>, scope: &mut Scope) {
        IpvsDataplane::retarget(target, change, scope);
    }

    fn everything(desired: &DesiredState, target: &Target, observed: &Observed) -> Scope {
        IpvsDataplane::everything(desired, target, observed)
    }

    fn settled(desired: &DesiredState, target: &Target, observed: &Observed) -> Scope {
        IpvsDataplane::settled(desired, target, observed)
    }

    fn foreign(observed: &Observed) -> impl Iterator<Item = VipPort> {
        IpvsDataplane::foreign(observed)
    }

    fn plan(
        desired: &DesiredState,
        target: &Target,
        observed: &Observed,
        scope: &Scope,
        now: Moment,
    ) -> Vec<Step> {
        IpvsDataplane::plan(desired, target, observed, scope, now)
    }

    fn observe(&mut self, previous: Option<&Observed>) -> Result<Observed, Error> {
        if self.unreadable {
            return Err(Error::new("read the virtual servers", "it raced"));
        }
        Ok(self.read(previous))
    }

    fn node_network(&mut self) -> Result<NodeNetwork, Error> {
        if self.unreadable {
            return Err(Error::new("read the addresses", "it raced"));
        }
        Ok(self.network.clone())
    }

    fn refresh(&mut self, observed: &mut Observed) -> Result<Scope, Error> {
        if self.unreadable {
            return Err(Error::new("read the real servers", "it raced"));
        }
        for key in observed.draining().clone() {
            let (Some(server), Some(have)) = (
                observed.virtual_servers.get_mut(&key),
                self.servers.get(&key),
            ) else {
                continue;
            };
            for (real, state) in &have.reals {
                let drains = server.real_servers.get_mut(real);
                if let Some(draining) = drains.and_then(|real| real.draining.as_mut()) {
                    draining.connections = Some(state.connections);
                }
            }
        }
        let waiting = observed.draining().union(observed.ramping());
        Ok(Scope {
            servers: waiting.copied().collect(),
            ..Scope::default()
        })
    }

    fn near_mark(target: &Target, vip: VipPort, server: &VirtualServer) -> Option<u32> {
        IpvsDataplane::near_mark(target, vip, server)
    }

    fn drains(target: &Target, observed: &Observed, now: Moment) -> Vec<Drain> {
        IpvsDataplane::drains(target, observed, now)
    }

    fn drift(step: &Step, observed: &Observed) -> Vec<Drift> {
        drift(step, observed)
    }

    fn holdings(observed: &Observed) -> Holdings {
        IpvsDataplane::holdings(observed)
    }

    fn counters(&self) -> Counters {
        Counters::default()
    }

    fn apply(&mut self, steps: Vec<Step>, observed: &mut Observed, now: Moment) -> Report<Step> {
        apply_by(steps, observed, now, &mut |subsystem, run| {
            self.carry_out(subsystem, run)
        })
    }
}

fn set(server: &mut Server, real: &HostPort, share: Share) -> bool {
    let found = server.reals.get_mut(real);
    found
        .map(|real| real.share = (share.weight, share.thresholds))
        .is_some()
}

fn failed(why: &str) -> Outcome {
    Outcome::Failed(Error::new("do as told", why))
}

/// Only netlink batches can lose single answers.
fn unheard(subsystem: Subsystem) -> Outcome {
    match subsystem {
        Subsystem::Claims | Subsystem::Ipvs | Subsystem::Sets => Outcome::Unknown,
        _ => failed("the answer is lost"),
    }
}

/// The scheduler that this kernel does not have.
pub const LACKING: &str = "ovf";
