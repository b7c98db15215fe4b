//! Names for what the kernel holds, from the agent on this node if one runs.

use std::path::Path;
use std::time::Duration;

use super::tell;
use crate::ask;
use crate::cli::WhichArgs;
use crate::inspect::table::filter::{Filter, Place};
use crate::inspect::table::names::{Names, names};

/// What the agent knows. Without one there are no names, and a line on standard error says so; an error
/// where they decide what is shown.
pub fn ask(socket: &Path, decisive: bool) -> anyhow::Result<Names> {
    let told = match decisive {
        true => ask::ask::<ask::Table>(socket, TABLE),
        false => ask::ask_within::<ask::Table>(socket, TABLE, PATIENCE),
    };
    match told {
        Ok(told) => Ok(names(&told)),
        Err(error) if decisive => {
            Err(anyhow::Error::new(error).context("--namespace and --service need names"))
        }
        Err(error) => {
            tell(format_args!(
                "ipvs-agent: names of Services are missing: {error}"
            ));
            Ok(Names::new())
        }
    }
}

/// A busy agent is waited for, a hung one is not; the table alone is worth something.
const PATIENCE: Duration = Duration::from_secs(10);
const TABLE: &str = "/v1/table";

/// The flags that say which part of a table is meant.
pub fn filter(args: &WhichArgs) -> anyhow::Result<Filter> {
    let place = |text: &Option<String>, flag: &'static str| -> anyhow::Result<Option<Place>> {
        let parsed = text.as_deref().map(str::parse::<Place>).transpose();
        parsed.map_err(|allowed| anyhow::anyhow!("{flag}: {allowed}"))
    };
    Ok(Filter {
        namespace: args.namespace.clone(),
        service: args.service.clone(),
        vip: place(&args.vip, "--vip")?,
        backend: place(&args.backend, "--backend")?,
        ..Filter::default()
    })
}
