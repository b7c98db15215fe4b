//! Inside the guest: one story after another, and the verdict.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;

use super::{ALL, Lab, Scenario};
use crate::guest::cluster::ApiServer;
use crate::protocol::{Proof, Verdict};

/// Runs the stories that are named, or all but those on demand.
pub fn run(agent: PathBuf, api: ApiServer, names: &[String]) -> Result<()> {
    let mut lab = Lab::new(agent, api)?;
    let mut verdict = Verdict {
        passed: 0,
        failed: 0,
    };
    for scenario in ALL.iter().filter(|scenario| is_wanted(scenario, names)) {
        let begun = Instant::now();
        let result = lab
            .prepare(scenario)
            .and_then(|()| (scenario.run)(&mut lab));
        Proof {
            story: scenario.name.to_owned(),
            subject: Proof::STORY.to_owned(),
            passed: usize::from(result.is_ok()),
            of: 1,
        }
        .announce();
        let seconds = begun.elapsed().as_secs_f64();
        match result {
            Ok(()) => {
                verdict.passed += 1;
                println!(
                    "ok   {:<18} {seconds:>5.1} s  {}",
                    scenario.name, scenario.about
                );
            }
            Err(error) => {
                verdict.failed += 1;
                println!("FAIL {:<18} {seconds:>5.1} s  {error:#}", scenario.name);
                lab.diagnose();
            }
        }
        lab.tidy();
    }
    verdict.announce();
    Ok(())
}

fn is_wanted(scenario: &Scenario, names: &[String]) -> bool {
    if names.is_empty() {
        !scenario.on_demand
    } else {
        names.iter().any(|name| name == scenario.name)
    }
}
