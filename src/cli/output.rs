//! Forms that a command prints what it found in.

use clap::ValueEnum;
use jiff::SignedDuration;

/// Text for people; JSON and YAML have a documented schema (`docs/shell.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Output {
    #[default]
    Text,
    Json,
    Yaml,
}

/// How often a command looks: neither without a pause nor never.
pub(super) fn interval(text: &str) -> Result<SignedDuration, String> {
    let interval: SignedDuration = text.parse().map_err(|error| format!("{error}"))?;
    if (SignedDuration::from_millis(100)..=SignedDuration::from_hours(1)).contains(&interval) {
        Ok(interval)
    } else {
        Err("it takes 100ms to 1h".to_owned())
    }
}
