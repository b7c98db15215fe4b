//! Against a scripted API server on loopback: list pages, watches, a list after 410, absence.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::*;
use crate::model::ObjectName;

type Queries = Arc<Mutex<Vec<(String, BTreeMap<String, String>)>>>;

fn service(name: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "a", "resourceVersion": "1"},
           "spec": {"clusterIP": "10.96.0.1"}})
}

fn list(items: &[Value], continue_token: &str) -> Response {
    let metadata = json!({"resourceVersion": "100", "continue": continue_token});
    json!({"metadata": metadata, "items": items})
        .to_string()
        .into_response()
}

/// First list: two pages, `one` and `two`. First watch: `three` comes, then 410. Second list:
/// `three` alone. Later watches say nothing and stay open.
async fn answer(State(queries): State<Queries>, uri: Uri) -> Response {
    let query: BTreeMap<String, String> = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let count = |watch: bool, path: &str, queries: &Queries| {
        let mut queries = queries.lock().unwrap();
        queries.push((path.to_owned(), query.clone()));
        let same = |(p, q): &&(String, BTreeMap<String, String>)| {
            p == path && q.contains_key("watch") == watch
        };
        queries.iter().filter(same).count()
    };
    let watching = query.contains_key("watch");
    let path = uri.path().to_owned();
    let count = count(watching, &path, &queries);
    match (path.as_str(), watching, count) {
        ("/api/v1/services", false, 1) => list(&[service("one")], "page2"),
        ("/api/v1/services", false, 2) => list(&[service("two")], ""),
        ("/api/v1/services", false, _) => list(&[service("three")], ""),
        ("/api/v1/services", true, 1) => {
            let added = json!({"type": "ADDED", "object": service("three")});
            let gone = json!({"type": "ERROR", "object": {"kind": "Status", "status": "Failure",
                              "code": 410, "reason": "Expired", "message": "too old"}});
            format!("{added}\n{gone}\n").into_response()
        }
        ("/apis/networking.k8s.io/v1/servicecidrs", ..) => (
            StatusCode::NOT_FOUND,
            json!({"kind": "Status", "status": "Failure", "code": 404,
                   "reason": "NotFound", "message": "no such kind"})
            .to_string(),
        )
            .into_response(),
        (_, false, _) => list(&[], ""),
        (_, true, _) => {
            std::future::pending::<()>().await;
            StatusCode::OK.into_response()
        }
    }
}

#[tokio::test]
async fn lists_pages_follows_and_lists_anew_with_deletions() {
    let queries = Queries::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Uri = format!("http://{}", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let router = Router::new().fallback(answer).with_state(queries.clone());
    tokio::spawn(async { axum::serve(listener, router).await });
    let client = Client::try_from(kube::Config::new(url)).unwrap();
    let (events, mut receiver) = mpsc::channel(4);
    let board = SourceBoard::default();
    let out = Output {
        events,
        board: board.clone(),
    };
    let task = tokio::spawn(async move {
        watch_all(&client, "n1", &mut Tracks::default(), &out).await;
    });

    let mut of_services = Vec::new();
    let mut listed = std::collections::BTreeSet::new();
    let name = |name: &str| ObjectName::new("a", name);
    while of_services.len() < 8 || listed.len() < 4 {
        let event = receiver.recv().await.expect("the watch goes on");
        match event {
            Event::ServiceApplied(name, _) => of_services.push(format!("+{}", name.name)),
            Event::ServiceDeleted(name) => of_services.push(format!("-{}", name.name)),
            Event::Listed(kind) => {
                listed.insert(kind);
                if kind == Kind::Services {
                    of_services.push("listed".to_owned());
                }
            }
            // There is no such node.
            Event::NodeDeleted => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        of_services,
        [
            "+one", "+two", "listed", "+three", "+three", "-one", "-two", "listed"
        ]
    );
    assert_eq!(name("one").to_string(), "a/one");
    drop(receiver);
    task.await.unwrap();

    let queries = queries.lock().unwrap();
    let first = |path: &str| &queries.iter().find(|(p, _)| p == path).unwrap().1;
    let services = first("/api/v1/services");
    assert_eq!(services["limit"], "500");
    assert_eq!(
        services["labelSelector"],
        "%21service.kubernetes.io%2Fservice-proxy-name"
    );
    let slices = first("/apis/discovery.k8s.io/v1/endpointslices");
    assert_eq!(
        slices["labelSelector"],
        "%21service.kubernetes.io%2Fheadless"
    );
    assert_eq!(
        first("/api/v1/nodes")["fieldSelector"],
        "metadata.name%3Dn1"
    );
    let states = board.states();
    assert_eq!(
        states[&Kind::ServiceCidrs].last_error.as_deref(),
        Some(ABSENT_ADVICE)
    );
    assert!(states[&Kind::Services].listed && states[&Kind::Node].listed);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_given_up_after_several_failures() {
    tokio::time::pause();
    // Nothing listens on a port that was bound and let go.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let client = Client::try_from(kube::Config::new(
        format!("http://{address}").parse().unwrap(),
    ))
    .unwrap();
    let (events, _receiver) = mpsc::channel(4);
    let board = SourceBoard::default();
    let out = Output {
        events,
        board: board.clone(),
    };
    watch_all(&client, "n1", &mut Tracks::default(), &out).await;
    let worst = board.states().values().map(|s| s.errors_in_a_row).max();
    assert_eq!(worst, Some(FAILURES_BEFORE_RECONNECT));
}

#[test]
fn renewals_are_spread_and_stay_within_bounds() {
    let of = |n: u32| watch_seconds(&format!("node-{n}"), Kind::Services);
    let all: std::collections::BTreeSet<u32> = (0..200).map(of).collect();
    assert!(all.iter().all(|seconds| (45..=60).contains(seconds)));
    assert!(all.len() > 8, "{all:?}");
    assert_eq!(of(7), of(7));
}
