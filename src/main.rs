//! Entry point: parse, dispatch, print the error with its causes, exit.

use std::process::ExitCode;

use clap::Parser;
use ipvs_agent::cli::{Cli, Command};
use ipvs_agent::commands;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => commands::run::run(*args).map(|()| ExitCode::SUCCESS),
        Command::List => commands::list::run().map(|()| ExitCode::SUCCESS),
        Command::Diff(args) => commands::diff::run(&args),
        Command::Cleanup(args) => commands::cleanup::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Completions(args) => {
            commands::manual::completions(&args).map(|()| ExitCode::SUCCESS)
        }
        Command::Man(args) => commands::manual::man(&args).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        eprintln!("ipvs-agent: {error:#}");
        ExitCode::from(ERROR)
    })
}

/// 1 is what a command found: drift, a node that is not fit. 2 is clap's for a bad command line, too.
const ERROR: u8 = 2;
