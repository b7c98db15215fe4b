//! Health and metrics over HTTP, on kube-proxy's ports and paths.
//!
//! `/healthz`, `/livez` and `/readyz` on the health address (default `0.0.0.0:10256`); `/metrics`,
//! `/proxyMode`, `/configz`, `/healthz` on the metrics address (default `127.0.0.1:10249`). `service_health`
//! serves what load balancers ask of single Services, `listen` opens the listeners.

mod listen;
pub mod service_health;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::Timestamp;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::text::Format;
use crate::metrics::traffic::Traffic;
use crate::model::Moment;
use crate::sync::Board;
use crate::sync::board::Health;
pub use listen::{ListenError, listen};

/// What the handlers need.
#[derive(Clone)]
pub struct Pages {
    pub board: Arc<Board>,
    /// What the kernel counts for Services, where it is asked for.
    pub traffic: Option<Arc<Traffic>>,
    /// By what Services are served: `ipvs` or `iptables`.
    pub dataplane: &'static str,
    /// The configuration in force.
    pub effective: Arc<serde_json::Map<String, serde_json::Value>>,
    /// The clock that `Moment` counts from.
    pub started: std::time::Instant,
    /// How long something may fail before it counts: twice the audit interval, as kube-proxy's
    /// sync period.
    pub patience: Duration,
    /// How long a source may tell nothing before it counts; zero: for ever.
    pub source_patience: Duration,
}

/// kube-proxy's body, with the reason of a failure beside it.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct HealthBody {
    last_updated: String,
    current_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_eligible: Option<bool>,
    /// Of the proxy alone: a healthy one may stand on a node that is about to go.
    healthy: bool,
    /// One entry for each family, once there was a pass without a failure.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    status: BTreeMap<&'static str, FamilyHealth>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Sources that fail, with their errors. The node goes on serving what they told before.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    sources: BTreeMap<String, String>,
}

/// Both families are planned and applied together, so their entries are the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct FamilyHealth {
    last_updated: String,
    healthy: bool,
}

/// Serves health checks until shut down.
pub async fn serve_health(
    listener: TcpListener,
    pages: Pages,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(pages);
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
}

/// Serves metrics until shut down.
pub async fn serve_metrics(
    listener: TcpListener,
    pages: Pages,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route(
            "/proxyMode",
            get(async |State(pages): State<Pages>| pages.dataplane),
        )
        .route("/configz", get(configz))
        .route("/healthz", get(healthz))
        .with_state(pages);
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
}

/// The configuration in force, with the values of the file, the flags and the defaults.
async fn configz(State(pages): State<Pages>) -> Response {
    let effective = BTreeMap::from([("ipvs-agent.io", &*pages.effective)]);
    axum::Json(effective).into_response()
}

/// Whether this node serves, and will go on doing so.
async fn healthz(State(pages): State<Pages>) -> Response {
    let (health, now) = (pages.board.health(), now(&pages));
    let verdict = pages.verdict(&health, now);
    let (status, body) = healthz_body(&health, now, Timestamp::now(), verdict);
    pages.board.healthz_answered(status.as_u16());
    answer(&pages, status, body)
}

impl Pages {
    /// Whether everything was programmed once.
    pub fn are_ready(&self) -> bool {
        self.board.health().last_good.is_some()
    }

    /// Whether the loop turns.
    pub fn are_alive(&self) -> bool {
        standstill(&self.board.health(), now(self), self.patience).is_none()
    }

    /// Whether Services are served as the sources want them, whatever becomes of the node.
    fn proxy_is_healthy(&self) -> bool {
        let (_, bad) = self.verdict(&self.board.health(), now(self));
        !bad
    }

    /// What is wrong with the data plane or with those who tell what it should do.
    fn verdict(&self, health: &Health, now: Moment) -> (Option<String>, bool) {
        let (reason, bad) = judge(health, now, self.patience);
        if bad || self.source_patience.is_zero() {
            return (reason, bad);
        }
        match self.board.stale_source(now, self.source_patience) {
            Some(stale) => (Some(stale), true),
            None => (reason, bad),
        }
    }
}

/// What is wrong, and whether it has been for too long.
fn judge(health: &Health, now: Moment, patience: Duration) -> (Option<String>, bool) {
    let troubles = [&health.failing, &health.obstructed];
    let trouble = troubles.into_iter().flatten().next();
    let reason = trouble
        .map(|(since, error)| format!("for {} s: {error}", now.since(*since).as_secs()))
        .or_else(|| standstill(health, now, patience));
    let lasts = trouble.is_none_or(|(since, _)| now.since(*since) >= patience);
    let bad = reason.is_some() && lasts;
    (reason, bad)
}

/// Whether the agent runs: false only if a restart would help. What the kernel or the node refuses
/// is not mended by one (KEP-3836).
async fn livez(State(pages): State<Pages>) -> Response {
    let (health, now) = (pages.board.health(), now(&pages));
    let reason = standstill(&health, now, pages.patience);
    let bad = reason.is_some();
    let (status, body) = body(&health, now, Timestamp::now(), (reason, bad));
    pages.board.livez_answered(status.as_u16());
    answer(&pages, status, body)
}

/// Whether this node serves what it was told, since everything was told and programmed once. The node's
/// eligibility is no part of it: a rollout need not wait for a node that is about to go.
async fn readyz(State(pages): State<Pages>) -> Response {
    let (health, now) = (pages.board.health(), now(&pages));
    let (reason, bad) = match health.last_good {
        None => (Some("nothing has been programmed yet".to_owned()), true),
        Some(_) => pages.verdict(&health, now),
    };
    let (status, body) = body(&health, now, Timestamp::now(), (reason, bad));
    answer(&pages, status, body)
}

/// The loop takes a turn at every audit; one that takes none hangs.
fn standstill(health: &Health, now: Moment, patience: Duration) -> Option<String> {
    let idle = now.since(health.last_turn?);
    (idle > patience.saturating_add(SLOWEST_TURN))
        .then(|| format!("the loop has not turned for {} s", idle.as_secs()))
}

#[expect(clippy::disallowed_methods, reason = "the shell's clock")]
fn now(pages: &Pages) -> Moment {
    Moment(std::time::Instant::now().saturating_duration_since(pages.started))
}

/// What `/livez` says: all but the node's eligibility.
fn body(
    health: &Health,
    now: Moment,
    current: Timestamp,
    (reason, bad): (Option<String>, bool),
) -> (StatusCode, HealthBody) {
    let healthy = !bad;
    let wall = |at: Moment| current.checked_sub(now.since(at)).unwrap_or(current);
    let last_good = health.last_good.map(wall);
    let updated = if healthy {
        current
    } else {
        last_good.unwrap_or_else(|| wall(Moment::default()))
    };
    let family = last_good.map(|last_updated| FamilyHealth {
        last_updated: last_updated.to_string(),
        healthy,
    });
    let families = ["IPv4", "IPv6"].into_iter();
    let body = HealthBody {
        last_updated: updated.to_string(),
        current_time: current.to_string(),
        node_eligible: None,
        healthy,
        status: families
            .filter_map(|name| Some((name, family.clone()?)))
            .collect(),
        reason,
        sources: BTreeMap::new(),
    };
    let status = if healthy {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, body)
}

/// What `/healthz` says: the proxy's health and whether the node is about to go.
fn healthz_body(
    health: &Health,
    now: Moment,
    current: Timestamp,
    verdict: (Option<String>, bool),
) -> (StatusCode, HealthBody) {
    let (status, mut body) = body(health, now, current, verdict);
    body.node_eligible = Some(health.leaving.is_none());
    let Some(leaving) = health.leaving else {
        return (status, body);
    };
    // As in kube-proxy's: what is not well was updated when it was last well.
    if let Some(family) = body.status.values().next() {
        body.last_updated.clone_from(&family.last_updated);
    }
    body.reason = body.reason.or_else(|| Some(leaving.to_string()));
    (StatusCode::SERVICE_UNAVAILABLE, body)
}

fn answer(pages: &Pages, status: StatusCode, body: HealthBody) -> Response {
    let body = HealthBody {
        sources: pages.board.failing_sources(),
        ..body
    };
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    match serde_json::to_string(&body) {
        Ok(text) => (status, headers, text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn metrics(State(pages): State<Pages>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT);
    let format = Format::of_accept(accept.and_then(|value| value.to_str().ok()));
    if let Some(traffic) = pages.traffic.clone() {
        let clock = pages.clone();
        let read = move || traffic.refresh(&|| now(&clock));
        // Where it fails, or takes long, the rest is told all the same, and what was read before.
        let reading = tokio::task::spawn_blocking(read);
        let _ = tokio::time::timeout(READING_AT_MOST, reading).await;
    }
    match pages.board.metrics(now(&pages)) {
        Ok(text) => {
            let content_type = [(header::CONTENT_TYPE, format.content_type())];
            (content_type, format.of_open_metrics(text)).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Prometheus gives up after ten seconds unless it is told otherwise.
const READING_AT_MOST: Duration = Duration::from_secs(5);

/// Beyond this nobody waits for a turn: a first sync of a large cluster, or schedulers changed for
/// all Services at once.
const SLOWEST_TURN: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests;
