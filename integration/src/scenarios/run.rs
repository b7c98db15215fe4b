//! Inside the guest: one story after another that no guest has taken, and the verdict.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};

use super::{ALL, Lab};
use crate::protocol::{Proof, Verdict};

/// Runs those of the named stories that are still in the queue.
pub fn run(mut lab: Lab, queue: &Path, names: &[String]) -> Result<()> {
    let mut verdict = Verdict {
        passed: 0,
        failed: 0,
    };
    let is_named = |name: &str| names.iter().any(|named| named == name);
    for scenario in ALL.iter().filter(|scenario| is_named(scenario.name)) {
        if !take(queue, scenario.name)? {
            continue;
        }
        let begun = Instant::now();
        let result = lab
            .prepare(scenario)
            .and_then(|()| (scenario.run)(&mut lab));
        let passed = usize::from(result.is_ok());
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
        Proof {
            story: scenario.name.to_owned(),
            subject: Proof::STORY.to_owned(),
            passed,
            of: 1,
            left_out: 0,
        }
        .announce();
        lab.tidy();
    }
    verdict.announce();
    Ok(())
}

/// Whether this guest is the first to take a story. A directory is made once, whichever guests try: a file
/// would not do, for User-Mode Linux does not ask its host to make it exclusively.
fn take(queue: &Path, story: &str) -> Result<bool> {
    match std::fs::create_dir(queue.join(story)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot take {story}")),
    }
}
