//! Counts the requests to the API server, whoever makes them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::{Request, Response};
use tower::{Layer, Service};

use crate::metrics::ApiRequests;
use crate::model::Moment;

/// Counts what passes a client's stack of layers; cheap to clone.
#[derive(Clone)]
pub struct RequestMeter {
    pub requests: ApiRequests,
    clock: Arc<dyn Fn() -> Moment + Send + Sync>,
}

impl RequestMeter {
    /// One that has counted nothing.
    pub fn new(clock: Arc<dyn Fn() -> Moment + Send + Sync>) -> Self {
        Self {
            requests: ApiRequests::default(),
            clock,
        }
    }
}

impl<S> Layer<S> for RequestMeter {
    type Service = Metered<S>;

    fn layer(&self, inner: S) -> Metered<S> {
        Metered {
            inner,
            meter: self.clone(),
        }
    }
}

/// What is counted.
pub struct Metered<S> {
    inner: S,
    meter: RequestMeter,
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
        let uri = request.uri();
        let host = uri.authority().map(ToString::to_string).unwrap_or_default();
        let mut words = uri.query().unwrap_or_default().split('&');
        let watches = words.any(|word| word == "watch=true");
        let RequestMeter { requests, clock } = self.meter.clone();
        let begun = clock();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let result = answer.await;
            let status = result.as_ref().ok().map(|answer| answer.status().as_u16());
            let seconds = clock().since(begun).as_secs_f64();
            requests.ended(&method, &host, status, (!watches).then_some(seconds));
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

    /// The API server answers after a second, but at `/gone`.
    async fn answer(request: Request<()>) -> io::Result<Response<()>> {
        match request.uri().path() {
            "/gone" => Err(io::Error::other("gone")),
            _ => Ok(Response::default()),
        }
    }

    #[tokio::test]
    async fn what_goes_on_has_no_duration_and_what_fails_no_status() {
        let seconds = AtomicU64::new(0);
        let meter = RequestMeter::new(Arc::new(move || {
            Moment(Duration::from_secs(seconds.fetch_add(1, Ordering::Relaxed)))
        }));
        for path in [
            "/api/v1/services?limit=500",
            "/api/v1/services?watch=true&timeoutSeconds=60",
            "/gone",
        ] {
            let request = Request::get(format!("https://192.0.2.1:6443{path}"));
            let request = request.body(()).unwrap();
            let _ = meter.layer(service_fn(answer)).oneshot(request).await;
        }
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
