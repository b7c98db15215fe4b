//! The benchmark: a control plane here, and at the other end of the cable, in namespaces of this
//! machine, one node after the other.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::control_plane::ControlPlane;
use super::follow::{Listener, follow};
use super::network::{self, LabNetwork};
use super::signals::Signals;
use super::{PATH, Work, cache, native, this_program, tool};

/// Measures at each of these numbers of Services and writes what came out. A peer that failed is told
/// there, and is an error after that.
pub fn bench(agent: &Path, report: &Path, services: &[usize]) -> Result<()> {
    let kube_proxy = cache()?.join("bin/kube-proxy-v1.36.3");
    for program in [agent, &kube_proxy] {
        let is_there = program.exists();
        ensure!(is_there, "no {}; `make bench` builds it", program.display());
    }
    ensure!(services.is_sorted(), "numbers of Services must ascend");
    // kube-proxy expects to find what it asks nft for.
    tool("nft", &["--version"])?;
    let signals = Signals::watch()?;
    let work = Work::new()?;
    let network = LabNetwork::cable(1)?;
    let mut control_plane = ControlPlane::start(&network, &work.path)?;
    let made = work.path.join("report");
    let services: Vec<String> = services.iter().map(usize::to_string).collect();
    let command = format!(
        "{} guest-bench --agent {} --kube-proxy {} --api https://{}:6443 --authority {} --report {} --services {}",
        this_program()?.display(),
        absolute(agent)?,
        kube_proxy.display(),
        network::HOST_ADDRESS,
        control_plane.authority().display(),
        made.display(),
        services.join(",")
    );
    let guest = native::start(&network, "nft", &format!("env PATH={PATH} {command}"))?;
    let mut listener = Listener {
        control_plane: Some(&mut control_plane),
        ..Listener::default()
    };
    let verdict = follow(guest, &mut listener, &signals, LIMIT)?;
    let text = fs::read_to_string(&made).context("the benchmark made no report")?;
    print!("{text}");
    fs::write(report, text).with_context(|| format!("cannot write {}", report.display()))?;
    verdict.demand().map(|_| ())
}

fn absolute(path: &Path) -> Result<String> {
    Ok(fs::canonicalize(path)?.display().to_string())
}

const LIMIT: Duration = Duration::from_secs(5400);
