//! A Service, section by section.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;

use super::layout::{heading, table, verdict};
use crate::ask::explain::{ExplainedAddress, ExplainedEndpoint, ExplainedService};

/// The text. What a Service does not have has no section.
pub fn render(service: &ExplainedService, colours: bool) -> String {
    let mut text = head(service, colours);
    let sections: [(&str, Vec<Vec<String>>); 8] = [
        ("addresses", addresses(service, colours)),
        ("settings", settings(service)),
        ("who is led where", leading(service)),
        ("endpoints", endpoints(service, colours)),
        ("problems", problems(service, colours)),
        ("notes", notes(service)),
        ("names in DNS", dns(service)),
        ("environment of pods in its namespace", environment(service)),
    ];
    for (title, rows) in sections {
        if !rows.is_empty() {
            heading(&mut text, title, colours);
            table(&mut text, &rows);
        }
    }
    text
}

fn head(service: &ExplainedService, colours: bool) -> String {
    let ExplainedService {
        namespace,
        name,
        service_type,
        node,
        dataplane,
        ..
    } = service;
    let mut text =
        format!("{namespace}/{name}, type {service_type}, on node {node} ({dataplane})\n");
    if let Some(skipped) = &service.skipped {
        let words = verdict("not served by this node", false, colours);
        let _ = writeln!(text, "{words}: {skipped}");
    }
    if let Some(target) = &service.external_name {
        let _ = writeln!(text, "an alias of {target}");
    }
    text
}

fn addresses(service: &ExplainedService, colours: bool) -> Vec<Vec<String>> {
    let row = |address: &ExplainedAddress| {
        let at = SocketAddr::new(address.address, address.port);
        let port = match address.port_name.as_str() {
            "" => "-",
            name => name,
        };
        let served = match (address.served, &address.reason) {
            (true, _) => verdict("served", true, colours),
            (false, None) => verdict("not served", false, colours),
            (false, Some(reason)) => format!("{}: {reason}", verdict("not served", false, colours)),
        };
        vec![
            format!("{at}/{}", address.protocol),
            address.kind.clone(),
            port.to_owned(),
            address.policy.clone(),
            served,
        ]
    };
    service.addresses.iter().map(row).collect()
}

fn settings(service: &ExplainedService) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut say = |name: &str, value: String| rows.push(vec![name.to_owned(), value]);
    if let Some(scheduler) = &service.scheduler {
        let asked = match &service.scheduler_asked {
            Some(asked) => format!(" ({asked})"),
            None => " (the agent's default)".to_owned(),
        };
        let instead = service.scheduler_instead.as_ref();
        let instead = instead
            .map(|text| format!("; here {text}"))
            .unwrap_or_default();
        say("scheduler", format!("{scheduler}{asked}{instead}"));
    }
    if let Some(seconds) = service.affinity_seconds {
        say("affinity", format!("ClientIP, {seconds} s"));
    }
    if !service.source_ranges.is_empty() {
        say("source ranges", service.source_ranges.join(", "));
    }
    if let Some(port) = service.health_check_node_port {
        say("health check port", port.to_string());
    }
    if let Some(wanted) = &service.traffic_distribution {
        say("traffic distribution", wanted.clone());
    }
    for topology in &service.topology {
        say(
            "topology",
            format!("the Cluster set holds {topology} alone"),
        );
    }
    rows
}

/// Of one set nothing needs to be said.
fn leading(service: &ExplainedService) -> Vec<Vec<String>> {
    if service.leading.len() < 2 {
        return Vec::new();
    }
    let rows = service.leading.iter();
    rows.map(|leading| {
        vec![
            format!("clients {}", leading.clients),
            format!("{} set", leading.set),
        ]
    })
    .collect()
}

fn endpoints(service: &ExplainedService, colours: bool) -> Vec<Vec<String>> {
    let mut weights = service.endpoints.iter().map(|endpoint| endpoint.weight);
    let first = weights.next();
    let alike = weights.all(|weight| Some(weight) == first);
    let row = |endpoint: &ExplainedEndpoint| {
        let used = used(&endpoint.sets, colours);
        let at = SocketAddr::new(endpoint.address, endpoint.port);
        let dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let mut place = dash(&endpoint.node);
        if endpoint.local {
            place += " (here)";
        }
        vec![
            format!("{at}/{}", endpoint.protocol),
            match endpoint.port_name.as_str() {
                "" => "-".to_owned(),
                name => name.to_owned(),
            },
            endpoint.state.to_string(),
            place,
            dash(&endpoint.zone),
            match alike {
                true => used,
                false => format!("{used}, weight {}", endpoint.weight),
            },
        ]
    };
    service.endpoints.iter().map(row).collect()
}

/// In which sets an endpoint is used; one that none uses has the same reason in all, mostly.
fn used(sets: &BTreeMap<String, Option<String>>, colours: bool) -> String {
    let words = |reason: &Option<String>| match reason {
        None => verdict("used", true, colours),
        Some(reason) => format!("{}: {reason}", verdict("not used", false, colours)),
    };
    let mut reasons = sets.values();
    let Some(first) = reasons.next() else {
        return String::new();
    };
    if reasons.all(|other| other.is_some() == first.is_some()) {
        return words(first);
    }
    let each = sets
        .iter()
        .map(|(set, reason)| format!("{set}: {}", words(reason)));
    each.collect::<Vec<_>>().join("; ")
}

fn problems(service: &ExplainedService, colours: bool) -> Vec<Vec<String>> {
    let rows = service.problems.iter();
    rows.map(|problem| {
        vec![
            verdict(&problem.reason, false, colours),
            problem.text.clone(),
        ]
    })
    .collect()
}

fn notes(service: &ExplainedService) -> Vec<Vec<String>> {
    service
        .notes
        .iter()
        .map(|note| vec![note.clone()])
        .collect()
}

fn dns(service: &ExplainedService) -> Vec<Vec<String>> {
    let rows = service.dns.iter();
    rows.map(|r| vec![r.name.clone(), r.record.clone(), r.value.clone()])
        .collect()
}

fn environment(service: &ExplainedService) -> Vec<Vec<String>> {
    let rows = service.environment.iter();
    rows.map(|variable| vec![format!("{}={}", variable.name, variable.value)])
        .collect()
}
