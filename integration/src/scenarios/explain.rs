//! `ipvs-agent explain NAMESPACE/NAME` against real objects of the API server. (What it says of packets the
//! conformance matrix compares with packets.)

use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Lab;
use crate::guest::agent::socket_of;
use crate::guest::cluster::State::{NotReady, Ready, Terminating};
use crate::guest::topology::{P11, P12, P21, Pod};
use crate::guest::wait::eventually;

const P22: Pod = Pod { node: 2, number: 2 };
const ZONE: &str = "topology.kubernetes.io/zone";

/// Services of every kind, each served or with the reason why not.
pub fn explain(lab: &mut Lab) -> Result<()> {
    served_and_not(lab)?;
    zones(lab)?;
    without_a_cluster_ip(lab)?;
    nobody(lab)
}

/// Refused addresses, endpoints in every state, and the names of a Service with a selector.
fn served_and_not(lab: &mut Lab) -> Result<()> {
    let spec = json!({
        "selector": { "app": "web" }, "type": "NodePort", "externalTrafficPolicy": "Local",
        "externalIPs": ["192.168.61.77", "203.0.113.77"],
        "ports": [{ "name": "http", "port": 80, "nodePort": 30097 }],
    });
    let vips = lab.cluster.service("web-shop", json!({}), spec)?;
    let pods = [
        (P11, Ready),
        (P12, NotReady),
        (P21, Ready),
        (P22, Terminating),
    ];
    lab.cluster.endpoints("web-shop", &pods)?;
    let cluster_ip = vips[0].clone();
    said(lab, "web-shop", |service| {
        let address = |ip: &str, kind: &str| {
            let row = find(&service["addresses"], |row| {
                row["address"] == ip && row["kind"] == kind
            });
            (row["served"] == true, text(&row["reason"]))
        };
        let endpoint = |pod: &str, set: &str| {
            let row = find(&service["endpoints"], |row| row["address"] == pod);
            text(&row["sets"][set])
        };
        let elsewhere = "on another node, under a Local traffic policy";
        vec![
            (
                service["serviceType"].clone(),
                service["serviceType"] == "NodePort",
            ),
            (
                service["hasSelector"].clone(),
                service["hasSelector"] == true,
            ),
            (
                json!(address(&cluster_ip, "ClusterIP")),
                address(&cluster_ip, "ClusterIP").0,
            ),
            (json!("permitted"), address("192.168.61.77", "ExternalIP").0),
            (
                json!(address("203.0.113.77", "ExternalIP")),
                address("203.0.113.77", "ExternalIP").1
                    == "refused: no --external-ip-cidr of the agent contains it",
            ),
            (
                service["addresses"].clone(),
                service["addresses"].to_string().contains("NodePort"),
            ),
            (
                json!(endpoint("10.244.1.2", "Local")),
                endpoint("10.244.1.2", "Local").is_empty(),
            ),
            (
                json!(endpoint("10.244.1.3", "Cluster")),
                endpoint("10.244.1.3", "Cluster") == "not ready",
            ),
            (
                json!(endpoint("10.244.2.2", "Cluster")),
                endpoint("10.244.2.2", "Cluster").is_empty(),
            ),
            (
                json!(endpoint("10.244.2.2", "Local")),
                endpoint("10.244.2.2", "Local") == elsewhere,
            ),
            (
                json!(endpoint("10.244.2.3", "Cluster")),
                endpoint("10.244.2.3", "Cluster") == "terminating while others are ready",
            ),
            (
                service["problems"].clone(),
                service["problems"]
                    .to_string()
                    .contains("RefusedExternalIP"),
            ),
            (
                service["dns"].clone(),
                has(
                    &service["dns"],
                    &["web-shop.default.svc.cluster.local", "A", &cluster_ip],
                ),
            ),
            (
                service["dns"].clone(),
                has(
                    &service["dns"],
                    &[
                        "_http._tcp.web-shop.default.svc.cluster.local",
                        "SRV",
                        "80 web-shop.default.svc.cluster.local",
                    ],
                ),
            ),
            (
                service["environment"].clone(),
                has(
                    &service["environment"],
                    &["WEB_SHOP_SERVICE_HOST", &cluster_ip],
                ) && has(
                    &service["environment"],
                    &["WEB_SHOP_SERVICE_PORT_HTTP", "80"],
                ) && has(
                    &service["environment"],
                    &["WEB_SHOP_PORT_80_TCP_ADDR", &cluster_ip],
                ),
            ),
        ]
    })?;
    let output = asked(
        lab,
        &["explain", "default/web-shop", "--socket", &socket_of("n1")],
    )?;
    let told = String::from_utf8(output.stdout)?;
    println!("{told}");
    ensure!(
        output.status.success() && told.contains("203.0.113.77"),
        "{told}"
    );
    Ok(())
}

/// Hints for zones, one of them this node's.
fn zones(lab: &mut Lab) -> Result<()> {
    lab.cluster.service(
        "near",
        json!({}),
        json!({ "trafficDistribution": "PreferClose" }),
    )?;
    lab.cluster.label_node("n1", ZONE, Some("a"))?;
    let zone = |zone: &str| json!({ "forZones": [{ "name": zone }] });
    let pods = [(P11, Ready, zone("a")), (P21, Ready, zone("b"))];
    lab.cluster
        .hinted_slice("near", "near", &pods, &[("http", "TCP")])?;
    let found = said(lab, "near", |service| {
        let other = find(&service["endpoints"], |row| row["address"] == "10.244.2.2");
        vec![
            (
                service["topology"].clone(),
                service["topology"].to_string().contains("zone a"),
            ),
            (
                other.clone(),
                text(&other["sets"]["Cluster"]) == "hinted for other zones",
            ),
            (
                service["trafficDistribution"].clone(),
                service["trafficDistribution"] == "PreferSameZone",
            ),
        ]
    });
    lab.cluster.label_node("n1", ZONE, None)?;
    found
}

/// Headless, with endpoints that have names; an alias; and none that anybody selects for.
fn without_a_cluster_ip(lab: &mut Lab) -> Result<()> {
    let headless =
        json!({ "clusterIP": "None", "clusterIPs": ["None"], "selector": { "app": "db" } });
    lab.cluster.service("db", json!({}), headless)?;
    let endpoints = [json!({ "addresses": ["10.244.1.2"], "hostname": "db-0", "nodeName": "n1" })];
    let ports = [json!({ "name": "http", "protocol": "TCP", "port": 8080 })];
    lab.cluster
        .endpoint_slice("db", "IPv4", &endpoints, &ports)?;
    said(lab, "db", |service| {
        vec![
            (
                service["skipped"].clone(),
                text(&service["skipped"]).starts_with("headless"),
            ),
            (
                service["dns"].clone(),
                has(
                    &service["dns"],
                    &["db-0.db.default.svc.cluster.local", "A", "10.244.1.2"],
                ) && has(
                    &service["dns"],
                    &["db.default.svc.cluster.local", "A", "10.244.1.2"],
                ),
            ),
            (
                service["environment"].clone(),
                service["environment"] == json!([]),
            ),
        ]
    })?;
    let alias = json!({ "type": "ExternalName", "externalName": "example.org",
        "ipFamilies": null, "ipFamilyPolicy": null, "ports": null });
    lab.cluster.service("alias", json!({}), alias)?;
    said(lab, "alias", |service| {
        let record = ["alias.default.svc.cluster.local", "CNAME", "example.org"];
        vec![
            (
                service["skipped"].clone(),
                text(&service["skipped"]).contains("ExternalName"),
            ),
            (service["dns"].clone(), has(&service["dns"], &record)),
        ]
    })?;
    lab.cluster.service("by-hand", json!({}), json!({}))?;
    lab.cluster.endpoints("by-hand", &[(P11, Ready)])?;
    said(lab, "by-hand", |service| {
        let notes = service["notes"].to_string();
        vec![
            (service["notes"].clone(), notes.contains("no selector")),
            (
                service["endpoints"].clone(),
                service["endpoints"].to_string().contains("10.244.1.2"),
            ),
        ]
    })
}

/// Names that are not there, and nobody to ask.
fn nobody(lab: &Lab) -> Result<()> {
    let socket = socket_of("n1");
    for (name, near) in [
        ("default/web-shp", "default/web-shop"),
        ("shop/alias", "default/alias"),
    ] {
        let output = asked(lab, &["explain", name, "--socket", &socket])?;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.code() == Some(1) && told.contains(near),
            "{name}: {output:?}"
        );
    }
    let output = asked(
        lab,
        &[
            "explain",
            "default/web-shop",
            "--socket",
            "/run/nobody.sock",
        ],
    )?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.code() == Some(2) && told.contains("--manifests DIR"),
        "{output:?}"
    );
    let output = asked(
        lab,
        &["explain", "node -> 192.0.2.99:9/TCP", "--socket", &socket],
    )?;
    ensure!(output.status.code() == Some(1), "{output:?}");
    Ok(())
}

/// Waits until all that is to be said of a Service is said: each value with whether it is right.
fn said(lab: &Lab, name: &str, judge: impl Fn(&Value) -> Vec<(Value, bool)>) -> Result<()> {
    let name = format!("default/{name}");
    eventually(&format!("explain says what there is to {name}"), || {
        let output = asked(
            lab,
            &["explain", &name, "-o", "json", "--socket", &socket_of("n1")],
        )?;
        if !output.status.success() {
            return Ok(Err(format!("{output:?}")));
        }
        let service: Value = serde_json::from_slice(&output.stdout)?;
        let wrong: Vec<(usize, Value)> = judge(&service)
            .into_iter()
            .enumerate()
            .filter(|(_, (_, right))| !right)
            .map(|(number, (value, _))| (number, value))
            .collect();
        Ok(if wrong.is_empty() {
            Ok(())
        } else {
            Err(format!("{wrong:?}"))
        })
    })
}

/// The row that a test picks, or nothing.
fn find(rows: &Value, test: impl Fn(&Value) -> bool) -> Value {
    let rows = rows.as_array().cloned().unwrap_or_default();
    rows.into_iter().find(test).unwrap_or_default()
}

/// A row whose values are these.
fn has(rows: &Value, values: &[&str]) -> bool {
    let is_it = |row: &Value| {
        let object = row.as_object();
        object.is_some_and(|object| {
            values
                .iter()
                .all(|value| object.values().any(|v| v == value))
        })
    };
    rows.as_array().is_some_and(|rows| rows.iter().any(is_it))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn asked(lab: &Lab, words: &[&str]) -> Result<Output> {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", "n1"]).arg(&lab.program.path);
    command.args(words).output().context("cannot run the agent")
}
