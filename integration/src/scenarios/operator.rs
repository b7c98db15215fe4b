//! What an operator meets: health, metrics, the log, ways to the API server.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{Lab, answered_by, at, node_addresses};
use crate::dataplane::Dataplane;
use crate::guest::agent::Agent;
use crate::guest::cluster::State::Ready;
use crate::guest::http::{self, HEALTH_PORT, METRICS_PORT, Page};
use crate::guest::probe::Transport::Tcp;
use crate::guest::topology::{CLIENT, P11, P12, P21, node_v4};
use crate::guest::wait::eventually;
use crate::guest::{kernel, sh};
use crate::protocol::TOKEN;

pub fn health(lab: &mut Lab) -> Result<()> {
    let vips = lab.cluster.service("web", json!({}), json!({}))?;
    lab.cluster
        .endpoints("web", &[(P11, Ready), (P21, Ready)])?;
    for vip in &vips {
        answered_by("p12", Tcp, at(vip, 80)?, &["p11", "p21"])?;
    }
    // A load balancer asks at the node's address, a kubelet may ask either page.
    let outside = at(&node_v4("n1"), HEALTH_PORT)?;
    healthy(&page(CLIENT, outside, "/healthz")?, Some(true))?;
    healthy(&page("n1", outside, "/livez")?, None)?;
    // The node's own page beside the metrics, which nobody outside may read.
    let own = at("127.0.0.1", METRICS_PORT)?;
    healthy(&page("n1", own, "/healthz")?, Some(true))?;
    let mode = page("n1", own, "/proxyMode")?;
    let wanted = lab.program.dataplane.name();
    ensure!(
        (mode.status, mode.body.as_str()) == (200, wanted),
        "{mode:?}"
    );
    let configz = page("n1", own, "/configz")?;
    let told: Value = serde_json::from_str(&configz.body).context("/configz is no JSON")?;
    let told = &told["ipvs-agent.io"];
    // What a flag of the lab's says, and what nobody says.
    ensure!(
        told["nodeName"] == "n1" && told["auditInterval"].is_string(),
        "{told}"
    );
    let from_outside = http::get(CLIENT, at(&node_v4("n1"), METRICS_PORT)?, "/metrics")?;
    ensure!(from_outside.is_none(), "metrics for all: {from_outside:?}");
    metrics_tell_what_is_served(lab)?;
    first_line_tells_what_was_found(lab)?;
    json_log(lab)
}

fn page(from: &str, server: SocketAddr, path: &str) -> Result<Page> {
    http::get(from, server, path)?.with_context(|| format!("nobody listens at {server}"))
}

/// kube-proxy's body.
fn healthy(page: &Page, node_eligible: Option<bool>) -> Result<()> {
    ensure!(
        page.status == 200 && page.content_type == "application/json",
        "{page:?}"
    );
    let body: Value = serde_json::from_str(&page.body).context("the body is no JSON")?;
    ensure!(body["healthy"] == true, "{body}");
    ensure!(
        body.get("nodeEligible") == node_eligible.map(Value::from).as_ref(),
        "{body}"
    );
    for field in ["lastUpdated", "currentTime"] {
        let time = body[field].as_str().unwrap_or_default();
        ensure!(
            time.contains('T') && time.ends_with('Z'),
            "{field} of {body}"
        );
    }
    Ok(())
}

fn metrics_tell_what_is_served(lab: &Lab) -> Result<()> {
    let metrics = page("n1", at("127.0.0.1", METRICS_PORT)?, "/metrics")?;
    ensure!(metrics.status == 200, "{metrics:?}");
    ensure!(
        metrics
            .content_type
            .starts_with("text/plain; version=0.0.4"),
        "{}",
        metrics.content_type
    );
    ensure!(
        metrics
            .body
            .contains("\n# TYPE ipvs_agent_steps_total counter\n"),
        "a counter has another name:\n{}",
        metrics.body
    );
    eventually("the metrics count what the kernel balances", || {
        let served = lab.served("n1")?;
        let endpoints = served.tuples.values().map(|to| to.endpoints.len());
        let endpoints: usize = endpoints.sum();
        let shown = [served.tuples.len() as f64, endpoints as f64];
        let metrics = http::metrics("n1")?;
        let told = ["ipvs_agent_virtual_servers", "ipvs_agent_real_servers"]
            .map(|name| metrics.get(name).copied().unwrap_or_default());
        Ok(if told == shown && shown[0] >= 2.0 {
            Ok(())
        } else {
            Err(format!("the metrics tell {told:?} of\n{served}"))
        })
    })
}

fn first_line_tells_what_was_found(lab: &mut Lab) -> Result<()> {
    let log = lab.agent("n1")?.log();
    let first = log.lines().next().unwrap_or_default();
    // Without IPVS there are none.
    let schedulers = match lab.program.dataplane {
        Dataplane::Ipvs => Vec::from_iter(kernel::schedulers()?).join(","),
        Dataplane::Iptables => "ipvs=\"none\"".to_owned(),
    };
    let source = lab.cluster.kubeconfig.display().to_string();
    for found in [
        "ipvs-agent starts",
        &kernel::release()?,
        &schedulers,
        &source,
    ] {
        ensure!(
            first.contains(found),
            "{found:?} is not in the first line {first:?}"
        );
    }
    Ok(())
}

/// An agent that logs JSON and tells its health in both families.
fn json_log(lab: &mut Lab) -> Result<()> {
    lab.stop_agent("n2")?;
    lab.start_agent_with(
        "n2",
        &["--log-format", "json", "--health-address", "[::]:10256"],
    )?;
    let vips = lab.cluster.service("other", json!({}), json!({}))?;
    lab.cluster.endpoints("other", &[(P21, Ready)])?;
    for vip in &vips {
        answered_by("n2", Tcp, at(vip, 80)?, &["p21"])?;
    }
    for addr in node_addresses("n2") {
        healthy(
            &page(CLIENT, at(&addr, HEALTH_PORT)?, "/healthz")?,
            Some(true),
        )?;
    }
    let log = lab.agent("n2")?.log();
    lab.stop_agent("n2")?;
    let mut messages = Vec::new();
    for line in log.lines() {
        let event: Value =
            serde_json::from_str(line).with_context(|| format!("no JSON: {line:?}"))?;
        for field in ["timestamp", "level", "message"] {
            ensure!(event[field].is_string(), "no {field} in {line:?}");
        }
        messages.push(event["message"].as_str().unwrap_or_default().to_owned());
    }
    ensure!(
        messages
            .first()
            .is_some_and(|first| first == "ipvs-agent starts")
            && messages.iter().any(|message| message == "synced"),
        "too little is told: {messages:?}"
    );
    Ok(())
}

/// Dashboards for kube-proxy find what they look for.
pub fn kube_proxy_metrics(lab: &mut Lab) -> Result<()> {
    let local = json!({ "internalTrafficPolicy": "Local" });
    let vips = lab.cluster.service("web", json!({}), local)?;
    lab.cluster.endpoints("web", &[(P11, Ready)])?;
    answered_by("p12", Tcp, at(&vips[0], 80)?, &["p11"])?;
    let lacking = "kubeproxy_sync_proxy_rules_no_local_endpoints_total";
    let internal = format!("{lacking}{{traffic_policy=\"internal\",ip_family=\"IPv4\"}}");
    let external = format!("{lacking}{{traffic_policy=\"external\",ip_family=\"IPv4\"}}");
    shows(&[(&internal, 0.0), (&external, 0.0)])?;
    // One that was written for something of long ago, one for something of now, one for nothing new.
    let programming = "kubeproxy_network_programming_duration_seconds";
    let count = format!("{programming}_count{{ip_family=\"IPv4\"}}");
    let before = http::metrics("n1")?
        .get(&count)
        .copied()
        .unwrap_or_default();
    let trigger = "endpoints.kubernetes.io/last-change-trigger-time";
    let (slice, long_ago) = ("web-ipv4", "2001-01-01T00:00:00Z");
    lab.cluster.annotate_slice(slice, trigger, long_ago)?;
    lab.cluster
        .endpoints("web", &[(P11, Ready), (P12, Ready)])?;
    answered_by("p12", Tcp, at(&vips[0], 80)?, &["p11", "p12"])?;
    let now = sh("date -u +%Y-%m-%dT%H:%M:%S.%NZ")?;
    lab.cluster.annotate_slice(slice, trigger, now.trim())?;
    lab.cluster.endpoints("web", &[(P21, Ready)])?;
    shows(&[(&count, before + 1.0), (&internal, 1.0), (&external, 0.0)])?;
    let metrics = http::metrics("n1")?;
    let sum = metrics.get(&format!("{programming}_sum{{ip_family=\"IPv4\"}}"));
    ensure!(
        sum.is_some_and(|sum| *sum > 0.0),
        "it took no time: {sum:?}"
    );
    lab.cluster.endpoints("web", &[])?;
    shows(&[(&internal, 0.0)])?;
    // Lists are answered and over; watches are answered, and go on.
    let metrics = http::metrics("n1")?;
    let total = |begin: &str| -> f64 {
        let series = metrics.iter().filter(|(name, _)| name.starts_with(begin));
        series.map(|(_, value)| value).sum()
    };
    let answered =
        total("rest_client_requests_total{code=\"200\",method=\"GET\",host=\"10.97.0.1:6443\"}");
    let timed =
        total("rest_client_request_duration_seconds_count{verb=\"GET\",host=\"10.97.0.1:6443\"}");
    ensure!(
        timed >= 3.0 && answered >= timed + 3.0,
        "{answered} requests were answered, {timed} were timed"
    );
    Ok(())
}

/// n1's metrics come to have these values.
fn shows(wanted: &[(&str, f64)]) -> Result<()> {
    eventually("the metrics tell it", || {
        let metrics = http::metrics("n1")?;
        let wrong = wanted
            .iter()
            .find(|(name, value)| metrics.get(*name) != Some(value));
        Ok(wrong.map_or(Ok(()), |(name, value)| {
            Err(format!(
                "{name} is {:?} and not {value}",
                metrics.get(*name)
            ))
        }))
    })
}

/// All that the agent needs to know of the API server is on its command line.
pub fn apiserver_flag(lab: &mut Lab) -> Result<()> {
    // Packets to the first address end in a device that drops them; the second has no route.
    sh("ip route replace 192.0.2.0/24 dev dummy0")?;
    let server = lab.cluster.server.url.clone();
    let servers = format!("https://192.0.2.1:6443,https://[2001:db8::1]:6443,{server}");
    let authority = lab.cluster.server.authority.display().to_string();
    std::fs::write("/run/token", TOKEN)?;
    let given = |authority| {
        let server = ["--apiserver", &servers, "--token-file", "/run/token"];
        [&server[..], &["--apiserver-ca", authority]].concat()
    };

    // A server of another authority is not believed, whoever asks for it.
    lab.stop_agent("n3")?;
    let other = "req -x509 -newkey rsa:2048 -nodes -subj /CN=other -keyout /run/other.key";
    sh(&format!("openssl {other} -out /run/other.crt"))?;
    let disbelieving = Agent::start(&lab.program, "n3", &given("/run/other.crt"))?;
    eventually("the certificate is refused", || {
        let log = disbelieving.log();
        let told = log
            .lines()
            .any(|line| line.contains("certificate") && line.contains(&server));
        Ok(if told { Ok(()) } else { Err(log) })
    })?;
    drop(disbelieving);

    let mut agent = Agent::start(&lab.program, "n3", &given(&authority))?;
    agent.synced()?;
    lab.agents.push(agent);
    let vips = lab.cluster.service("web", json!({}), json!({}))?;
    lab.cluster.endpoints("web", &[(P11, Ready)])?;
    for vip in &vips {
        answered_by("p32", Tcp, at(vip, 80)?, &["p11"])?;
    }
    lab.stop_agent("n3")?;
    sh("ip route del 192.0.2.0/24 dev dummy0")?;
    Ok(())
}
