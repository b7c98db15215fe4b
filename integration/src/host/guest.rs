//! A guest: a kernel with IPVS whose root is the host's own file system.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdout};

use anyhow::Result;
use rustix::process::{Pid, Signal, kill_process_group};

use super::network::{GUEST_ADDRESS, LabNetwork};
use super::{Kernel, qemu, uml};
use crate::protocol::BOOTED;

/// Powered off when dropped.
pub struct Guest {
    child: Child,
}

impl Guest {
    /// Boots a kernel that loads `modules`, runs `command` and powers off.
    pub fn boot(
        kernel: Kernel,
        network: &LabNetwork,
        work: &Path,
        modules: &[&str],
        command: &str,
    ) -> Result<Self> {
        let init = work.join("init.sh");
        let (interface, before) = match kernel {
            Kernel::Uml => ("vec0", uml::before()),
            Kernel::Qemu => ("eth0", qemu::before()?),
        };
        fs::write(&init, init_script(interface, &before, modules, command))?;
        fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
        let child = match kernel {
            Kernel::Uml => uml::boot(network, &init)?,
            Kernel::Qemu => qemu::boot(network, work, &init)?,
        };
        Ok(Self { child })
    }

    /// A process that plays the guest: it has a console and ends with a verdict.
    pub fn playing(child: Child) -> Self {
        Self { child }
    }

    pub fn console(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    pub fn wait(&mut self) {
        let _ = self.child.wait();
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // User-Mode Linux is several processes: each guest leads a process group of its own.
        if let Some(leader) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(leader, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// Process 1 of the guest. What a guest writes goes to memory, never to the host's disk, but for the names of
/// the stories that it takes.
fn init_script(interface: &str, before: &str, modules: &[&str], command: &str) -> String {
    let modules = modules.join(" ");
    format!(
        "#!/bin/bash\n\
         export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n\
         export HOME=/run RUST_BACKTRACE=1\n\
         mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs tmpfs /run\n\
         mount -t devtmpfs dev /dev 2>/dev/null; ln -sf /proc/self/fd /dev/fd\n\
         mkdir -p /run/netns /run/bin /run/lock; export PATH=/run/bin:$PATH\n\
         {before}\n\
         for m in {modules}; do modprobe $m || echo \"cannot load $m\"; done\n\
         ip link set lo up; ip link set {interface} up; [ -e /sys/class/net/dummy0 ] || ip link add dummy0 type dummy; ip link set dummy0 up\n\
         ip addr add {GUEST_ADDRESS}/24 dev {interface}\n\
         echo '{BOOTED}'\n\
         {command}\n\
         busybox poweroff -f || halt -f\n"
    )
}

/// What nodes load; the rest, such as the schedulers, which not every kernel has alike, comes by the
/// kernel's own autoloading.
pub const NODE_MODULES: [&str; 28] = [
    "ip_vs",
    "veth",
    "bridge",
    "dummy",
    "sctp",
    "iptable_nat",
    "iptable_filter",
    "iptable_mangle",
    "ip6table_nat",
    "ip6table_filter",
    "ip6table_mangle",
    "nf_conntrack",
    "nf_conntrack_netlink",
    "ip_set",
    "ip_set_hash_ip",
    "ip_set_hash_ipport",
    "ip_set_hash_ipportip",
    "ip_set_hash_net",
    "xt_ipvs",
    "xt_set",
    "xt_comment",
    "xt_mark",
    "xt_MASQUERADE",
    "xt_conntrack",
    "xt_tcpudp",
    "xt_nat",
    "ipt_REJECT",
    "ip6t_REJECT",
];
