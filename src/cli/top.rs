//! Flags of `ipvs-agent top`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use jiff::SignedDuration;

use super::output::interval;
use crate::ask;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct TopArgs {
    /// How often the screen changes. The kernel refreshes its counters every 2 s
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    pub interval: SignedDuration,
    /// By what the lines are ordered
    #[arg(long, value_name = "COLUMN", value_enum, default_value_t = TopColumn::Conns)]
    pub sort: TopColumn,
    /// Only lines whose Service or virtual address has this in it
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub filter: String,
    /// Only Services of this namespace
    #[arg(long, short, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Print one frame after one interval as plain text, all lines of it, and end
    #[arg(long)]
    pub once: bool,
    /// Columns of that frame; otherwise the terminal's, or 120
    #[arg(long, requires = "once", value_name = "COLUMNS", value_parser = clap::value_parser!(u16).range(60..=500))]
    pub width: Option<u16>,
    /// Where the agent tells Services' names
    #[arg(long, value_name = "PATH", default_value = ask::SOCKET)]
    pub socket: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TopColumn {
    Name,
    Backends,
    Conns,
    PacketsIn,
    PacketsOut,
    BytesIn,
    BytesOut,
    Active,
    Inactive,
    Weight,
}

const EXAMPLES: &str = "\
Keys: arrows, enter (backends, connections), esc, s (sort), / (filter), p (pause), ? (all keys), q.

Examples:
  Who has the most new connections a second?
    ipvs-agent top
  Which Services of a namespace have the most open connections?
    ipvs-agent top --namespace shop --sort active
  Who uses this virtual address?
    ipvs-agent top --filter 10.96.0.10
  The busiest, for a script or a ticket:
    ipvs-agent top --once --width 100 | head -20";
