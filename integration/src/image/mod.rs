//! The agent's container image: built without a container engine, and run as the chart says.
//!
//! * `checks` the image on a node: `container` what a pod says of it, `sandbox` what a container runtime does
//! * `layer` a tree as an archive, byte by byte the same; `layout` the OCI image layout
//! * `build` the image from the agent and Debian packages; `verify` what was written, byte by byte

mod build;
pub mod checks;
mod container;
pub mod layer;
pub mod layout;
pub mod sandbox;
mod verify;

use std::path::PathBuf;

use anyhow::Result;

/// What is done with the image.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Write it as an OCI image layout, and as an archive of one
    Build(build::Arguments),
    /// Run it as the chart says, against an API server
    Test {
        #[arg(long)]
        layout: PathBuf,
    },
    /// Verify a layout, and unpack it as root
    Unpack {
        #[arg(long)]
        layout: PathBuf,
        #[arg(long)]
        to: PathBuf,
    },
}

/// Does it.
pub fn run(command: Command) -> Result<()> {
    match command {
        Command::Build(arguments) => build::build(&arguments),
        Command::Test { layout } => crate::host::image(&layout),
        Command::Unpack { layout, to } => verify::unpack(&layout, &to),
    }
}
