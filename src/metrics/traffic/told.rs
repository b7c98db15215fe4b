//! What Prometheus gets of the kernel's counters. Nothing at all where nobody asked for it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeMetric, LabelSetEncoder, MetricEncoder,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use super::account::{Counts, Sum};
use crate::metrics::catalogue::{DescribedCollector, Entry, entry};
use crate::metrics::lock;
use crate::metrics::process::sentence;
use crate::model::ServicePortName;

/// The last reading; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Told(Arc<Mutex<Snapshot>>);

/// All lines at one moment.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) lines: Vec<Line>,
    /// Services and endpoints without room.
    pub(super) left_out: [usize; 2],
    /// Endpoints are asked for.
    pub(super) backends: bool,
    pub(super) reading: Option<Reading>,
}

/// What reading the kernel's counters took.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Reading {
    /// The last one.
    pub(super) seconds: f64,
    /// Readings that failed so far.
    pub(super) failures: u64,
    /// Requests over netlink so far.
    pub(super) messages: u64,
}

/// A Service port or one of its endpoints.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) owner: ServicePortName,
    pub(super) backend: Option<SocketAddr>,
    pub(super) sum: Sum,
}

impl Told {
    pub(super) fn set(&self, snapshot: Snapshot) {
        *lock(&self.0) = snapshot;
    }
}

impl DescribedCollector for Told {
    fn entries() -> Vec<Entry> {
        use MetricType::{Counter, Gauge};
        let mut entries = vec![
            entry("ipvs_agent_traffic_left_out", Gauge, &["of"], LEFT_OUT),
            entry("ipvs_agent_traffic_read_duration_seconds", Gauge, &[], TOOK),
            entry("ipvs_agent_traffic_read_failures", Counter, &[], FAILURES),
            entry(
                "ipvs_agent_traffic_netlink_messages",
                Counter,
                &[],
                MESSAGES,
            ),
        ];
        for of in [Of::Service, Of::Backend] {
            for (what, kind, _, labels, help) in of.metrics() {
                entries.push(entry(
                    &format!("ipvs_agent_{of}_{what}"),
                    kind,
                    labels,
                    help,
                ));
            }
        }
        entries
    }
}

impl Collector for Told {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let snapshot = lock(&self.0);
        let Some(reading) = snapshot.reading else {
            return Ok(());
        };
        let name = "ipvs_agent_traffic_left_out";
        let mut left_out =
            encoder.encode_descriptor(name, &sentence(LEFT_OUT), None, MetricType::Gauge)?;
        let kinds = [("services", true), ("backends", snapshot.backends)];
        for ((of, asked), count) in kinds.into_iter().zip(snapshot.left_out) {
            if asked {
                let count = ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
                count.encode(left_out.encode_family(&[("of", of)])?)?;
            }
        }
        let name = "ipvs_agent_traffic_read_duration";
        let unit = Unit::Seconds;
        let took =
            encoder.encode_descriptor(name, &sentence(TOOK), Some(&unit), MetricType::Gauge)?;
        ConstGauge::new(reading.seconds).encode(took)?;
        for (name, help, count) in [
            (
                "ipvs_agent_traffic_read_failures",
                FAILURES,
                reading.failures,
            ),
            (
                "ipvs_agent_traffic_netlink_messages",
                MESSAGES,
                reading.messages,
            ),
        ] {
            let metric =
                encoder.encode_descriptor(name, &sentence(help), None, MetricType::Counter)?;
            ConstCounter::new(count).encode(metric)?;
        }
        for of in [Of::Service, Of::Backend] {
            let lines = snapshot.lines.iter();
            let lines: Vec<&Line> = lines
                .filter(|line| line.backend.is_some() == (of == Of::Backend))
                .collect();
            // Prometheus wants no metric without a sample.
            if lines.is_empty() {
                continue;
            }
            for (what, kind, values, _, text) in of.metrics() {
                // The registry puts the unit behind the name.
                let name = match what {
                    "bytes" => format!("ipvs_agent_{of}"),
                    what => format!("ipvs_agent_{of}_{what}"),
                };
                let unit = (what == "bytes").then_some(Unit::Bytes);
                let mut metric =
                    encoder.encode_descriptor(&name, &sentence(text), unit.as_ref(), kind)?;
                for line in &lines {
                    encode_line(&mut metric, line, kind, values)?;
                }
            }
        }
        Ok(())
    }
}

fn encode_line(
    metric: &mut MetricEncoder<'_>,
    line: &Line,
    kind: MetricType,
    values: Values,
) -> fmt::Result {
    for (label, value) in values(&line.sum) {
        let labels = LineLabels { line, label };
        let encoder = metric.encode_family(&labels)?;
        match kind {
            MetricType::Counter => ConstCounter::new(value).encode(encoder)?,
            _ => ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(encoder)?,
        }
    }
    Ok(())
}

/// The samples of one metric, each with its own label.
type Values = fn(&Sum) -> Vec<(Option<(&'static str, &'static str)>, u64)>;

/// What lines are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Service,
    Backend,
}

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Service => "service",
            Self::Backend => "backend",
        })
    }
}

type Metric = (
    &'static str,
    MetricType,
    Values,
    &'static [&'static str],
    &'static str,
);

impl Of {
    fn metrics(self) -> [Metric; 4] {
        let (connections, packets, bytes, open): (Values, Values, Values, Values) = (
            |sum| vec![(None, sum.counts.connections)],
            |sum| directions(|counts| counts.packets, sum),
            |sum| directions(|counts| counts.bytes, sum),
            |sum| {
                vec![
                    (Some(("state", "active")), sum.active),
                    (Some(("state", "inactive")), sum.inactive),
                ]
            },
        );
        use MetricType::{Counter, Gauge};
        match self {
            Self::Service => [
                (
                    "connections",
                    Counter,
                    connections,
                    &SERVICE,
                    "Connections that a Service's port was given",
                ),
                (
                    "packets",
                    Counter,
                    packets,
                    &SERVICE_DIRECTION,
                    "Packets from clients of a Service's port (in) and to them (out)",
                ),
                (
                    "bytes",
                    Counter,
                    bytes,
                    &SERVICE_DIRECTION,
                    "Bytes from clients of a Service's port (in) and to them (out)",
                ),
                (
                    "open_connections",
                    Gauge,
                    open,
                    &SERVICE_STATE,
                    "Connections of a Service's port that IPVS remembers: active ones are established",
                ),
            ],
            Self::Backend => [
                (
                    "connections",
                    Counter,
                    connections,
                    &BACKEND,
                    "Connections that an endpoint of a Service's port was given",
                ),
                (
                    "packets",
                    Counter,
                    packets,
                    &BACKEND_DIRECTION,
                    "Packets from clients to an endpoint (in) and from it to them (out)",
                ),
                (
                    "bytes",
                    Counter,
                    bytes,
                    &BACKEND_DIRECTION,
                    "Bytes from clients to an endpoint (in) and from it to them (out)",
                ),
                (
                    "open_connections",
                    Gauge,
                    open,
                    &BACKEND_STATE,
                    "Connections to an endpoint that IPVS remembers: active ones are established",
                ),
            ],
        }
    }
}

fn directions(
    of: fn(&Counts) -> [u64; 2],
    sum: &Sum,
) -> Vec<(Option<(&'static str, &'static str)>, u64)> {
    let [inward, outward] = of(&sum.counts);
    vec![
        (Some(("direction", "in")), inward),
        (Some(("direction", "out")), outward),
    ]
}

/// `namespace`, `service` and `pod` are Prometheus' own, of the agent that it asked.
struct LineLabels<'a> {
    line: &'a Line,
    label: Option<(&'static str, &'static str)>,
}

impl EncodeLabelSet for LineLabels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let owner = &self.line.owner;
        let protocol = owner.protocol.to_string();
        let backend = self.line.backend.map(|addr| addr.to_string());
        let texts = [
            (SERVICE[0], &*owner.service.namespace),
            (SERVICE[1], &*owner.service.name),
            (SERVICE[2], &*owner.port),
            (SERVICE[3], protocol.as_str()),
        ];
        let backend = backend.as_deref().map(|text| (BACKEND[4], text));
        for (name, text) in texts.into_iter().chain(backend).chain(self.label) {
            use prometheus_client::encoding::EncodeLabel;
            (name, text).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

const SERVICE: [&str; 4] = [
    "service_namespace",
    "service_name",
    "service_port",
    "protocol",
];
const SERVICE_DIRECTION: [&str; 5] = with(SERVICE, "direction");
const SERVICE_STATE: [&str; 5] = with(SERVICE, "state");
const BACKEND: [&str; 5] = with(SERVICE, "backend");
const BACKEND_DIRECTION: [&str; 6] = with5(BACKEND, "direction");
const BACKEND_STATE: [&str; 6] = with5(BACKEND, "state");

const fn with(of: [&'static str; 4], last: &'static str) -> [&'static str; 5] {
    [of[0], of[1], of[2], of[3], last]
}

const fn with5(of: [&'static str; 5], last: &'static str) -> [&'static str; 6] {
    [of[0], of[1], of[2], of[3], of[4], last]
}

const LEFT_OUT: &str = "Service ports and endpoints (services, backends) that are not told, as there is no room for more series";
const TOOK: &str = "Time that the last reading of the kernel's counters took";
const FAILURES: &str = "Failed readings of the kernel's counters";
const MESSAGES: &str = "Netlink requests that these readings sent";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Catalogue;
    use crate::metrics::catalogue::tests::told;
    use crate::model::{ObjectName, Protocol};

    fn line(backend: Option<&str>) -> Line {
        Line {
            owner: ServicePortName {
                service: ObjectName::new("shop", "web"),
                port: "http".into(),
                protocol: Protocol::Tcp,
            },
            backend: backend.map(|text| text.parse().unwrap()),
            sum: Sum {
                counts: Counts {
                    connections: 1,
                    packets: [2, 3],
                    bytes: [4, 5],
                },
                active: 6,
                inactive: 7,
            },
        }
    }

    #[test]
    fn what_is_told_is_what_the_entries_say() {
        let mut catalogue = Catalogue::default();
        let shared = Told::default();
        catalogue.put_collector(shared.clone());
        assert_eq!(catalogue.encode().unwrap(), "# EOF\n");
        shared.set(Snapshot {
            lines: vec![line(None), line(Some("[fd00::1]:8080"))],
            left_out: [0, 9],
            backends: true,
            reading: Some(Reading {
                seconds: 0.25,
                failures: 3,
                messages: 12,
            }),
        });
        let text = catalogue.encode().unwrap();
        let entries = catalogue.entries().iter().cloned();
        assert_eq!(told(&text), entries.map(Into::into).collect());
        let of = "service_namespace=\"shop\",service_name=\"web\",service_port=\"http\",protocol=\"TCP\"";
        let backend = format!("{of},backend=\"[fd00::1]:8080\"");
        for wanted in [
            format!("ipvs_agent_service_connections_total{{{of}}} 1"),
            format!("ipvs_agent_service_packets_total{{{of},direction=\"out\"}} 3"),
            format!("ipvs_agent_service_bytes_total{{{of},direction=\"in\"}} 4"),
            format!("ipvs_agent_backend_bytes_total{{{backend},direction=\"out\"}} 5"),
            format!("ipvs_agent_backend_open_connections{{{backend},state=\"active\"}} 6"),
            "ipvs_agent_traffic_left_out{of=\"backends\"} 9".to_owned(),
            "ipvs_agent_traffic_read_failures_total 3".to_owned(),
        ] {
            assert!(text.lines().any(|line| line == wanted), "{wanted}\n{text}");
        }
        // As many as the limit is reckoned with.
        let series = text.lines().filter(|line| line.contains("service_name="));
        assert_eq!(series.count(), 2 * super::super::account::SERIES_OF_ONE);
    }
}
