//! Against a scripted API server on loopback.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::*;
use crate::model::{ObjectName, Problem, Reason};

/// What the server is to say, and what it was asked: method, path and body.
#[derive(Default)]
struct Script {
    answers: VecDeque<u16>,
    asked: Vec<(Method, String, Value)>,
    /// What the reports came to.
    ends: BTreeMap<&'static str, u64>,
}

type Shared = Arc<Mutex<Script>>;

async fn answer(
    State(script): State<Shared>,
    method: Method,
    uri: Uri,
    body: axum::body::Bytes,
) -> Response {
    if uri.path() == "/version" {
        let version = json!({ "major": "1", "minor": "33", "gitVersion": "", "gitCommit": "",
            "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": "" });
        return version.to_string().into_response();
    }
    let body: Value = serde_json::from_slice(&body).unwrap();
    let code = {
        let mut script = script.lock().unwrap();
        let path = uri.path().to_owned();
        script.asked.push((method, path, body.clone()));
        script.answers.pop_front()
    };
    let Some(code) = code else {
        return std::future::pending().await;
    };
    let text = match code {
        200 | 201 => json!({ "metadata": { "name": "x" }, "eventTime": null }),
        _ => json!({ "kind": "Status", "status": "Failure", "code": code, "reason": "Said so",
                     "message": "no" }),
    };
    let status = StatusCode::from_u16(code).unwrap();
    (status, text.to_string()).into_response()
}

/// A sender whose server gives these answers in turn, and then none.
async fn sender(answers: &[u16]) -> (Sender, Shared) {
    let script = Shared::default();
    script.lock().unwrap().answers = answers.iter().copied().collect();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(answer).with_state(script.clone());
    tokio::spawn(async { axum::serve(listener, router).await });
    let access = ApiAccess {
        servers: vec![url],
        ..ApiAccess::default()
    };
    let reporter = Reporter {
        access,
        meter: RequestMeter::new(Arc::new(Moment::default)),
        node: "n1".to_owned(),
        seed: 0,
        clock: Box::new(Moment::default),
        count: Box::new({
            let script = script.clone();
            move |end, count| *script.lock().unwrap().ends.entry(end).or_default() += count
        }),
    };
    let sender = Sender {
        reporter,
        client: None,
        failing: false,
    };
    (sender, script)
}

fn report(text: &str) -> Report {
    Report {
        service: ObjectName::new("prod", "web"),
        uid: "u".into(),
        problem: Problem {
            reason: Reason::InvalidAnnotation,
            text: text.to_owned(),
        },
    }
}

/// Method and last part of the path of each request.
fn asked(script: &Shared) -> Vec<String> {
    let script = script.lock().unwrap();
    let asked = script.asked.iter().map(|(method, path, _)| {
        let rest = path.strip_prefix("/apis/events.k8s.io/v1/namespaces/prod/");
        format!("{method} {}", rest.unwrap_or(path))
    });
    asked.collect()
}

#[tokio::test]
async fn made_once_then_counted_up_then_made_anew() {
    let (mut sender, script) = sender(&[201, 200, 404, 201]).await;
    let mut outbox = Outbox::new(0);
    for _ in 0..3 {
        sender.send(&mut outbox, report("bad")).await;
        assert!(!sender.failing);
    }
    let name = object::name("n1", &report("bad"));
    let patch = format!("PATCH events/{name}");
    assert_eq!(
        asked(&script),
        ["POST events", &patch, &patch, "POST events"]
    );
    let script = script.lock().unwrap();
    let bodies: Vec<&Value> = script.asked.iter().map(|(.., body)| body).collect();
    assert_eq!(bodies[0]["metadata"]["name"], name);
    assert_eq!(bodies[0]["note"], "bad");
    assert_eq!(bodies[1]["series"]["count"], 2);
    assert_eq!(bodies[2]["series"]["count"], 3);
    assert_eq!(bodies[3]["series"], Value::Null);
    assert_eq!(script.ends, BTreeMap::from([("made", 2), ("counted", 1)]));
}

/// What was not sent is in the next count.
#[tokio::test]
async fn what_is_left_out_is_counted_all_the_same() {
    let (mut sender, script) = sender(&[201, 200]).await;
    let mut outbox = Outbox::new(0);
    sender.send(&mut outbox, report("bad")).await;
    sender.leave_out(&mut outbox, &report("bad"));
    sender.leave_out(&mut outbox, &report("never told"));
    sender.leave_out(&mut outbox, &report("bad"));
    sender.send(&mut outbox, report("bad")).await;
    let script = script.lock().unwrap();
    assert_eq!(script.asked.len(), 2);
    assert_eq!(script.asked[1].2["series"]["count"], 4);
    let ends = BTreeMap::from([("made", 1), ("counted", 1), ("left_out", 3)]);
    assert_eq!(script.ends, ends);
}

#[tokio::test]
async fn one_that_another_agent_has_made_is_left_to_it() {
    let (mut sender, script) = sender(&[409, 409]).await;
    let mut outbox = Outbox::new(0);
    for _ in 0..2 {
        sender.send(&mut outbox, report("bad")).await;
        assert!(!sender.failing, "that is no failure");
    }
    assert_eq!(asked(&script), ["POST events", "POST events"]);
}

#[tokio::test]
async fn what_is_forbidden_is_dropped_and_the_next_is_tried() {
    let (mut sender, script) = sender(&[403, 403, 201]).await;
    let mut outbox = Outbox::new(0);
    let mut failing = Vec::new();
    for text in ["one", "two", "three"] {
        sender.send(&mut outbox, report(text)).await;
        failing.push(sender.failing);
        assert!(sender.client.is_some(), "the server is there");
    }
    assert_eq!(failing, [true, true, false]);
    let script = script.lock().unwrap();
    let notes: Vec<&Value> = script
        .asked
        .iter()
        .map(|(.., body)| &body["note"])
        .collect();
    assert_eq!(notes, ["one", "two", "three"]);
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let (mut sender, script) = sender(&[201]).await;
    let mut outbox = Outbox::new(0);
    sender.send(&mut outbox, report("one")).await;
    tokio::time::pause();
    sender.send(&mut outbox, report("two")).await;
    assert!(sender.failing && sender.client.is_none());
    assert_eq!(asked(&script)[0], "POST events");
}
