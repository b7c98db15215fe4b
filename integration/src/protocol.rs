//! What host and guest agree on: what they say to each other on the console, a line at a time.

use anyhow::{Result, bail};

/// Begins a line by which a guest asks something of the host.
pub const REQUEST: &str = "LAB REQUEST:";
/// The bearer token that the API server knows.
pub const TOKEN: &str = "lab";
/// Said by a guest that has booted, before it does what it was booted for.
pub const BOOTED: &str = "LAB BOOTED";
/// Begins the line that says how a guest's run ended.
const VERDICT: &str = "LAB VERDICT:";
/// Begins a line that says what was proved.
const PROOF: &str = "LAB PROOF:";

/// How many of a story's trials of one subject gave what they had to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    pub story: String,
    /// An article of the law, or the whole story.
    pub subject: String,
    pub passed: usize,
    pub of: usize,
    /// Trials that this kernel cannot hold, for it has no sockets of SCTP: neither passed nor failed.
    pub left_out: usize,
}

impl Proof {
    /// The subject of a story's own proof, which is the last that is heard of it.
    pub const STORY: &str = "story";

    /// Prints the line that [`Proof::parse`] reads.
    pub fn announce(&self) {
        println!("{}", self.line());
    }

    /// The line itself.
    pub fn line(&self) -> String {
        let Self {
            story,
            subject,
            passed,
            of,
            left_out,
        } = self;
        let left_out = match left_out {
            0 => String::new(),
            some => format!(" | {some} left out"),
        };
        format!("{PROOF} {story} | {subject} | {passed} of {of}{left_out}")
    }

    /// Nothing for a line that is none; an error for one that is broken.
    pub fn parse(line: &str) -> Result<Option<Self>> {
        let Some(proof) = line.trim().strip_prefix(PROOF) else {
            return Ok(None);
        };
        let parts: Vec<&str> = proof.split('|').map(str::trim).collect();
        let (story, subject, numbers, left_out) = match parts[..] {
            [story, subject, numbers] => (story, subject, numbers, "0 left out"),
            [story, subject, numbers, left_out] => (story, subject, numbers, left_out),
            _ => bail!("odd proof {proof:?}"),
        };
        let Some(left_out) = left_out.strip_suffix(" left out") else {
            bail!("odd proof {proof:?}");
        };
        let Some((passed, of)) = numbers.split_once(" of ") else {
            bail!("odd proof {proof:?}");
        };
        Ok(Some(Self {
            story: story.to_owned(),
            subject: subject.to_owned(),
            passed: passed.parse()?,
            of: of.parse()?,
            left_out: left_out.parse()?,
        }))
    }
}

/// How a guest's run ended. Exactly one is demanded of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    pub passed: usize,
    pub failed: usize,
}

impl Verdict {
    /// Prints the line that [`Verdict::parse`] reads.
    pub fn announce(self) {
        println!("{}", self.line());
    }

    /// The line itself, for those who print it otherwise.
    pub fn line(self) -> String {
        format!("{VERDICT} {} passed, {} failed", self.passed, self.failed)
    }

    /// The number that passed; an error if anything failed, or nothing was done.
    pub fn demand(self) -> Result<usize> {
        let Self { passed, failed } = self;
        if failed > 0 || passed == 0 {
            bail!("{passed} passed, {failed} failed");
        }
        Ok(passed)
    }

    /// Nothing for a line that is no verdict; an error for one that is broken.
    pub fn parse(line: &str) -> Result<Option<Self>> {
        let Some(verdict) = line.trim().strip_prefix(VERDICT) else {
            return Ok(None);
        };
        let words: Vec<&str> = verdict.split_whitespace().collect();
        match words[..] {
            [passed, "passed,", failed, "failed"] => Ok(Some(Self {
                passed: passed.parse()?,
                failed: failed.parse()?,
            })),
            _ => bail!("odd verdict {verdict:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_read_as_it_was_written() {
        let verdict = Verdict {
            passed: 19,
            failed: 1,
        };
        assert_eq!(Verdict::parse(&verdict.line()).ok(), Some(Some(verdict)));
    }

    #[test]
    fn nothing_done_is_no_success() {
        let demand = |passed, failed| Verdict { passed, failed }.demand().ok();
        assert_eq!(
            [demand(0, 0), demand(3, 1), demand(3, 0)],
            [None, None, Some(3)]
        );
    }

    #[test]
    fn a_proof_is_read_as_it_was_written() {
        for left_out in [0, 3] {
            let proof = Proof {
                story: "matrix".to_owned(),
                subject: "3 Local Hairpin".to_owned(),
                passed: 4,
                of: 6,
                left_out,
            };
            assert_eq!(Proof::parse(&proof.line()).ok(), Some(Some(proof)));
        }
        assert_eq!(Proof::parse("ok   hairpin 0.2 s").ok(), Some(None));
        assert!(Proof::parse("LAB PROOF: matrix | 4 of 6").is_err());
    }

    #[test]
    fn other_lines_are_none_and_half_a_verdict_is_an_error() {
        assert_eq!(Verdict::parse("ok   hairpin 0.2 s").ok(), Some(None));
        assert!(Verdict::parse("LAB VERDICT: 3 passed").is_err());
        assert!(Verdict::parse("LAB VERDICT: x passed, 0 failed").is_err());
    }
}
