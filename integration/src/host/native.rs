//! The machine's own kernel in the guest's place: network, mount and process namespaces of their own
//! that vanish with the process that made them.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::PATH;
use super::guest::Guest;

/// Whether this kernel has IPVS, or has it once `modprobe` loaded it.
pub fn has_ipvs() -> bool {
    let there = || Path::new("/proc/net/ip_vs").exists();
    let load = || {
        Command::new("modprobe")
            .arg("-q")
            .arg("ip_vs")
            .env("PATH", PATH)
            .status()
    };
    there() || (load().is_ok_and(|status| status.success()) && there())
}

/// Starts the demo in namespaces of its own. `/run` is private too, so that the names of its network
/// namespaces meet nobody else's.
pub fn start(lab: &Path, agent: &Path) -> Result<Guest> {
    let child = Command::new("unshare")
        .args([
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ])
        .args(["sh", "-c", PREPARE, "demo"])
        .arg(lab)
        .args(["guest-demo", "--agent"])
        .arg(agent)
        .env("PATH", PATH)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start unshare; the package util-linux has it")?;
    Ok(Guest::playing(child))
}

const PREPARE: &str = "mount -t tmpfs tmpfs /run && mkdir -p /run/netns /run/lock && ip link set lo up && exec \"$@\"";
