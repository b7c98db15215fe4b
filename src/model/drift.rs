//! What a kernel lacks, and what it has too much of, line by line of the dumps that people know.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One line that a dump of the kernel would lose or gain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    pub sign: Sign,
    /// By which tool's dump the line is written.
    pub of: Kind,
    /// As that tool writes it: a line of `ipvsadm -Sn`, of `ipset save` …
    pub line: String,
}

/// Whether the line is to come or to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sign {
    #[serde(rename = "+")]
    Comes,
    #[serde(rename = "-")]
    Goes,
}

/// The kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `ipvsadm -Sn`.
    Ipvs,
    /// `ipset save`.
    Set,
    /// `iptables-save`, the chain's name included.
    Rule,
    /// `ip route` and `ip rule`.
    Route,
    /// `sysctl`.
    Sysctl,
}

impl Drift {
    pub fn comes(of: Kind, line: impl Into<String>) -> Self {
        Self {
            sign: Sign::Comes,
            of,
            line: line.into(),
        }
    }

    pub fn goes(of: Kind, line: impl Into<String>) -> Self {
        Self {
            sign: Sign::Goes,
            of,
            line: line.into(),
        }
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.sign {
            Sign::Comes => '+',
            Sign::Goes => '-',
        };
        write!(f, "{sign} {}", self.line)
    }
}
