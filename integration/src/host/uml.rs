//! User-Mode Linux 6.1: Debian's package `user-mode-linux`. Boots in seconds, needs no device.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use super::PATH;
use super::network::{LabNetwork, TAP};

/// The guest's own preparations: its modules, where containers that see /lib/modules see them too, and a name for its
/// interface that is every guest's.
pub fn before() -> String {
    "mount -t tmpfs tmpfs /lib/modules\n\
     mkdir /lib/modules/$(uname -r); mount --bind /usr/lib/uml/modules/$(uname -r) /lib/modules/$(uname -r)\n\
     ip link set vec0 name eth0\n"
        .to_owned()
}

pub fn boot(network: &LabNetwork, init: &Path) -> Result<Child> {
    Command::new("ip")
        .args(["netns", "exec", &network.namespace, "linux.uml"])
        .args([
            "rootfstype=hostfs",
            "rw",
            "mem=3072M",
            "quiet",
            "con=null",
            "con0=fd:0,fd:1",
        ])
        .arg(format!("vec0:transport=tap,ifname={TAP},depth=128,gro=1"))
        .arg(format!("init={}", init.display()))
        .env("PATH", PATH)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start User-Mode Linux; `make deps` installs it")
}
