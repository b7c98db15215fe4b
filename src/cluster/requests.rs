//! Counts the requests to the API server, whoever makes them, and notes when each kind of object was answered.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use hyper::{Method, Request, Response};
use tower::{Layer, Service};

use super::event::Kind;
use crate::metrics::{ApiRequests, lock};
use crate::model::Moment;

/// Where requests are counted; cheap to clone.
#[derive(Clone)]
pub struct RequestMeter {
    pub requests: ApiRequests,
    /// When a list or watch of a kind was last answered well. Of nothing else: names would be without end.
    answered: Arc<Mutex<BTreeMap<Kind, Moment>>>,
    clock: Arc<dyn Fn() -> Moment + Send + Sync>,
}

impl RequestMeter {
    /// One that has counted nothing.
    pub fn new(clock: Arc<dyn Fn() -> Moment + Send + Sync>) -> Self {
        Self {
            requests: ApiRequests::default(),
            answered: Arc::default(),
            clock,
        }
    }

    /// When the API server last answered a list or watch of a kind. A watch of what never changes tells nothing
    /// else: it is made anew about every minute.
    pub fn answered(&self, kind: Kind) -> Option<Moment> {
        lock(&self.answered).get(&kind).copied()
    }

    /// Counts what a client asks of one API server. Requests that come here do not name it yet.
    pub fn of_host(&self, host: String) -> MeterLayer {
        MeterLayer {
            meter: self.clone(),
            host,
        }
    }
}

/// Goes around a client's stack of layers. What that tries again by itself is one request, with its last answer.
#[derive(Clone)]
pub struct MeterLayer {
    meter: RequestMeter,
    host: String,
}

impl<S> Layer<S> for MeterLayer {
    type Service = Metered<S>;

    fn layer(&self, inner: S) -> Metered<S> {
        Metered {
            inner,
            layer: self.clone(),
        }
    }
}

/// What is counted.
pub struct Metered<S> {
    inner: S,
    layer: MeterLayer,
}

impl<S, A, B> Service<Request<A>> for Metered<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let method = request.method().to_string();
        let path = request.uri().path();
        let plural = path.rsplit('/').next().unwrap_or_default();
        let kind = Kind::ALL.into_iter().find(|kind| kind.plural() == plural);
        let kind = kind.filter(|_| request.method() == Method::GET);
        let mut words = request.uri().query().unwrap_or_default().split('&');
        let watches = words.any(|word| word == "watch=true");
        let MeterLayer { meter, host } = self.layer.clone();
        let begun = (meter.clock)();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let result = answer.await;
            let status = result.as_ref().ok().map(|answer| answer.status().as_u16());
            let now = (meter.clock)();
            let is_well = status.is_some_and(|status| (200..300).contains(&status));
            if let Some(kind) = kind.filter(|_| is_well) {
                lock(&meter.answered).insert(kind, now);
            }
            let seconds = (!watches).then(|| now.since(begun).as_secs_f64());
            meter.requests.ended(&method, &host, status, seconds);
            result
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::metrics::Catalogue;

    /// The API server answers, but at `/gone/nodes`.
    async fn answer(request: Request<()>) -> io::Result<Response<()>> {
        match request.uri().path() {
            "/gone/nodes" => Err(io::Error::other("gone")),
            _ => Ok(Response::default()),
        }
    }

    #[tokio::test]
    async fn what_goes_on_has_no_duration_and_what_fails_no_status() {
        let seconds = AtomicU64::new(0);
        let meter = RequestMeter::new(Arc::new(move || {
            Moment(Duration::from_secs(seconds.fetch_add(1, Ordering::Relaxed)))
        }));
        let layer = meter.of_host("192.0.2.1:6443".to_owned());
        // As a client hands them to its layers.
        for path in [
            "/api/v1/services?limit=500",
            "/api/v1/services?watch=true&timeoutSeconds=60",
            "/gone/nodes",
        ] {
            let request = Request::get(path).body(()).unwrap();
            let _ = layer.layer(service_fn(answer)).oneshot(request).await;
        }
        assert_eq!(meter.answered(Kind::Node), None);
        // The second one's end, by a clock that tells one second more each time.
        let second = Moment(Duration::from_secs(3));
        assert_eq!(meter.answered(Kind::Services), Some(second));
        let mut catalogue = Catalogue::default();
        meter.requests.register(&mut catalogue);
        let text = catalogue.encode().unwrap();
        for line in [
            r#"rest_client_requests_total{code="200",method="GET",host="192.0.2.1:6443"} 2"#,
            r#"rest_client_requests_total{code="<error>",method="GET",host="192.0.2.1:6443"} 1"#,
            r#"rest_client_request_duration_seconds_sum{verb="GET",host="192.0.2.1:6443"} 2.0"#,
            r#"rest_client_request_duration_seconds_count{verb="GET",host="192.0.2.1:6443"} 2"#,
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
