//! The chart's checks: an API server that asks for permissions here, and at the other end of the cable
//! everything else.

use std::time::Duration;

use anyhow::Result;

use super::control_plane::{ControlPlane, Demands};
use super::network::{self, LabNetwork};
use super::signals::Signals;
use super::{Boot, Kernel, Work, cache, checks, exists, sibling, this_program, tree};

/// Runs them, or writes what is rendered as the goldens.
pub fn chart(update: bool, names: &[String]) -> Result<()> {
    let cache = cache()?;
    for made in [
        crate::chart::HELM_4,
        crate::chart::HELM_3,
        crate::chart::CRDS,
        crate::chart::PROMTOOL,
        crate::chart::PROMETHEUS,
    ] {
        exists(&cache.join(made))?;
    }
    let signals = Signals::watch()?;
    let work = Work::new()?;
    let network = LabNetwork::cable(1)?;
    let mut control_plane = ControlPlane::with(&network, &work.path, Demands::Permission)?;
    let command = format!(
        "{} guest-chart --agent {} --cache {} --tree {} --work {} --api https://{}:6443 --authority {} {} {}",
        this_program()?.display(),
        sibling("ipvs-agent")?.display(),
        cache.display(),
        tree()?.display(),
        work.path.display(),
        network::HOST_ADDRESS,
        control_plane.authority().display(),
        if update { "--update" } else { "" },
        names.join(" ")
    );
    let boot = Boot::new(Kernel::NativeNft, &network, &work.path, &command);
    checks(&boot, Some(&mut control_plane), &signals, LIMIT)
}

const LIMIT: Duration = Duration::from_secs(1200);
