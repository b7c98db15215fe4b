//! The shell of the IPVS dataplane: the sockets, and the trait carried out over them.
//!
//! * `observe` kernel → `Observed`
//! * `apply` steps → kernel, in batches by subsystem

pub(crate) mod apply;
mod observe;

use std::collections::BTreeMap;

use ipvs_sys::Client;

use super::drift::drift;
use super::{Observed, Scope, ServerKey, Settings, Step, Target, plan, step};
use crate::dataplane::policy::PolicySettings;
use crate::dataplane::{
    ClusterNetwork, Counters, Dataplane, Drain, Error, Holdings, Netlink, Report, policy,
};
use crate::model::{Drift, Family, Moment, NodeNetwork, VipPort, VirtualServer};
use crate::netfilter::conntrack::ConntrackClient;
use crate::netfilter::exec::Iptables;
use crate::netfilter::ipset::IpsetClient;
use crate::resolve::{Change, DesiredState};
use crate::routing::RouteClient;

/// Services on IPVS. Owns every socket; lives on one thread.
pub struct IpvsDataplane {
    settings: Settings,
    /// None where the module is gone and only its traces are left, for `cleanup`.
    ipvs: Option<Client>,
    sets: IpsetClient,
    routes: RouteClient,
    conntrack: ConntrackClient,
    iptables: Iptables,
}

impl IpvsDataplane {
    /// Opens the sockets in the current network namespace. `ipvs` is handed in, since opening it
    /// is also the probe for the kernel's module.
    pub fn open(ipvs: Option<Client>, settings: Settings) -> Result<Self, Error> {
        let iptables = Iptables::detect().map_err(|e| Error::new("find iptables", e))?;
        Self::with(iptables, ipvs, settings)
    }

    /// The same with one variant of iptables.
    pub fn with(
        iptables: Iptables,
        ipvs: Option<Client>,
        settings: Settings,
    ) -> Result<Self, Error> {
        Ok(Self {
            settings,
            ipvs,
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

impl Dataplane for IpvsDataplane {
    type Settings = Settings;
    type Target = Target;
    type Observed = Observed;
    type Scope = Scope;
    type Step = Step;

    fn name() -> &'static str {
        "ipvs"
    }

    const STEP_KINDS: &'static [&'static str] = step::KINDS;

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
        Target::of(settings.clone(), network.clone(), desired)
    }

    fn nothing() -> Target {
        Target::nothing()
    }

    fn spare_shared(observed: &mut Observed) {
        observed.spare_shared();
    }

    fn retarget(target: &mut Target, change: Change<'_>, scope: &mut Scope) {
        target.replace(change, scope);
    }

    fn everything(desired: &DesiredState, target: &Target, observed: &Observed) -> Scope {
        target.everything(desired, observed)
    }

    fn settled(desired: &DesiredState, target: &Target, observed: &Observed) -> Scope {
        let mut scope = target.everything(desired, observed);
        let owes = |vip: VipPort| observed.owed_flows.contains(&vip);
        scope.servers.retain(|server| {
            !observed.draining().contains(server)
                && !observed.ramping().contains(server)
                && !server.tuple().is_some_and(owes)
        });
        scope
    }

    fn foreign(observed: &Observed) -> impl Iterator<Item = VipPort> {
        observed.foreign.iter().filter_map(ServerKey::tuple)
    }

    fn plan(
        desired: &DesiredState,
        target: &Target,
        observed: &Observed,
        scope: &Scope,
        now: Moment,
    ) -> Vec<Step> {
        plan::plan(desired, target, observed, scope, now)
    }

    fn observe(&mut self, previous: Option<&Observed>) -> Result<Observed, Error> {
        observe::observe(self, previous)
    }

    fn refresh(&mut self, observed: &mut Observed) -> Result<Scope, Error> {
        observe::refresh(self, observed)
    }

    fn node_network(&mut self) -> Result<NodeNetwork, Error> {
        self.routes
            .node_network()
            .map_err(|e| Error::new("read the addresses of this node's interfaces", e))
    }

    fn drift(step: &Step, observed: &Observed) -> Vec<Drift> {
        drift(step, observed)
    }

    fn near_mark(target: &Target, vip: VipPort, server: &VirtualServer) -> Option<u32> {
        match target.near_key(vip, server)? {
            ServerKey::Mark { mark, .. } => Some(mark),
            ServerKey::Tuple(_) => None,
        }
    }

    fn drains(target: &Target, observed: &Observed, now: Moment) -> Vec<Drain> {
        let timeout = target
            .base
            .as_ref()
            .map_or_else(Default::default, |base| base.settings.drain_timeout);
        let left = |since: Moment| timeout.saturating_sub(now.since(since));
        observed
            .drains()
            .map(|(server, real_server, draining)| Drain {
                server,
                real_server,
                left: draining.gone_since.map(left),
            })
            .collect()
    }

    fn holdings(observed: &Observed) -> Holdings {
        Holdings {
            virtual_servers: observed.virtual_servers.len(),
            real_servers: observed.real_server_count(),
            draining: observed.draining().len(),
            draining_real_servers: observed.drains().count(),
            ramping: observed.ramping().len(),
            foreign: observed.foreign.len(),
            set_members: observed.members.len(),
            routes: observed.routes.len(),
            drains: observed.drained,
        }
    }

    fn counters(&self) -> Counters {
        let ipvs = self.ipvs.as_ref().map(Client::counters).unwrap_or_default();
        let ipvs = Netlink {
            messages: ipvs.messages,
            sends: ipvs.sends,
            errors: ipvs.errors,
        };
        Counters {
            netlink: BTreeMap::from([
                ("ipvs", ipvs),
                ("ipset", self.sets.counters().into()),
                ("conntrack", self.conntrack.counters().into()),
                ("route", policy::kernel::routes(&self.routes)),
            ]),
            processes: self.iptables.processes(),
            restore_failures: self.iptables.restore_failures().clone(),
            deleted_flows: self.conntrack.deleted().clone(),
        }
    }

    fn apply(&mut self, steps: Vec<Step>, observed: &mut Observed, now: Moment) -> Report<Step> {
        apply::apply(self, steps, observed, now)
    }
}
