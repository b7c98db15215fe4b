//! The image's checks: an API server that asks for permissions here, and at the other end of the cable a node that
//! runs the image as the chart says.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::control_plane::{ControlPlane, Demands};
use super::network::{self, LabNetwork};
use super::signals::Signals;
use super::{Boot, Kernel, Work, cache, checks, exists, this_program, tree};

/// Runs them over a layout.
pub fn image(layout: &Path) -> Result<()> {
    let cache = cache()?;
    let helm = cache.join(crate::chart::HELM_4);
    exists(&helm)?;
    let is_there = layout.join("index.json").exists();
    ensure!(is_there, "no {}; `make image` writes it", layout.display());
    let signals = Signals::watch()?;
    let work = Work::new()?;
    let network = LabNetwork::cable(1)?;
    let mut control_plane = ControlPlane::with(&network, &work.path, Demands::Permission)?;
    let command = format!(
        "{} guest-image --layout {} --helm {} --tree {} --work {} --api https://{}:6443 --authority {}",
        this_program()?.display(),
        std::fs::canonicalize(layout)?.display(),
        helm.display(),
        tree()?.display(),
        work.path.display(),
        network::HOST_ADDRESS,
        control_plane.authority().display(),
    );
    let boot = Boot::new(Kernel::NativeNft, &network, &work.path, &command);
    checks(&boot, Some(&mut control_plane), &signals, LIMIT)
}

const LIMIT: Duration = Duration::from_secs(600);
