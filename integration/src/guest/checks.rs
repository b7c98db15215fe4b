//! Checks that share what they are made with, one after another.

use anyhow::Result;

use crate::protocol::Verdict;

/// A check and its name.
pub type Check<S> = (&'static str, fn(&S) -> Result<()>);

/// Runs them all, tells how each ended, and ends with a verdict.
pub fn run<'a, S: 'a>(stage: &S, checks: impl IntoIterator<Item = &'a Check<S>>) {
    let (mut passed, mut failed) = (0, 0);
    for (name, check) in checks {
        match check(stage) {
            Ok(()) => {
                passed += 1;
                println!("ok   {name}");
            }
            Err(error) => {
                failed += 1;
                println!("FAIL {name}: {error:#}");
            }
        }
    }
    Verdict { passed, failed }.announce();
}
