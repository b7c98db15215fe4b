//! What runs have proved, kept between runs: a file for each kernel and dataplane, a line for each proof.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{Platform, cache};
use crate::protocol::Proof;

/// What has been proved on a platform.
pub fn read(platform: Platform) -> Result<Vec<Proof>> {
    let path = path(platform)?;
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let proofs: Result<Vec<Option<Proof>>> = text.lines().map(Proof::parse).collect();
    Ok(proofs?.into_iter().flatten().collect())
}

/// Keeps what a run proved, or failed to, in place of what the same stories proved before.
pub fn keep(platform: Platform, new: Vec<Proof>) -> Result<()> {
    let proofs = replaced(read(platform)?, new);
    let lines: Vec<String> = proofs.iter().map(|proof| proof.line() + "\n").collect();
    let path = path(platform)?;
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(&path, lines.concat()).with_context(|| format!("cannot write {}", path.display()))
}

/// Forgets everything.
pub fn clear() -> Result<()> {
    let directory = directory()?;
    if directory.exists() {
        fs::remove_dir_all(directory)?;
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

fn path(platform: Platform) -> Result<PathBuf> {
    Ok(directory()?.join(platform.name()?))
}

fn directory() -> Result<PathBuf> {
    Ok(cache()?.join("proved"))
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
            left_out: 0,
        };
        let old = vec![proof("a", "1", 1), proof("a", "2", 1), proof("b", "1", 1)];
        let kept = replaced(old, vec![proof("a", "1", 0)]);
        assert_eq!(kept, [proof("b", "1", 1), proof("a", "1", 0)]);
    }
}
