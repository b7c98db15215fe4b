//! `ipvs-agent cleanup`: each dataplane's plan against nothing, over everything that is there.

use std::time::Duration;

use anyhow::bail;
use ipvs_sys::Client;

use super::{explain_ipvs, settings};
use crate::cli::CleanupArgs;
use crate::dataplane::iptables::IptablesDataplane;
use crate::dataplane::ipvs::{IpvsDataplane, Settings};
use crate::dataplane::{Dataplane, plan_removal};
use crate::model::Moment;

/// Removes all that the agent made.
pub fn run(args: &CleanupArgs) -> anyhow::Result<()> {
    let mut removed = 0;
    // Again, since rules may be left in the other variant of iptables.
    for _ in 0..if args.dry_run { 1 } else { 2 } {
        match clean(args)? {
            0 => break,
            count => removed += count,
        }
    }
    match removed {
        0 => println!("nothing of ipvs-agent is on this node"),
        count if args.dry_run => println!("{count} objects would be removed"),
        count => println!("removed {count} objects"),
    }
    Ok(())
}

/// One round; gives the number of objects that went, or that there are. What both dataplanes use goes
/// with the second.
fn clean(args: &CleanupArgs) -> anyhow::Result<usize> {
    let client = match Client::open() {
        Ok(client) => Some(client),
        // Its virtual servers went with the module; sets, rules and routes did not.
        Err(error) if error.is_no_module() => None,
        Err(error) => return Err(explain_ipvs(error)),
    };
    let settings = Settings {
        drain_timeout: Duration::ZERO,
        ..settings(&args.kernel)?
    };
    let first = remove(&mut IptablesDataplane::open()?, true, args.dry_run)?;
    let second = remove(
        &mut IpvsDataplane::open(client, settings)?,
        false,
        args.dry_run,
    )?;
    Ok(first + second)
}

fn remove<D: Dataplane>(
    dataplane: &mut D,
    spare_shared: bool,
    dry_run: bool,
) -> anyhow::Result<usize> {
    let (mut observed, steps) = plan_removal(dataplane, spare_shared)?;
    if dry_run {
        steps.iter().for_each(|step| println!("{step}"));
        return Ok(steps.len());
    }
    let report = dataplane.apply(steps, &mut observed, Moment::default());
    for failure in &report.failed {
        let source = anyhow::anyhow!("{}", failure.source);
        eprintln!("{}: {source:#}", failure.step);
    }
    if !report.failed.is_empty() || report.skipped > 0 {
        bail!(
            "{} objects are left; run it again",
            report.failed.len() + report.skipped
        );
    }
    Ok(report.applied)
}
