//! A Node that is about to go: load balancers are told, by kube-proxy's `/healthz`, before it is gone.
//! It serves all the while, and nobody restarts the agent for it.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{Lab, answered_by, at};
use crate::guest::cluster::State::Ready;
use crate::guest::http::{self, HEALTH_PORT, Page};
use crate::guest::probe::Transport::Tcp;
use crate::guest::topology::{CLIENT, P21, node_v4};
use crate::guest::wait::eventually;

pub fn run(lab: &mut Lab) -> Result<()> {
    let vips = lab.cluster.service("web", json!({}), json!({}))?;
    lab.cluster.endpoints("web", &[(P21, Ready)])?;
    let serves = || -> Result<()> {
        for vip in &vips {
            for from in ["p12", "n2"] {
                answered_by(from, Tcp, at(vip, 80)?, &["p21"])?;
            }
        }
        Ok(())
    };
    serves()?;
    told(true)?;
    lab.cluster
        .taint_node("n1", &[TAINT, "lab.example/other"])?;
    told(false)?;
    serves()?;
    lab.cluster.taint_node("n1", &["lab.example/other"])?;
    told(true)?;
    lab.cluster.taint_node("n1", &[])?;
    // On its way out, then gone; another of the same name takes its place.
    lab.cluster.delete_node("n1")?;
    told(false)?;
    let body = healthz("n1")?.body;
    ensure!(body.contains("being deleted"), "{body}");
    lab.cluster.let_node_go("n1")?;
    eventually("/healthz tells that the Node is gone", || {
        let page = healthz("n1")?;
        let gone = page.status == 503 && page.body.contains("no Node");
        Ok(if gone {
            Ok(())
        } else {
            Err(format!("{page:?}"))
        })
    })?;
    serves()?;
    lab.cluster.node("n1")?;
    told(true)?;
    serves()
}

/// What n1 says of itself; its neighbour stays eligible, and neither is dead.
fn told(eligible: bool) -> Result<()> {
    eventually(&format!("/healthz says nodeEligible: {eligible}"), || {
        let page = healthz("n1")?;
        let body: Value = serde_json::from_str(&page.body).context("the body is no JSON")?;
        let wanted = if eligible { 200 } else { 503 };
        // The families have their words once a first pass has gone well.
        let right =
            page.status == wanted && body["nodeEligible"] == eligible && body["status"].is_object();
        Ok(if right {
            Ok(())
        } else {
            Err(format!("{page:?}"))
        })
    })?;
    let body: Value = serde_json::from_str(&healthz("n1")?.body)?;
    for family in ["IPv4", "IPv6"] {
        let status = &body["status"][family];
        ensure!(status["healthy"] == true, "{body}");
        ensure!(status["lastUpdated"].is_string(), "{body}");
    }
    ensure!(body["healthy"] == true, "{body}");
    let neighbour = healthz("n2")?;
    ensure!(neighbour.status == 200, "{neighbour:?}");
    let alive = page("n1", "/livez")?;
    ensure!(alive.status == 200, "{alive:?}");
    ensure!(!alive.body.contains("nodeEligible"), "{alive:?}");
    Ok(())
}

fn healthz(node: &str) -> Result<Page> {
    page(node, "/healthz")
}

fn page(node: &str, path: &str) -> Result<Page> {
    let server = at(&node_v4(node), HEALTH_PORT)?;
    http::get(CLIENT, server, path)?.with_context(|| format!("nobody listens at {server}"))
}

const TAINT: &str = "ToBeDeletedByClusterAutoscaler";
