//! What a person must fix on a Service, read back from the API server as `kubectl` would.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{Lab, answered_by, at};
use crate::dataplane::Dataplane;
use crate::guest::agent::log_of;
use crate::guest::cluster::State::Ready;
use crate::guest::probe::Transport::Tcp;
use crate::guest::sh_in;
use crate::guest::topology::{NODES, P11, P21};
use crate::guest::wait::eventually;

const SCHEDULER: &str = "ipvs-agent.io/scheduler";

pub fn events(lab: &mut Lab) -> Result<()> {
    let spec = json!({ "externalIPs": ["192.168.62.7", "192.168.61.8"] });
    let vips = lab
        .cluster
        .service("odd", json!({ SCHEDULER: "best" }), spec)?;
    lab.cluster.endpoints("odd", &[(P11, Ready)])?;
    // It is served all the same.
    answered_by("p12", Tcp, at(&vips[0], 80)?, &["p11"])?;
    everyone_has_dealt_with(lab, "odd", 2)?;
    one(
        lab,
        "odd",
        "InvalidAnnotation",
        &[SCHEDULER, "best", "wlc", "mh"],
    )?;
    one(
        lab,
        "odd",
        "RefusedExternalIP",
        &["spec.externalIPs", "192.168.62.7", "--external-ip-cidr"],
    )?;
    ensure!(
        lab.cluster.events_about("odd")?.len() == 2,
        "more than was asked for"
    );
    no_flood(lab)?;
    a_claim_lost(lab)?;
    match lab.program.dataplane {
        Dataplane::Ipvs => a_foreign_virtual_server(lab),
        // Rules of others stand beside the agent's.
        Dataplane::Iptables => Ok(()),
    }
}

/// Changes of other things tell nothing again; another value is another Event; the same value
/// again counts the Event up.
fn no_flood(lab: &mut Lab) -> Result<()> {
    lab.cluster
        .endpoints("odd", &[(P11, Ready), (P21, Ready)])?;
    lab.cluster
        .annotate("odd", "example.org/other", Some("x"))?;
    lab.cluster.annotate("odd", SCHEDULER, Some("worst"))?;
    everyone_has_dealt_with(lab, "odd", 3)?;
    let notes = |lab: &Lab| -> Result<BTreeSet<String>> {
        let events = lab.cluster.events_about("odd")?;
        let notes: BTreeSet<_> = events
            .iter()
            .map(|event| event["note"].to_string())
            .collect();
        ensure!(notes.len() == events.len(), "the same twice: {events:#?}");
        Ok(notes)
    };
    let three = notes(lab)?;
    ensure!(three.len() == 3, "{three:#?}");
    for count in 2..=3 {
        let before = NODES.map(complaints);
        lab.cluster.annotate("odd", SCHEDULER, None)?;
        for (node, before) in NODES.iter().zip(before) {
            eventually(&format!("{node} has seen it mended"), || {
                let now = complaints(node);
                Ok(if now > before {
                    Ok(())
                } else {
                    Err("not yet".to_owned())
                })
            })?;
        }
        lab.cluster.annotate("odd", SCHEDULER, Some("best"))?;
        eventually(&format!("the Event counts {count}"), || {
            let events = lab.cluster.events_about("odd")?;
            let best = events.iter().find(|event| {
                let note = event["note"].as_str().unwrap_or_default();
                note.contains("\"best\"")
            });
            let series = best.map(|event| event["series"].clone());
            Ok(match &series {
                Some(series) if series["count"] == count => Ok(()),
                other => Err(format!("{other:?}")),
            })
        })?;
    }
    ensure!(notes(lab)? == three, "more Events than before");
    Ok(())
}

/// The younger of two Services that ask for one address and port.
fn a_claim_lost(lab: &mut Lab) -> Result<()> {
    let spec = json!({ "externalIPs": ["192.168.61.9"] });
    lab.cluster.service("elder", json!({}), spec.clone())?;
    eventually("a Service is younger by a second", || {
        lab.cluster.service("younger", json!({}), json!({}))?;
        let (elder, younger) = (
            lab.cluster.made_at("elder")?,
            lab.cluster.made_at("younger")?,
        );
        if younger > elder {
            return Ok(Ok(()));
        }
        lab.cluster.delete("Service", "younger")?;
        Ok(Err(format!("{younger}, as the elder")))
    })?;
    lab.cluster.service("younger", json!({}), spec)?;
    let parts = ["192.168.61.9:80/TCP", "default/elder"];
    everyone_has_dealt_with(lab, "younger", 1)?;
    one(lab, "younger", "AddressConflict", &parts)?;
    let of_the_winner = lab.cluster.events_about("elder")?;
    ensure!(of_the_winner.is_empty(), "{of_the_winner:#?}");
    Ok(())
}

fn a_foreign_virtual_server(lab: &mut Lab) -> Result<()> {
    sh_in("n2", "ipvsadm -A -t 192.168.61.10:80 -s rr")?;
    let spec = json!({ "externalIPs": ["192.168.61.10"] });
    lab.cluster.service("late", json!({}), spec)?;
    lab.cluster.endpoints("late", &[(P11, Ready)])?;
    let event = one(
        lab,
        "late",
        "ForeignVirtualServer",
        &["192.168.61.10:80/TCP"],
    )?;
    ensure!(event["reportingInstance"] == "n2", "{event}");
    sh_in("n2", "ipvsadm -D -t 192.168.61.10:80")?;
    Ok(())
}

/// Waits until each agent has made, or found made, so many Events about a Service since it began.
fn everyone_has_dealt_with(lab: &mut Lab, service: &str, count: usize) -> Result<()> {
    let name = format!("event=\"{service}.");
    for node in NODES {
        let agent = lab.agent(node)?;
        eventually(
            &format!("the agent of {node} has dealt with {count} Events about {service}"),
            || {
                let log = agent.log();
                let dealt = log
                    .lines()
                    .filter(|line| line.contains("the Event ") && line.contains(&name));
                let dealt = dealt.count();
                Ok(if dealt >= count {
                    Ok(())
                } else {
                    Err(format!("{dealt}"))
                })
            },
        )?;
    }
    Ok(())
}

/// How often the agents of a node have complained of the refused address, which they do again
/// whenever something else of the Service's complaints changes.
fn complaints(node: &str) -> usize {
    let log = log_of(node);
    let lines = log.lines().filter(|line| {
        line.contains("part of the Service")
            && line.contains("default/odd")
            && line.contains("192.168.62.7")
    });
    lines.count()
}

/// The one Event with a reason, complete, with these parts in its note.
fn one(lab: &Lab, service: &str, reason: &str, parts: &[&str]) -> Result<Value> {
    let mut found = Vec::new();
    eventually(&format!("an Event {reason} about {service}"), || {
        found = lab.cluster.events_about(service)?;
        found.retain(|event| event["reason"] == reason);
        Ok(if found.is_empty() {
            Err("none".to_owned())
        } else {
            Ok(())
        })
    })?;
    ensure!(found.len() == 1, "one for each node: {found:#?}");
    let event = found.remove(0);
    let note = event["note"].as_str().unwrap_or_default();
    for part in parts {
        ensure!(note.contains(part), "{part:?} is not in {note:?}");
    }
    let instance = event["reportingInstance"].as_str().unwrap_or_default();
    ensure!(
        event["type"] == "Warning"
            && event["reportingController"] == "ipvs-agent"
            && NODES.contains(&instance)
            && event["regarding"]["kind"] == "Service"
            && event["regarding"]["name"] == service,
        "{event:#}"
    );
    Ok(event)
}
