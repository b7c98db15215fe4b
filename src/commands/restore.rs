//! `ipvs-agent restore`: all lines are understood, then carried out on a picture of the table, then
//! the difference is written in batches.

use std::fmt::Display;
use std::io::Read;
use std::process::ExitCode;

use anyhow::{Context, bail};
use ipvs_sys::{Client, Command, Outcome};

use super::line::with_names;
use super::{explain_ipvs, print};
use crate::cli::RestoreArgs;
use crate::dataplane::ipvs::signature::is_signed;
use crate::inspect::rules::file::{Step, steps};
use crate::inspect::rules::outcome::{Existing, Picture, Rules, concerned, difference};
use crate::inspect::table::read::read_some;

/// How rules are restored.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// About what is there already.
    pub existing: Existing,
    /// What an agent made may be touched.
    pub force: bool,
    /// Nothing is written, and what would be is printed.
    pub dry_run: bool,
}

/// Lines that are no rules, each with what is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WrongRules(String);

/// Reads the rules and makes them true.
pub fn run(args: &RestoreArgs) -> anyhow::Result<ExitCode> {
    let existing = match (args.merge, args.replace) {
        (_, true) => Existing::Replace,
        (true, false) => Existing::Merge,
        (false, false) => Existing::Keep,
    };
    let text = match &args.file {
        Some(path) => std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?,
        None => standard_input()?,
    };
    restore(
        &text,
        Manner {
            existing,
            force: args.force,
            dry_run: args.dry_run,
        },
    )
}

/// All of it.
pub fn standard_input() -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .context("cannot read the rules on standard input")?;
    Ok(text)
}

/// Makes the rules of a text true.
pub fn restore(text: &str, manner: Manner) -> anyhow::Result<ExitCode> {
    let steps = with_names(|names| steps(text, names));
    let steps = steps.map_err(|mistakes| WrongRules(listed("nothing was changed", &mistakes)))?;
    // As from `ipvsadm-save | … --replace` when the first of the two fails.
    if steps.is_empty() && manner.existing == Existing::Replace && !manner.force {
        bail!(
            "no rules on input: nothing was changed (--force, or a line -C, removes what is there)"
        );
    }
    let mut client = Client::open().map_err(explain_ipvs)?;
    let (before, after, others) = outcome(&mut client, &steps, manner)?;
    let changes = difference(&before, &after);
    if manner.dry_run {
        let changes = changes.iter().map(ToString::to_string);
        let others = others.iter().map(|command| format!("+ {command}\n"));
        print(&changes.chain(others).collect::<String>())?;
        return Ok(ExitCode::SUCCESS);
    }
    let commands: Vec<Command> = changes
        .into_iter()
        .map(|change| change.command)
        .chain(others)
        .collect();
    let outcomes = client.batch(&commands)?;
    let failed: Vec<String> = commands
        .iter()
        .zip(&outcomes)
        .filter_map(|(command, outcome)| match outcome {
            Outcome::Applied => None,
            Outcome::Failed(error) => Some(error.to_string()),
            Outcome::Unknown => Some(format!("{command}: the kernel's answer was lost")),
        })
        .collect();
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let done = commands.len() - failed.len();
    bail!(listed(
        &format!("{done} of {} changes were made", commands.len()),
        &failed
    ))
}

/// The table before, the table after, and what is not about the table.
fn outcome(
    client: &mut Client,
    steps: &[Step],
    manner: Manner,
) -> anyhow::Result<(Picture, Picture, Vec<Command>)> {
    let concerned = concerned(steps, manner.existing);
    let wanted = |key: &_| concerned.as_ref().is_none_or(|keys| keys.contains(key));
    let rows = read_some(client, wanted)?;
    let before = Picture::of(rows.into_iter().map(|row| {
        let destinations = row
            .destinations
            .iter()
            .map(|entry| entry.destination)
            .collect();
        (row.service.service, destinations)
    }));
    let Manner {
        existing, force, ..
    } = manner;
    let rules = Rules {
        existing,
        owned: &is_signed,
        force,
    };
    match before.after(steps, rules) {
        Ok((after, others)) => Ok((before, after, others)),
        Err(conflicts) => bail!(listed("nothing was changed", &conflicts)),
    }
}

/// The first of many, and how many more there are.
fn listed(heading: &str, items: &[impl Display]) -> String {
    let mut text = heading.to_owned();
    for item in items.iter().take(SHOWN) {
        text += &format!("\n  {item}");
    }
    match items.len().saturating_sub(SHOWN) {
        0 => text,
        more => format!("{text}\n  and {more} more"),
    }
}

const SHOWN: usize = 20;
