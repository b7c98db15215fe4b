//! `ipvs-agent cleanup`: a plan against nothing, over everything that is there.

use std::time::Duration;

use anyhow::bail;
use ipvs_sys::Client;

use super::{explain_ipvs, settings};
use crate::cli::CleanupArgs;
use crate::dataplane::Dataplane;
use crate::dataplane::ipvs::{IpvsDataplane, Target};
use crate::model::Moment;
use crate::resolve::DesiredState;

/// Removes all that the agent made.
pub fn run(args: &CleanupArgs) -> anyhow::Result<()> {
    let client = Client::open().map_err(explain_ipvs)?;
    let settings = settings(&args.kernel, false, Duration::ZERO);
    let mut dataplane = IpvsDataplane::open(client, settings)?;
    let now = Moment::default();
    let mut observed = dataplane.observe(None)?;
    let (desired, target) = (DesiredState::default(), Target::nothing());
    let scope = IpvsDataplane::everything(&desired, &target, &observed);
    let steps = IpvsDataplane::plan(&desired, &target, &observed, &scope, now);
    if steps.is_empty() {
        println!("nothing of ipvs-agent is on this node");
        return Ok(());
    }
    if args.dry_run {
        steps.iter().for_each(|step| println!("{step}"));
        return Ok(());
    }
    let report = dataplane.apply(steps, &mut observed, now);
    for failure in &report.failed {
        eprintln!(
            "{}: {:#}",
            failure.step,
            anyhow::anyhow!("{}", failure.source)
        );
    }
    println!("removed {} objects", report.applied);
    if !report.failed.is_empty() || report.skipped > 0 {
        bail!(
            "{} objects are left; run it again",
            report.failed.len() + report.skipped
        );
    }
    Ok(())
}
