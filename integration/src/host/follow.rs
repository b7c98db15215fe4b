//! Reads a guest's console to its end.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::console::Console;
use super::control_plane::ControlPlane;
use super::guest::Guest;
use super::signals::Signals;
use crate::protocol::{BOOTED, Proof, REQUEST, Verdict};

/// The emulator broke its own kernel, and not what runs in it. Seen with QEMU 7.2 and Linux 6.12: with two
/// processors an emulated kernel now and then meets the breakpoint by which the other one is patching its
/// code, while it boots (`sched_clock_cpu`); and on a busy machine its scheduler once found a register emptied
/// between two instructions (`update_sd_lb_stats`). With one processor everything takes four times as long.
#[derive(Debug, thiserror::Error)]
#[error("the emulated kernel died in its own scheduler or breakpoint")]
pub struct EmulatorFailed;

/// Who listens to a guest.
#[derive(Default)]
pub struct Listener<'a> {
    pub console: Console,
    /// Obeys what the guest asks of the host.
    pub control_plane: Option<&'a mut ControlPlane>,
    /// What the guest has proved.
    pub proofs: Vec<Proof>,
    /// Where stories are taken, if no other guest takes some.
    pub queue: Option<&'a Path>,
}

impl Listener<'_> {
    /// Before another boot: what was taken and not ended can be taken again.
    pub fn give_back(&self) -> Result<()> {
        let Some(queue) = self.queue else {
            return Ok(());
        };
        for taken in fs::read_dir(queue)? {
            let taken = taken?;
            let name = taken.file_name();
            let ended = |proof: &Proof| proof.subject == Proof::STORY && *proof.story == *name;
            if !self.proofs.iter().any(ended) {
                fs::remove_dir(taken.path())?;
            }
        }
        Ok(())
    }
}

/// Prints the console until the guest is off, obeys what it asks of the host, and demands exactly
/// one verdict.
pub fn follow(
    mut guest: Guest,
    listener: &mut Listener<'_>,
    signals: &Signals,
    limit: Duration,
) -> Result<Verdict> {
    let lines = lines_of(guest.console().context("the guest has no console")?);
    let mut verdicts = Vec::new();
    let (mut booted, mut emulator_failed) = (false, false);
    let deadline = Instant::now() + limit;
    loop {
        match lines.recv_timeout(GLANCE) {
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
            Ok(line) => {
                if let Some(verdict) = Verdict::parse(&line)? {
                    verdicts.push(verdict);
                } else if let Some(proof) = Proof::parse(&line)? {
                    if proof.subject == Proof::STORY {
                        listener.console.story_ended();
                    }
                    listener.proofs.push(proof);
                } else if let Some(request) = line.trim().strip_prefix(REQUEST) {
                    let plane = listener.control_plane.as_deref_mut();
                    plane
                        .ok_or_else(|| anyhow!("no API server to {request}"))?
                        .obey(request)?;
                } else if line.trim().ends_with(BOOTED) {
                    booted = true;
                } else if !BOOT_NOISE.iter().any(|noise| line.contains(noise)) {
                    emulator_failed |= !booted && line.contains("Oops: int3");
                    emulator_failed |= line.contains("RIP: 0010:update_sd_lb_stats");
                    listener.console.say(&line);
                }
            }
        }
        signals.check()?;
        if Instant::now() > deadline {
            bail!("the guest did not end within {} s", limit.as_secs());
        }
    }
    guest.wait();
    match verdicts[..] {
        [] if emulator_failed => Err(EmulatorFailed.into()),
        [] => bail!("the guest gave no verdict: it did not boot, or it died"),
        [verdict] => Ok(verdict),
        _ => bail!("the guest gave {} verdicts", verdicts.len()),
    }
}

/// The console's lines, read by a thread that ends with it.
fn lines_of(console: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(console);
        let mut bytes = Vec::new();
        while matches!(reader.read_until(b'\n', &mut bytes), Ok(n) if n > 0) {
            let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            bytes.clear();
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// How often signals and the deadline are looked at while the guest says nothing.
const GLANCE: Duration = Duration::from_millis(200);
/// What firmware and kernels say at every boot and nobody can act on.
const BOOT_NOISE: [&str; 10] = [
    "SELinux: ",
    "mmapper_init",
    "Failed to initialize ubd",
    "uml-vector",
    "reboot: ",
    "IPVS: Unknown mcast interface",
    "SeaBIOS (version",
    "iPXE (http",
    "Press Ctrl-B to configure iPXE",
    "Booting from ROM",
];

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// What comes of a guest whose console says this.
    fn outcome(console: &str) -> Result<Verdict> {
        let mut echo = Command::new("printf");
        echo.args(["%s", console]).stdout(Stdio::piped());
        let guest = Guest::playing(echo.spawn()?);
        follow(
            guest,
            &mut Listener::default(),
            &Signals::watch()?,
            Duration::from_secs(60),
        )
    }

    #[test]
    fn breakpoints_before_the_start_and_its_scheduler_are_the_emulators_fault() {
        let faulty = |console| outcome(console).is_err_and(|error| error.is::<EmulatorFailed>());
        assert!(faulty("[    1.655102] Oops: int3: 0000 [#1] PREEMPT SMP\n"));
        assert!(!faulty("LAB BOOTED\nOops: int3: 0000\n"));
        assert!(faulty(
            "LAB BOOTED\nRIP: 0010:update_sd_lb_stats.constprop.0+0x149/0xa00\n"
        ));
        assert!(!faulty("LAB BOOTED\nRIP: 0010:ip_vs_in_hook+0x149/0xa00\n"));
        assert!(!faulty("Kernel panic - not syncing: no init found\n"));
        assert!(!faulty("LAB BOOTED\n"));
        let good = outcome("LAB BOOTED\nLAB VERDICT: 2 passed, 1 failed\n");
        let verdict = Verdict {
            passed: 2,
            failed: 1,
        };
        assert_eq!(good.ok(), Some(verdict));
        assert!(
            outcome("LAB VERDICT: 1 passed, 0 failed\nLAB VERDICT: 1 passed, 0 failed\n").is_err()
        );
    }

    #[test]
    fn what_was_taken_and_not_ended_is_given_back() {
        let queue = std::env::temp_dir().join(format!("lab-queue-{}", std::process::id()));
        for story in ["ended", "failed", "begun"] {
            fs::create_dir_all(queue.join(story)).unwrap();
        }
        let proof = |story: &str, subject: &str, passed| Proof {
            story: story.to_owned(),
            subject: subject.to_owned(),
            passed,
            of: 1,
            left_out: 0,
        };
        let listener = Listener {
            proofs: vec![
                proof("ended", Proof::STORY, 1),
                proof("failed", Proof::STORY, 0),
                proof("begun", "1 Local Served", 1),
            ],
            queue: Some(&queue),
            ..Listener::default()
        };
        listener.give_back().unwrap();
        let left = fs::read_dir(&queue).unwrap().flatten();
        let mut left: Vec<_> = left.map(|entry| entry.file_name()).collect();
        left.sort();
        assert_eq!(left, ["ended", "failed"]);
        fs::remove_dir_all(&queue).unwrap();
    }
}
