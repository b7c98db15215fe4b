//! Entry point: parse, dispatch, print the error with its causes, exit.

use std::process::ExitCode;

use clap::Parser;
use ipvs_agent::cli::{Cli, Command};
use ipvs_agent::commands;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => commands::run::run(*args),
        Command::List => commands::list::run(),
        Command::Cleanup(args) => commands::cleanup::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ipvs-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}
