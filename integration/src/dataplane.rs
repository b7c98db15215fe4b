//! The agent's dataplanes, as host, guest, stories and the conformance table speak of them.

use clap::ValueEnum;

/// By what the agent serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Dataplane {
    Ipvs,
    Iptables,
}

impl Dataplane {
    pub const ALL: &[Self] = &[Self::Ipvs, Self::Iptables];

    /// As its value is written on a command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ipvs => "ipvs",
            Self::Iptables => "iptables",
        }
    }

    /// What an agent's `run` is told for it. IPVS is what it does anyway.
    pub const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Ipvs => &[],
            Self::Iptables => &["--dataplane", "iptables"],
        }
    }
}

/// An agent to start, and for which dataplane.
#[derive(Debug, Clone)]
pub struct Program {
    pub path: std::path::PathBuf,
    pub dataplane: Dataplane,
}
