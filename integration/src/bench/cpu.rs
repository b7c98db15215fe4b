//! Processor time of a process and of the children that it has waited for.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// What the process has used up to now.
pub fn used(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    parse(&text).with_context(|| format!("odd {path}: {text:?}"))
}

/// Waits until the process has used nothing for a second, or until the deadline, and tells what it has
/// used by then.
pub fn at_rest(pid: u32, deadline: Instant) -> Result<Duration> {
    let mut before = used(pid)?;
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let now = used(pid)?;
        if now <= before + TICK || Instant::now() > deadline {
            return Ok(now);
        }
        before = now;
    }
}

/// utime, stime, cutime and cstime, the 14th to 17th field. The second may have spaces and brackets.
fn parse(stat: &str) -> Option<Duration> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let fields = after_name.split_whitespace().skip(11).take(4);
    let ticks: Option<Vec<u32>> = fields.map(|field| field.parse().ok()).collect();
    let ticks = ticks.filter(|ticks| ticks.len() == 4)?;
    Some(TICK * ticks.iter().sum())
}

/// `USER_HZ` is 100 on all machines that Kubernetes runs on.
const TICK: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_the_process_own_and_its_childrens() {
        let stat = "77 (a) (b c) S 1 77 77 0 -1 4194304 900 1000 0 0 12 3 40 5 20 0 9 0 12345";
        assert_eq!(parse(stat), Some(Duration::from_millis(600)));
        assert_eq!(parse("77 (a) S 1 77"), None);
    }
}
