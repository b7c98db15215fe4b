//! What a container runtime does, seccomp and cgroups aside: namespaces, a root that is read-only, a `/proc` and
//! `/sys` that cannot be written, the mounts, no capability but those named, and none to be got back.
//!
//! The mounts are made by a script in the new namespaces, which then becomes [`enter`], and that the program.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::process::{chdir, chroot};
use rustix::thread::{
    CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs,
};

use super::container::{Container, Mount, Source};

/// Where containers run: a node's network, the image unpacked, and what the API server gives to their pods.
#[derive(Debug)]
pub struct Sandbox {
    pub node: String,
    pub root: PathBuf,
    /// A folder for each ConfigMap, by name.
    pub config_maps: PathBuf,
    /// Token and certificate, as a kubelet mounts them.
    pub account: PathBuf,
}

impl Sandbox {
    /// The container, ready to be started. It ends with the process.
    pub fn command(&self, container: &Container) -> Result<Command> {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.node])
            .args(["unshare", "--mount", "--pid", "--fork", "--kill-child"])
            .args(["sh", "-ec", &self.script(container)?, "sh"])
            .arg(std::env::current_exe()?)
            .args(["guest-container", "--root"])
            .arg(&self.root);
        for capability in &container.capabilities {
            command.args(["--capability", capability]);
        }
        for (name, value) in &container.environment {
            command.args(["--env", &format!("{name}={value}")]);
        }
        command.arg("--").args(&container.command);
        Ok(command)
    }

    fn script(&self, container: &Container) -> Result<String> {
        let root = self.root.display();
        let mut script = format!("root={root}\n{BEFORE}");
        let account = Mount {
            source: Source::ConfigMap(String::new()),
            path: "/run/secrets/kubernetes.io/serviceaccount".to_owned(),
            read_only: true,
        };
        script += &bind(&self.account, &account);
        for mount in &container.mounts {
            let from = match &mount.source {
                Source::ConfigMap(name) => self.config_maps.join(name),
                Source::Host { path, kind } => host_path(path, kind)?,
            };
            script += &bind(&from, mount);
        }
        Ok(script + AFTER)
    }
}

/// What a kubelet makes of a `hostPath`.
fn host_path(path: &str, kind: &str) -> Result<PathBuf> {
    let path = PathBuf::from(path);
    match kind {
        "DirectoryOrCreate" => fs::create_dir_all(&path)?,
        "FileOrCreate" if !path.exists() => fs::write(&path, "")?,
        "FileOrCreate" => {}
        // Without a type it makes nothing, and a runtime that finds nothing makes a folder.
        "" if !path.exists() => {
            let empty = Path::new("/run/empty").join(path.strip_prefix("/")?);
            fs::create_dir_all(&empty)?;
            return Ok(empty);
        }
        "" | "Directory" => {}
        other => bail!("a hostPath of type {other}"),
    }
    if kind == "Directory" && !path.is_dir() {
        bail!("{} is no folder", path.display());
    }
    Ok(path)
}

/// Lines that mount one thing. Where the image has no such place, the runtime makes it.
fn bind(from: &Path, mount: &Mount) -> String {
    let (from, to) = (from.display(), &mount.path);
    let mut lines = format!(
        "if [ -d {from} ]; then mkdir -p $root{to}; else mkdir -p $(dirname $root{to}); [ -e $root{to} ] || : > $root{to}; fi\n\
         mount --bind {from} $root{to}\n"
    );
    if mount.read_only {
        lines += &format!("mount -o remount,bind,ro $root{to}\n");
    }
    lines
}

/// What is started in a sandbox, as the script calls it.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[arg(long)]
    root: PathBuf,
    #[arg(long)]
    capability: Vec<String>,
    #[arg(long)]
    env: Vec<String>,
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Goes into the root, gives up what is not given, and becomes the program.
pub fn enter(arguments: &Arguments) -> Result<()> {
    chroot(&arguments.root)?;
    chdir("/")?;
    let mut kept = CapabilitySet::empty();
    for name in &arguments.capability {
        kept |= CapabilitySet::from_name(name).with_context(|| format!("no capability {name}"))?;
    }
    for (_, capability) in CapabilitySet::all().iter_names() {
        if !kept.contains(capability) {
            remove_capability_from_bounding_set(capability)?;
        }
    }
    set_no_new_privs(true)?;
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets)?;
    let (program, args) = arguments.command.split_first().context("no command")?;
    let pairs = arguments.env.iter().filter_map(|pair| pair.split_once('='));
    let error = Command::new(program)
        .args(args)
        .env_clear()
        .envs(pairs)
        .exec();
    Err(error).with_context(|| format!("cannot start {program} of the image"))
}

const BEFORE: &str = "mount --make-rprivate /
mount --bind $root $root
mount -t proc proc $root/proc
mount --bind $root/proc/sys $root/proc/sys
mount -o remount,bind,ro $root/proc/sys
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs $root/sys
mount -t tmpfs -o nosuid,mode=755 tmpfs $root/dev
for device in null zero full random urandom; do
  : > $root/dev/$device
  mount --bind /dev/$device $root/dev/$device
done
";
const AFTER: &str = "mount -o remount,bind,ro $root
exec \"$@\"
";
