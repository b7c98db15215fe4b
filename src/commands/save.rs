//! `ipvs-agent save`.

use std::process::ExitCode;

use ipvs_sys::Client;

use super::stream::Out;
use super::{explain_ipvs, tell};
use crate::cli::SaveArgs;
use crate::dataplane::ipvs::signature::is_signed;
use crate::inspect::rules::save::{Dialect, save};
use crate::inspect::table::order::Order;
use crate::inspect::table::read::{Detail, Reading};

/// Prints the table as rules.
pub fn run(args: &SaveArgs) -> anyhow::Result<ExitCode> {
    rules(Dialect::Whole, args.nosort, args.foreign)
}

/// The same in either dialect.
pub fn rules(dialect: Dialect, nosort: bool, foreign: bool) -> anyhow::Result<ExitCode> {
    let mut client = Client::open().map_err(explain_ipvs)?;
    let order = if nosort {
        Order::Kernel
    } else {
        Order::Ipvsadm
    };
    let mut reading = Reading::all(&mut client, Detail::Full, order)?;
    let (mut out, mut text, mut unspeakable) = (Out::new(), String::new(), 0);
    while let Some(row) = reading.next(&mut client)? {
        if foreign && is_signed(&row.service.service) {
            continue;
        }
        text.clear();
        unspeakable += save(&mut text, &row, dialect);
        if !out.write(&text) {
            break;
        }
    }
    if unspeakable > 0 {
        tell(format_args!(
            "ipvs-agent: {unspeakable} entries use what ipvsadm has no word for: they are comments"
        ));
    }
    out.end()?;
    Ok(ExitCode::SUCCESS)
}
