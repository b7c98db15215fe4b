//! `ipvs-agent list`.

use std::io::Write;

use ipvs_sys::Client;

use super::explain_ipvs;
use crate::inspect::list;

/// Prints the kernel's virtual servers.
pub fn run() -> anyhow::Result<()> {
    let mut client = Client::open().map_err(explain_ipvs)?;
    let (info, entries) = list::read(&mut client)?;
    let text = list::render(&info, entries);
    match std::io::stdout().write_all(text.as_bytes()) {
        // `ipvs-agent list | head` is not an error.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}
