//! Numbers are those of `docs/checklist.md`.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::cluster::{Kind, SourceBoard};
use crate::model::Leaving;
use crate::sync::{Pass, Trigger};

const PATIENCE: Duration = Duration::from_secs(60);

fn at(seconds: u64) -> Moment {
    Moment(Duration::from_secs(seconds))
}

fn board() -> Board {
    Board::new(Default::default())
}

/// Whether `/healthz` says 200.
fn is_healthy(board: &Board, seconds: u64) -> bool {
    judge(&board.health(), at(seconds), PATIENCE).is_healthy()
}

/// Whether `/livez` does.
fn is_live(board: &Board, seconds: u64) -> bool {
    standstill(&board.health(), at(seconds), PATIENCE).is_none()
}

fn fail(board: &Board, seconds: u64) {
    fail_in(board, &Family::ALL, seconds);
}

fn fail_in(board: &Board, families: &[Family], seconds: u64) {
    let errors = families
        .iter()
        .map(|family| (*family, "refused".to_owned()));
    let pass = Pass {
        failed: 1,
        errors: errors.collect(),
        ..Pass::default()
    };
    board.passed(&pass, at(seconds));
}

/// A pass over all that was left.
fn retried() -> Pass {
    Pass {
        trigger: Trigger::Retry,
        ..Pass::default()
    }
}

/// 44, 45: before anything was done, and while nothing waits, however long ago the last pass was.
#[test]
fn nothing_to_do_is_healthy() {
    let board = board();
    assert!(is_healthy(&board, 0) && is_healthy(&board, 100_000));
    assert!(is_live(&board, 0) && is_live(&board, 100_000));
    board.passed(&Pass::default(), at(5));
    assert!(is_healthy(&board, 6) && is_healthy(&board, 100_000));
}

/// 46, 47: what is asked for and not in the kernel within the time that it may take. 48: a pass
/// that leaves nothing over ends it.
#[test]
fn what_stays_undone_for_too_long_is_unhealthy_until_it_is_done() {
    let board = board();
    board.passed(&Pass::default(), at(0));
    fail(&board, 10);
    assert!(is_healthy(&board, 69));
    assert!(!is_healthy(&board, 70));
    // It counts from the first failure, not from the last.
    fail(&board, 65);
    assert!(!is_healthy(&board, 70));
    // A pass for something else leaves the failure waiting.
    board.passed(&Pass::default(), at(71));
    assert!(!is_healthy(&board, 71));
    board.passed(&retried(), at(72));
    assert!(is_healthy(&board, 72));
    fail(&board, 100);
    assert!(is_healthy(&board, 159) && !is_healthy(&board, 160));
}

/// 46: the kernel cannot be read, which is told with its reason.
#[test]
fn a_kernel_that_cannot_be_read_is_unhealthy_and_says_why() {
    let board = board();
    board.failed("cannot dump virtual servers", at(10));
    let verdict = judge(&board.health(), at(20), PATIENCE);
    let told = Some("for 10 s: cannot dump virtual servers".to_owned());
    assert_eq!((verdict.reason.clone(), verdict.is_healthy()), (told, true));
    assert!(!is_healthy(&board, 70));
}

/// A source that tells nothing, or nothing but errors, is told of with its name; what only needs mending is not.
#[test]
fn a_source_that_is_silent_for_too_long_is_told_of() {
    let time = Arc::new(AtomicU64::new(0));
    let clock = Arc::clone(&time);
    let sources = SourceBoard::new(move || at(clock.load(Ordering::Relaxed)));
    let board = Board::new(sources.clone());
    let stale = |seconds| board.stale_source(at(seconds), PATIENCE);
    // Before it was ever heard there is nothing that could be stale.
    assert_eq!(stale(1000), None);
    sources.good(Kind::Services, true);
    assert_eq!(stale(59), None);
    assert!(stale(60).unwrap().contains("it is silent"));
    time.store(50, Ordering::Relaxed);
    sources.good(Kind::Services, false);
    time.store(60, Ordering::Relaxed);
    sources.failed(Kind::Services, "no route to host");
    assert_eq!(stale(109), None);
    let told = stale(110).unwrap();
    assert!(
        told.contains("for 60 s: no route to host")
            && told.starts_with(&Kind::Services.to_string()),
        "{told}"
    );
    sources.complains(Kind::Services, "a file does not parse");
    assert_eq!(stale(110), None);
}

/// 51: what a restart would not mend is none of its business.
#[test]
fn only_a_loop_that_stands_still_is_dead() {
    let board = board();
    board.turned(at(0));
    fail(&board, 0);
    assert!(!is_healthy(&board, 100) && is_live(&board, 100));
    let slowest = (PATIENCE + SLOWEST_TURN).as_secs();
    assert!(is_live(&board, slowest) && !is_live(&board, slowest + 1));
    board.turned(at(slowest));
    assert!(is_live(&board, slowest + 1));
}

/// The fields of kube-proxy's answer, as its `ProxyHealth` names them.
fn fields(body: &HealthBody) -> serde_json::Value {
    serde_json::to_value(body).unwrap()
}

/// 49, 50: a node that will be removed is not eligible; the proxy on it is healthy all the same, and
/// `/livez` says nothing of nodes.
#[test]
fn a_node_that_is_about_to_go_is_not_eligible() {
    let board = board();
    board.passed(&Pass::default(), at(40));
    let current: Timestamp = "2024-05-01T12:00:00Z".parse().unwrap();
    let told = |board: &Board| {
        let health = board.health();
        let (status, healthz) = healthz_body(&health, at(100), current, Verdict::default());
        let (live, livez) = body(&health, at(100), current, Verdict::default());
        assert_eq!(live, StatusCode::OK);
        let family = serde_json::json!({"lastUpdated": "2024-05-01T11:59:00Z", "healthy": true});
        let livez_wanted = serde_json::json!({
            "lastUpdated": "2024-05-01T12:00:00Z", "currentTime": "2024-05-01T12:00:00Z",
            "healthy": true, "status": {"IPv4": family, "IPv6": family},
        });
        assert_eq!(fields(&livez), livez_wanted);
        (status.as_u16(), fields(&healthz))
    };
    let family = serde_json::json!({"lastUpdated": "2024-05-01T11:59:00Z", "healthy": true});
    let wanted = |updated: &str, eligible: bool| {
        serde_json::json!({
            "lastUpdated": updated, "currentTime": "2024-05-01T12:00:00Z",
            "nodeEligible": eligible, "healthy": true, "status": {"IPv4": family, "IPv6": family},
        })
    };
    let well = (200, wanted("2024-05-01T12:00:00Z", true));
    assert_eq!(told(&board), well);
    for (leaving, reason) in [
        (Leaving::Missing, "there is no Node of this name"),
        (Leaving::BeingDeleted, "the Node is being deleted"),
        (
            Leaving::Tainted,
            "the Node has the taint ToBeDeletedByClusterAutoscaler",
        ),
    ] {
        board.node(Some(leaving));
        let mut unwell = wanted("2024-05-01T11:59:00Z", false);
        unwell["reason"] = reason.into();
        assert_eq!(told(&board), (503, unwell));
        board.node(None);
        assert_eq!(told(&board), well);
    }
}

/// 46: the time of each family's last success stands beside the verdict.
#[test]
fn an_unhealthy_proxy_says_since_when_of_each_family() {
    let board = board();
    let current: Timestamp = "2024-05-01T12:00:00Z".parse().unwrap();
    let (_, first) = body(&board.health(), at(5), current, Verdict::default());
    assert!(fields(&first).get("status").is_none());
    board.passed(&Pass::default(), at(10));
    fail(&board, 20);
    let verdict = judge(&board.health(), at(90), PATIENCE);
    let (status, healthz) = healthz_body(&board.health(), at(90), current, verdict);
    let family = serde_json::json!({"lastUpdated": "2024-05-01T11:58:40Z", "healthy": false});
    let wanted = serde_json::json!({
        "lastUpdated": "2024-05-01T11:58:40Z", "currentTime": "2024-05-01T12:00:00Z",
        "nodeEligible": true, "healthy": false, "status": {"IPv4": family, "IPv6": family},
        "reason": "for 70 s: refused",
    });
    assert_eq!((status.as_u16(), fields(&healthz)), (503, wanted));
}

/// 46: one family is ill and the other one is not; the node is red, and says for which.
#[test]
fn one_family_is_ill_beside_the_other() {
    let board = board();
    let current: Timestamp = "2024-05-01T12:00:00Z".parse().unwrap();
    board.passed(&Pass::default(), at(10));
    fail_in(&board, &[Family::V6], 20);
    board.passed(&Pass::default(), at(80));
    let health = board.health();
    let (status, healthz) =
        healthz_body(&health, at(90), current, judge(&health, at(90), PATIENCE));
    let wanted = serde_json::json!({
        "lastUpdated": "2024-05-01T11:58:40Z", "currentTime": "2024-05-01T12:00:00Z",
        "nodeEligible": true, "healthy": false, "reason": "for 70 s: refused",
        "status": {
            "IPv4": {"lastUpdated": "2024-05-01T11:59:50Z", "healthy": true},
            "IPv6": {"lastUpdated": "2024-05-01T11:58:40Z", "healthy": false},
        },
    });
    assert_eq!((status.as_u16(), fields(&healthz)), (503, wanted));
}

/// Both are counted under kube-proxy's names.
#[test]
fn answers_are_counted_by_their_status() {
    let board = board();
    board.healthz_answered(200);
    board.healthz_answered(503);
    board.healthz_answered(503);
    board.livez_answered(200);
    let text = board.metrics(Moment::default()).unwrap();
    for line in [
        "kubeproxy_proxy_healthz_total{code=\"200\"} 1",
        "kubeproxy_proxy_healthz_total{code=\"503\"} 2",
        "kubeproxy_proxy_livez_total{code=\"200\"} 1",
    ] {
        assert!(text.lines().any(|told| told == line), "{line}\n{text}");
    }
}

/// Pages of an agent that has run for an hour.
#[expect(clippy::disallowed_methods, reason = "the pages have a clock")]
fn pages(board: Board) -> Pages {
    Pages {
        board: Arc::new(board),
        traffic: None,
        dataplane: "ipvs",
        effective: Arc::default(),
        started: std::time::Instant::now().checked_sub(HOUR).unwrap(),
        patience: PATIENCE,
        source_patience: PATIENCE,
    }
}

const HOUR: Duration = Duration::from_secs(3600);

/// Status and body.
async fn page(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await;
    (status, String::from_utf8(body.unwrap().into()).unwrap())
}

/// A write that failed, a kernel that cannot be read, a source that is silent: each is told by both pages, with
/// its reason, and by neither once it is over. Whether the agent lives is another question.
#[tokio::test]
async fn what_is_broken_is_red_with_its_reason_until_it_is_mended() {
    let time = Arc::new(AtomicU64::new(3590));
    let clock = Arc::clone(&time);
    let sources = SourceBoard::new(move || at(clock.load(Ordering::Relaxed)));
    let pages = pages(Board::new(sources.clone()));
    let board = pages.board.clone();
    let all_well = || {
        sources.good(Kind::Services, true);
        board.passed(&retried(), at(3590));
    };
    let write = || fail(&board, 60);
    let read = || board.failed("cannot dump virtual servers", at(60));
    let silence = || {
        time.store(60, Ordering::Relaxed);
        sources.good(Kind::Services, true);
        time.store(3590, Ordering::Relaxed);
    };
    let troubles: [(&dyn Fn(), &str); 3] = [
        (&write, "refused"),
        (&read, "cannot dump virtual servers"),
        (&silence, "it is silent"),
    ];
    for (trouble, reason) in troubles {
        all_well();
        let (status, body) = page(healthz(State(pages.clone())).await).await;
        assert_eq!(status, 200, "{body}");
        assert_eq!(page(readyz(State(pages.clone())).await).await.0, 200);
        trouble();
        let health = page(healthz(State(pages.clone())).await).await;
        let ready = page(readyz(State(pages.clone())).await).await;
        for (status, body) in [health, ready] {
            assert_eq!(status, 503, "{reason}");
            assert!(body.contains(reason), "{reason}: {body}");
        }
        assert_eq!(page(livez(State(pages.clone())).await).await.0, 200);
    }
    all_well();
    assert_eq!(page(healthz(State(pages.clone())).await).await.0, 200);
}

/// What was never programmed is not ready, and says of which family and why.
#[tokio::test]
async fn readiness_waits_for_both_families() {
    let pages = pages(board());
    let ready = async || page(readyz(State(pages.clone())).await).await;
    let (status, body) = ready().await;
    assert_eq!(status, 503);
    assert!(
        body.contains("\"nothing has been programmed yet\""),
        "{body}"
    );
    fail_in(&pages.board, &[Family::V6], 3590);
    let (status, body) = ready().await;
    assert_eq!(status, 503);
    assert!(
        body.contains("not all of IPv6 has been programmed yet; for 1"),
        "{body}"
    );
    pages.board.passed(&retried(), at(3590));
    assert_eq!(ready().await.0, 200);
}

/// Prometheus 3 refuses a scrape whose type it does not know.
#[tokio::test]
async fn metrics_have_the_type_that_was_asked_for() {
    let pages = pages(board());
    let open = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let plain = "text/plain; version=0.0.4; charset=utf-8";
    // What Prometheus 2.53 sends, curl, and nobody.
    for (accept, wanted) in [
        (
            Some(
                "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            ),
            open,
        ),
        (Some("*/*"), plain),
        (None, plain),
    ] {
        let mut headers = HeaderMap::new();
        if let Some(accept) = accept {
            headers.insert(header::ACCEPT, accept.parse().unwrap());
        }
        let response = metrics(State(pages.clone()), headers).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(
            response.headers()[header::CONTENT_TYPE],
            wanted,
            "{accept:?}"
        );
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await;
        let ends = body.unwrap().ends_with(b"# EOF\n");
        assert_eq!(ends, wanted == open, "{accept:?}");
    }
}
