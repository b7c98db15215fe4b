//! The flags of `ipvs-agent completions` and `ipvs-agent man`.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

#[derive(Debug, Args)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub struct CompletionsArgs {
    /// For which shell
    #[arg(value_enum, value_name = "SHELL")]
    pub shell: Shell,
}

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  bash, for all users:
    ipvs-agent completions bash > /usr/share/bash-completion/completions/ipvs-agent
  zsh, in a directory of $fpath:
    ipvs-agent completions zsh > /usr/local/share/zsh/site-functions/_ipvs-agent";

#[derive(Debug, Args)]
#[command(after_help = MAN_EXAMPLES)]
pub struct ManArgs {
    /// Write ipvs-agent.1, ipvs-agent-run.1 … here
    #[arg(value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

const MAN_EXAMPLES: &str = "\
Examples:
  Read it:
    ipvs-agent man | man -l -
  Install all of them:
    ipvs-agent man /usr/local/share/man/man1";
