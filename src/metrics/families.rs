//! The metrics of the loop, of its sources and of its pages. Registration alone: `sync::board` gives
//! them their values.
//!
//! A metric that means what one of kube-proxy's means has kube-proxy's name, labels and buckets.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::catalogue::Catalogue;
use super::labels::{
    ByCode, ByDataplane, ByIpFamily, ByOutcome, ByPhase, ByPolicy, ByReason, BySource, ByStep,
    BySubsystem, ByTrigger, ByVersion,
};
use super::process::Process;
use super::requests::ApiRequests;
use super::traffic::Told;

/// Seconds, or a time.
pub type FloatGauge = Gauge<f64, AtomicU64>;

macro_rules! families {
    ($($field:ident: $kind:ty = $name:literal, $help:literal $(, $made:expr)?;)+) => {
        /// All of them.
        #[derive(Debug)]
        pub struct Families {
            pub catalogue: Catalogue,
            $(pub $field: $kind),+
        }

        impl Families {
            /// Each registered, and none with a value yet. `started`: of the process, in seconds
            /// since 1970; `requests` to the API server; `traffic` what is told of the kernel's counters.
            pub fn new(started: f64, requests: &ApiRequests, traffic: Told) -> Self {
                let mut catalogue = Catalogue::default();
                $(
                    let $field: $kind = families!(@made $kind $(, $made)?);
                    let $field = catalogue.put($name, $help, $field);
                )+
                requests.register(&mut catalogue);
                catalogue.put_collector(traffic);
                catalogue.put_collector(Process { started });
                Self { catalogue, $($field),+ }
            }
        }
    };
    (@made $kind:ty) => { <$kind>::default() };
    (@made $kind:ty, $made:expr) => { $made };
}

families! {
    build: Family<ByVersion, Gauge> = "ipvs_agent_build_info",
        "1, with the agent's version";
    dataplane: Family<ByDataplane, Gauge> = "ipvs_agent_dataplane",
        "1 for that by which Services are served, with the reason";

    source_listed: Family<BySource, Gauge> = "ipvs_agent_source_listed",
        "1 once a source has told all objects of a kind";
    source_errors: Family<BySource, Gauge> = "ipvs_agent_source_errors_in_a_row",
        "Failures of a source since it last answered; 0 is well";
    source_failures: Family<BySource, Counter> = "ipvs_agent_source_failures",
        "Failures of a source";
    source_silence: Family<BySource, FloatGauge> = "ipvs_agent_source_silence_seconds",
        "Time since a source last told anything, if only that it is there";
    source_events: Counter = "ipvs_agent_source_events",
        "Changes that the sources have told";

    sync: Family<ByTrigger, Histogram> = "ipvs_agent_sync_duration_seconds",
        "Time of a pass, by what caused it: first, change, drain, retry, audit", Family::new_with_constructor(pass_buckets);
    phases: Family<ByPhase, Histogram> = "ipvs_agent_sync_phase_duration_seconds",
        "Time of a part of a pass: observe reads the kernel, resolve and plan compute, apply writes", Family::new_with_constructor(pass_buckets);
    steps: Family<ByStep, Counter> = "ipvs_agent_steps",
        "Steps against the kernel: applied, failed, skipped as one before them failed, unknown as the answer was lost, postponed";
    drift: Counter = "ipvs_agent_drift_repaired_steps",
        "Steps that an audit found necessary: somebody else changed the kernel";
    read_failures: Counter = "ipvs_agent_observe_failures",
        "Failed attempts to read the kernel's state";

    virtual_servers: Gauge = "ipvs_agent_virtual_servers",
        "Virtual servers programmed";
    real_servers: Gauge = "ipvs_agent_real_servers",
        "Real servers programmed";
    foreign: Gauge = "ipvs_agent_foreign_virtual_servers",
        "Virtual servers in the kernel that are not ours and are not touched";
    shadowed: Gauge = "ipvs_agent_shadowed_virtual_servers",
        "Virtual servers that are wanted and not made, since somebody else's stand there";
    set_members: Gauge = "ipvs_agent_set_members",
        "Members of the agent's netfilter sets";
    routes: Gauge = "ipvs_agent_routes",
        "Routes in the agent's table";

    draining: Gauge = "ipvs_agent_draining_virtual_servers",
        "Virtual servers with a draining real server";
    draining_real_servers: Gauge = "ipvs_agent_draining_real_servers",
        "Real servers that take no new connections and finish what they have";
    drains_begun: Counter = "ipvs_agent_drains_begun",
        "Real servers that have begun to drain";
    drains_ended: Family<ByReason, Counter> = "ipvs_agent_drains_ended",
        "Drains that ended: idle, without a connection left; cut, at the deadline or as the node was lost; deleted, with the Service, its port or its address; returned, as the endpoint serves again";

    refused: Family<ByReason, Gauge> = "ipvs_agent_refused_objects",
        "Services of which a part is not served as asked, by the reason that their Events have";
    events: Family<ByOutcome, Counter> = "ipvs_agent_events",
        "Kubernetes Events: made, counted in the series of an earlier one, known as another agent made the same, left_out by the rate limits, failed";

    netlink_messages: Family<BySubsystem, Counter> = "ipvs_agent_netlink_messages",
        "Netlink requests sent";
    netlink_sends: Family<BySubsystem, Counter> = "ipvs_agent_netlink_sends",
        "Batches: sendmsg calls that carried the requests";
    netlink_errors: Family<BySubsystem, Counter> = "ipvs_agent_netlink_errors",
        "Netlink requests that the kernel refused, and answers that were lost";
    processes: Counter = "ipvs_agent_processes_started",
        "Processes started (iptables-save, iptables-restore)";

    kubeproxy_sync: Family<ByIpFamily, Histogram> = "kubeproxy_sync_proxy_rules_duration_seconds",
        "Time of a pass; both families are programmed in one", Family::new_with_constructor(pass_buckets);
    last_sync: Family<ByIpFamily, FloatGauge> = "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
        "Seconds since 1970 of the last pass that left nothing undone";
    last_queued: Family<ByIpFamily, FloatGauge> = "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
        "Seconds since 1970 of the last change that a pass was needed for";
    endpoint_changes: Counter = "kubeproxy_sync_proxy_rules_endpoint_changes",
        "Changes of EndpointSlices";
    endpoint_changes_pending: Gauge = "kubeproxy_sync_proxy_rules_endpoint_changes_pending",
        "Changes of EndpointSlices that no pass has taken up yet";
    service_changes: Counter = "kubeproxy_sync_proxy_rules_service_changes",
        "Changes of Services";
    service_changes_pending: Gauge = "kubeproxy_sync_proxy_rules_service_changes_pending",
        "Changes of Services that no pass has taken up yet";
    programming: Family<ByIpFamily, Histogram> = "kubeproxy_network_programming_duration_seconds",
        "Time from a change of endpoints, by the clock of who wrote it, to its being programmed", Family::new_with_constructor(programming_buckets);
    no_local: Family<ByPolicy, Gauge> = "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
        "Services with a Local traffic policy and endpoints on other nodes only";
    restore_failures: Family<ByIpFamily, Counter> = "kubeproxy_sync_proxy_rules_iptables_restore_failures",
        "Failed runs of iptables-restore";
    deleted_flows: Family<ByIpFamily, Counter> = "kubeproxy_conntrack_reconciler_deleted_entries",
        "Conntrack entries deleted, since they led to endpoints that are gone";
    healthz: Family<ByCode, Counter> = "kubeproxy_proxy_healthz",
        "Answers of /healthz, by status";
    livez: Family<ByCode, Counter> = "kubeproxy_proxy_livez",
        "Answers of /livez, by status";
}

/// 1 ms to 16 s, as kube-proxy's.
fn pass_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

/// kube-proxy's: a quarter and half a second, then each second up to a minute, and ever coarser.
fn programming_buckets() -> Histogram {
    let seconds = (1..60)
        .chain((60..120).step_by(5))
        .chain((120..=300).step_by(30));
    Histogram::new([0.25, 0.5].into_iter().chain(seconds.map(f64::from)))
}
