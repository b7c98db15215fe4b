//! What runs have proved, kept between runs: a file for each kernel, a line for each proof.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{Kernel, cache};
use crate::protocol::Proof;

/// What has been proved on a kernel.
pub fn read(kernel: Kernel) -> Result<Vec<Proof>> {
    let path = path(kernel)?;
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let proofs: Result<Vec<Option<Proof>>> = text.lines().map(Proof::parse).collect();
    Ok(proofs?.into_iter().flatten().collect())
}

/// Keeps what a run proved, or failed to, in place of what the same stories proved before.
pub fn keep(kernel: Kernel, new: Vec<Proof>) -> Result<()> {
    let proofs = replaced(read(kernel)?, new);
    let lines: Vec<String> = proofs.iter().map(|proof| proof.line() + "\n").collect();
    let path = path(kernel)?;
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(&path, lines.concat()).with_context(|| format!("cannot write {}", path.display()))
}

/// Forgets everything.
pub fn clear() -> Result<()> {
    for kernel in Kernel::ALL {
        let path = path(kernel)?;
        if path.exists() {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn replaced(old: Vec<Proof>, new: Vec<Proof>) -> Vec<Proof> {
    let stories: BTreeSet<&str> = new.iter().map(|proof| proof.story.as_str()).collect();
    let mut kept = old;
    kept.retain(|proof| !stories.contains(proof.story.as_str()));
    kept.extend(new);
    kept
}

fn path(kernel: Kernel) -> Result<PathBuf> {
    Ok(cache()?
        .join("proved")
        .join(format!("{kernel:?}").to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_that_ran_again_leaves_nothing_of_its_last_run() {
        let proof = |story: &str, subject: &str, passed| Proof {
            story: story.to_owned(),
            subject: subject.to_owned(),
            passed,
            of: 1,
        };
        let old = vec![proof("a", "1", 1), proof("a", "2", 1), proof("b", "1", 1)];
        let kept = replaced(old, vec![proof("a", "1", 0)]);
        assert_eq!(kept, [proof("b", "1", 1), proof("a", "1", 0)]);
    }
}
