//! `healthCheckNodePort`: one listener for each Service that asks for it, on which load balancers
//! learn whether this node has endpoints of it. Any path; kube-proxy's body and headers.
//!
//! One task owns all listeners. A port that cannot be opened is told and tried again, ever more
//! seldom; nothing else waits for it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Pages, listen};
use crate::model::{
    Family, HealthCheck, HealthCheckChange, Notice, ObjectName, Problem, Reason, Topic,
};

/// The listeners of all Services.
pub struct ServiceHealth {
    pages: Pages,
    node: String,
    notices: Option<UnboundedSender<Notice>>,
    services: BTreeMap<ObjectName, Served>,
    /// Ports that could not be opened, by when they are tried again.
    retries: BTreeMap<(Instant, ObjectName), u32>,
}

/// One Service's health check.
struct Served {
    uid: Box<str>,
    wanted: watch::Sender<HealthCheck>,
    state: Port,
}

/// The port of a health check.
enum Port {
    Open(Listener),
    Failed { until: Instant },
}

/// A listener at work.
struct Listener {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// What a request is answered from.
#[derive(Clone)]
struct Answering {
    pages: Pages,
    service: Arc<ObjectName>,
    check: watch::Receiver<HealthCheck>,
}

impl ServiceHealth {
    /// No listeners yet. Ports that cannot be opened go to `notices`.
    pub fn new(pages: Pages, node: String, notices: Option<UnboundedSender<Notice>>) -> Self {
        Self {
            pages,
            node,
            notices,
            services: BTreeMap::new(),
            retries: BTreeMap::new(),
        }
    }

    /// Follows the changes until shut down.
    pub async fn run(
        mut self,
        mut changes: UnboundedReceiver<HealthCheckChange>,
        shutdown: CancellationToken,
    ) {
        loop {
            let due = self.retries.keys().next().map(|(at, _)| *at);
            let retry = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => break,
                change = changes.recv() => match change {
                    Some(change) => self.take(change).await,
                    None => break,
                },
                () = retry => self.retry().await,
            }
        }
        for (_, served) in std::mem::take(&mut self.services) {
            served.state.close().await;
        }
    }

    /// Opens, closes, moves or merely recounts.
    async fn take(&mut self, change: HealthCheckChange) {
        let HealthCheckChange {
            service,
            uid,
            check,
        } = change;
        if let (Some(served), Some(check)) = (self.services.get_mut(&service), &check)
            && served.port() == check.port
        {
            served.uid = uid;
            served.wanted.send_replace(check.clone());
            return;
        }
        if let Some(served) = self.services.remove(&service) {
            self.close(&service, served).await;
        }
        let Some(check) = check else {
            return;
        };
        let (wanted, _) = watch::channel(check);
        self.open(service, uid, wanted, 0).await;
    }

    async fn close(&mut self, service: &ObjectName, served: Served) {
        debug!(%service, port = served.port(), "health check closed");
        if let Port::Failed { until } = &served.state {
            self.retries.remove(&(*until, service.clone()));
            self.notice(service, &served.uid, None);
        }
        served.state.close().await;
    }

    /// Tries again those whose time has come.
    async fn retry(&mut self) {
        let now = Instant::now();
        while let Some(entry) = self.retries.first_entry()
            && entry.key().0 <= now
        {
            let ((_, service), failures) = entry.remove_entry();
            if let Some(served) = self.services.remove(&service) {
                let (uid, wanted) = (served.uid, served.wanted);
                self.open(service, uid, wanted, failures).await;
            }
        }
    }

    /// Opens a port that has failed to open `failures` times running.
    async fn open(
        &mut self,
        service: ObjectName,
        uid: Box<str>,
        wanted: watch::Sender<HealthCheck>,
        failures: u32,
    ) {
        let port = wanted.borrow().port;
        let all = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let state = match listen(all).await {
            Ok(listener) => {
                debug!(%service, port, "health check opened");
                if failures > 0 {
                    info!(%service, port, "the health check port is open at last");
                    self.notice(&service, &uid, None);
                }
                let answering = Answering {
                    pages: self.pages.clone(),
                    service: Arc::new(service.clone()),
                    check: wanted.subscribe(),
                };
                Port::Open(Listener::start(listener, answering))
            }
            Err(error) => {
                if failures == 0 {
                    warn!(%service, port, error = %error.source, "cannot open the health check port; retrying");
                    self.notice(&service, &uid, Some((port, &error.source)));
                }
                let until = Instant::now() + backoff(failures);
                self.retries.insert((until, service.clone()), failures + 1);
                Port::Failed { until }
            }
        };
        self.services.insert(service, Served { uid, wanted, state });
    }

    fn notice(&self, service: &ObjectName, uid: &str, failure: Option<(u16, &std::io::Error)>) {
        let problem = failure.map(|(port, error)| Problem {
            reason: Reason::FailedToStartServiceHealthcheck,
            text: format!(
                "spec.healthCheckNodePort {port}: node {} cannot listen there: {error}; load \
                 balancers take it for a node without endpoints until the port is free",
                self.node
            ),
        });
        if let Some(notices) = &self.notices {
            // Fails only while the agent ends.
            let _ = notices.send(Notice {
                service: service.clone(),
                uid: uid.into(),
                topic: Topic::HealthCheck,
                problems: problem.into_iter().collect(),
            });
        }
    }
}

impl Served {
    fn port(&self) -> u16 {
        self.wanted.borrow().port
    }
}

impl Port {
    async fn close(self) {
        if let Self::Open(listener) = self {
            listener.close().await;
        }
    }
}

impl Listener {
    fn start(listener: TcpListener, answering: Answering) -> Self {
        let stop = CancellationToken::new();
        let router = Router::new().fallback(respond).with_state(answering);
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let server =
            axum::serve(listener, service).with_graceful_shutdown(stop.clone().cancelled_owned());
        let task = tokio::spawn(async move {
            // An error of one connection does not end it; there is no other.
            let _ = server.await;
        });
        Self { stop, task }
    }

    /// The port is free when this returns; requests under way are still answered.
    async fn close(self) {
        self.stop.cancel();
        self.task.abort();
        let _ = self.task.await;
    }
}

async fn respond(
    State(answering): State<Answering>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
) -> Response {
    // IPv4 clients of a listener for both families show as IPv4 in IPv6.
    let family = Family::of(client.ip().to_canonical());
    let count = answering.check.borrow().count(family);
    let healthy = answering.pages.proxy_is_healthy();
    response(&answering.service, count, healthy)
}

/// kube-proxy's answer, to the byte (`pkg/proxy/healthcheck/service_health.go`).
fn response(service: &ObjectName, count: usize, healthy: bool) -> Response {
    let ObjectName { namespace, name } = service;
    let status = if count > 0 && healthy {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let headers = [
        (header::CONTENT_TYPE, "application/json".to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (WEIGHT, count.to_string()),
    ];
    // Names of objects have nothing in them that JSON would write in another way.
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{namespace}\",\n\t\t\"name\": \"{name}\"\n\t}},\n\
         \t\"localEndpoints\": {count},\n\t\"serviceProxyHealthy\": {healthy}\n}}"
    );
    (status, headers, body).into_response()
}

/// 1 s, 2 s, 4 s … a minute.
fn backoff(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.min(6)).min(LONGEST_WAIT)
}

const WEIGHT: header::HeaderName =
    header::HeaderName::from_static("x-load-balancing-endpoint-weight");
const LONGEST_WAIT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
