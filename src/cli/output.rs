//! Forms that a command prints what it found in.

use clap::ValueEnum;

/// Text for people; JSON and YAML have a documented schema (`docs/shell.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Output {
    #[default]
    Text,
    Json,
    Yaml,
}
