//! Health and metrics over HTTP, on kube-proxy's ports and paths.
//!
//! `/healthz`, `/livez` and `/readyz` on the health address (default `0.0.0.0:10256`); `/metrics`,
//! `/proxyMode`, `/configz`, `/healthz` on the metrics address (default `127.0.0.1:10249`). `service_health`
//! serves what load balancers ask of single Services, `listen` opens the listeners.

mod listen;
pub mod service_health;

use std::collections::{BTreeMap, BTreeSet};
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
use crate::model::{Family, Moment};
use crate::sync::Board;
use crate::sync::health::Health;
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
    /// How long something may fail before it counts.
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
    /// One entry for each family, once there was a pass that left nothing of it undone.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    status: BTreeMap<String, FamilyStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Sources that fail, with their errors. The node goes on serving what they told before.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    sources: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct FamilyStatus {
    last_updated: String,
    healthy: bool,
}

/// What is wrong, and for whom it has been for too long.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Verdict {
    reason: Option<String>,
    ill: BTreeSet<Family>,
}

impl Verdict {
    /// Ill in every family, if there is a reason.
    fn of(reason: Option<String>) -> Self {
        let ill = reason.iter().flat_map(|_| Family::ALL).collect();
        Self { reason, ill }
    }

    fn is_healthy(&self) -> bool {
        self.ill.is_empty()
    }
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
        self.board.health().was_good()
    }

    /// Whether the loop turns.
    pub fn are_alive(&self) -> bool {
        standstill(&self.board.health(), now(self), self.patience).is_none()
    }

    /// Whether Services are served as the sources want them, whatever becomes of the node.
    fn proxy_is_healthy(&self) -> bool {
        self.verdict(&self.board.health(), now(self)).is_healthy()
    }

    /// What is wrong with the data plane or with those who tell what it should do.
    fn verdict(&self, health: &Health, now: Moment) -> Verdict {
        let verdict = judge(health, now, self.patience);
        if !verdict.is_healthy() || self.source_patience.is_zero() {
            return verdict;
        }
        match self.board.stale_source(now, self.source_patience) {
            Some(stale) => Verdict::of(Some(stale)),
            None => verdict,
        }
    }
}

/// The trouble that has lasted longest is told, be it young; a loop that stands still is ill in every family.
fn judge(health: &Health, now: Moment, patience: Duration) -> Verdict {
    if let Some(reason) = standstill(health, now, patience) {
        return Verdict::of(Some(reason));
    }
    let families = health.families().into_iter();
    let troubles = families.filter_map(|(family, health)| Some((family, health.trouble()?)));
    let troubles: Vec<_> = troubles.collect();
    let longest = troubles.iter().min_by_key(|(_, (since, _))| *since);
    let told = |(_, (since, error)): &(_, (Moment, &str))| {
        format!("for {} s: {error}", now.since(*since).as_secs())
    };
    let lasting = troubles
        .iter()
        .filter(|(_, (since, _))| now.since(*since) >= patience);
    Verdict {
        reason: longest.map(told),
        ill: lasting.map(|(family, _)| *family).collect(),
    }
}

/// Whether the agent runs: false only if a restart would help. What the kernel or the node refuses
/// is not mended by one (KEP-3836).
async fn livez(State(pages): State<Pages>) -> Response {
    let (health, now) = (pages.board.health(), now(&pages));
    let verdict = Verdict::of(standstill(&health, now, pages.patience));
    let (status, body) = body(&health, now, Timestamp::now(), verdict);
    pages.board.livez_answered(status.as_u16());
    answer(&pages, status, body)
}

/// Whether this node serves what it was told, since everything was told and programmed once. The node's
/// eligibility is no part of it: a rollout need not wait for a node that is about to go.
async fn readyz(State(pages): State<Pages>) -> Response {
    let (health, now) = (pages.board.health(), now(&pages));
    let verdict = pages.verdict(&health, now);
    let verdict = match not_yet(&health) {
        None => verdict,
        Some((ill, what)) => {
            let trouble = verdict.reason.map(|reason| format!("; {reason}"));
            let reason = format!(
                "{what} has been programmed yet{}",
                trouble.unwrap_or_default()
            );
            Verdict {
                reason: Some(reason),
                ill: &ill | &verdict.ill,
            }
        }
    };
    let (status, body) = body(&health, now, Timestamp::now(), verdict);
    answer(&pages, status, body)
}

/// The families that were never programmed whole.
fn not_yet(health: &Health) -> Option<(BTreeSet<Family>, &'static str)> {
    let families = health.families().into_iter();
    let ill = families.filter_map(|(family, health)| health.last_good.is_none().then_some(family));
    let ill: BTreeSet<Family> = ill.collect();
    let what = match (ill.contains(&Family::V4), ill.contains(&Family::V6)) {
        (false, false) => return None,
        (true, true) => "nothing",
        (true, false) => "not all of IPv4",
        (false, true) => "not all of IPv6",
    };
    Some((ill, what))
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
    verdict: Verdict,
) -> (StatusCode, HealthBody) {
    let healthy = verdict.is_healthy();
    let wall = |at: Moment| current.checked_sub(now.since(at)).unwrap_or(current);
    let mut families = health.families().into_iter();
    // As in kube-proxy's: who is ill was updated when last well.
    let updated = match families.find(|(family, _)| verdict.ill.contains(family)) {
        Some((_, ill)) => wall(ill.last_good.unwrap_or_default()),
        None => current,
    };
    let families = health.families().into_iter();
    let status = families.filter_map(|(family, health)| {
        let status = FamilyStatus {
            last_updated: wall(health.last_good?).to_string(),
            healthy: !verdict.ill.contains(&family),
        };
        Some((family.to_string(), status))
    });
    let body = HealthBody {
        last_updated: updated.to_string(),
        current_time: current.to_string(),
        node_eligible: None,
        healthy,
        status: status.collect(),
        reason: verdict.reason,
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
    verdict: Verdict,
) -> (StatusCode, HealthBody) {
    let (status, mut body) = body(health, now, current, verdict);
    body.node_eligible = Some(health.leaving.is_none());
    let Some(leaving) = health.leaving else {
        return (status, body);
    };
    // As in kube-proxy's: what is well itself was updated with its last family.
    let good = health
        .families()
        .into_iter()
        .filter_map(|(_, family)| family.last_good);
    if body.healthy
        && let Some(last) = good.max()
    {
        let last = current.checked_sub(now.since(last)).unwrap_or(current);
        body.last_updated = last.to_string();
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
