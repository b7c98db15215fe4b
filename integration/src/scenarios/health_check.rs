//! `healthCheckNodePort`, as a load balancer outside asks it. Body and headers are those of
//! kube-proxy's source (`pkg/proxy/healthcheck/service_health.go`).

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{Lab, answered_by, at, node_addresses};
use crate::dataplane::Dataplane;
use crate::guest::cluster::State::{NotReady, Ready, Terminating};
use crate::guest::http::{self, Page};
use crate::guest::probe::Transport::Tcp;
use crate::guest::server::Server;
use crate::guest::sh_in;
use crate::guest::topology::{CLIENT, NODES, P11, P12, P21, P31};
use crate::guest::wait::eventually;

pub fn health_check(lab: &mut Lab) -> Result<()> {
    let claimed = ["10.96.78.8", "fd00:96::7878"];
    let mut spec = keeps_local(PORT);
    spec["clusterIP"] = json!(claimed[0]);
    spec["clusterIPs"] = json!(claimed);
    lab.cluster.service("lb", json!({}), spec)?;
    told("lb", PORT, [0, 0, 0])?;
    lab.cluster.endpoints(
        "lb",
        &[(P11, Ready), (P12, Ready), (P21, NotReady), (P31, Ready)],
    )?;
    told("lb", PORT, [2, 0, 1])?;
    // A pod moves.
    lab.cluster
        .endpoints("lb", &[(P12, Ready), (P21, Ready), (P31, Terminating)])?;
    told("lb", PORT, [1, 1, 0])?;
    // Two slices that list the same pod, for two ports, are one endpoint.
    let ports = [("admin", "TCP")];
    lab.cluster
        .slice("lb", "lb-more", &[(P12, Ready), (P11, NotReady)], &ports)?;
    // Those that terminate serve while there is nothing else, and are no reason to send more.
    lab.cluster
        .endpoints("lb", &[(P12, Terminating), (P21, Terminating)])?;
    told("lb", PORT, [0, 0, 0])?;
    for vip in claimed {
        answered_by("p32", Tcp, at(vip, 80)?, &["p12", "p21"])?;
    }
    // A restart finds it all again.
    lab.cluster.endpoints("lb", &[(P12, Ready), (P21, Ready)])?;
    told("lb", PORT, [1, 1, 0])?;
    lab.stop_agent("n1")?;
    eventually("nobody answers for n1", || closed("n1", PORT))?;
    lab.start_agent("n1")?;
    told("lb", PORT, [1, 1, 0])?;
    match lab.program.dataplane {
        Dataplane::Ipvs => an_unhealthy_proxy(lab, claimed[0]),
        // Nobody else's rules are in the way of ours.
        Dataplane::Iptables => Ok(()),
    }
}

/// n1's kernel is not as it should be: load balancers turn away from it until it is.
fn an_unhealthy_proxy(lab: &mut Lab, vip: &str) -> Result<()> {
    lab.stop_agent("n1")?;
    lab.agent_command("n1", "cleanup")?;
    sh_in("n1", &format!("ipvsadm -A -t {vip}:80 -s rr"))?;
    lab.start_agent("n1")?;
    eventually("n1 is told as unhealthy", || {
        answer("lb", "n1", PORT, 1, false)
    })?;
    eventually("n2 is not", || answer("lb", "n2", PORT, 1, true))?;
    sh_in("n1", &format!("ipvsadm -D -t {vip}:80"))?;
    told("lb", PORT, [1, 1, 0])
}

pub fn ports(lab: &mut Lab) -> Result<()> {
    lab.cluster.service("lb", json!({}), keeps_local(PORT))?;
    lab.cluster.endpoints("lb", &[(P11, Ready)])?;
    told("lb", PORT, [1, 0, 0])?;
    // No health check without the policy; with it again at another port.
    let cluster = json!({ "type": "LoadBalancer", "externalTrafficPolicy": "Cluster" });
    lab.cluster.service("lb", json!({}), cluster)?;
    closed_everywhere(PORT)?;
    lab.cluster.service("lb", json!({}), keeps_local(OTHER))?;
    told("lb", OTHER, [1, 0, 0])?;
    ensure!(closed("n1", PORT)?.is_ok(), "the old port is open again");
    lab.cluster.service("lb", json!({}), json!({}))?;
    closed_everywhere(OTHER)?;
    // Another Service takes the port over, and goes.
    lab.cluster.service("next", json!({}), keeps_local(OTHER))?;
    lab.cluster.endpoints("next", &[(P21, Ready)])?;
    told("next", OTHER, [0, 1, 0])?;
    lab.cluster.delete("Service", "next")?;
    closed_everywhere(OTHER)?;
    a_port_in_use(lab)
}

/// Somebody on n1 has the port; the Service's owner is told, and it works once the port is free.
fn a_port_in_use(lab: &mut Lab) -> Result<()> {
    let squatter = Server::start("n1", "squatter", TAKEN)?;
    lab.cluster.service("late", json!({}), keeps_local(TAKEN))?;
    lab.cluster
        .endpoints("late", &[(P11, Ready), (P21, Ready)])?;
    eventually("n2 has the port", || answer("late", "n2", TAKEN, 1, true))?;
    let event = eventually_one(lab, "late", "FailedToStartServiceHealthcheck")?;
    let note = event["note"].as_str().unwrap_or_default();
    for part in ["n1", "spec.healthCheckNodePort", &TAKEN.to_string()] {
        ensure!(note.contains(part), "{part:?} is not in {note:?}");
    }
    ensure!(event["reportingInstance"] == "n1", "{event}");
    drop(squatter);
    told("late", TAKEN, [1, 1, 0])
}

/// The one Event with a reason about a Service.
fn eventually_one(lab: &Lab, service: &str, reason: &str) -> Result<Value> {
    let mut found = None;
    eventually(&format!("{service} has one Event {reason}"), || {
        let mut events = lab.cluster.events_about(service)?;
        events.retain(|event| event["reason"] == reason);
        Ok(match <[Value; 1]>::try_from(events) {
            Ok([event]) => {
                found = Some(event);
                Ok(())
            }
            Err(events) => Err(format!("{events:?}")),
        })
    })?;
    found.context("no Event")
}

/// A load balancer that keeps to local endpoints.
fn keeps_local(port: u16) -> Value {
    json!({
        "type": "LoadBalancer",
        "externalTrafficPolicy": "Local",
        "healthCheckNodePort": port,
    })
}

/// Waits until the nodes tell these numbers of endpoints, over both families.
fn told(service: &str, port: u16, counts: [usize; 3]) -> Result<()> {
    for (node, count) in NODES.iter().zip(counts) {
        eventually(
            &format!("{node} tells {count} endpoints of {service}"),
            || answer(service, node, port, count, true),
        )?;
    }
    Ok(())
}

/// Whether a node answers so, at both of its addresses.
fn answer(
    service: &str,
    node: &str,
    port: u16,
    count: usize,
    healthy: bool,
) -> Result<Result<(), String>> {
    let status = if count > 0 && healthy { 200 } else { 503 };
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"default\",\n\t\t\"name\": \"{service}\"\n\t}},\n\
         \t\"localEndpoints\": {count},\n\t\"serviceProxyHealthy\": {healthy}\n}}"
    );
    let headers = [
        ("content-type", "application/json"),
        ("x-content-type-options", "nosniff"),
        ("x-load-balancing-endpoint-weight", &count.to_string()),
    ];
    let as_wanted = |page: &Page| {
        let has = |(name, value): &(&str, &str)| {
            page.headers.get(*name).is_some_and(|text| text == value)
        };
        page.status == status && page.body == body && headers.iter().all(has)
    };
    for path in ["/", "/any/path"] {
        for page in ask(node, port, path)? {
            match page {
                Some(page) if as_wanted(&page) => {}
                other => return Ok(Err(format!("got {other:?}"))),
            }
        }
    }
    Ok(Ok(()))
}

fn ask(node: &str, port: u16, path: &str) -> Result<Vec<Option<Page>>> {
    let addresses = node_addresses(node);
    let servers = addresses.iter().map(|addr| at(addr, port));
    let servers = servers.collect::<Result<Vec<SocketAddr>>>()?;
    let pages = servers.into_iter().map(|to| http::get(CLIENT, to, path));
    pages.collect()
}

fn closed_everywhere(port: u16) -> Result<()> {
    for node in NODES {
        eventually(&format!("port {port} of {node} is closed"), || {
            closed(node, port)
        })?;
    }
    Ok(())
}

fn closed(node: &str, port: u16) -> Result<Result<(), String>> {
    // A request that waits to be accepted while the port closes is reset.
    Ok(match ask(node, port, "/") {
        Ok(pages) => match pages.into_iter().flatten().next() {
            Some(page) => Err(format!("{page:?}")),
            None => Ok(()),
        },
        Err(error) => Err(format!("{error:#}")),
    })
}

const PORT: u16 = 31_100;
const OTHER: u16 = 31_101;
const TAKEN: u16 = 31_102;
