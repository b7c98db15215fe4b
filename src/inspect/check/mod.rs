//! Is this node fit, and is it well: rules over facts. Pure.
//!
//! * `facts` all that was read of the node, each with the reason where it could not be read
//! * `saved` the text of `iptables-save`, whoever wrote the rules
//! * `rules` one small function for each check: facts → verdict
//! * `table` what a person sees
//!
//! Nothing here prints, reads the node or knows the time: the command gathers, and so may others
//! that want the same answers.

pub mod facts;
mod rules;
pub mod saved;
pub mod table;

#[cfg(test)]
mod tests;

use serde::Serialize;

pub use facts::Facts;
pub use rules::CHECKS;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Ok,
    Warn,
    Fail,
}

impl Level {
    /// `ok`, `warn` or `fail`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One check: its name, why it is asked, and the rule that answers.
pub struct Check {
    pub name: &'static str,
    pub why: &'static str,
    rule: fn(&Facts) -> Verdict,
}

/// What a rule says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub level: Level,
    pub found: String,
    pub remedy: Option<String>,
}

impl Verdict {
    fn ok(found: impl Into<String>) -> Self {
        Self {
            level: Level::Ok,
            found: found.into(),
            remedy: None,
        }
    }

    fn warn(found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            level: Level::Warn,
            found: found.into(),
            remedy: Some(remedy.into()),
        }
    }

    fn fail(found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            level: Level::Fail,
            ..Self::warn(found, remedy)
        }
    }

    /// Nothing can be said: a warning, for what is not known is not well.
    fn unread(what: &str, why: &str) -> Self {
        Self::warn(
            format!("cannot read {what}: {why}"),
            "run it as root in the node's network namespace",
        )
    }
}

/// The answer of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub check: &'static str,
    pub level: Level,
    /// What there is.
    pub found: String,
    /// What to do, unless all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// All answers, as `-o json` prints them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The worst of all.
    pub result: Level,
    pub findings: Vec<Finding>,
}

impl Report {
    /// Asks every check.
    pub fn of(facts: &Facts) -> Self {
        let findings: Vec<Finding> = CHECKS
            .iter()
            .map(|check| {
                let Verdict {
                    level,
                    found,
                    remedy,
                } = (check.rule)(facts);
                Finding {
                    check: check.name,
                    level,
                    found,
                    remedy,
                }
            })
            .collect();
        let worst = findings.iter().map(|finding| finding.level).max();
        Self {
            result: worst.unwrap_or(Level::Ok),
            findings,
        }
    }

    /// Without what is well.
    pub fn only_not_ok(mut self) -> Self {
        self.findings.retain(|finding| finding.level > Level::Ok);
        self
    }
}
