//! Requests to the API server, under the names that Kubernetes' own clients tell of them.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use super::catalogue::Catalogue;
use super::labels::{ByRequest, ByVerb};

/// What has been asked, and how it went; cheap to clone.
#[derive(Debug, Clone)]
pub struct ApiRequests {
    made: Family<ByRequest, Counter>,
    took: Family<ByVerb, Histogram>,
}

impl Default for ApiRequests {
    fn default() -> Self {
        Self {
            made: Family::default(),
            took: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
        }
    }
}

impl ApiRequests {
    /// Puts both metrics among the others.
    pub fn register(&self, catalogue: &mut Catalogue) {
        catalogue.put(
            "rest_client_requests",
            "Requests to the API server, by status",
            self.made.clone(),
        );
        catalogue.put(
            "rest_client_request_duration_seconds",
            "Time until the API server answered a request that is no watch",
            self.took.clone(),
        );
    }

    /// One was answered with a status, or, `None`, not at all. `seconds` until it was; `None` for a watch, whose
    /// answer goes on.
    pub fn ended(&self, method: &str, host: &str, status: Option<u16>, seconds: Option<f64>) {
        let label = ByRequest {
            code: status.map_or_else(|| "<error>".to_owned(), |status| status.to_string()),
            method: method.to_owned(),
            host: host.to_owned(),
        };
        self.made.get_or_create(&label).inc();
        if let Some(seconds) = seconds {
            let label = ByVerb {
                verb: method.to_owned(),
                host: host.to_owned(),
            };
            self.took.get_or_create(&label).observe(seconds);
        }
    }
}

/// Seconds, as in k8s.io/component-base.
const BUCKETS: [f64; 12] = [
    0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0,
];
