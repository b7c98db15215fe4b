//! `ipvs-agent cleanup`: each dataplane's plan against nothing, over everything that is there.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::bail;
use ipvs_sys::Client;

use super::{explain_ipvs, settings, tell};
use crate::cli::CleanupArgs;
use crate::dataplane::iptables::IptablesDataplane;
use crate::dataplane::ipvs::{IpvsDataplane, Settings};
use crate::dataplane::{Dataplane, plan_removal};
use crate::model::Moment;
use crate::netfilter::exec::Iptables;

/// Removes all that the agent made.
pub fn run(args: &CleanupArgs) -> anyhow::Result<()> {
    let client = || match Client::open() {
        Ok(client) => Ok(Some(client)),
        // Its virtual servers went with the module; sets, rules and routes did not.
        Err(error) if error.is_no_module() => Ok(None),
        Err(error) => Err(explain_ipvs(error)),
    };
    let settings = Settings {
        drain_timeout: Duration::ZERO,
        ..settings(&args.kernel)?
    };
    let (mut removed, mut left) = (0, 0);
    // Sets are the same in both variants: each step is told once.
    let mut told = args.dry_run.then(BTreeSet::new);
    // Twice: the sets go once neither variant of iptables has rules that ask them.
    let rounds = if args.dry_run { 1 } else { 2 };
    for round in 1..=rounds {
        let last = round == rounds;
        left = 0;
        for iptables in Iptables::installed() {
            let mut plane = IptablesDataplane::with(iptables)?;
            let outcome = remove(&mut plane, true, &mut told, last)?;
            (removed, left) = (removed + outcome.0, left + outcome.1);
        }
        for iptables in Iptables::installed() {
            let mut plane = IpvsDataplane::with(iptables, client()?, settings.clone())?;
            let outcome = remove(&mut plane, false, &mut told, last)?;
            (removed, left) = (removed + outcome.0, left + outcome.1);
        }
        if left == 0 && removed == 0 {
            break;
        }
    }
    if left > 0 {
        bail!("{left} objects are left; run it again");
    }
    match removed {
        0 => println!("nothing of ipvs-agent is on this node"),
        count if args.dry_run => println!("{count} objects would be removed"),
        count => println!("removed {count} objects"),
    }
    Ok(())
}

/// One dataplane's part; gives the number of objects that went, or that there are, and of those that are
/// left. `loud`: what failed is told.
fn remove<D: Dataplane>(
    dataplane: &mut D,
    spare_shared: bool,
    dry_run: &mut Option<BTreeSet<String>>,
    loud: bool,
) -> anyhow::Result<(usize, usize)> {
    let (mut observed, steps) = plan_removal(dataplane, spare_shared)?;
    if let Some(told) = dry_run {
        let texts = steps.iter().map(ToString::to_string);
        let new: Vec<String> = texts.filter(|text| told.insert(text.clone())).collect();
        new.iter().for_each(|text| println!("{text}"));
        return Ok((new.len(), 0));
    }
    let report = dataplane.apply(steps, &mut observed, Moment::default());
    for failure in report.failed.iter().filter(|_| loud) {
        let source = anyhow::anyhow!("{}", failure.source);
        tell(format_args!("{}: {source:#}", failure.step));
    }
    Ok((report.applied, report.failed.len() + report.skipped))
}
