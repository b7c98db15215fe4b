//! Health and metrics over HTTP, on kube-proxy's ports and paths.
//!
//! `/healthz` and `/livez` on the health address (default `0.0.0.0:10256`); `/metrics`,
//! `/proxyMode`, `/healthz` on the metrics address (default `127.0.0.1:10249`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::Timestamp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::model::Moment;
use crate::sync::Board;

/// What the handlers need.
#[derive(Clone)]
pub struct Pages {
    pub board: Arc<Board>,
    /// The clock that `Moment` counts from.
    pub started: std::time::Instant,
}

/// kube-proxy's body, with the reason of a failure beside it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct HealthBody {
    last_updated: String,
    current_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_eligible: Option<bool>,
    healthy: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Sources that fail, with their errors. The node goes on serving what they told before.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    sources: BTreeMap<String, String>,
}

/// Cannot serve at an address.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}; is a kube-proxy or another ipvs-agent at work there?")]
pub struct ListenError {
    pub address: SocketAddr,
    #[source]
    pub source: std::io::Error,
}

/// Opens a listener. Done at start, so that an address in use is told at once.
pub async fn listen(address: SocketAddr) -> Result<tokio::net::TcpListener, ListenError> {
    tokio::net::TcpListener::bind(address)
        .await
        .map_err(|source| ListenError { address, source })
}

/// Serves health checks until shut down.
pub async fn serve_health(
    listener: tokio::net::TcpListener,
    pages: Pages,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/livez", get(livez))
        .with_state(pages);
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
}

/// Serves metrics until shut down.
pub async fn serve_metrics(
    listener: tokio::net::TcpListener,
    pages: Pages,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/proxyMode", get(async || "ipvs"))
        .route("/healthz", get(healthz))
        .with_state(pages);
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
}

async fn healthz(State(pages): State<Pages>) -> Response {
    health(&pages, Some(true))
}

/// Without the node's own state, so that a kubelet does not restart the agent for it (KEP-3836).
async fn livez(State(pages): State<Pages>) -> Response {
    health(&pages, None)
}

#[expect(clippy::disallowed_methods, reason = "the shell's clock")]
fn health(pages: &Pages, node_eligible: Option<bool>) -> Response {
    let health = pages.board.health();
    let now = Moment(std::time::Instant::now().saturating_duration_since(pages.started));
    let current = Timestamp::now();
    let healthy = health.failing.is_none();
    let updated = match (healthy, health.last_good) {
        (true, _) => current,
        (false, Some(at)) => current.checked_sub(now.since(at)).unwrap_or(current),
        (false, None) => current.checked_sub(now.0).unwrap_or(current),
    };
    let body = HealthBody {
        last_updated: updated.to_string(),
        current_time: current.to_string(),
        node_eligible,
        healthy,
        reason: health
            .failing
            .map(|(since, error)| format!("failing for {} s: {error}", now.since(since).as_secs())),
        sources: pages.board.failing_sources(),
    };
    let status = if healthy {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
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

async fn metrics(State(pages): State<Pages>) -> Response {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match pages.board.metrics() {
        Ok(text) => ([(header::CONTENT_TYPE, content_type)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
