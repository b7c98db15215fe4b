//! Standard output of commands that print more than one would hold in memory.

use std::io::{self, BufWriter, StdoutLock};
use std::process::ExitCode;

/// Standard output, buffered.
pub fn out() -> BufWriter<StdoutLock<'static>> {
    BufWriter::with_capacity(64 << 10, io::stdout().lock())
}

/// Success, also where the reader has seen enough: `ipvs-agent connections | head`.
pub fn done(written: io::Result<()>) -> anyhow::Result<ExitCode> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        result => Ok(result.map(|()| ExitCode::SUCCESS)?),
    }
}
