//! Linux 6.12 of Debian, emulated by QEMU. No KVM is needed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use super::network::{LabNetwork, TAP};
use super::{PATH, cache, exists, tool};

/// The guest's own preparations: its modules.
pub fn before() -> Result<String> {
    let modules = kernel()?.join("lib/modules");
    Ok(format!(
        "mount --bind {} /lib/modules\nmodprobe virtio_net\n",
        modules.display()
    ))
}

pub fn boot(network: &LabNetwork, work: &Path, memory: u32, init: &Path) -> Result<Child> {
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
        .args(["-m", &memory.to_string()])
        .args(["-nographic", "-no-reboot", "-kernel"])
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
        .process_group(0)
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
    let dependencies = fs::read_to_string(version.join("modules.dep"))?;
    let mut loads = Vec::new();
    for module in ["virtio_pci", "9pnet_virtio", "9p"] {
        for path in load_order(&dependencies, module) {
            let packed = root
                .join("modules")
                .join(path.rsplit('/').next().unwrap_or(path));
            let unpacked = packed.with_extension("");
            if packed.extension().is_some_and(|e| e == "xz") && !unpacked.exists() {
                fs::copy(version.join(path), &packed)?;
                tool("xz", &["-d", &packed.display().to_string()])?;
            }
            let name = unpacked
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if !loads.contains(&name) {
                loads.push(name);
            }
        }
    }
    let script = format!(
        "#!/bin/busybox sh\n\
         /bin/busybox mount -t proc proc /proc; /bin/busybox mount -t devtmpfs dev /dev\n\
         for m in {}; do /bin/busybox insmod /modules/$m; done\n\
         /bin/busybox mount -t 9p -o {MOUNT} hostroot /root || /bin/busybox poweroff -f\n\
         exec /bin/busybox switch_root /root {}\n",
        loads.join(" "),
        init.display()
    );
    fs::write(root.join("init"), script)?;
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;
    let archive = work.join("initrd.cpio");
    let pack = format!(
        "cd {} && find . | cpio -o -H newc --quiet > {}",
        root.display(),
        archive.display()
    );
    tool("sh", &["-c", &pack])?;
    Ok(archive)
}

/// A module and what it needs, in the order in which they load (`modules.dep` has the reverse).
/// Nothing for one that is built in.
fn load_order<'a>(dependencies: &'a str, module: &str) -> Vec<&'a str> {
    let is_it = |path: &str| {
        let file = path.rsplit('/').next().unwrap_or(path);
        file.split(".ko").next() == Some(module)
    };
    let line = dependencies
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(path, _)| is_it(path));
    let Some((path, needs)) = line else {
        return Vec::new();
    };
    needs.split_whitespace().rev().chain([path]).collect()
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

const MOUNT: &str = "trans=virtio,version=9p2000.L,msize=512000,cache=loose";
