//! The host's side: a network namespace with a tap device, the API server in it, a guest at the
//! other end; or several of them side by side. Everything is taken down whatever happens.

mod bench;
mod chart;
mod cluster;
mod console;
mod control_plane;
mod follow;
mod guest;
mod image;
mod kernel;
mod native;
mod network;
mod qemu;
mod record;
mod share;
mod signals;
mod uml;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::conformance::report::{Column, render};
use crate::dataplane::Dataplane;
use crate::protocol::Verdict;
use crate::scenarios::{ALL, Scenario};
use control_plane::ControlPlane;
use follow::{EmulatorFailed, Listener, follow};
use guest::{Boot, Guest};
use network::LabNetwork;
use signals::Signals;

pub use bench::bench;
pub use chart::chart;
pub use cluster::cluster;
pub use image::image;
pub use kernel::{Kernel, Platform};
pub use share::{Wanted, run};

/// Forgets what earlier runs proved.
pub fn forget() -> Result<()> {
    record::clear()
}

/// What runs have proved, for people. A dataplane that nothing has been proved of has no column.
pub fn conformance() -> Result<String> {
    let mut columns = Vec::new();
    for platform in Platform::COLUMNS {
        let column = Column {
            title: platform.title(),
            dataplane: platform.dataplane,
            proofs: record::read(platform)?,
        };
        if platform.dataplane == Dataplane::Ipvs || !column.proofs.is_empty() {
            columns.push(column);
        }
    }
    let stories: Vec<&Scenario> = ALL.iter().filter(|story| story.name != "scale").collect();
    Ok(render(&columns, &stories))
}

/// Runs one command in a guest.
pub fn exec(kernel: Kernel, command: &[String]) -> Result<()> {
    let signals = Signals::watch()?;
    let work = Work::new()?;
    let network = LabNetwork::tap(1)?;
    let [good, bad] = [(1, 0), (0, 1)].map(|(passed, failed)| Verdict { passed, failed }.line());
    let command = format!("{} && echo '{good}' || echo '{bad}'", command.join(" "));
    // The rest comes by the kernel's own autoloading, and goes again if the command wants that.
    let boot = Boot {
        modules: &["dummy"],
        ..Boot::new(kernel, &network, &work.path, &command)
    };
    checks(&boot, None, &signals, RUN_LIMIT)
}

/// Shows the agent at work: in namespaces of this machine if its kernel has IPVS, else in a guest.
pub fn demo() -> Result<()> {
    let signals = Signals::watch()?;
    let (lab, agent) = (this_program()?, sibling("ipvs-agent")?);
    if native::has_ipvs() {
        println!("this kernel has ip_vs: the demo runs in network namespaces of its own");
        let guest = native::demo(&lab, &agent)?;
        let verdict = follow(guest, &mut Listener::default(), &signals, DEMO_LIMIT)?;
        return verdict.demand().map(|_| ());
    }
    let work = Work::new()?;
    let network = LabNetwork::tap(1)?;
    let command = format!("{} guest-demo --agent {}", lab.display(), agent.display());
    println!("this kernel has no ip_vs: booting one that has (User-Mode Linux) …");
    let guest = Boot::new(Kernel::Uml, &network, &work.path, &command).guest()?;
    let verdict = follow(guest, &mut Listener::default(), &signals, DEMO_LIMIT)?;
    verdict.demand().map(|_| ())
}

/// Boots once more where the emulator failed, and not what runs in it.
fn boot_and_follow(
    boot: impl Fn() -> Result<Guest>,
    listener: &mut Listener<'_>,
    signals: &Signals,
    limit: Duration,
) -> Result<Verdict> {
    for _ in 1..BOOTS {
        match follow(boot()?, listener, signals, limit) {
            Err(error) if error.is::<EmulatorFailed>() => {
                listener.give_back()?;
                listener.console.say(&format!("{error}; booting once more"));
            }
            result => return result,
        }
    }
    follow(boot()?, listener, signals, limit)
}

/// Runs a guest's command of checks and tells how many passed.
fn checks(
    boot: &Boot<'_>,
    control_plane: Option<&mut ControlPlane>,
    signals: &Signals,
    limit: Duration,
) -> Result<()> {
    let mut listener = Listener {
        control_plane,
        ..Listener::default()
    };
    let boot = || boot.guest();
    let passed = boot_and_follow(boot, &mut listener, signals, limit)?.demand()?;
    println!("{passed} passed, 0 failed");
    Ok(())
}

/// The project.
fn tree() -> Result<PathBuf> {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    Ok(std::fs::canonicalize(tree)?)
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

/// How often a guest is booted before its emulator is given up on.
const BOOTS: usize = 3;

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

/// Lines of a script that put a variant of iptables first in a guest's path.
fn link_iptables(variant: &str) -> String {
    format!(
        "for c in iptables ip6tables; do for v in '' -save -restore; do\n\
         ln -s /usr/sbin/xtables-{variant}-multi /run/bin/$c$v; done; done\n"
    )
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

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// An emulated guest beside another one on two processors takes most of it.
const RUN_LIMIT: Duration = Duration::from_secs(4500);
const DEMO_LIMIT: Duration = Duration::from_secs(180);
