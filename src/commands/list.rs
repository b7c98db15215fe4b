//! `ipvs-agent list`, and `ipvsadm -L`: the same questions, the same text.

use std::io::Write;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use ipvs_sys::{Client, procfs};

use super::{explain_ipvs, names, print, stream};
use crate::cli::{ListArgs, TableOutput, WhichArgs};
use crate::dataplane::ipvs::signature::is_signed;
use crate::inspect::connections::{Selection, text as connection_text};
use crate::inspect::rules::{Invocation, ListOptions, words};
use crate::inspect::structured;
use crate::inspect::table::filter::{Filter, Place};
use crate::inspect::table::names::Names;
use crate::inspect::table::read::{Detail, read, read_one};
use crate::inspect::table::text::{Columns, Style};
use crate::inspect::table::watch::Snapshot;
use crate::inspect::table::{Table, document, text, wide};

/// Prints what was asked for.
pub fn run(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let line = args.ipvsadm.words().join(" ");
    let options = match super::ipvsadm::understand(&words(&line))? {
        Invocation::List(options) => options,
        _ => ListOptions::default(),
    };
    let filter = Filter {
        scheduler: args.scheduler.clone(),
        ..filter(&args.which)?
    };
    let wants_names = args.output != TableOutput::Table || filter.needs_names();
    let names = match wants_names {
        true => names::ask(&args.which.socket, filter.needs_names())?,
        false => Names::new(),
    };
    let selection = Selection {
        table: filter,
        ..Selection::default()
    };
    if args.watch {
        let interval = Duration::try_from(args.interval).context("--interval is negative")?;
        return watch(&options, &selection.table, &names, interval);
    }
    if args.output == TableOutput::Table || options.connection || options.timeout || options.daemon
    {
        return classic(&options, &selection, &names);
    }
    let mut client = Client::open().map_err(explain_ipvs)?;
    let Some(table) = table(
        &mut client,
        &options,
        Detail::Full,
        &selection.table,
        &names,
    )?
    else {
        return Ok(ExitCode::from(NOT_THERE));
    };
    let document = || document::document(&table, &names, is_signed);
    match args.output {
        TableOutput::Json => print(&structured::json(&document())?)?,
        TableOutput::Yaml => print(&structured::yaml(&document())?)?,
        TableOutput::Wide | TableOutput::Table => print(&wide::render(&table, &names))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints what `ipvsadm -L` prints, of what passes.
pub fn classic(
    options: &ListOptions,
    selection: &Selection,
    names: &Names,
) -> anyhow::Result<ExitCode> {
    if options.connection {
        return connections(options, selection, names);
    }
    let mut client = Client::open().map_err(explain_ipvs)?;
    if options.service.is_none() && options.timeout {
        let lives = client.timeouts()?;
        print(&format!("Timeout (tcp tcpfin udp): {lives}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    if options.service.is_none() && options.daemon {
        let daemons = client.daemons()?;
        let lines: String = daemons
            .iter()
            .map(|entry| daemon_line(&entry.daemon))
            .collect();
        print(&lines)?;
        return Ok(ExitCode::SUCCESS);
    }
    let style = style(options);
    let detail = if style.columns == Columns::Plain {
        Detail::Brief
    } else {
        Detail::Full
    };
    match table(&mut client, options, detail, &selection.table, names)? {
        Some(table) => {
            print(&text::render(&table, style))?;
            Ok(ExitCode::SUCCESS)
        }
        None => Ok(ExitCode::from(NOT_THERE)),
    }
}

/// The first of the columns that were asked for, as ipvsadm has it.
fn style(options: &ListOptions) -> Style {
    let columns = match options {
        ListOptions { stats: true, .. } => Columns::Stats,
        ListOptions { rate: true, .. } => Columns::Rate,
        ListOptions {
            thresholds: true, ..
        } => Columns::Thresholds,
        ListOptions {
            persistent_conn: true,
            ..
        } => Columns::PersistentConn,
        ListOptions { tun_info: true, .. } => Columns::TunnelInfo,
        _ => Columns::Plain,
    };
    let (exact, single) = (options.exact, options.service.is_some());
    Style {
        columns,
        exact,
        single,
    }
}

/// What passes of the table, or nothing if the one virtual server that was asked for is not there.
fn table(
    client: &mut Client,
    options: &ListOptions,
    detail: Detail,
    filter: &Filter,
    names: &Names,
) -> anyhow::Result<Option<Table>> {
    let mut table = match &options.service {
        None => read(client, detail)?,
        Some(key) => match read_one(client, key) {
            Ok(table) => table,
            Err(error) if error.is_not_found() => {
                eprintln!("No such service");
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        },
    };
    filter.apply(&mut table.rows, names);
    if !options.nosort {
        table.sort();
    }
    Ok(Some(table))
}

fn daemon_line(daemon: &ipvs_sys::Daemon) -> String {
    let ipvs_sys::Daemon {
        state,
        interface,
        sync_id,
        ..
    } = daemon;
    let mut line = format!("{state} sync daemon (mcast={interface}, syncid={sync_id}");
    if let Some(length) = daemon.max_len {
        line += &format!(", maxlen={length}");
    }
    if let Some(group) = daemon.group {
        line += &format!(", group={group}");
    }
    if let Some(port) = daemon.port {
        line += &format!(", port={port}");
    }
    if let Some(ttl) = daemon.ttl {
        line += &format!(", ttl={ttl}");
    }
    line + ")\n"
}

/// `ipvsadm -Lcn`, line by line.
fn connections(
    options: &ListOptions,
    selection: &Selection,
    names: &Names,
) -> anyhow::Result<ExitCode> {
    let connections = procfs::read_connections().context(super::connections::NO_FILE)?;
    let engine = options.persistent_conn;
    let mut out = stream::out();
    let heading = match engine {
        true => connection_text::ENGINE_HEADING,
        false => connection_text::HEADING,
    };
    let mut written = out.write_all(heading.as_bytes());
    for connection in connections {
        let connection = connection?;
        if written.is_ok() && selection.passes(&connection, names) {
            let line = connection_text::ipvsadm_line(&connection, engine);
            written = out.write_all(line.as_bytes());
        }
        if written.is_err() {
            break;
        }
    }
    stream::done(written.and_then(|()| out.flush()))
}

/// Prints the table, then what changes, until it is stopped.
fn watch(
    options: &ListOptions,
    filter: &Filter,
    names: &Names,
    interval: Duration,
) -> anyhow::Result<ExitCode> {
    let mut client = Client::open().map_err(explain_ipvs)?;
    let mut look = |first: bool| -> anyhow::Result<(Snapshot, String)> {
        let Some(table) = table(&mut client, options, Detail::Full, filter, names)? else {
            bail!("there is nothing to watch");
        };
        let shown = if first {
            text::render(&table, style(options))
        } else {
            String::new()
        };
        Ok((Snapshot::of(&table.rows), shown))
    };
    let (mut before, shown) = look(true)?;
    let mut out = stream::out();
    let mut written = out.write_all(shown.as_bytes()).and_then(|()| out.flush());
    while written.is_ok() {
        thread::sleep(interval);
        let (now, _) = look(false)?;
        let changes = before.changes_to(&now);
        written = out.write_all(changes.as_bytes()).and_then(|()| out.flush());
        before = now;
    }
    stream::done(written)
}

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

/// What was looked for is not there.
const NOT_THERE: u8 = 1;
