//! Linux 6.12 of Debian, emulated by QEMU. No KVM is needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use super::network::{LabNetwork, TAP};
use super::{PATH, cache, exists, tool};

/// The guest's own preparations: its modules.
pub fn before() -> Result<String> {
    let modules = kernel()?.join("lib/modules");
    Ok(format!(
        "mount -t tmpfs tmpfs /lib/modules\n\
         ln -s {}/$(uname -r) /lib/modules/$(uname -r)\nmodprobe virtio_net",
        modules.display()
    ))
}

pub fn boot(network: &LabNetwork, work: &Path, init: &Path) -> Result<Child> {
    let kernel = kernel()?;
    let image = one_in(&kernel.join("boot"), "vmlinuz-")?;
    let initrd = initrd(&kernel, work, init)?;
    Command::new("ip")
        .args(["netns", "exec", &network.namespace, "qemu-system-x86_64"])
        .args([
            "-M",
            "q35",
            "-accel",
            "tcg,thread=multi",
            "-smp",
            "2",
            "-cpu",
            "max",
        ])
        .args(["-m", "3072", "-nographic", "-no-reboot", "-kernel"])
        .arg(image)
        .arg("-initrd")
        .arg(initrd)
        .args([
            "-virtfs",
            "local,path=/,mount_tag=hostroot,security_model=passthrough,multidevs=remap",
        ])
        .args([
            "-netdev",
            &format!("tap,id=n0,ifname={TAP},script=no,downscript=no"),
        ])
        .args(["-device", "virtio-net-pci,netdev=n0"])
        .args(["-append", "console=ttyS0 quiet panic=-1 net.ifnames=0"])
        .env("PATH", PATH)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start QEMU; `make deps` installs it")
}

/// A minimal initial file system: busybox and what it takes to mount the host's root over 9p.
fn initrd(kernel: &Path, work: &Path, init: &Path) -> Result<PathBuf> {
    let root = work.join("initrd");
    let version = one_in(&kernel.join("lib/modules"), "6.")?;
    for directory in ["bin", "proc", "dev", "root", "modules"] {
        fs::create_dir_all(root.join(directory))?;
    }
    fs::copy("/usr/bin/busybox", root.join("bin/busybox"))
        .or_else(|_| fs::copy("/bin/busybox", root.join("bin/busybox")))?;
    let listed = fs::read_to_string(version.join("modules.dep"))?;
    let mut loads = String::new();
    for name in [
        "netfs",
        "9pnet",
        "9p",
        "virtio",
        "virtio_ring",
        "virtio_pci",
        "virtio_pci_modern_dev",
        "virtio_pci_legacy_dev",
        "9pnet_virtio",
    ] {
        let file = |path: &&str| {
            path.rsplit('/').next().is_some_and(|f| {
                f.split(".ko").next() == Some(&name.replace('-', "_"))
                    || f.split(".ko").next() == Some(name)
            })
        };
        let Some(path) = listed
            .lines()
            .filter_map(|l| l.split(':').next())
            .find(file)
        else {
            continue;
        };
        let to = format!("modules/{name}.ko.xz");
        let compressed = path.ends_with(".xz");
        fs::copy(
            version.join(path),
            root.join(if compressed {
                to.clone()
            } else {
                to.replace(".xz", "")
            }),
        )?;
        if compressed {
            tool("xz", &["-d", &root.join(&to).display().to_string()])?;
        }
        loads.push_str(name);
        loads.push(' ');
    }
    // fscache is a part of netfs since 6.8; the order above is that of their dependencies but
    // for virtio, which may be built in.
    let script = format!(
        "#!/bin/busybox sh\n\
         /bin/busybox mount -t proc proc /proc; /bin/busybox mount -t devtmpfs dev /dev\n\
         for again in 1 2 3; do for m in {loads}; do /bin/busybox insmod /modules/$m.ko 2>/dev/null; done; done\n\
         /bin/busybox mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose hostroot /root || /bin/busybox poweroff -f\n\
         exec /bin/busybox switch_root /root {}\n",
        init.display()
    );
    fs::write(root.join("init"), script)?;
    tool("chmod", &["755", &root.join("init").display().to_string()])?;
    let archive = work.join("initrd.cpio");
    let pack = format!(
        "cd {} && find . | cpio -o -H newc --quiet > {}",
        root.display(),
        archive.display()
    );
    tool("sh", &["-c", &pack])?;
    Ok(archive)
}

fn kernel() -> Result<PathBuf> {
    let path = cache()?.join("linux-6.12");
    exists(&path)?;
    Ok(path)
}

fn one_in(directory: &Path, prefix: &str) -> Result<PathBuf> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            return Ok(entry.path());
        }
    }
    bail!("nothing named {prefix}… in {}", directory.display())
}
