//! `ipvs-agent save`.

use std::process::ExitCode;

use ipvs_sys::Client;

use super::{explain_ipvs, print};
use crate::cli::SaveArgs;
use crate::dataplane::ipvs::signature::is_signed;
use crate::inspect::rules::save::{Dialect, save};
use crate::inspect::table::read::{Detail, read};

/// Prints the table as rules.
pub fn run(args: &SaveArgs) -> anyhow::Result<ExitCode> {
    rules(Dialect::Whole, args.nosort, args.foreign)
}

/// The same in either dialect.
pub fn rules(dialect: Dialect, nosort: bool, foreign: bool) -> anyhow::Result<ExitCode> {
    let mut client = Client::open().map_err(explain_ipvs)?;
    let mut table = read(&mut client, Detail::Full)?;
    if foreign {
        table.rows.retain(|row| !is_signed(&row.service.service));
    }
    if !nosort {
        table.sort();
    }
    let (text, unspeakable) = save(&table.rows, dialect);
    if unspeakable > 0 {
        eprintln!(
            "ipvs-agent: {unspeakable} entries use what ipvsadm has no word for: they are comments"
        );
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}
