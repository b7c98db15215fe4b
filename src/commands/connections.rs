//! `ipvs-agent connections`: the kernel's file, line by line.

use std::process::ExitCode;

use anyhow::Context;
use ipvs_sys::Protocol;
use ipvs_sys::procfs::{self, ProcConnection};

use super::stream::Out;
use super::{names, print};
use crate::cli::{ByArg, ConnectionsArgs, PlainOutput, ProtocolArg};
use crate::inspect::connections::count::{self, By, Counts};
use crate::inspect::connections::{Selection, document, text};
use crate::inspect::rules::ListOptions;
use crate::inspect::structured;
use crate::inspect::table::filter::Filter;
use crate::inspect::table::names::Names;

/// Prints or counts what passes.
pub fn run(args: &ConnectionsArgs) -> anyhow::Result<ExitCode> {
    let client = args.client.as_deref().map(str::parse).transpose();
    let selection = Selection {
        table: Filter {
            protocol: args.protocol.map(Protocol::from),
            ..names::filter(&args.which)?
        },
        client: client.map_err(|allowed| anyhow::anyhow!("--client: {allowed}"))?,
        state: args.state.clone(),
    };
    // Opened first: where there are no connections names are of no use.
    let all = procfs::read_connections().context(NO_FILE)?;
    let names = names::ask(&args.which.socket, selection.table.needs_names())?;
    let mut failure = None;
    let passing = all
        .map_while(|connection| connection.map_err(|error| failure = Some(error)).ok())
        .filter(|connection| selection.passes(connection, &names));
    let code = match args.by {
        Some(by) => counts(By::from(by), passing, &names, args.output),
        None => rows(passing, &names, args.output),
    }?;
    match failure {
        Some(error) => Err(error.into()),
        None => Ok(code),
    }
}

fn counts(
    by: By,
    connections: impl Iterator<Item = ProcConnection>,
    names: &Names,
    output: PlainOutput,
) -> anyhow::Result<ExitCode> {
    let mut counts = Counts::default();
    connections.for_each(|connection| counts.add(by, &connection, names));
    let counts = counts.sorted();
    let counted: Vec<_> = counts
        .iter()
        .map(|(key, count)| document::Counted { key, count: *count })
        .collect();
    let document = document::Counts { counts: counted };
    print(&match output {
        PlainOutput::Table => count::render(by, &counts),
        PlainOutput::Json => structured::json(&document)?,
        PlainOutput::Yaml => structured::yaml(&document)?,
    })?;
    Ok(ExitCode::SUCCESS)
}

/// One after the other, in each form: a list that is written as it is read.
fn rows(
    connections: impl Iterator<Item = ProcConnection>,
    names: &Names,
    output: PlainOutput,
) -> anyhow::Result<ExitCode> {
    let mut out = Out::new();
    let version = structured::SCHEMA;
    let (start, end) = match output {
        PlainOutput::Table => (text::heading(), String::new()),
        PlainOutput::Json => (
            format!("{{\"version\":\"{version}\",\"connections\":["),
            "\n]}\n".to_owned(),
        ),
        PlainOutput::Yaml => (
            format!("version: {version}\nconnections:\n"),
            "  []\n".to_owned(),
        ),
    };
    out.write(&start);
    let mut first = true;
    for connection in connections {
        let item = document::connection(&connection, names);
        let line = match output {
            PlainOutput::Table => text::named_line(&connection, names),
            PlainOutput::Json => {
                let comma = if first { "" } else { "," };
                format!("{comma}\n{}", serde_json::to_string(&item)?)
            }
            PlainOutput::Yaml => serde_saphyr::to_string(&[item])?,
        };
        first = false;
        if !out.write(&line) {
            break;
        }
    }
    // A list with something in it needs no brackets in YAML.
    if first || output != PlainOutput::Yaml {
        out.write(&end);
    }
    out.end()?;
    Ok(ExitCode::SUCCESS)
}

/// `ipvsadm -Lcn`, line by line.
pub fn classic(
    options: &ListOptions,
    selection: &Selection,
    names: &Names,
) -> anyhow::Result<ExitCode> {
    let connections = procfs::read_connections().context(NO_FILE)?;
    let engine = options.persistent_conn;
    let mut out = Out::new();
    out.write(match engine {
        true => text::ENGINE_HEADING,
        false => text::HEADING,
    });
    for connection in connections {
        let connection = connection?;
        if selection.passes(&connection, names)
            && !out.write(&text::ipvsadm_line(&connection, engine))
        {
            break;
        }
    }
    out.end()?;
    Ok(ExitCode::SUCCESS)
}

impl From<ByArg> for By {
    fn from(by: ByArg) -> Self {
        match by {
            ByArg::Service => Self::Service,
            ByArg::Backend => Self::Backend,
            ByArg::Client => Self::Client,
        }
    }
}

impl From<ProtocolArg> for Protocol {
    fn from(protocol: ProtocolArg) -> Self {
        match protocol {
            ProtocolArg::Tcp => Self::Tcp,
            ProtocolArg::Udp => Self::Udp,
            ProtocolArg::Sctp => Self::Sctp,
        }
    }
}

/// What to do where the file is not there.
pub const NO_FILE: &str = "no table of connections: run this as root, on a node whose kernel has \
     ip_vs loaded (`modprobe ip_vs`)";
