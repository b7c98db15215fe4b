//! `ipvs-agent completions` and `ipvs-agent man`: both from the definitions that parse the command line.

use anyhow::Context;
use clap::CommandFactory;

use super::print;
use crate::cli::{Cli, CompletionsArgs, ManArgs};

/// Prints the completions of a shell.
pub fn completions(args: &CompletionsArgs) -> anyhow::Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), NAME, &mut text);
    let text = String::from_utf8(text)?;
    // clap_complete 4.6 takes the dash of a program's name for one before a subcommand, in one of two
    // places: what it looks for is then nowhere.
    print(&text.replace("ipvs__subcmd__agent", "ipvs__agent"))
}

/// Prints the manual page, or writes all of them.
pub fn man(args: &ManArgs) -> anyhow::Result<()> {
    let command = Cli::command();
    match &args.directory {
        Some(directory) => clap_mangen::generate_to(command, directory)
            .with_context(|| format!("cannot write the pages into {}", directory.display())),
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            print(&String::from_utf8(page)?)
        }
    }
}

const NAME: &str = "ipvs-agent";
