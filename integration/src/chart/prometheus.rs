//! A Prometheus that scrapes an agent at work.

use std::fs;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::Bench;
use super::alerts::queries;
use super::helm::text;
use super::permissions::{Installed, is_served, slice};
use crate::guest::tool;
use crate::guest::wait::eventually;

/// Each query of the dashboard gives a number while endpoints change. A Prometheus reads every line of the agent's.
pub fn panels(bench: &Bench) -> Result<()> {
    let mut installed = Installed::new(bench, "panels")?;
    installed.start()?;
    is_served(&installed)?;
    let _prometheus = Prometheus::start(bench)?;
    let mut change = 0;
    let mut queries = queries(bench)?;
    let others = KUBE_PROXYS.iter();
    queries.extend(others.map(|query| ("kube-proxy's".to_owned(), (*query).to_owned())));
    eventually("every panel has an answer", || {
        change += 1;
        change_endpoints(bench, change)?;
        let empty = queries.iter().filter(|(_, query)| !has_answer(query));
        let empty: Vec<_> = empty.collect();
        Ok(if empty.is_empty() {
            Ok(())
        } else {
            Err(format!("no answer: {empty:?}"))
        })
    })?;
    knows_units()
}

/// Only OpenMetrics tells units: that is what it asks for and gets.
fn knows_units() -> Result<()> {
    let metric = "ipvs_agent_sync_duration_seconds";
    let url = format!("http://{ADDRESS}/api/v1/metadata?metric={metric}");
    let found: Value = serde_json::from_str(&tool("busybox", &["wget", "-q", "-O", "-", &url])?)?;
    let known = &found["data"][metric][0];
    ensure!(
        known["unit"] == "seconds" && known["type"] == "histogram",
        "{found}"
    );
    Ok(())
}

/// Killed when dropped.
struct Prometheus(Child);

impl Prometheus {
    fn start(bench: &Bench) -> Result<Self> {
        let config = json!({
            "global": { "scrape_interval": "1s", "scrape_timeout": "1s" },
            "scrape_configs": [{
                "job_name": "ipvs-agent",
                "static_configs": [{ "targets": ["127.0.0.1:10249"] }],
            }],
        });
        let path = bench.work.join("prometheus.yaml");
        fs::write(&path, config.to_string())?;
        let data = bench.work.join("prometheus");
        let child = Command::new(&bench.prometheus)
            .arg(format!("--config.file={}", text(&path)?))
            .arg(format!("--storage.tsdb.path={}", text(&data)?))
            .arg(format!("--web.listen-address={ADDRESS}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start prometheus")?;
        Ok(Self(child))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Another endpoint, by a controller that says when.
fn change_endpoints(bench: &Bench, number: usize) -> Result<()> {
    let mut slice = slice();
    let now = Timestamp::now().to_string();
    slice["metadata"]["annotations"] =
        json!({ "endpoints.kubernetes.io/last-change-trigger-time": now });
    slice["endpoints"][0]["addresses"] = json!([format!("10.244.1.{}", 10 + number % 200)]);
    bench.server.apply(&slice)
}

/// Whether there is a number in what is found.
fn has_answer(query: &str) -> bool {
    let url = format!("http://{ADDRESS}/api/v1/query?query={}", encoded(query));
    let Ok(text) = tool("busybox", &["wget", "-q", "-O", "-", &url]) else {
        return false;
    };
    let found: Value = serde_json::from_str(&text).unwrap_or_default();
    let samples = found["data"]["result"].as_array().cloned();
    let mut samples = samples.unwrap_or_default().into_iter();
    samples.any(|sample| {
        sample["value"][1]
            .as_str()
            .is_some_and(|value| value != "NaN")
    })
}

/// For a URL's query.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// What dashboards for kube-proxy ask for, such as that of kubernetes-mixin.
const KUBE_PROXYS: [&str; 8] = [
    "sum(up)",
    "sum by (instance) (rate(kubeproxy_sync_proxy_rules_duration_seconds_count[20s]))",
    "histogram_quantile(0.99, rate(kubeproxy_sync_proxy_rules_duration_seconds_bucket[20s]))",
    "sum by (instance) (rate(kubeproxy_network_programming_duration_seconds_count[20s]))",
    "histogram_quantile(0.99, sum by (le) (rate(kubeproxy_network_programming_duration_seconds_bucket[20s])))",
    "sum(rate(rest_client_requests_total{code=~\"2..\"}[20s]))",
    "process_resident_memory_bytes",
    "rate(process_cpu_seconds_total[20s])",
];
const ADDRESS: &str = "127.0.0.1:9090";
