//! The host's side: a network namespace with a tap device, the API server in it, a guest at the
//! other end. Everything is taken down whatever happens.

mod control_plane;
mod guest;
mod network;
mod qemu;
mod uml;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::Kernel;
use control_plane::ControlPlane;
use guest::{Guest, NODE_MODULES};
use network::LabNetwork;

/// Runs scenarios in a guest.
pub fn run(kernel: Kernel, names: &[String]) -> Result<()> {
    for name in names {
        if !crate::scenarios::ALL
            .iter()
            .any(|scenario| scenario.name == name)
        {
            bail!("there is no scenario {name}; `lab list` names them");
        }
    }
    let work = Work::new()?;
    let network = LabNetwork::new()?;
    let mut control_plane = ControlPlane::start(&network, &work.path)?;
    let command = format!(
        "{} guest --agent {} --api https://{}:6443 {}",
        this_program()?.display(),
        sibling("ipvs-agent")?.display(),
        network::HOST_ADDRESS,
        names.join(" ")
    );
    let guest = Guest::boot(kernel, &network, &work.path, &NODE_MODULES, &command)?;
    let passed = follow(guest, Some(&mut control_plane), RUN_LIMIT)?;
    println!("{passed} passed, 0 failed");
    Ok(())
}

/// Runs one command in a guest.
pub fn exec(kernel: Kernel, command: &[String]) -> Result<()> {
    let work = Work::new()?;
    let network = LabNetwork::new()?;
    let command = format!(
        "{} && echo '{VERDICT} 1 passed, 0 failed' || echo '{VERDICT} 0 passed, 1 failed'",
        command.join(" ")
    );
    // The rest comes by the kernel's own autoloading, and goes again if the command wants that.
    let guest = Guest::boot(kernel, &network, &work.path, &["dummy"], &command)?;
    follow(guest, None, RUN_LIMIT).map(|_| ())
}

/// Shows the agent at work.
pub fn demo() -> Result<()> {
    let work = Work::new()?;
    let network = LabNetwork::new()?;
    let (lab, agent) = (this_program()?, sibling("ipvs-agent")?);
    let command = format!("{} guest-demo --agent {}", lab.display(), agent.display());
    println!("booting a kernel with ip_vs (User-Mode Linux) …");
    let guest = Guest::boot(Kernel::Uml, &network, &work.path, &NODE_MODULES, &command)?;
    follow(guest, None, Duration::from_secs(180)).map(|_| ())
}

/// Prints the console until the guest is off, obeys what it asks of the host, and demands exactly
/// one verdict without a failure. Gives the number that passed.
fn follow(
    mut guest: Guest,
    mut control_plane: Option<&mut ControlPlane>,
    limit: Duration,
) -> Result<usize> {
    let console = guest.console().context("the guest has no console")?;
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
    let mut verdicts = Vec::new();
    let deadline = std::time::Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        match lines.recv_timeout(left) {
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                bail!("the guest did not end within {} s", limit.as_secs());
            }
            Ok(line) => {
                if let Some(verdict) = line.trim().strip_prefix(VERDICT) {
                    verdicts.push(verdict.trim().to_owned());
                } else if let Some(request) = line.trim().strip_prefix(REQUEST) {
                    let plane = control_plane.as_deref_mut();
                    plane
                        .ok_or_else(|| anyhow!("no API server to {request}"))?
                        .obey(request)?;
                } else if !BOOT_NOISE.iter().any(|noise| line.starts_with(noise)) {
                    println!("{line}");
                    std::io::stdout().flush()?;
                }
            }
        }
    }
    guest.wait();
    match &verdicts[..] {
        [] => bail!("the guest gave no verdict: it did not boot, or it died"),
        [verdict] => {
            let numbers: Vec<usize> = verdict
                .split([' ', ','])
                .filter_map(|word| word.parse().ok())
                .collect();
            let [passed, failed] = numbers[..] else {
                bail!("odd verdict {verdict:?}")
            };
            if failed > 0 || passed == 0 {
                bail!("{verdict}");
            }
            Ok(passed)
        }
        _ => bail!("the guest gave {} verdicts", verdicts.len()),
    }
}

/// A directory for one run, outside the tree and removed with it.
struct Work {
    path: PathBuf,
}

impl Work {
    fn new() -> Result<Self> {
        let path = cache()?.join(format!("run/{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self { path })
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Where built tools are kept between runs.
fn cache() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    variable("IPVS_AGENT_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|dir| dir.join("ipvs-agent")))
        .or_else(|| variable("HOME").map(|dir| dir.join(".cache/ipvs-agent")))
        .context("neither IPVS_AGENT_CACHE nor HOME is set")
}

fn this_program() -> Result<PathBuf> {
    Ok(std::env::current_exe()?)
}

fn sibling(name: &str) -> Result<PathBuf> {
    let path = this_program()?.with_file_name(name);
    if !path.exists() {
        bail!(
            "{} is not there; build it first: make build",
            path.display()
        );
    }
    Ok(path)
}

/// Runs a tool to its end; its standard error is the error.
fn tool(program: &str, args: &[&str]) -> Result<()> {
    let output = std::process::Command::new(program)
        .args(args)
        .env("PATH", PATH)
        .output()
        .with_context(|| format!("cannot run {program}; `make deps` installs it"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {}: {}", args.join(" "), text.trim());
    }
    Ok(())
}

fn exists(path: &Path) -> Result<()> {
    if !path.exists() {
        bail!("{} is not there; `make deps` makes it", path.display());
    }
    Ok(())
}

/// Begins the line that says how a guest's run ended.
pub const VERDICT: &str = "LAB VERDICT:";
/// Begins a line by which a guest asks something of the host.
pub const REQUEST: &str = "LAB REQUEST:";
/// What User-Mode Linux says at every boot and nobody can act on.
const BOOT_NOISE: [&str; 6] = [
    "SELinux: ",
    "mmapper_init",
    "Failed to initialize ubd",
    "uml-vector",
    "reboot: System halted",
    "IPVS: Unknown mcast interface",
];
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const RUN_LIMIT: Duration = Duration::from_secs(1500);
