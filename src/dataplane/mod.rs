//! Ways to make a kernel do what is desired. Each observes, plans and applies.
//!
//! ```text
//! DesiredState ─→ retarget ─→ Target ┐
//!                  (pure)            ├→ plan ─→ steps ─→ apply ─→ Report
//! kernel ──────── observe ─→ Observed┘ (pure)            (I/O)
//! ```
//! The first sync, a change, the audit and `cleanup` are the same `plan` over a different scope.

pub mod iptables;
pub mod ipvs;
pub mod policy;
mod report;

use std::collections::BTreeSet;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use ipnet::IpNet;

use crate::model::{Drift, Family, Moment, NodeNetwork, RealServerKey, VipPort, VirtualServer};
use crate::resolve::{Change, DesiredState};
pub use ipvs::ServerKey;
use policy::PolicySettings;
pub use report::{Counters, Drains, Holdings, Netlink, Outcome, Report, StepError, Tally};

/// Address ranges of the cluster, from objects of the API or from configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClusterNetwork {
    /// Cluster IPs come from these.
    pub service_cidrs: BTreeSet<IpNet>,
    /// Sources in these are pods.
    pub pod_cidrs: BTreeSet<IpNet>,
    /// Sources in these are pods of this node. A family without any: all pods are taken for its.
    pub node_pod_cidrs: BTreeSet<IpNet>,
}

impl ClusterNetwork {
    /// Where the pods of this node are, as closely as it is known.
    pub fn pods_of_this_node(&self) -> BTreeSet<IpNet> {
        let known = |net: &&IpNet| {
            let mut here = self.node_pod_cidrs.iter();
            here.any(|here| Family::of(here.addr()) == Family::of(net.addr()))
        };
        let elsewhere_too = self.pod_cidrs.iter().filter(|net| !known(net));
        self.node_pod_cidrs
            .iter()
            .chain(elsewhere_too)
            .copied()
            .collect()
    }
}

/// A way to make a kernel balance Services.
pub trait Dataplane {
    /// What an operator may choose about it.
    type Settings: Clone;
    /// The desired state in this dataplane's own objects, kept up to date change by change.
    type Target;
    /// What the kernel holds, as last read and as changed by our own steps since.
    type Observed;
    /// The objects that one plan looks at.
    type Scope: Scope;
    /// One act upon the kernel; prints in the syntax of the tool that would do the same.
    type Step: fmt::Display + fmt::Debug + Clone;

    /// `ipvs` or `iptables`.
    fn name() -> &'static str;

    /// The kinds of steps that there are, for metrics.
    const STEP_KINDS: &'static [&'static str];

    /// The kind of a step, one of [`Self::STEP_KINDS`].
    fn kind(step: &Self::Step) -> &'static str;

    /// The family that a step is about; `None` for both.
    fn family(step: &Self::Step) -> Option<Family>;

    /// Who is masqueraded, and how pods are known.
    fn policy(settings: &Self::Settings) -> &PolicySettings;

    /// The target for all that is desired, made afresh. Costs all virtual servers.
    fn target(
        settings: &Self::Settings,
        network: &ClusterNetwork,
        desired: &DesiredState,
    ) -> Self::Target;

    /// The target of one that leaves the node: nothing at all.
    fn nothing() -> Self::Target;

    /// Leaves out of sight what the other dataplane uses too.
    fn spare_shared(observed: &mut Self::Observed);

    /// Whether some Services may be programmed while the target does not know the others yet. Not where
    /// they share objects that an earlier run has left, which would be made without the others.
    fn may_begin_with_some(_: &Self::Observed) -> bool {
        true
    }

    /// Whether new connections meet this dataplane first while the other one is there too. Then the
    /// other may finish what it has before it is removed.
    fn meets_first() -> bool {
        false
    }

    /// Takes one changed virtual server into the target and names what it touches.
    fn retarget(target: &mut Self::Target, change: Change<'_>, scope: &mut Self::Scope);

    /// Everything that is desired or there: the scope of the first sync, the audit and cleanup.
    fn everything(
        desired: &DesiredState,
        target: &Self::Target,
        observed: &Self::Observed,
    ) -> Self::Scope;

    /// The same without what only waits for time to pass. Where a plan over it has steps after the
    /// kernel was read, somebody else changed the kernel.
    fn settled(
        desired: &DesiredState,
        target: &Self::Target,
        observed: &Self::Observed,
    ) -> Self::Scope;

    /// Tuples at which somebody else's virtual server stands.
    fn foreign(observed: &Self::Observed) -> impl Iterator<Item = VipPort>;

    /// What to do, in order. No socket and no clock: values in, values out.
    fn plan(
        desired: &DesiredState,
        target: &Self::Target,
        observed: &Self::Observed,
        scope: &Self::Scope,
        now: Moment,
    ) -> Vec<Self::Step>;

    /// Reads the whole kernel state. `previous` lends what a kernel cannot tell: since when a
    /// real server has been draining, and what we made ourselves.
    fn observe(&mut self, previous: Option<&Self::Observed>) -> Result<Self::Observed, Error>;

    /// Where the node stands: its own addresses, at which NodePorts answer, and its gateways.
    fn node_network(&mut self) -> Result<NodeNetwork, Error>;

    /// Reads again what a plan may be waiting for (connections of draining real servers) and
    /// names it. Costs the number of virtual servers that drain.
    fn refresh(&mut self, observed: &mut Self::Observed) -> Result<Self::Scope, Error>;

    /// What a step would change in the dumps that people know; nothing, for one that leaves no trace.
    fn drift(step: &Self::Step, observed: &Self::Observed) -> Vec<Drift>;

    /// The mark by which clients on this node are led to `server` at `vip`; `None`: they are not led
    /// by a mark.
    fn near_mark(_: &Self::Target, _vip: VipPort, _server: &VirtualServer) -> Option<u32> {
        None
    }

    /// Real servers that only finish what they have, each with how long it may go on.
    fn drains(_: &Self::Target, _: &Self::Observed, _now: Moment) -> Vec<Drain> {
        Vec::new()
    }

    /// Numbers of objects held. Costs nothing that grows with them, but the virtual servers that drain.
    fn holdings(observed: &Self::Observed) -> Holdings;

    /// What has been asked of the kernel so far.
    fn counters(&self) -> Counters;

    /// Carries steps out, each success taken into `observed`. A failure does not stop steps that
    /// do not depend on it.
    fn apply(
        &mut self,
        steps: Vec<Self::Step>,
        observed: &mut Self::Observed,
        now: Moment,
    ) -> Report<Self::Step>;
}

/// Removes all that a dataplane has in the kernel. `spare_shared`: but for what the other one, which
/// takes its place, uses too.
pub fn remove_all<D: Dataplane>(
    dataplane: &mut D,
    spare_shared: bool,
) -> Result<Report<D::Step>, Error> {
    let (mut observed, steps) = plan_removal(dataplane, spare_shared)?;
    Ok(dataplane.apply(steps, &mut observed, Moment::default()))
}

/// The steps of [`remove_all`], with what they were planned against.
pub fn plan_removal<D: Dataplane>(
    dataplane: &mut D,
    spare_shared: bool,
) -> Result<(D::Observed, Vec<D::Step>), Error> {
    let mut observed = dataplane.observe(None)?;
    if spare_shared {
        D::spare_shared(&mut observed);
    }
    let (desired, target) = (DesiredState::default(), D::nothing());
    let scope = D::everything(&desired, &target, &observed);
    let steps = D::plan(&desired, &target, &observed, &scope, Moment::default());
    Ok((observed, steps))
}

/// A real server that finishes what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    /// By what the kernel finds its virtual server.
    pub server: ServerKey,
    pub real_server: RealServerKey,
    /// Until it goes though it still has connections; `None` while its endpoint is listed.
    pub left: Option<Duration>,
}

/// A set of objects to be planned.
pub trait Scope: Default {
    /// The objects that are the same for all Services, alone.
    fn base() -> Self;

    /// Takes another scope in.
    fn extend(&mut self, other: Self);
}

/// What went wrong at the kernel's edge, with the act that was tried.
#[derive(Debug, thiserror::Error)]
#[error("{act}")]
pub struct Error {
    /// `read the routes of table 878`: completes "could not".
    pub act: String,
    #[source]
    pub source: Box<dyn StdError + Send + Sync>,
}

impl Error {
    /// Wraps a cause with the act that failed.
    pub fn new(act: impl Into<String>, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self {
            act: act.into(),
            source: source.into(),
        }
    }
}
