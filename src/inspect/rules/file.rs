//! Many lines, as `ipvsadm -R` reads them: all are understood before anything is done.

use ipvs_sys::Command;

use super::line::Problem;
use super::{Invocation, Mistake, Names, parse, words};

/// A change and the number of its line, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Where it stands.
    pub line: usize,
    /// What it changes.
    pub command: Command,
}

/// A mistake in a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {problem}", column = .mistake.column, problem = .mistake.problem)]
pub struct LineMistake {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub mistake: Mistake,
}

/// Reads all lines. Empty ones and comments (`#`) are nothing; a line may begin with `ipvsadm`.
///
/// # Errors
/// All mistakes, in the order of their lines.
pub fn steps(text: &str, names: Names<'_>) -> Result<Vec<Step>, Vec<LineMistake>> {
    let mut steps = Vec::new();
    let mut mistakes = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        match step(content, names) {
            Ok(Some(command)) => steps.push(Step { line, command }),
            Ok(None) => {}
            Err(mistake) => mistakes.push(LineMistake { line, mistake }),
        }
    }
    if mistakes.is_empty() {
        Ok(steps)
    } else {
        Err(mistakes)
    }
}

fn step(content: &str, names: Names<'_>) -> Result<Option<Command>, Mistake> {
    let words = words(content);
    let words = match words.first() {
        None => return Ok(None),
        Some(first) if first.text.starts_with('#') => return Ok(None),
        Some(first) if first.text.rsplit('/').next() == Some("ipvsadm") => &words[1..],
        Some(_) => &words[..],
    };
    let no_change = |verb: &str| Mistake {
        column: words.first().map_or(1, |word| word.column),
        problem: Problem::NoChange(verb.to_owned()),
    };
    match parse(words, names)? {
        Invocation::Change(command) => Ok(Some(command)),
        Invocation::List(_) => Err(no_change("-L")),
        Invocation::Save { .. } => Err(no_change("-S")),
        Invocation::Restore => Err(no_change("-R")),
        Invocation::Help => Err(no_change("-h")),
        Invocation::Version => Err(no_change("--version")),
    }
}
