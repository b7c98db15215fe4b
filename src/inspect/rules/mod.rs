//! `ipvsadm`'s language: what a line of a save file or a command line asks for.
//!
//! * `options` the words: verbs, options, which go together
//! * `value` what stands behind an option: addresses, marks, masks, numbers
//! * `line` one command line to one [`Invocation`]
//! * `names` service and host names, as `/etc/services` and the resolver know them
//! * `file` many lines, all of them read before anything is done
//! * `outcome` what lines make of a table, and the difference to what is there
//! * `save` a table as lines
//!
//! Pure, but for the names that the caller looks up.

pub mod file;
mod line;
mod names;
mod options;
pub mod outcome;
pub mod save;
mod value;

pub use line::{Invocation, Mistake, parse};
pub use names::{Names, ServicePorts};
pub use options::{ListOptions, Verb};

/// A word of a line and where it begins, counted in characters from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word<'a> {
    /// Of its first character.
    pub column: usize,
    /// The word.
    pub text: &'a str,
}

/// The words of a line.
pub fn words(line: &str) -> Vec<Word<'_>> {
    let mut found = Vec::new();
    let mut start = None;
    let mut column = 0;
    for (at, c) in line.char_indices() {
        column += 1;
        match (c.is_whitespace(), start) {
            (false, None) => start = Some((at, column)),
            (true, Some((from, column))) => {
                found.push(Word {
                    column,
                    text: &line[from..at],
                });
                start = None;
            }
            _ => {}
        }
    }
    if let Some((from, column)) = start {
        found.push(Word {
            column,
            text: &line[from..],
        });
    }
    found
}
