//! A guest: a kernel with IPVS whose root is the host's own file system.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdout};

use anyhow::Result;
use rustix::process::{Pid, Signal, kill_process_group};

use super::network::{GUEST_ADDRESS, LabNetwork};
use super::{Kernel, link_iptables, native, qemu, uml};
use crate::protocol::BOOTED;

/// Powered off when dropped.
pub struct Guest {
    child: Child,
}

/// How a guest is booted: its kernel loads `modules`, cannot load those that are `hidden`, runs `command`
/// and powers off. The machine's own kernel has what it has.
#[derive(Clone, Copy)]
pub struct Boot<'a> {
    pub kernel: Kernel,
    pub network: &'a LabNetwork,
    pub work: &'a Path,
    pub modules: &'a [&'a str],
    pub hidden: &'a [&'a str],
    /// MiB, of a guest that is emulated
    pub memory: u32,
    pub command: &'a str,
}

impl<'a> Boot<'a> {
    /// With all that nodes load.
    pub const fn new(
        kernel: Kernel,
        network: &'a LabNetwork,
        work: &'a Path,
        command: &'a str,
    ) -> Self {
        Self {
            kernel,
            network,
            work,
            modules: &NODE_MODULES,
            hidden: &[],
            memory: 3072,
            command,
        }
    }

    pub fn guest(&self) -> Result<Guest> {
        let before = match self.kernel {
            Kernel::Uml => uml::before(),
            Kernel::Qemu | Kernel::QemuLegacy => qemu::before()?,
            Kernel::NativeLegacy | Kernel::NativeNft => {
                return native::start(self.network, self.kernel.iptables(), self.command);
            }
        };
        let init = self.work.join("init.sh");
        fs::write(&init, self.init_script(&before))?;
        fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
        let child = match self.kernel {
            Kernel::Uml => uml::boot(self.network, &init)?,
            _ => qemu::boot(self.network, self.work, self.memory, &init)?,
        };
        Ok(Guest { child })
    }

    /// Process 1 of the guest. What a guest writes goes to memory, never to the host's disk, but for the names of
    /// the stories that it takes.
    fn init_script(&self, before: &str) -> String {
        let command = self.command;
        let modules: Vec<&str> = self
            .modules
            .iter()
            .copied()
            .filter(|m| !self.hidden.contains(m))
            .collect();
        let modules = modules.join(" ");
        let hide: String = self
            .hidden
            .iter()
            .map(|m| format!("echo 'install {m} /bin/false' >> /run/modprobe.d/hidden.conf\n"))
            .collect();
        let iptables = link_iptables(self.kernel.iptables());
        format!(
            "#!/bin/bash\n\
         export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n\
         export HOME=/run RUST_BACKTRACE=1\n\
         mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs tmpfs /run\n\
         mount -t devtmpfs dev /dev 2>/dev/null; ln -sf /proc/self/fd /dev/fd\n\
         mkdir -p /run/netns /run/bin /run/lock /run/modprobe.d; export PATH=/run/bin:$PATH\n\
         {before}{iptables}{hide}\
         for m in {modules}; do modprobe $m || echo \"cannot load $m\"; done\n\
         ip link set lo up; ip link set eth0 up; [ -e /sys/class/net/dummy0 ] || ip link add dummy0 type dummy; ip link set dummy0 up\n\
         ip addr add {GUEST_ADDRESS}/24 dev eth0\n\
         echo '{BOOTED}'\n\
         {command}\n\
         busybox poweroff -f || halt -f\n"
        )
    }
}

impl Guest {
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

/// What a node that has no IPVS cannot load.
pub const IPVS_MODULES: [&str; 2] = ["ip_vs", "xt_ipvs"];

/// What nodes load; the rest, such as the schedulers, which not every kernel has alike, comes by the
/// kernel's own autoloading.
const NODE_MODULES: [&str; 28] = [
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
