//! The log, on standard error; and whether what is written there or elsewhere has colours.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::cli::LogFormat;

/// Starts logging. A filter that does not parse is told with what would.
pub fn start(format: LogFormat, filter: &str) -> Result<(), ParseError> {
    let filter = self::filter(filter)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => {
            builder
                .with_ansi(colours(&std::io::stderr()))
                .with_target(false)
                .init();
        }
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}

/// Whether colours are welcome: on a terminal, unless `NO_COLOR` is set and not empty
/// (<https://no-color.org>).
pub fn colours(stream: &impl IsTerminal) -> bool {
    let unwelcome = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    stream.is_terminal() && !unwelcome
}

/// The filter of a log, if it is one.
pub fn filter(text: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::try_new(format!("{QUIET},{text}"))
}

/// Libraries that tell what the agent tells itself, or one line for each request. A filter that
/// names one of them comes later and wins.
const QUIET: &str =
    "kube=error,kube_client=error,hyper=warn,hyper_util=warn,tower=warn,rustls=warn";
