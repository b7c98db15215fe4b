//! Entry point: parse, dispatch, print the error with its causes, exit.

use std::fs;
use std::process::ExitCode;

use ipvs_agent::cli::Command;
use ipvs_agent::cli::config::{self, Parsed, Refusal};
use ipvs_agent::commands::{self, tell};

fn main() -> ExitCode {
    if let Some(code) = commands::ipvsadm::by_name(std::env::args_os()) {
        return code;
    }
    let Parsed {
        cli,
        effective,
        warnings,
    } = match config::parse(std::env::args_os().collect(), |file| {
        fs::read_to_string(file)
    }) {
        Ok(parsed) => parsed,
        Err(Refusal::Clap(error)) => error.exit(),
        Err(Refusal::Config(error)) => {
            tell(format_args!("ipvs-agent: {error}"));
            return ExitCode::from(ERROR);
        }
    };
    let result = match cli.command {
        Command::Run(args) => {
            commands::run::run(*args, effective, &warnings).map(|()| ExitCode::SUCCESS)
        }
        Command::List(args) => commands::list::run(&args),
        Command::Connections(args) => commands::connections::run(&args),
        Command::Save(args) => commands::save::run(&args),
        Command::Restore(args) => commands::restore::run(&args),
        Command::Ipvsadm(args) => return commands::ipvsadm::run(args.words),
        Command::Diff(args) => commands::diff::run(&args),
        Command::Check(args) => commands::check::run(&args),
        Command::Top(args) => commands::top::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Explain(args) => commands::explain::run(&args),
        Command::Cleanup(args) => commands::cleanup::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Completions(args) => {
            commands::manual::completions(&args).map(|()| ExitCode::SUCCESS)
        }
        Command::Man(args) => commands::manual::man(&args).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        tell(format_args!("ipvs-agent: {error:#}"));
        ExitCode::from(ERROR)
    })
}

/// 1 is what a command found: drift, a node that is not fit. 2 is clap's for a bad command line, too.
const ERROR: u8 = 2;
