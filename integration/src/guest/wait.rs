//! Waiting on conditions, with a bound, never for a fixed time.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Tries until `condition` holds; its last complaint is the error.
pub fn eventually(what: &str, condition: impl FnMut() -> Result<Result<(), String>>) -> Result<()> {
    eventually_within(LIMIT, what, condition)
}

/// The same with a bound of its own, for what is large.
pub fn eventually_within(
    limit: Duration,
    what: &str,
    mut condition: impl FnMut() -> Result<Result<(), String>>,
) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        match condition()? {
            Ok(()) => return Ok(()),
            Err(complaint) if Instant::now() > deadline => {
                bail!("{what}: not within {} s: {complaint}", limit.as_secs());
            }
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Generous: a guest is slow, the more so beside others on a busy machine, and a condition that holds ends the wait at
/// once.
const LIMIT: Duration = Duration::from_secs(240);
