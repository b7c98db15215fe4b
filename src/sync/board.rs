//! What the loop tells the outside: metrics and health, in one place that HTTP reads.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::programming::Triggered;
use crate::cluster::SourceBoard;
use crate::dataplane::{Counters, Holdings};
use crate::model::{Leaving, Moment, ObjectName, VipKind, VipPort};
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

impl EncodeLabelValue for Trigger {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.label().encode(encoder)
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
    /// The first failure.
    pub error: Option<String>,
    pub elapsed: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByTrigger {
    trigger: Trigger,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BySource {
    source: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCode {
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByIpFamily {
    ip_family: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByPolicy {
    traffic_policy: &'static str,
    ip_family: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByDataplane {
    dataplane: &'static str,
    reason: &'static str,
}

/// Metrics and health of one agent.
pub struct Board {
    registry: Registry,
    sources: SourceBoard,
    dataplane: Family<ByDataplane, Gauge>,
    source_listed: Family<BySource, Gauge>,
    source_errors: Family<BySource, Gauge>,
    source_silence: Family<BySource, Gauge<f64, AtomicU64>>,
    duration: Family<ByTrigger, Histogram>,
    steps: Family<ByOutcome, Counter>,
    events: Counter,
    drift: Counter,
    read_failures: Counter,
    virtual_servers: Gauge,
    real_servers: Gauge,
    draining: Gauge,
    foreign: Gauge,
    shadowed: Gauge,
    set_members: Gauge,
    routes: Gauge,
    messages: Counter,
    sends: Counter,
    processes: Counter,
    deleted_flows: Family<ByIpFamily, Counter>,
    last_sync: Gauge<f64, AtomicU64>,
    kubeproxy_duration: Histogram,
    healthz: Family<ByCode, Counter>,
    livez: Family<ByCode, Counter>,
    programming: Family<ByIpFamily, Histogram>,
    no_local: Family<ByPolicy, Gauge>,
    /// Of the agent, by the wall clock.
    started: SystemTime,
    last_counters: Mutex<Counters>,
    health: Mutex<Health>,
}

/// Whether the node's data plane is as the sources want it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Health {
    /// When the loop last took a turn.
    pub last_turn: Option<Moment>,
    /// Since when cluster IPs are held by somebody else's virtual servers, and which.
    pub obstructed: Option<(Moment, String)>,
    /// Since when something has failed and waits for its retry, and with what.
    pub failing: Option<(Moment, String)>,
    /// The last pass without a failure.
    pub last_good: Option<Moment>,
    /// Why load balancers should send this node nothing more.
    pub leaving: Option<Leaving>,
}

impl Board {
    /// A board with every metric registered and nothing on it yet, that also shows how the
    /// sources are doing.
    pub fn new(sources: SourceBoard) -> Self {
        let mut registry = Registry::default();
        let r = &mut registry;
        // 1 ms to 16 s, as kube-proxy's.
        let buckets = || Histogram::new(exponential_buckets(0.001, 2.0, 15));
        let duration = Family::<ByTrigger, Histogram>::new_with_constructor(buckets);
        let board = Self {
            sources,
            dataplane: put(
                r,
                "ipvs_agent_dataplane",
                "1 for that by which Services are served, with the reason",
                Family::default(),
            ),
            source_listed: put(
                r,
                "ipvs_agent_source_listed",
                "1 once a source has told all objects of a kind",
                Family::default(),
            ),
            source_errors: put(
                r,
                "ipvs_agent_source_errors_in_a_row",
                "Failures of a source since it last answered; 0 is well",
                Family::default(),
            ),
            source_silence: put(
                r,
                "ipvs_agent_source_silence_seconds",
                "Time since a source last told anything, if only that it is there",
                Family::default(),
            ),
            duration: put(
                r,
                "ipvs_agent_sync_duration_seconds",
                "Time of a pass, by what caused it",
                duration,
            ),
            steps: put(
                r,
                "ipvs_agent_steps",
                "Steps carried out against the kernel, by outcome",
                Family::default(),
            ),
            events: put(
                r,
                "ipvs_agent_source_events",
                "Changes that the sources have told",
                Counter::default(),
            ),
            drift: put(
                r,
                "ipvs_agent_drift_repaired_steps",
                "Steps that an audit found necessary: somebody else changed the kernel",
                Counter::default(),
            ),
            read_failures: put(
                r,
                "ipvs_agent_observe_failures",
                "Failed attempts to read the kernel's state",
                Counter::default(),
            ),
            virtual_servers: put(
                r,
                "ipvs_agent_virtual_servers",
                "Virtual servers programmed",
                Gauge::default(),
            ),
            real_servers: put(
                r,
                "ipvs_agent_real_servers",
                "Real servers programmed",
                Gauge::default(),
            ),
            draining: put(
                r,
                "ipvs_agent_draining_virtual_servers",
                "Virtual servers with a draining real server",
                Gauge::default(),
            ),
            foreign: put(
                r,
                "ipvs_agent_foreign_virtual_servers",
                "Virtual servers in the kernel that are not ours and are not touched",
                Gauge::default(),
            ),
            shadowed: put(
                r,
                "ipvs_agent_shadowed_virtual_servers",
                "Virtual servers that are wanted and not made, since somebody else's stand there",
                Gauge::default(),
            ),
            set_members: put(
                r,
                "ipvs_agent_set_members",
                "Members of the agent's netfilter sets",
                Gauge::default(),
            ),
            routes: put(
                r,
                "ipvs_agent_routes",
                "Routes in the agent's table",
                Gauge::default(),
            ),
            messages: put(
                r,
                "ipvs_agent_netlink_messages",
                "Netlink requests sent",
                Counter::default(),
            ),
            sends: put(
                r,
                "ipvs_agent_netlink_sends",
                "sendmsg calls that carried them",
                Counter::default(),
            ),
            processes: put(
                r,
                "ipvs_agent_processes_started",
                "Processes started (iptables-save, iptables-restore)",
                Counter::default(),
            ),
            deleted_flows: put(
                r,
                "kubeproxy_conntrack_reconciler_deleted_entries",
                "Conntrack entries deleted, since they led to endpoints that are gone",
                Family::default(),
            ),
            last_sync: put(
                r,
                "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
                "Seconds since 1970 of the last pass without a failure",
                Gauge::default(),
            ),
            kubeproxy_duration: put(
                r,
                "kubeproxy_sync_proxy_rules_duration_seconds",
                "Time of a pass",
                buckets(),
            ),
            healthz: put(
                r,
                "kubeproxy_proxy_healthz",
                "Answers of /healthz, by status",
                Family::default(),
            ),
            livez: put(
                r,
                "kubeproxy_proxy_livez",
                "Answers of /livez, by status",
                Family::default(),
            ),
            programming: put(
                r,
                "kubeproxy_network_programming_duration_seconds",
                "Time from a change of endpoints, by the clock of who wrote it, to its being programmed",
                Family::new_with_constructor(programming_buckets),
            ),
            no_local: put(
                r,
                "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
                "Services with a Local traffic policy and endpoints on other nodes only",
                Family::default(),
            ),
            started: wall(),
            last_counters: Mutex::default(),
            health: Mutex::default(),
            registry: Registry::default(),
        };
        Self { registry, ..board }
    }

    /// All metrics in OpenMetrics text.
    pub fn metrics(&self, now: Moment) -> Result<String, fmt::Error> {
        for (kind, state) in self.sources.states() {
            let source = BySource {
                source: kind.to_string(),
            };
            let listed = self.source_listed.get_or_create(&source);
            listed.set(i64::from(state.listed));
            let errors = self.source_errors.get_or_create(&source);
            errors.set(i64::from(state.errors_in_a_row));
            if let Some(since) = state.silent_since() {
                let silence = self.source_silence.get_or_create(&source);
                silence.set(now.since(since).as_secs_f64());
            }
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
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

    pub fn events_taken(&self, count: usize) {
        self.events.inc_by(count as u64);
    }

    pub fn drift(&self, steps: usize) {
        self.drift.inc_by(steps as u64);
    }

    pub fn holdings(&self, holdings: Holdings) {
        let pairs = [
            (&self.virtual_servers, holdings.virtual_servers),
            (&self.real_servers, holdings.real_servers),
            (&self.draining, holdings.draining),
            (&self.foreign, holdings.foreign),
            (&self.set_members, holdings.set_members),
            (&self.routes, holdings.routes),
        ];
        for (gauge, value) in pairs {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }

    pub fn counters(&self, now: Counters) {
        let mut last = lock(&self.last_counters);
        self.messages
            .inc_by(now.netlink_messages.saturating_sub(last.netlink_messages));
        self.sends
            .inc_by(now.netlink_sends.saturating_sub(last.netlink_sends));
        self.processes
            .inc_by(now.processes.saturating_sub(last.processes));
        for (family, count) in &now.deleted_flows {
            let before = last.deleted_flows.get(family).copied().unwrap_or(0);
            let ip_family = family.to_string();
            let counter = self.deleted_flows.get_or_create(&ByIpFamily { ip_family });
            counter.inc_by(count.saturating_sub(before));
        }
        *last = now;
    }

    /// After a pass, failed or not. `pending`: something that failed waits for its retry.
    pub fn passed(&self, pass: &Pass, pending: bool, now: Moment) {
        let seconds = pass.elapsed.as_secs_f64();
        self.duration
            .get_or_create(&ByTrigger {
                trigger: pass.trigger,
            })
            .observe(seconds);
        self.kubeproxy_duration.observe(seconds);
        self.steps
            .get_or_create(&ByOutcome { outcome: "applied" })
            .inc_by(pass.applied as u64);
        self.steps
            .get_or_create(&ByOutcome { outcome: "failed" })
            .inc_by(pass.failed as u64);
        let mut health = lock(&self.health);
        if pass.failed > 0 {
            let since = health.failing.as_ref().map_or(now, |(since, _)| *since);
            health.failing = Some((since, pass.error.clone().unwrap_or_default()));
        } else if !pending {
            health.failing = None;
            health.last_good = Some(now);
            self.last_sync.set(wall_seconds());
        }
    }

    /// What somebody else's virtual servers keep from being. One at a cluster IP is the end of
    /// that Service on this node; at other addresses a Service may just have asked for too much.
    pub fn shadowed(&self, tuples: &BTreeMap<VipPort, (ObjectName, VipKind)>, now: Moment) {
        self.shadowed
            .set(i64::try_from(tuples.len()).unwrap_or(i64::MAX));
        let mut cluster_ips = tuples
            .iter()
            .filter(|(_, (_, kind))| *kind == VipKind::ClusterIp);
        let first = cluster_ips.next();
        let mut health = lock(&self.health);
        let since = health.obstructed.as_ref().map_or(now, |(since, _)| *since);
        health.obstructed = first.map(|(vip, (service, _))| {
            let more = cluster_ips.count();
            let text = format!(
                "somebody else's virtual servers hold {vip} of {service} and {more} more tuples of \
                 cluster IPs"
            );
            (since, text)
        });
    }

    /// Changes of endpoints are in the kernel by now, which began at these times.
    pub fn programmed(&self, changes: &[Triggered], now: SystemTime) {
        for (family, triggered) in changes {
            if let Some(latency) = latency(*triggered, self.started, now) {
                let ip_family = family.to_string();
                let histogram = self.programming.get_or_create(&ByIpFamily { ip_family });
                histogram.observe(latency.as_secs_f64());
            }
        }
    }

    /// By what Services are served, and why.
    pub fn serves_by(&self, dataplane: &'static str, reason: &'static str) {
        self.dataplane
            .get_or_create(&ByDataplane { dataplane, reason })
            .set(1);
    }

    /// Services that lack endpoints on this node.
    pub fn no_local(&self, services: &NoLocal) {
        for absence in Absence::all() {
            let gauge = self.no_local.get_or_create(&ByPolicy {
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
        self.healthz.get_or_create(&ByCode { code }).inc();
    }

    /// `/livez` was asked.
    pub fn livez_answered(&self, code: u16) {
        self.livez.get_or_create(&ByCode { code }).inc();
    }

    /// The loop took a turn, whatever came of it.
    pub fn turned(&self, now: Moment) {
        lock(&self.health).last_turn = Some(now);
    }

    /// After a failed attempt to read the kernel.
    pub fn failed(&self, error: &str, now: Moment) {
        self.read_failures.inc();
        let mut health = lock(&self.health);
        let since = health.failing.as_ref().map_or(now, |(since, _)| *since);
        health.failing = Some((since, error.to_owned()));
    }

    /// Whether `error` differs from the one that stands.
    pub fn error_changed(&self, error: &str) -> bool {
        lock(&self.health)
            .failing
            .as_ref()
            .is_none_or(|(_, text)| text != error)
    }
}

fn put<M>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M
where
    M: prometheus_client::registry::Metric + Clone,
{
    registry.register(name, help, metric.clone());
    metric
}

/// A panic elsewhere must not silence health.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long a change took, of those that happened while the agent ran: earlier ones waited for its
/// start. The clocks of two machines differ; what seems to lie ahead took no time.
fn latency(triggered: SystemTime, started: SystemTime, now: SystemTime) -> Option<Duration> {
    (triggered > started).then(|| now.duration_since(triggered).unwrap_or_default())
}

/// kube-proxy's: a quarter and half a second, then each second up to a minute, and ever coarser.
fn programming_buckets() -> Histogram {
    let seconds = (1..60)
        .chain((60..120).step_by(5))
        .chain((120..=300).step_by(30));
    Histogram::new([0.25, 0.5].into_iter().chain(seconds.map(f64::from)))
}

fn wall_seconds() -> f64 {
    wall()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

/// What wall clocks show, for metrics that tell of it.
#[expect(clippy::disallowed_methods, reason = "a metric of wall-clock times")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests;
