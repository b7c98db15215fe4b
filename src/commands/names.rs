//! Names for what the kernel holds, from the agent on this node if one runs.

use std::path::Path;

use crate::ask;
use crate::inspect::table::names::{Names, names};

/// What the agent knows. Without one there are no names, and a line on standard error says so.
pub fn ask(socket: &Path) -> Names {
    match ask::ask::<ask::Table>(socket, "/v1/table") {
        Ok(told) => names(&told),
        Err(error) => {
            eprintln!("ipvs-agent: names of Services are missing: {error}");
            Names::new()
        }
    }
}
