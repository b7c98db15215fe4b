//! The machine's own kernel in the guest's place: network, mount and process namespaces of their own
//! that vanish with the process that made them.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};

use super::guest::Guest;
use super::network::{GUEST_ADDRESS, HOST_ADDRESS, LabNetwork};
use super::{PATH, link_iptables};
use crate::protocol::BOOTED;

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

/// Whether this kernel makes sockets of SCTP.
pub fn has_sctp() -> bool {
    Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::from(132))).is_ok()
}

/// Starts the demo in namespaces of its own.
pub fn demo(lab: &Path, agent: &Path) -> Result<Guest> {
    let command = format!(
        "exec {} guest-demo --agent {}",
        lab.display(),
        agent.display()
    );
    play(
        Command::new("unshare").arg("--net"),
        &format!("{PREPARE}{command}"),
    )
}

/// Runs `command` as a guest would, at the other end of the network's cable.
pub fn start(network: &LabNetwork, iptables: &str, command: &str) -> Result<Guest> {
    let script = format!(
        "{PREPARE}{}\
         export PATH=/run/bin:$PATH HOME=/run RUST_BACKTRACE=1\n\
         # Not every kernel has the first.\n\
         ip link add dummy0 type dummy 2>/dev/null || ip link add dummy0 type bridge; ip link set dummy0 up\n\
         echo '{BOOTED}'\n\
         exec {command}\n",
        link_iptables(iptables)
    );
    let guest = network.guest_namespace();
    // Its name is the host's; the cable is laid before the guest's own /run hides such names.
    for line in [
        format!("addr add {GUEST_ADDRESS}/24 dev eth0"),
        "link set eth0 up".to_owned(),
        format!("route add default via {HOST_ADDRESS}"),
    ] {
        let words: Vec<&str> = ["-n", &guest].into_iter().chain(line.split(' ')).collect();
        super::tool("ip", &words)?;
    }
    play(
        Command::new("ip").args(["netns", "exec", &guest, "unshare"]),
        &script,
    )
}

/// `/run` is private too, so that the names of its network namespaces and the lock of iptables meet
/// nobody else's.
fn play(unshare: &mut Command, script: &str) -> Result<Guest> {
    let child = unshare
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["sh", "-c", script])
        .env("PATH", PATH)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start unshare; the package util-linux has it")?;
    Ok(Guest::playing(child))
}

/// The bridge between the nodes is a cable, and no firewall: where the kernel has `br_netfilter`, it
/// asks iptables about what crosses a bridge unless told otherwise.
const PREPARE: &str = "set -e; mount -t tmpfs tmpfs /run; mkdir -p /run/netns /run/lock /run/bin\n\
    ip link set lo up\n\
    for f in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e $f ] || echo 0 > $f; done\n";
