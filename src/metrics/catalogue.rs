//! The registry, with a note of what each metric is: what is told and what is documented have one
//! source.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::EncodeMetric;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry, Unit};

use super::labels::Labels;

/// What one metric is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As it is asked for: a counter ends with `_total`.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

impl Entry {
    /// `seconds` or `bytes`, as the name ends; `None`: a number of things.
    pub fn unit(&self) -> Option<&'static str> {
        let name = self.name.strip_suffix("_total").unwrap_or(&self.name);
        UNITS.into_iter().find(|unit| name.ends_with(unit))
    }
}

/// A metric that knows its labels.
pub trait Described: Metric + Clone {
    /// The names of its labels.
    fn labels() -> &'static [&'static str] {
        &[]
    }
}

impl<N, A> Described for Counter<N, A> where Self: Metric {}
impl<N, A> Described for Gauge<N, A> where Self: Metric {}
impl Described for Histogram {}

impl<S: Labels, M, C> Described for Family<S, M, C>
where
    Self: Metric + Clone,
{
    fn labels() -> &'static [&'static str] {
        S::NAMES
    }
}

/// A collector that says what it tells.
pub trait DescribedCollector: Collector {
    /// All that it may tell.
    fn entries() -> Vec<Entry>;
}

/// All metrics.
#[derive(Debug, Default)]
pub struct Catalogue {
    registry: Registry,
    entries: Vec<Entry>,
}

impl Catalogue {
    /// Registers a metric. A counter's name is given without `_total`.
    pub fn put<M: Described>(&mut self, name: &str, help: &'static str, metric: M) -> M {
        self.entries.push(entry(
            name,
            EncodeMetric::metric_type(&metric),
            M::labels(),
            help,
        ));
        let unit = UNITS.into_iter().find_map(|unit| {
            let rest = name.strip_suffix(unit)?.strip_suffix('_')?;
            Some((rest, self::unit(unit)))
        });
        match unit {
            Some((rest, unit)) => {
                self.registry
                    .register_with_unit(rest, help, unit, metric.clone());
            }
            None => self.registry.register(name, help, metric.clone()),
        }
        metric
    }

    /// Registers what is found out when it is asked for.
    pub fn put_collector<C: DescribedCollector>(&mut self, collector: C) {
        self.entries.extend(C::entries());
        self.registry.register_collector(Box::new(collector));
    }

    /// What there is, in the order of registration.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// All metrics that have a value, in OpenMetrics text.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// The entry of a metric; a counter's name is given without `_total`.
pub fn entry(
    name: &str,
    kind: MetricType,
    labels: &'static [&'static str],
    help: &'static str,
) -> Entry {
    let (suffix, kind) = match kind {
        MetricType::Counter => ("_total", "counter"),
        MetricType::Gauge => ("", "gauge"),
        MetricType::Histogram => ("", "histogram"),
        MetricType::Info => ("_info", "gauge"),
        MetricType::Unknown => ("", "untyped"),
    };
    Entry {
        name: format!("{name}{suffix}"),
        kind,
        labels,
        help,
    }
}

fn unit(name: &str) -> Unit {
    match name {
        "bytes" => Unit::Bytes,
        _ => Unit::Seconds,
    }
}

/// The units that there are.
const UNITS: [&str; 2] = ["seconds", "bytes"];

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// Kind, help and labels of a metric.
    type About = (String, String, BTreeSet<String>);

    impl From<Entry> for (String, About) {
        fn from(entry: Entry) -> Self {
            let labels = entry.labels.iter().map(|label| (*label).to_owned());
            let about = (
                entry.kind.to_owned(),
                format!("{}.", entry.help),
                labels.collect(),
            );
            (entry.name, about)
        }
    }

    /// What a scrape in OpenMetrics text tells of each metric.
    pub(crate) fn told(text: &str) -> BTreeMap<String, About> {
        let (mut told, mut help, mut name): (BTreeMap<String, About>, _, _) =
            (BTreeMap::new(), "", String::new());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                help = rest.split_once(' ').unwrap().1;
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (of, kind) = rest.split_once(' ').unwrap();
                let suffix = if kind == "counter" { "_total" } else { "" };
                name = format!("{of}{suffix}");
                let about = (kind.to_owned(), help.to_owned(), BTreeSet::new());
                let before = told.insert(name.clone(), about);
                assert!(before.is_none(), "{name} twice");
            } else if !line.starts_with('#') {
                let Some((_, labels)) = line.split_once('{') else {
                    continue;
                };
                let (labels, _) = labels.rsplit_once('}').unwrap();
                let labels = labels
                    .split(',')
                    .map(|pair| pair.split_once('=').unwrap().0);
                let labels = labels.filter(|label| *label != "le").map(str::to_owned);
                told.get_mut(&name).unwrap().2.extend(labels);
            }
        }
        told
    }

    #[test]
    fn a_unit_is_the_end_of_the_name() {
        let unit = |name: &str, kind| entry(name, kind, &[], "").unit();
        assert_eq!(unit("a_bytes", MetricType::Counter), Some("bytes"));
        assert_eq!(unit("a_seconds", MetricType::Histogram), Some("seconds"));
        assert_eq!(unit("a_things", MetricType::Gauge), None);
    }
}
