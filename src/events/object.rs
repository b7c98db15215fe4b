//! The `events.k8s.io/v1` object of a report. Pure.
//!
//! Its name says what it is about, so that there is one of each: what is the same on all nodes is
//! told by the first that comes, and the API server refuses the others' as existing already.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::outbox::Report;

/// The Event's name: the Service's, with a number made of all that makes two Events differ.
pub(super) fn name(node: &str, report: &Report) -> String {
    let problem = &report.problem;
    let node = if problem.reason.is_of_one_node() {
        node
    } else {
        ""
    };
    let reason = problem.reason.to_string();
    let parts = [&*report.uid, &reason, &problem.text, node];
    // FNV-1a: agents of different versions must agree.
    let hash = parts
        .join("\n")
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    format!("{}.{hash:016x}", report.service.name)
}

/// Where the Event is kept: Events about a Node are in `default`.
pub(super) fn namespace(report: &Report) -> &str {
    match &*report.service.namespace {
        "" => "default",
        namespace => namespace,
    }
}

/// The Event when it is first met.
pub(super) fn event(node: &str, report: &Report, now: Timestamp) -> Event {
    let about = &report.service;
    let own = Some(about.namespace.to_string()).filter(|namespace| !namespace.is_empty());
    Event {
        metadata: ObjectMeta {
            name: Some(name(node, report)),
            namespace: Some(namespace(report).to_owned()),
            ..ObjectMeta::default()
        },
        action: Some(ACTION.to_owned()),
        event_time: Some(MicroTime(now)),
        note: Some(shortened(&report.problem.text).to_owned()),
        reason: Some(report.problem.reason.to_string()),
        regarding: Some(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some(if own.is_some() { "Service" } else { "Node" }.to_owned()),
            namespace: own,
            name: Some(about.name.to_string()),
            uid: Some(report.uid.to_string()).filter(|uid| !uid.is_empty()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(node.to_owned()),
        type_: Some("Warning".to_owned()),
        ..Event::default()
    }
}

/// What changes of an Event that is met again.
pub(super) fn series(count: i32, now: Timestamp) -> Value {
    json!({ "series": EventSeries { count, last_observed_time: MicroTime(now) } })
}

/// As much of a note as the API server takes.
fn shortened(note: &str) -> &str {
    let mut end = note.len().min(LONGEST_NOTE);
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    &note[..end]
}

const CONTROLLER: &str = "ipvs-agent";
const ACTION: &str = "Programming";
/// Bytes (`NoteLengthLimit` of Kubernetes).
const LONGEST_NOTE: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ObjectName, Problem, Reason};

    fn report(uid: &str, reason: Reason, text: &str) -> Report {
        Report {
            service: ObjectName::new("prod", "web"),
            uid: uid.into(),
            problem: Problem {
                reason,
                text: text.to_owned(),
            },
        }
    }

    #[test]
    fn the_same_on_all_nodes_has_one_name_and_a_nodes_own_has_its() {
        let same = report("u", Reason::InvalidAnnotation, "bad");
        assert_eq!(name("n1", &same), name("n2", &same));
        let own = report("u", Reason::ForeignVirtualServer, "bad");
        assert_ne!(name("n1", &own), name("n2", &own));
        for other in [
            report("v", Reason::InvalidAnnotation, "bad"),
            report("u", Reason::RefusedExternalIp, "bad"),
            report("u", Reason::InvalidAnnotation, "worse"),
        ] {
            assert_ne!(name("n1", &same), name("n1", &other));
        }
        let name = name("n1", &same);
        assert!(name.starts_with("web.") && name.len() == 4 + 16, "{name}");
    }

    #[test]
    fn an_event_says_who_of_whom_and_what() {
        let now: Timestamp = "2026-02-03T04:05:06.789Z".parse().unwrap();
        let report = report(
            "u-1",
            Reason::RefusedExternalIp,
            "spec.externalIPs \"192.0.2.1\"",
        );
        let event = serde_json::to_value(event("n1", &report, now)).unwrap();
        assert_eq!(event["apiVersion"], "events.k8s.io/v1");
        assert_eq!(event["kind"], "Event");
        assert_eq!(event["eventTime"], "2026-02-03T04:05:06.789000Z");
        assert_eq!(event["reason"], "RefusedExternalIP");
        assert_eq!(event["note"], "spec.externalIPs \"192.0.2.1\"");
        assert_eq!(event["type"], "Warning");
        assert_eq!(event["reportingController"], "ipvs-agent");
        assert_eq!(event["reportingInstance"], "n1");
        assert_eq!(event["metadata"]["namespace"], "prod");
        let regarding = json!({
            "apiVersion": "v1", "kind": "Service",
            "namespace": "prod", "name": "web", "uid": "u-1",
        });
        assert_eq!(event["regarding"], regarding);
        let series = series(3, now);
        let wanted = json!({
            "series": { "count": 3, "lastObservedTime": "2026-02-03T04:05:06.789000Z" }
        });
        assert_eq!(series, wanted);
    }

    #[test]
    fn a_long_note_is_cut_between_characters() {
        assert_eq!(shortened("short"), "short");
        let long = "ä".repeat(600);
        assert_eq!(shortened(&format!("a{long}")).len(), 1023);
        assert_eq!(shortened(&long).len(), 1024);
    }
}
