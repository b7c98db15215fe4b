//! Reads a guest's console to its end.

use std::io::{BufRead, BufReader, Read, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::control_plane::ControlPlane;
use super::guest::Guest;
use super::signals::Signals;
use crate::protocol::{REQUEST, Verdict};

/// Prints the console until the guest is off, obeys what it asks of the host, and demands exactly
/// one verdict without a failure. Gives the number that passed.
pub fn follow(
    mut guest: Guest,
    mut control_plane: Option<&mut ControlPlane>,
    signals: &Signals,
    limit: Duration,
) -> Result<usize> {
    let lines = lines_of(guest.console().context("the guest has no console")?);
    let mut verdicts = Vec::new();
    let deadline = Instant::now() + limit;
    loop {
        match lines.recv_timeout(GLANCE) {
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
            Ok(line) => {
                if let Some(verdict) = Verdict::parse(&line)? {
                    verdicts.push(verdict);
                } else if let Some(request) = line.trim().strip_prefix(REQUEST) {
                    let plane = control_plane.as_deref_mut();
                    plane
                        .ok_or_else(|| anyhow!("no API server to {request}"))?
                        .obey(request)?;
                } else if !BOOT_NOISE.iter().any(|noise| line.contains(noise)) {
                    println!("{line}");
                    std::io::stdout().flush()?;
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
        [] => bail!("the guest gave no verdict: it did not boot, or it died"),
        [Verdict { passed, failed }] if failed > 0 || passed == 0 => {
            bail!("{passed} passed, {failed} failed")
        }
        [Verdict { passed, .. }] => Ok(passed),
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
