//! A whole cluster: the API server here, and at the other end of the cable its controllers and nodes with kubelet and
//! containerd, in namespaces of the machine's own kernel or of a guest's. What only the host's file system knows of it
//! are the nodes' groups of processes on the machine's own kernel, which go last.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::control_plane::{ControlPlane, Demands};
use super::network::{self, LabNetwork};
use super::signals::Signals;
use super::{Boot, Kernel, Platform, Work, cache, checks, exists, this_program, tree};
use crate::cluster::{POD_NETWORK, PROGRAMS};

/// Installs the chart with an image, an archive that containerd imports, and sees the cluster through its checks.
pub fn cluster(kernel: Kernel, image: &Path) -> Result<()> {
    ensure!(
        !matches!(kernel, Kernel::NativeLegacy | Kernel::QemuLegacy),
        "a cluster's nodes have iptables-nft: --kernel native-nft, uml or qemu"
    );
    let cache = cache()?;
    for (program, _) in PROGRAMS {
        let path = cache.join("bin").join(program);
        let is_there = path.exists();
        ensure!(
            is_there,
            "no {}; `make cluster-deps` builds it",
            path.display()
        );
    }
    exists(image)?;
    exists(&cache.join(crate::chart::HELM_4))?;
    let signals = Signals::watch()?;
    let work = Work::new()?;
    let groups = Groups::of(kernel, &format!("ipvs-lab-{}-", std::process::id()))?;
    let network = LabNetwork::of(kernel, 1)?;
    network.route(POD_NETWORK)?;
    let mut control_plane = ControlPlane::with(&network, &work.path, Demands::Accounts)?;
    // What a guest's nodes write goes to its memory: layers of files need more of a file system than it shares.
    let folder = work.path.join("nodes");
    fs::create_dir(&folder)?;
    let prepare = if kernel.is_native() {
        String::new()
    } else {
        format!(
            "mount -t cgroup2 groups /sys/fs/cgroup; mount -t tmpfs -o size=75% nodes {}; ",
            folder.display()
        )
    };
    let dataplane = Platform::new(kernel, None).dataplane;
    let command = format!(
        "{prepare}{} guest-cluster --dataplane {} --image {} --cache {} --tree {} --work {} --groups {} \
         --api https://{}:6443 --authority {} --account-key {}",
        this_program()?.display(),
        dataplane.name(),
        fs::canonicalize(image)?.display(),
        cache.display(),
        tree()?.display(),
        folder.display(),
        groups.name,
        network::HOST_ADDRESS,
        control_plane.authority().display(),
        control_plane.account_key().display(),
    );
    let boot = Boot {
        memory: 6144,
        ..Boot::new(kernel, &network, &work.path, &command)
    };
    checks(&boot, Some(&mut control_plane), &signals, LIMIT)
}

/// Groups of processes (cgroups) whose names begin alike. Nodes make them (`node.sh`): below this process' own in every
/// hierarchy of version 1, or in the only one of version 2. Removed when dropped, with the groups of the pods in them.
/// Those of a guest go with it.
struct Groups {
    name: String,
    parents: Vec<PathBuf>,
}

impl Groups {
    fn of(kernel: Kernel, name: &str) -> Result<Self> {
        let root = Path::new(GROUPS);
        let parents: Vec<PathBuf> = if !kernel.is_native() {
            Vec::new()
        } else if root.join("cgroup.controllers").exists() {
            vec![root.to_owned()]
        } else {
            let text = fs::read_to_string("/proc/self/cgroup");
            let text = text.context("cannot read /proc/self/cgroup")?;
            let parents: Vec<PathBuf> = text.lines().filter_map(parent).collect();
            ensure!(
                parents.iter().any(|parent| parent.join("tasks").exists()),
                "nodes need cgroups, which this machine has not at {GROUPS}"
            );
            parents
        };
        let name = name.to_owned();
        Ok(Self { name, parents })
    }
}

/// The folder of a line of /proc/self/cgroup of version 1: `4:memory:/path`.
fn parent(line: &str) -> Option<PathBuf> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (hierarchy, path) = (parts.next()?, parts.next()?);
    let hierarchy = hierarchy.strip_prefix("name=").unwrap_or(hierarchy);
    let root = Path::new(GROUPS).join(hierarchy);
    (!hierarchy.is_empty()).then(|| root.join(path.trim_start_matches('/')))
}

impl Drop for Groups {
    fn drop(&mut self) {
        for parent in &self.parents {
            for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().starts_with(&self.name) {
                    remove(&entry.path());
                }
            }
        }
    }
}

/// From the innermost; the kernel's files in it go by themselves. The last processes may just be ending.
fn remove(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    for _ in 0..50 {
        if fs::remove_dir(group).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    eprintln!("lab: cannot remove {}", group.display());
}

const GROUPS: &str = "/sys/fs/cgroup";
const LIMIT: Duration = Duration::from_secs(1800);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_of_version_2_has_no_hierarchy() {
        let of = |line| parent(line).map(|path| path.display().to_string());
        assert_eq!(of("8:pids:/"), Some("/sys/fs/cgroup/pids/".to_owned()));
        assert_eq!(
            of("4:memory:/a/b"),
            Some("/sys/fs/cgroup/memory/a/b".to_owned())
        );
        assert_eq!(
            of("9:name=systemd:/"),
            Some("/sys/fs/cgroup/systemd/".to_owned())
        );
        assert_eq!(of("0::/"), None);
    }
}
