//! Standard output and standard error of every command: buffered, and at ease with a reader that has seen enough
//! (`ipvs-agent connections | head`).

use std::fmt::Display;
use std::io::{self, BufWriter, StdoutLock, Write};

/// Standard output.
#[derive(Debug)]
pub struct Out {
    writer: BufWriter<StdoutLock<'static>>,
    written: io::Result<()>,
}

impl Out {
    /// Takes it.
    pub fn new() -> Self {
        Self {
            writer: BufWriter::with_capacity(BUFFER, io::stdout().lock()),
            written: Ok(()),
        }
    }

    /// Writes; false where nobody reads on or nothing can be written, and there is no use in more.
    pub fn write(&mut self, text: &str) -> bool {
        if self.written.is_ok() {
            self.written = self.writer.write_all(text.as_bytes());
        }
        self.written.is_ok()
    }

    /// The same, and what was written is read now.
    pub fn show(&mut self, text: &str) -> bool {
        if self.write(text) {
            self.written = self.writer.flush();
        }
        self.written.is_ok()
    }

    /// Success, also where the reader has left.
    pub fn end(mut self) -> anyhow::Result<()> {
        self.show("");
        match self.written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => Ok(result?),
        }
    }
}

/// Writes all there is.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = Out::new();
    out.write(text);
    out.end()
}

/// A line on standard error. That it cannot be written is no reason to end.
pub fn tell(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

const BUFFER: usize = 64 << 10;
