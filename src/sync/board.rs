//! What the loop tells the outside: metrics and health, in one place that HTTP reads.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use super::health::Health;
use super::programming::Triggered;
use crate::cluster::{Event, SourceBoard};
use crate::dataplane::{Counters, Drains, Holdings, Netlink, Tally};
use crate::metrics::labels::{
    ByCode, ByDataplane, ByIpFamily, ByOutcome, ByPhase, ByPolicy, ByReason, BySource, ByStep,
    BySubsystem, ByTrigger, ByVersion,
};
use crate::metrics::traffic::Told;
use crate::metrics::{Families, lock};
use crate::model::{Family, Leaving, Moment, ObjectName, Reason, VipKind, VipPort};
use crate::resolve::no_local::{Absence, NoLocal};

/// Why a pass ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Trigger {
    First,
    #[default]
    Change,
    Drain,
    Retry,
    Audit,
}

impl Trigger {
    /// Whether a pass for it plans what has failed before, beside what has changed.
    pub fn takes_all(self) -> bool {
        matches!(self, Self::First | Self::Retry | Self::Audit)
    }

    fn label(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Change => "change",
            Self::Drain => "drain",
            Self::Retry => "retry",
            Self::Audit => "audit",
        }
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// A part of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Observe,
    Resolve,
    Plan,
    Apply,
}

impl Phase {
    fn label(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Resolve => "resolve",
            Self::Plan => "plan",
            Self::Apply => "apply",
        }
    }
}

/// What one pass did.
#[derive(Debug, Clone, Default)]
pub struct Pass {
    pub trigger: Trigger,
    /// Services resolved.
    pub services: usize,
    pub steps: usize,
    pub applied: usize,
    /// Failed or not tried because of a failure.
    pub failed: usize,
    pub reobserve: bool,
    /// Steps left for the next pass.
    pub postponed: usize,
    /// The first failure of each family. What is of neither is both's.
    pub errors: BTreeMap<Family, String>,
    pub elapsed: Duration,
}

/// Metrics and health of one agent.
pub struct Board {
    metrics: Families,
    sources: SourceBoard,
    /// Of the agent, by the wall clock.
    started: SystemTime,
    last: Mutex<Last>,
    health: Mutex<Health>,
}

/// What was told last of things that only grow.
#[derive(Default)]
struct Last {
    counters: Counters,
    drains: Drains,
    failures: BTreeMap<String, u64>,
}

impl Board {
    /// A board with every metric registered and nothing on it yet, that also shows how the
    /// sources are doing.
    pub fn new(sources: SourceBoard) -> Self {
        Self::with_traffic(sources, Told::default())
    }

    /// The same with what the kernel counts for Services.
    pub fn with_traffic(sources: SourceBoard, traffic: Told) -> Self {
        let started = wall();
        let metrics = Families::new(
            seconds_since_1970(started),
            &sources.meter.requests,
            traffic,
        );
        let version = env!("CARGO_PKG_VERSION");
        metrics.build.get_or_create(&ByVersion { version }).set(1);
        // What has not happened yet is told as 0, so that its first time is seen as an increase.
        for reason in ["idle", "cut", "deleted", "returned"] {
            let reason = reason.to_owned();
            metrics
                .drains_ended
                .get_or_create(&ByReason { reason })
                .inc_by(0);
        }
        for family in Family::ALL {
            metrics.deleted_flows.get_or_create(&by(family)).inc_by(0);
            metrics
                .restore_failures
                .get_or_create(&by(family))
                .inc_by(0);
        }
        Self {
            metrics,
            sources,
            started,
            last: Mutex::default(),
            health: Mutex::default(),
        }
    }

    /// All metrics in OpenMetrics text.
    pub fn metrics(&self, now: Moment) -> Result<String, fmt::Error> {
        let metrics = &self.metrics;
        let mut last = lock(&self.last);
        for (kind, state) in self.sources.states() {
            let source = BySource {
                source: kind.to_string(),
            };
            let listed = metrics.source_listed.get_or_create(&source);
            listed.set(i64::from(state.listed));
            let errors = metrics.source_errors.get_or_create(&source);
            errors.set(i64::from(state.errors_in_a_row));
            let failures = metrics.source_failures.get_or_create(&source);
            let before = last.failures.insert(source.source.clone(), state.errors);
            failures.inc_by(state.errors.saturating_sub(before.unwrap_or_default()));
            if let Some(since) = state.silent_since() {
                let silence = metrics.source_silence.get_or_create(&source);
                silence.set(now.since(since).as_secs_f64());
            }
        }
        drop(last);
        metrics.catalogue.encode()
    }

    pub fn health(&self) -> Health {
        lock(&self.health).clone()
    }

    /// A source of which nothing has been heard for so long, and its last error.
    pub fn stale_source(&self, now: Moment, patience: Duration) -> Option<String> {
        let states = self.sources.states().into_iter();
        let mut stale = states.filter_map(|(kind, state)| {
            let silence = now.since(state.silent_since()?);
            let why = state
                .last_error
                .unwrap_or_else(|| "it is silent".to_owned());
            let told = || {
                format!(
                    "{kind} have not been told for {} s: {why}",
                    silence.as_secs()
                )
            };
            (silence >= patience).then(told)
        });
        stale.next()
    }

    /// Sources that fail now, each with its last error.
    pub fn failing_sources(&self) -> BTreeMap<String, String> {
        let states = self.sources.states().into_iter();
        let failing = states.filter_map(|(kind, state)| {
            let error = state.last_error?;
            Some((kind.to_string(), error))
        });
        failing.collect()
    }

    /// Changes have come, for which a pass will be made.
    pub fn events_taken(&self, events: &[Event]) {
        let (metrics, mut slices, mut services) = (&self.metrics, 0, 0);
        for event in events {
            match event {
                Event::SliceApplied(..) | Event::SliceDeleted(_) => slices += 1,
                Event::ServiceApplied(..) | Event::ServiceDeleted(_) => services += 1,
                _ => {}
            }
        }
        metrics.source_events.inc_by(events.len() as u64);
        metrics.endpoint_changes.inc_by(slices);
        metrics.service_changes.inc_by(services);
        let pending = [
            (&metrics.endpoint_changes_pending, slices),
            (&metrics.service_changes_pending, services),
        ];
        for (gauge, count) in pending {
            gauge.inc_by(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let queued = seconds_since_1970(wall());
        for family in Family::ALL {
            metrics.last_queued.get_or_create(&by(family)).set(queued);
        }
    }

    /// A pass has taken up what was pending.
    pub fn taken_up(&self) {
        self.metrics.endpoint_changes_pending.set(0);
        self.metrics.service_changes_pending.set(0);
    }

    pub fn drift(&self, steps: usize) {
        self.metrics.drift.inc_by(steps as u64);
    }

    pub fn holdings(&self, holdings: Holdings) {
        let metrics = &self.metrics;
        let pairs = [
            (&metrics.virtual_servers, holdings.virtual_servers),
            (&metrics.real_servers, holdings.real_servers),
            (&metrics.draining, holdings.draining),
            (
                &metrics.draining_real_servers,
                holdings.draining_real_servers,
            ),
            (&metrics.foreign, holdings.foreign),
            (&metrics.set_members, holdings.set_members),
            (&metrics.routes, holdings.routes),
        ];
        for (gauge, value) in pairs {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        let now = holdings.drains;
        let before = std::mem::replace(&mut lock(&self.last).drains, now);
        metrics
            .drains_begun
            .inc_by(now.begun.saturating_sub(before.begun));
        for (reason, now, before) in [
            ("idle", now.idle, before.idle),
            ("cut", now.cut, before.cut),
            ("deleted", now.deleted, before.deleted),
            ("returned", now.returned, before.returned),
        ] {
            let reason = reason.to_owned();
            let ended = metrics.drains_ended.get_or_create(&ByReason { reason });
            ended.inc_by(now.saturating_sub(before));
        }
    }

    pub fn counters(&self, now: Counters) {
        let metrics = &self.metrics;
        let mut last = lock(&self.last);
        let before = &last.counters;
        for (subsystem, count) in &now.netlink {
            let label = BySubsystem { subsystem };
            let Netlink {
                messages,
                sends,
                errors,
            } = before.netlink.get(subsystem).copied().unwrap_or_default();
            for (family, now, before) in [
                (&metrics.netlink_messages, count.messages, messages),
                (&metrics.netlink_sends, count.sends, sends),
                (&metrics.netlink_errors, count.errors, errors),
            ] {
                let counter = family.get_or_create(&label);
                counter.inc_by(now.saturating_sub(before));
            }
        }
        let started = now.processes.saturating_sub(before.processes);
        metrics.processes.inc_by(started);
        for (family, now, before) in [
            (
                &metrics.deleted_flows,
                &now.deleted_flows,
                &before.deleted_flows,
            ),
            (
                &metrics.restore_failures,
                &now.restore_failures,
                &before.restore_failures,
            ),
        ] {
            for (of, count) in now {
                let before = before.get(of).copied().unwrap_or_default();
                let counter = family.get_or_create(&by(*of));
                counter.inc_by(count.saturating_sub(before));
            }
        }
        last.counters = now;
    }

    /// A part of a pass took so long.
    pub fn phase(&self, phase: Phase, elapsed: Duration) {
        let phase = phase.label();
        let phases = self.metrics.phases.get_or_create(&ByPhase { phase });
        phases.observe(elapsed.as_secs_f64());
    }

    /// What became of steps.
    pub fn stepped(&self, tally: &Tally) {
        for (kind, outcome, count) in tally.iter() {
            let outcome = outcome.label();
            let label = ByStep { kind, outcome };
            self.metrics.steps.get_or_create(&label).inc_by(count);
        }
    }

    /// Services of which something is wrong, by the reason.
    pub fn refused(&self, services: &BTreeMap<Reason, usize>) {
        for (reason, count) in services {
            self.set_refused(*reason, *count);
        }
    }

    fn set_refused(&self, reason: Reason, count: usize) {
        let reason = reason.to_string();
        let gauge = self.metrics.refused.get_or_create(&ByReason { reason });
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// So many Kubernetes Events came to this end: `made`, `counted`, `known`, `left_out` or `failed`.
    pub fn events(&self, outcome: &'static str, count: u64) {
        let events = self.metrics.events.get_or_create(&ByOutcome { outcome });
        events.inc_by(count);
    }

    /// After a pass, failed or not.
    pub fn passed(&self, pass: &Pass, now: Moment) {
        let seconds = pass.elapsed.as_secs_f64();
        let trigger = pass.trigger.label();
        self.metrics
            .sync
            .get_or_create(&ByTrigger { trigger })
            .observe(seconds);
        for family in Family::ALL {
            let sync = self.metrics.kubeproxy_sync.get_or_create(&by(family));
            sync.observe(seconds);
        }
        let (good, health) = {
            let mut health = lock(&self.health);
            (health.passed(pass, now), health.clone())
        };
        let synced = seconds_since_1970(wall());
        for (family, health) in health.families() {
            let last = self.metrics.last_sync.get_or_create(&by(family));
            if good.contains(&family) {
                last.set(synced);
            } else if health.last_good.is_none() {
                // A family that never was good is not left out of what is asked for the oldest.
                last.set(seconds_since_1970(self.started));
            }
        }
    }

    /// What somebody else's virtual servers keep from being. One at a cluster IP is the end of
    /// that Service on this node; at other addresses a Service may just have asked for too much.
    pub fn shadowed(&self, tuples: &BTreeMap<VipPort, (ObjectName, VipKind)>, now: Moment) {
        self.metrics
            .shadowed
            .set(i64::try_from(tuples.len()).unwrap_or(i64::MAX));
        let services: BTreeSet<&ObjectName> = tuples.values().map(|(name, _)| name).collect();
        self.set_refused(Reason::ForeignVirtualServer, services.len());
        let reason = |family: Family| {
            let mut cluster_ips = tuples
                .iter()
                .filter(|(vip, (_, kind))| *kind == VipKind::ClusterIp && vip.family() == family);
            let (vip, (service, _)) = cluster_ips.next()?;
            let more = cluster_ips.count();
            Some(format!(
                "somebody else's virtual servers hold {vip} of {service} and {more} more tuples of \
                 cluster IPs"
            ))
        };
        let families = Family::ALL.into_iter();
        let reasons = families.filter_map(|family| Some((family, reason(family)?)));
        lock(&self.health).obstructed(&reasons.collect(), now);
    }

    /// Changes of endpoints are in the kernel by now, which began at these times.
    pub fn programmed(&self, changes: &[Triggered], now: SystemTime) {
        for (family, triggered) in changes {
            if let Some(latency) = latency(*triggered, self.started, now) {
                let histogram = self.metrics.programming.get_or_create(&by(*family));
                histogram.observe(latency.as_secs_f64());
            }
        }
    }

    /// By what Services are served, and why, with the kinds of steps that it has.
    pub fn serves_by(
        &self,
        dataplane: &'static str,
        reason: &'static str,
        kinds: &'static [&'static str],
    ) {
        self.metrics
            .dataplane
            .get_or_create(&ByDataplane { dataplane, reason })
            .set(1);
        for kind in kinds {
            for outcome in ["applied", "failed"] {
                let label = ByStep { kind, outcome };
                self.metrics.steps.get_or_create(&label).inc_by(0);
            }
        }
    }

    /// Services that lack endpoints on this node.
    pub fn no_local(&self, services: &NoLocal) {
        for absence in Absence::all() {
            let gauge = self.metrics.no_local.get_or_create(&ByPolicy {
                traffic_policy: if absence.external {
                    "external"
                } else {
                    "internal"
                },
                ip_family: absence.family.to_string(),
            });
            let count = services.count(absence);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Whether the node is about to go, as far as is known.
    pub fn node(&self, leaving: Option<Leaving>) {
        lock(&self.health).leaving = leaving;
    }

    /// `/healthz` was asked.
    pub fn healthz_answered(&self, code: u16) {
        self.metrics.healthz.get_or_create(&ByCode { code }).inc();
    }

    /// `/livez` was asked.
    pub fn livez_answered(&self, code: u16) {
        self.metrics.livez.get_or_create(&ByCode { code }).inc();
    }

    /// The loop took a turn, whatever came of it.
    pub fn turned(&self, now: Moment) {
        lock(&self.health).last_turn = Some(now);
    }

    /// After a failed attempt to read the kernel.
    pub fn failed(&self, error: &str, now: Moment) {
        self.metrics.read_failures.inc();
        lock(&self.health).unread(error, now);
    }

    /// Whether `error` differs from the one that stands.
    pub fn error_changed(&self, error: &str) -> bool {
        lock(&self.health).is_news(error)
    }
}

fn by(family: Family) -> ByIpFamily {
    let ip_family = family.to_string();
    ByIpFamily { ip_family }
}

/// How long a change took, of those that happened while the agent ran: earlier ones waited for its
/// start. The clocks of two machines differ; what seems to lie ahead took no time.
fn latency(triggered: SystemTime, started: SystemTime, now: SystemTime) -> Option<Duration> {
    (triggered > started).then(|| now.duration_since(triggered).unwrap_or_default())
}

fn seconds_since_1970(time: SystemTime) -> f64 {
    time.duration_since(std::time::UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

/// What wall clocks show, for metrics that tell of it.
#[expect(clippy::disallowed_methods, reason = "a metric of wall-clock times")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests;
