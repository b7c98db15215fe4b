//! What the kernel counts for Services and endpoints, as metrics, beside what ipvsadm shows of it.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde_json::json;

use super::{Lab, answered_by, at};
use crate::guest::cluster::State::Ready;
use crate::guest::http::{self, sum};
use crate::guest::probe::Transport::Tcp;
use crate::guest::sh_in;
use crate::guest::topology::{P11, P21};
use crate::guest::wait::eventually;

/// Nothing unless it is asked for; then what ipvsadm shows, and no more series than are allowed.
pub fn metrics(lab: &mut Lab) -> Result<()> {
    let of_traffic = |metrics: &BTreeMap<String, f64>| -> usize {
        let names = ["service", "backend", "traffic"].map(|of| format!("ipvs_agent_{of}_"));
        let series = metrics.keys();
        series
            .filter(|series| names.iter().any(|name| series.starts_with(name)))
            .count()
    };
    let unasked = of_traffic(&http::metrics("n1")?);
    ensure!(unasked == 0, "{unasked} series that nobody asked for");
    lab.stop_agent("n1")?;
    lab.start_agent_with("n1", &["--traffic-metrics", "backends"])?;
    // That is the first scrape: what comes from here on is counted.
    lab.agent("n1")?.synced()?;
    let vips = lab.cluster.service("web", json!({}), json!({}))?;
    lab.cluster
        .endpoints("web", &[(P11, Ready), (P21, Ready)])?;
    for vip in &vips {
        answered_by("p12", Tcp, at(vip, 80)?, &["p11", "p21"])?;
    }
    eventually("the metrics tell what ipvsadm shows", || {
        let shown = shown(&vips)?;
        let told = told(&http::metrics("n1")?);
        Ok(
            if shown == told && shown.values().all(|counts| counts[0] > 0.0) {
                Ok(())
            } else {
                Err(format!("ipvsadm shows {shown:?}, and {told:?} is told"))
            },
        )
    })?;
    // Room for one Service of several, and for no endpoint.
    lab.stop_agent("n1")?;
    let little = [
        "--traffic-metrics",
        "backends",
        "--traffic-metrics-limit",
        "13",
    ];
    lab.start_agent_with("n1", &little)?;
    lab.agent("n1")?.synced()?;
    eventually("there is room for one Service alone", || {
        let metrics = http::metrics("n1")?;
        let series = |of: &str| {
            let name = format!("ipvs_agent_{of}_");
            metrics
                .keys()
                .filter(|series| series.starts_with(&name))
                .count()
        };
        let left_out = |of: &str| {
            let label = format!("of=\"{of}\"");
            sum(&metrics, "ipvs_agent_traffic_left_out", &label)
        };
        let found = (series("service"), series("backend"));
        let left_out = (left_out("services"), left_out("backends"));
        Ok(
            if found == (7, 0) && left_out.0 >= 1.0 && left_out.1 >= 2.0 {
                Ok(())
            } else {
                Err(format!("{found:?} series, and {left_out:?} left out"))
            },
        )
    })
}

/// Connections, packets in and out, bytes in and out.
type Counts = [f64; 5];

/// Of the virtual servers together (without a name), and of each real server's port.
fn shown(vips: &[String]) -> Result<BTreeMap<String, Counts>> {
    let mut shown = BTreeMap::new();
    for vip in vips {
        let server = at(vip, 80)?;
        let list = sh_in("n1", &format!("ipvsadm -Ln --stats --exact -t {server}"))?;
        for line in list.lines() {
            let mut words = line.split_whitespace();
            let name = match words.next() {
                Some("TCP") => words.next().map(|_| String::new()),
                Some("->") => words.next().map(str::to_owned),
                _ => None,
            };
            // Headings have no numbers.
            let numbers: Vec<f64> = words.filter_map(|word| word.parse().ok()).collect();
            let (Some(name), Ok(numbers)) = (name, Counts::try_from(numbers)) else {
                continue;
            };
            let sums: &mut Counts = shown.entry(name).or_default();
            for (sum, number) in sums.iter_mut().zip(numbers) {
                *sum += number;
            }
        }
    }
    ensure!(shown.len() >= 3, "ipvsadm shows {shown:?}");
    Ok(shown)
}

/// The same from the metrics.
fn told(metrics: &BTreeMap<String, f64>) -> BTreeMap<String, Counts> {
    let mut told: BTreeMap<String, Counts> = BTreeMap::new();
    let names = [
        ("connections_total", ""),
        ("packets_total", "direction=\"in\""),
        ("packets_total", "direction=\"out\""),
        ("bytes_total", "direction=\"in\""),
        ("bytes_total", "direction=\"out\""),
    ];
    for (series, value) in metrics {
        for (place, (name, label)) in names.into_iter().enumerate() {
            let of = ["service", "backend"].map(|of| format!("ipvs_agent_{of}_{name}{{"));
            let is = of.iter().any(|of| series.starts_with(of.as_str()));
            if is && series.contains(label) && series.contains("service_name=\"web\"") {
                let backend = series.split_once("backend=\"").and_then(|(_, rest)| {
                    rest.split_once('"').map(|(backend, _)| backend.to_owned())
                });
                told.entry(backend.unwrap_or_default()).or_default()[place] += value;
            }
        }
    }
    told
}
