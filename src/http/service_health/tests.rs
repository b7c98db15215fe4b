//! Numbers in comments are those of the checklist that upstream's own unit tests make up. Body and
//! headers are those of kube-proxy's source. Which port a Service asks for, and what it counts, is
//! tested in `resolve`.

use std::net::Ipv6Addr;
use std::sync::Arc;

use axum::body::to_bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::*;
use crate::model::Moment;
use crate::sync::{Board, Pass, Trigger};

fn pages() -> Pages {
    #[expect(clippy::disallowed_methods, reason = "the pages' clock")]
    let started = std::time::Instant::now();
    Pages {
        dataplane: "ipvs",
        effective: Arc::default(),
        board: Arc::new(Board::new(Default::default())),
        traffic: None,
        started,
        patience: Duration::ZERO,
        source_patience: Duration::ZERO,
    }
}

fn web() -> ObjectName {
    ObjectName::new("prod", "web")
}

/// A task under test: what goes in and what comes out.
struct Task {
    changes: UnboundedSender<HealthCheckChange>,
    notices: UnboundedReceiver<Notice>,
    pages: Pages,
}

impl Task {
    fn start() -> Self {
        let (changes, receiver) = mpsc::unbounded_channel();
        let (sender, notices) = mpsc::unbounded_channel();
        let pages = pages();
        let task = ServiceHealth::new(pages.clone(), "n1".to_owned(), Some(sender));
        tokio::spawn(task.run(receiver, CancellationToken::new()));
        Self {
            changes,
            notices,
            pages,
        }
    }

    fn tell(&self, check: Option<(u16, usize)>) {
        let check = check.map(|(port, count)| HealthCheck {
            port,
            local_endpoints: BTreeMap::from([(Family::V4, count), (Family::V6, count)]),
        });
        let change = HealthCheckChange {
            service: web(),
            uid: "u1".into(),
            check,
        };
        self.changes.send(change).unwrap();
    }
}

/// A port that is free now.
async fn free_port() -> u16 {
    let listener = listen("0.0.0.0:0".parse().unwrap()).await.unwrap();
    listener.local_addr().unwrap().port()
}

/// The status line and the rest; nothing if nobody listens.
async fn ask(address: SocketAddr) -> Option<(String, String)> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = b"GET /any/path HTTP/1.0\r\nHost: n1\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (status, rest) = text.split_once("\r\n").unwrap();
    Some((status.to_owned(), rest.to_owned()))
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Asks until the answer is as wanted.
async fn until(address: SocketAddr, wanted: impl Fn(Option<(String, String)>) -> bool) {
    while !wanted(ask(address).await) {
        tokio::task::yield_now().await;
    }
}

async fn until_status(address: SocketAddr, status: &str) {
    until(address, |answer| {
        answer.is_some_and(|(line, _)| line.contains(status))
    })
    .await;
}

async fn until_closed(address: SocketAddr) {
    until(address, |answer| answer.is_none()).await;
}

/// 38 to 41.
#[tokio::test]
async fn the_answer_is_kube_proxys() {
    let cases = [
        (3, true, StatusCode::OK),
        (0, true, StatusCode::SERVICE_UNAVAILABLE),
        (3, false, StatusCode::SERVICE_UNAVAILABLE),
    ];
    for (count, healthy, status) in cases {
        let answer = response(&web(), count, healthy);
        assert_eq!(answer.status(), status);
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), "application/json");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(
            header("x-load-balancing-endpoint-weight"),
            count.to_string()
        );
        let body = to_bytes(answer.into_body(), 1000).await.unwrap();
        let wanted = [
            "{",
            "\t\"service\": {",
            "\t\t\"namespace\": \"prod\",",
            "\t\t\"name\": \"web\"",
            "\t},",
            &format!("\t\"localEndpoints\": {count},"),
            &format!("\t\"serviceProxyHealthy\": {healthy}"),
            "}",
        ];
        assert_eq!(body, wanted.join("\n"));
    }
}

/// 35, 37, 38: opened, counted anew, moved to another port, closed.
#[tokio::test]
async fn a_listener_follows_its_service() {
    let task = Task::start();
    let (first, second) = (free_port().await, free_port().await);
    task.tell(Some((first, 2)));
    until_status(local(first), "200").await;
    let six = SocketAddr::from((Ipv6Addr::LOCALHOST, first));
    until_status(six, "200").await;
    task.tell(Some((first, 0)));
    until_status(local(first), "503").await;
    task.tell(Some((second, 1)));
    until_status(local(second), "200").await;
    until_closed(local(first)).await;
    task.tell(None);
    until_closed(local(second)).await;
}

/// 41, 42.
#[tokio::test]
async fn an_unhealthy_proxy_turns_load_balancers_away_until_it_recovers() {
    let task = Task::start();
    let port = free_port().await;
    task.tell(Some((port, 2)));
    until_status(local(port), "200").await;
    task.pages.board.failed("the kernel", Moment::default());
    let (status, rest) = ask(local(port)).await.unwrap();
    assert!(status.contains("503"), "{status}");
    assert!(rest.contains("\"localEndpoints\": 2,"), "{rest}");
    let pass = Pass {
        trigger: Trigger::Retry,
        ..Pass::default()
    };
    task.pages.board.passed(&pass, Moment::default());
    until_status(local(port), "200").await;
}

#[tokio::test]
async fn a_port_in_use_is_told_and_tried_again() {
    let mut task = Task::start();
    let taken = listen("0.0.0.0:0".parse().unwrap()).await.unwrap();
    let port = taken.local_addr().unwrap().port();
    task.tell(Some((port, 1)));
    let notice = task.notices.recv().await.unwrap();
    assert_eq!(
        (notice.service, &*notice.uid, notice.topic),
        (web(), "u1", Topic::HealthCheck)
    );
    let [problem] = &notice.problems[..] else {
        panic!("{:?}", notice.problems)
    };
    assert_eq!(problem.reason, Reason::FailedToStartServiceHealthcheck);
    for part in [
        "n1",
        &port.to_string(),
        "spec.healthCheckNodePort",
        "in use",
    ] {
        assert!(problem.text.contains(part), "{part:?} in {}", problem.text);
    }
    drop(taken);
    // From the second attempt on it says nothing until it works.
    let notice = task.notices.recv().await.unwrap();
    assert_eq!(notice.problems, []);
    until_status(local(port), "200").await;
}

#[tokio::test]
async fn a_failed_one_that_goes_is_in_order() {
    let mut task = Task::start();
    let taken = listen("0.0.0.0:0".parse().unwrap()).await.unwrap();
    task.tell(Some((taken.local_addr().unwrap().port(), 1)));
    assert_eq!(task.notices.recv().await.unwrap().problems.len(), 1);
    task.tell(None);
    assert_eq!(task.notices.recv().await.unwrap().problems, []);
}

#[test]
fn waits_grow_to_a_minute() {
    let waits: Vec<_> = (0..9).map(|n| backoff(n).as_secs()).collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    assert_eq!(backoff(u32::MAX).as_secs(), 60);
}
