//! What a supervisor is told over `$NOTIFY_SOCKET` (`sd_notify(3)`), where there is one: that everything has
//! been programmed once, and that the loop still turns.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::warn;

use crate::http::Pages;

/// Tells it for as long as the agent runs.
pub async fn tell(pages: Pages) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let watched = sd_notify::watchdog_enabled();
    // Twice within the time after which the supervisor would end the agent.
    let pause = watched.map_or(PAUSE, |patience| (patience / 2).min(PAUSE));
    let mut ready = false;
    loop {
        if !ready && pages.are_ready() {
            ready = true;
            notify(&[
                NotifyState::Ready,
                NotifyState::Status("Services are programmed"),
            ]);
        }
        if watched.is_some() && pages.are_alive() {
            notify(&[NotifyState::Watchdog]);
        }
        tokio::time::sleep(pause).await;
    }
}

/// The agent ends; the node goes on serving.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "cannot tell the supervisor");
    }
}

const PAUSE: Duration = Duration::from_millis(500);
