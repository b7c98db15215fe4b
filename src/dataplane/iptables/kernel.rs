//! The shell of the iptables dataplane: the sockets and processes, and the trait carried out by them.

use std::collections::{BTreeMap, BTreeSet};

use super::chain::ChainKey;
use super::drift::drift;
use super::observed::{Content, Observed};
use super::plan;
use super::step::{Phase, Step};
use super::target::{Scope, Target};
use crate::dataplane::policy::PolicySettings;
use crate::dataplane::policy::flows::{LostFlows, StaleFlows};
use crate::dataplane::policy::kernel::{
    Done, SetAct, change_sets, has_ipv6, read_affinity_sets, read_members, read_sets,
};
use crate::dataplane::policy::rules::is_of_iptables;
use crate::dataplane::policy::sets::SetKind;
use crate::dataplane::policy::sysctl::{self, FORWARDING};
use crate::dataplane::{
    ClusterNetwork, Counters, Dataplane, Error, Holdings, Outcome, Report, StepError, policy,
};
use crate::model::{Drift, Family, Moment, NodeNetwork, VipPort};
use crate::netfilter::conntrack::{self, ConntrackClient};
use crate::netfilter::exec::{self, Iptables};
use crate::netfilter::ipset::IpsetClient;
use crate::netfilter::render::replace;
use crate::netfilter::ruleset::Table;
use crate::resolve::{Change, DesiredState};
use crate::routing::RouteClient;

/// Services on rules of iptables. Owns every socket; lives on one thread.
pub struct IptablesDataplane {
    sets: IpsetClient,
    routes: RouteClient,
    conntrack: ConntrackClient,
    iptables: Iptables,
}

impl IptablesDataplane {
    /// Opens the sockets in the current network namespace.
    pub fn open() -> Result<Self, Error> {
        Self::with(Iptables::detect().map_err(|e| Error::new("find iptables", e))?)
    }

    /// The same with one variant of iptables.
    pub fn with(iptables: Iptables) -> Result<Self, Error> {
        Ok(Self {
            sets: IpsetClient::open().map_err(|e| Error::new("open an ipset socket", e))?,
            routes: RouteClient::open().map_err(|e| Error::new("open an rtnetlink socket", e))?,
            conntrack: ConntrackClient::open()
                .map_err(|e| Error::new("open a conntrack socket", e))?,
            iptables,
        })
    }

    /// Which iptables is in use: for the log.
    pub fn iptables(&self) -> &Iptables {
        &self.iptables
    }
}

impl Dataplane for IptablesDataplane {
    type Settings = PolicySettings;
    type Target = Target;
    type Observed = Observed;
    type Scope = Scope;
    type Step = Step;

    fn name() -> &'static str {
        "iptables"
    }

    const STEP_KINDS: &'static [&'static str] = super::step::KINDS;

    fn kind(step: &Step) -> &'static str {
        step.kind()
    }

    fn family(step: &Step) -> Option<Family> {
        step.family()
    }

    fn policy(settings: &PolicySettings) -> &PolicySettings {
        settings
    }

    fn target(
        settings: &PolicySettings,
        network: &ClusterNetwork,
        desired: &DesiredState,
    ) -> Target {
        Target::of(settings.clone(), network.clone(), desired)
    }

    fn nothing() -> Target {
        Target::default()
    }

    fn spare_shared(observed: &mut Observed) {
        observed.spare_shared();
    }

    /// nat PREROUTING comes before IPVS, and so does nat OUTPUT.
    fn meets_first() -> bool {
        true
    }

    /// The branches of the tree are all Services'.
    fn may_begin_with_some(observed: &Observed) -> bool {
        observed.chains.is_empty()
    }

    fn retarget(target: &mut Target, change: Change<'_>, scope: &mut Scope) {
        target.replace(change, scope);
    }

    fn everything(_: &DesiredState, target: &Target, observed: &Observed) -> Scope {
        target.everything(observed)
    }

    fn settled(_: &DesiredState, target: &Target, observed: &Observed) -> Scope {
        Scope {
            flows: BTreeSet::new(),
            lost: BTreeMap::new(),
            ..target.everything(observed)
        }
    }

    /// A chain of our name is ours, and rules of others stand beside it.
    fn foreign(_: &Observed) -> impl Iterator<Item = VipPort> {
        std::iter::empty()
    }

    fn plan(
        desired: &DesiredState,
        target: &Target,
        observed: &Observed,
        scope: &Scope,
        _: Moment,
    ) -> Vec<Step> {
        plan::plan(desired, target, observed, scope)
    }

    fn observe(&mut self, previous: Option<&Observed>) -> Result<Observed, Error> {
        let mut observed = Observed::default();
        observed.families = plan::families(has_ipv6());
        observed.sets = read_sets(&mut self.sets, &SetKind::IPTABLES)?;
        observed.affinity_sets = read_affinity_sets(&mut self.sets)?;
        observed.sysctls = sysctl::read(FORWARDING)?;
        for member in read_members(&mut self.sets, &observed.sets)? {
            observed.add_member(member);
        }
        for family in observed.families.clone() {
            let mut rules = self
                .iptables
                .observe(family)
                .map_err(|e| Error::new(format!("read the {family} netfilter rules"), e))?
                .only(is_of_iptables);
            rules.chains.retain(|(table, name), lines| {
                let key = ChainKey::of_name(family, name).filter(|_| *table == Table::Nat);
                if let Some(key) = key {
                    observed.put_chain(key, Content::of(lines));
                }
                key.is_none()
            });
            observed.rules.insert(family, rules);
        }
        match previous {
            Some(previous) => observed.owed_flows.clone_from(&previous.owed_flows),
            None => observed.owe_all_flows(),
        }
        Ok(observed)
    }

    fn node_network(&mut self) -> Result<NodeNetwork, Error> {
        self.routes
            .node_network()
            .map_err(|e| Error::new("read the addresses of this node's interfaces", e))
    }

    /// Connections of endpoints that go end by themselves: nothing is waited for.
    fn refresh(&mut self, _: &mut Observed) -> Result<Scope, Error> {
        Ok(Scope::default())
    }

    fn drift(step: &Step, observed: &Observed) -> Vec<Drift> {
        drift(step, observed)
    }

    fn holdings(observed: &Observed) -> Holdings {
        Holdings {
            virtual_servers: observed.balanced(),
            real_servers: observed.endpoints(),
            set_members: observed.members.len(),
            ..Holdings::default()
        }
    }

    fn counters(&self) -> Counters {
        Counters {
            netlink: BTreeMap::from([
                ("ipset", self.sets.counters().into()),
                ("conntrack", self.conntrack.counters().into()),
                ("route", policy::kernel::routes(&self.routes)),
            ]),
            processes: self.iptables.processes(),
            restore_failures: self.iptables.restore_failures().clone(),
            deleted_flows: self.conntrack.deleted().clone(),
        }
    }

    fn apply(&mut self, steps: Vec<Step>, observed: &mut Observed, _: Moment) -> Report<Step> {
        // Owed until they are forgotten, whatever fails before.
        let flows = steps.iter().filter_map(Step::stale_flows);
        observed.owed_flows.extend(flows.map(|(vip, _)| vip));
        let mut report = Report::default();
        let mut broken = Broken::default();
        let mut steps = steps.into_iter().peekable();
        while let Some(first) = steps.next() {
            let kind = Kind::of(&first);
            let mut run = vec![first];
            while kind != Kind::One
                && let Some(next) = steps.next_if(|next| Kind::of(next) == kind)
            {
                run.push(next);
            }
            let blocked = |step: &mut Step| {
                let family = step.family();
                family.is_some_and(|family| broken.blocks(step, family))
            };
            for step in run.extract_if(.., blocked) {
                report.skipped += 1;
                report.tally.add(step.kind(), Outcome::Skipped);
            }
            let outcomes = self.carry_out(kind, &run, observed);
            broken.note(kind, &outcomes);
            for (step, done) in run.into_iter().zip(outcomes) {
                let kind = step.kind();
                match done {
                    Done::Applied => {
                        observed.record(&step);
                        report.applied += 1;
                        report.tally.add(kind, Outcome::Applied);
                    }
                    Done::Unknown => {
                        report.reobserve = true;
                        report.tally.add(kind, Outcome::Unknown);
                    }
                    Done::Failed(source) => {
                        report.reobserve = true;
                        report.tally.add(kind, Outcome::Failed);
                        report.failed.push(StepError { step, source });
                    }
                }
            }
        }
        report
    }
}

/// Families whose chains are not as they should be: what builds on them waits.
#[derive(Debug, Default)]
struct Broken {
    /// None was written.
    wholly: BTreeSet<Family>,
    /// Some was not: a set may still be in use.
    partly: BTreeSet<Family>,
}

impl Broken {
    fn note(&mut self, kind: Kind, outcomes: &[Done]) {
        let Kind::Chains(family) = kind else {
            return;
        };
        let good = outcomes
            .iter()
            .filter(|done| matches!(done, Done::Applied))
            .count();
        if good < outcomes.len() {
            self.partly.insert(family);
        }
        if good == 0 && !outcomes.is_empty() {
            self.wholly.insert(family);
        }
    }

    /// A tuple must not be led to chains that are not there, nor lose what turned its clients away
    /// until then; a set goes only once no rule asks it.
    fn blocks(&self, step: &Step, family: Family) -> bool {
        match step.phase() {
            Phase::DestroySets => self.partly.contains(&family),
            Phase::Refuse | Phase::GoLive | Phase::Withdraw | Phase::Flows => {
                self.wholly.contains(&family)
            }
            _ => false,
        }
    }
}

/// Steps that ride together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sets,
    Chains(Family),
    Flows,
    Lost,
    One,
}

impl Kind {
    fn of(step: &Step) -> Self {
        match step {
            Step::CreateSet(_) | Step::DestroySet(_) | Step::AddMember(_) | Step::DelMember(_) => {
                Self::Sets
            }
            Step::PutChain { key, .. } | Step::DelChain(key) => Self::Chains(key.family),
            Step::ForgetFlows { .. } => Self::Flows,
            Step::EndFlows { .. } => Self::Lost,
            Step::SetSysctl(_) | Step::WriteRules { .. } => Self::One,
        }
    }
}

impl IptablesDataplane {
    fn carry_out(&mut self, kind: Kind, run: &[Step], observed: &Observed) -> Vec<Done> {
        match kind {
            Kind::Sets => {
                let acts: Vec<SetAct> = run.iter().filter_map(Step::set_act).collect();
                change_sets(&mut self.sets, &acts)
            }
            Kind::Chains(family) => {
                let new = |step: &&Step| {
                    let there = |key| observed.chains.contains_key(&key);
                    matches!(step, Step::PutChain { key, .. } if !there(*key))
                };
                let steps: Vec<&Step> = run.iter().collect();
                let missing = run.iter().filter(new).filter_map(Step::chain);
                let mut attempt = Attempt {
                    family,
                    missing: missing.map(|key| key.to_string()).collect(),
                    left: MOST_RESTORES,
                };
                self.write_chains(&steps, &mut attempt)
            }
            Kind::Flows => {
                let wanted = run.iter().filter_map(Step::stale_flows);
                let stale: StaleFlows<'_> = wanted.collect();
                all_alike(run, &stale.forget(&mut self.conntrack))
            }
            Kind::Lost => {
                let wanted = run.iter().filter_map(Step::lost_flows);
                let lost: LostFlows<'_> = wanted.collect();
                all_alike(run, &lost.forget(&mut self.conntrack))
            }
            Kind::One => run.iter().map(|step| self.one(step)).collect(),
        }
    }

    /// All chains in one restore. Where one is refused, the rest goes without: the half without it
    /// first, then the other, halved again.
    fn write_chains(&mut self, steps: &[&Step], attempt: &mut Attempt) -> Vec<Done> {
        let failed = |text: &str| {
            let done = |_| Done::Failed(Error::new("write chains", text.to_owned()));
            steps.iter().map(done).collect()
        };
        let Some(left) = attempt.left.checked_sub(1) else {
            return failed("too many are refused: the next attempt goes on");
        };
        attempt.left = left;
        let error = match self.restore_chains(steps, attempt) {
            Ok(()) => {
                // What was declared beside them is there too now.
                attempt.missing.clear();
                return steps.iter().map(|_| Done::Applied).collect();
            }
            Err(error) => error,
        };
        // The lock that was not free, or a process that did not end, is no chain's fault.
        if steps.len() == 1 || !error.is_about_rules() {
            return failed(&error.to_string());
        }
        let (left, right) = steps.split_at(steps.len() / 2);
        let mut done = self.write_chains(left, attempt);
        done.extend(self.write_chains(right, attempt));
        done
    }

    fn restore_chains(&mut self, steps: &[&Step], attempt: &Attempt) -> Result<(), exec::Error> {
        let mut filled: Vec<(String, &[String])> = Vec::new();
        let mut removed = Vec::new();
        for step in steps {
            match step {
                Step::PutChain { key, lines, .. } => filled.push((key.to_string(), lines)),
                Step::DelChain(key) => removed.push(key.to_string()),
                _ => {}
            }
        }
        let filled: Vec<(&str, &[String])> = filled
            .iter()
            .map(|(name, lines)| (name.as_str(), *lines))
            .collect();
        let names: BTreeSet<&str> = filled.iter().map(|(name, _)| *name).collect();
        let declared = attempt.missing.iter().map(String::as_str);
        let declared = declared.filter(|name| !names.contains(name));
        let removed: Vec<&str> = removed.iter().map(String::as_str).collect();
        let text = replace(Table::Nat, declared, &filled, &removed);
        self.iptables.restore(attempt.family, &text)
    }

    fn one(&mut self, step: &Step) -> Done {
        let result = match step {
            Step::SetSysctl(wanted) => wanted.write().map_err(|e| Error::new("write a sysctl", e)),
            Step::WriteRules { family, text, .. } => self
                .iptables
                .restore(*family, text)
                .map_err(|e| Error::new("write netfilter rules", e)),
            other => Err(Error::new(other.to_string(), "rides in a batch")),
        };
        result.map_or_else(Done::Failed, |()| Done::Applied)
    }
}

/// The outcome of steps that were one act.
fn all_alike(run: &[Step], result: &Result<(), conntrack::Error>) -> Vec<Done> {
    let done = |_| match result {
        Ok(()) => Done::Applied,
        Err(error) => Done::Failed(Error::new("delete conntrack entries", error.to_string())),
    };
    run.iter().map(done).collect()
}

/// One pass's way of writing a family's chains.
struct Attempt {
    family: Family,
    /// New chains that are not in the kernel yet. Others may lead to them, so they are declared with the
    /// first restore; to declare one that is there would empty it.
    missing: BTreeSet<String>,
    /// Restores that may still be tried.
    left: usize,
}

/// Enough to find a few chains among thousands that a kernel refuses; each costs what a table costs.
const MOST_RESTORES: usize = 64;
