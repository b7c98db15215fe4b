//! `ipvs-agent list`, and `ipvsadm -L`: the same questions, the same text.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use ipvs_sys::Client;

use super::line::understand;
use super::stream::Out;
use super::{connections, explain_ipvs, names, print, tell};
use crate::cli::{ListArgs, TableOutput};
use crate::dataplane::ipvs::signature::is_signed;
use crate::inspect::connections::Selection;
use crate::inspect::rules::{Invocation, ListOptions, words};
use crate::inspect::structured;
use crate::inspect::table::filter::Filter;
use crate::inspect::table::names::Names;
use crate::inspect::table::order::Order;
use crate::inspect::table::read::{Detail, Reading};
use crate::inspect::table::text::{Columns, Style};
use crate::inspect::table::watch::Snapshot;
use crate::inspect::table::{Table, document, text, wide};

/// Prints what was asked for.
pub fn run(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let line = args.ipvsadm.words().join(" ");
    let options = match understand(&words(&line))? {
        Invocation::List(options) => options,
        _ => ListOptions::default(),
    };
    let filter = Filter {
        scheduler: args.scheduler.clone(),
        ..names::filter(&args.which)?
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
    let Some(reading) = reading(&mut client, &options, Detail::Full)? else {
        return Ok(ExitCode::from(NOT_THERE));
    };
    let table = reading.table(&mut client, |row| selection.table.keep(row, &names))?;
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
        return connections::classic(options, selection, names);
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
    let Some(mut reading) = reading(&mut client, options, detail)? else {
        return Ok(ExitCode::from(NOT_THERE));
    };
    let (mut out, mut lines) = (Out::new(), String::new());
    out.write(&text::heading(
        reading.version,
        reading.connection_table_size,
        style,
    ));
    while let Some(mut row) = reading.next(&mut client)? {
        if !selection.table.keep(&mut row, names) {
            continue;
        }
        lines.clear();
        text::row(&mut lines, &row, style);
        if !out.write(&lines) {
            break;
        }
    }
    out.end()?;
    Ok(ExitCode::SUCCESS)
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

/// The table, or nothing if the one virtual server that was asked for is not there.
fn reading(
    client: &mut Client,
    options: &ListOptions,
    detail: Detail,
) -> anyhow::Result<Option<Reading>> {
    let order = match options.nosort {
        true => Order::Kernel,
        false => Order::Ipvsadm,
    };
    let Some(key) = &options.service else {
        return Ok(Some(Reading::all(client, detail, order)?));
    };
    match Reading::one(client, key, order) {
        Ok(reading) => Ok(Some(reading)),
        Err(error) if error.is_not_found() => {
            tell("No such service");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
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

/// Prints the table, then what changes, until it is stopped.
fn watch(
    options: &ListOptions,
    filter: &Filter,
    names: &Names,
    interval: Duration,
) -> anyhow::Result<ExitCode> {
    let mut client = Client::open().map_err(explain_ipvs)?;
    let mut look = || -> anyhow::Result<Table> {
        let Some(reading) = reading(&mut client, options, Detail::Full)? else {
            bail!("there is nothing to watch");
        };
        Ok(reading.table(&mut client, |row| filter.keep(row, names))?)
    };
    let (table, style) = (look()?, style(options));
    let mut shown = text::heading(table.version, table.connection_table_size, style);
    for row in &table.rows {
        text::row(&mut shown, row, style);
    }
    let mut before = Snapshot::of(&table.rows);
    let mut out = Out::new();
    let mut reads_on = out.show(&shown);
    while reads_on {
        thread::sleep(interval);
        let now = Snapshot::of(&look()?.rows);
        reads_on = out.show(&before.changes_to(&now));
        before = now;
    }
    out.end()?;
    Ok(ExitCode::SUCCESS)
}

/// What was looked for is not there.
const NOT_THERE: u8 = 1;
