//! Numbers are those of `docs/checklist.md`.

use super::*;
use crate::sync::Pass;

const PATIENCE: Duration = Duration::from_secs(60);

fn at(seconds: u64) -> Moment {
    Moment(Duration::from_secs(seconds))
}

fn board() -> Board {
    Board::new(Default::default())
}

/// Whether `/healthz` says 200.
fn is_healthy(board: &Board, seconds: u64) -> bool {
    let (_, bad) = judge(&board.health(), at(seconds), PATIENCE);
    !bad
}

/// Whether `/livez` does.
fn is_live(board: &Board, seconds: u64) -> bool {
    standstill(&board.health(), at(seconds), PATIENCE).is_none()
}

fn fail(board: &Board, seconds: u64) {
    let pass = Pass {
        failed: 1,
        error: Some("refused".to_owned()),
        ..Pass::default()
    };
    board.passed(&pass, true, at(seconds));
}

/// 44, 45: before anything was done, and while nothing waits, however long ago the last pass was.
#[test]
fn nothing_to_do_is_healthy() {
    let board = board();
    assert!(is_healthy(&board, 0) && is_healthy(&board, 100_000));
    assert!(is_live(&board, 0) && is_live(&board, 100_000));
    board.passed(&Pass::default(), false, at(5));
    assert!(is_healthy(&board, 6) && is_healthy(&board, 100_000));
}

/// 46, 47: what is asked for and not in the kernel within the time that it may take. 48: a pass
/// that leaves nothing over ends it.
#[test]
fn what_stays_undone_for_too_long_is_unhealthy_until_it_is_done() {
    let board = board();
    board.passed(&Pass::default(), false, at(0));
    fail(&board, 10);
    assert!(is_healthy(&board, 69));
    assert!(!is_healthy(&board, 70));
    // It counts from the first failure, not from the last.
    fail(&board, 65);
    assert!(!is_healthy(&board, 70));
    // A pass for something else leaves the failure waiting.
    board.passed(&Pass::default(), true, at(71));
    assert!(!is_healthy(&board, 71));
    board.passed(&Pass::default(), false, at(72));
    assert!(is_healthy(&board, 72));
    fail(&board, 100);
    assert!(is_healthy(&board, 159) && !is_healthy(&board, 160));
}

/// 46: the kernel cannot be read, which is told with its reason.
#[test]
fn a_kernel_that_cannot_be_read_is_unhealthy_and_says_why() {
    let board = board();
    board.failed("cannot dump virtual servers", at(10));
    let (reason, bad) = judge(&board.health(), at(20), PATIENCE);
    let told = Some("for 10 s: cannot dump virtual servers".to_owned());
    assert_eq!((reason, bad), (told, false));
    assert!(!is_healthy(&board, 70));
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
