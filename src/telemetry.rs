//! The log, on standard error.

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
            let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
            let colours = terminal && std::env::var_os("NO_COLOR").is_none();
            builder.with_ansi(colours).with_target(false).init();
        }
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}

/// The filter of a log, if it is one.
pub fn filter(text: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::try_new(format!("{QUIET},{text}"))
}

/// Libraries that tell what the agent tells itself, or one line for each request. A filter that
/// names one of them comes later and wins.
const QUIET: &str =
    "kube=error,kube_client=error,hyper=warn,hyper_util=warn,tower=warn,rustls=warn";
