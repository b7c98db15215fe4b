//! `ipvs-agent diff`: asks the agent of this node, or is one for a moment.

use std::io::stdout;
use std::process::ExitCode;

use super::{offline, print};
use crate::ask::{self, Diff};
use crate::cli::{DiffArgs, Output};
use crate::inspect::{diff, structured};
use crate::telemetry::colours;

/// Prints what the kernel lacks or has too much of.
pub fn run(args: &DiffArgs) -> anyhow::Result<ExitCode> {
    let found: Diff = if args.agent.source.is_named() {
        offline::diff(&args.agent)?
    } else {
        ask::ask(&args.socket, "/v1/diff").map_err(|error| match error {
            ask::AskError::NoAgent(_) => anyhow::Error::new(error).context(
                "name a source to compare with, such as --manifests DIR or --kubeconfig FILE",
            ),
            error => error.into(),
        })?
    };
    print(&match args.output {
        Output::Text => diff::render(&found, colours(&stdout())),
        Output::Json => structured::json(&found)?,
        Output::Yaml => structured::yaml(&found)?,
    })?;
    Ok(match found.drift.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
