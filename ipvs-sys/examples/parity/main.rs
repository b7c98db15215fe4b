//! The crate against `ipvsadm` on a real kernel: what one writes the other reads.
//!
//! Wants root in a throw-away network namespace or guest, `ip_vs` with its schedulers, `ipvsadm`,
//! `unshare`, `rmmod`, and a device `dummy0` that is up. It flushes the table, starts and stops
//! synchronisation daemons and reloads the module. Arguments: the first seed (1) and the number of
//! tables (20). A run whose tables lacked a feature fails too, so there is a least number. The last
//! line of a run without a difference is `PARITY OK tables=N`.
#![expect(
    clippy::disallowed_methods,
    reason = "a program that measures how long things take"
)]

mod bulk;
mod features;
mod ipvsadm;
mod table;
mod traits;

use std::collections::BTreeMap;

use ipvs_sys::procfs::{self, ProcForward, ProcKey};
use ipvs_sys::{Client, Command, Family, ForwardMethod, ServiceFlags, ServiceKey};

use features::Met;
use table::{Dice, Table, Value};

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let number = |at: usize, default| arguments.get(at).map_or(Ok(default), |text| text.parse());
    if let Some(how @ (bulk::BATCH | bulk::RESTORE)) = arguments.first().map(String::as_str) {
        return bulk::child(how, u32::try_from(number(1, 10_000)?)?);
    }
    let (seed, tables) = (number(0, 1)?, number(1, 20)?);
    let mut client = Client::open()?;
    let info = client.info()?;
    println!(
        "kernel: IPVS {:?}, table {}",
        info.version, info.connection_table_size
    );
    client.execute(&Command::Flush)?;
    let schedulers = features::schedulers()?;
    let mut met = Met::default();
    for seed in seed..seed + tables {
        one_table(&mut client, &schedulers, &mut met, seed)
            .map_err(|error| format!("seed {seed}: {error}"))?;
    }
    met.check(&[WRITTEN, CHANGED, RESTORED], &schedulers)?;
    traits::check(&mut client)?;
    bulk::check(&mut client)?;
    traits::check_reload(&mut client)?;
    println!("PARITY OK tables={tables}");
    Ok(())
}

const WRITTEN: &str = "written by the crate";
const CHANGED: &str = "changed by the crate";
const RESTORED: &str = "written by ipvsadm -R";

/// Writes a table both ways, changes it, and reads it every way.
fn one_table(client: &mut Client, schedulers: &[String], met: &mut Met, seed: u64) -> Result<()> {
    let mut dice = Dice::new(seed);
    let services = 1 + dice.below(60);
    let mut table = table::generate(&mut dice, schedulers, services)?;
    let destinations: usize = table.values().map(|(_, backends)| backends.len()).sum();
    println!("seed {seed}: {services} services, {destinations} destinations");

    let creation = table::creation(&table);
    all_applied(client, &creation)?;
    compare_all(client, &table, WRITTEN)?;
    met.table(WRITTEN, &table);

    let changes = table::mutate(&mut dice, schedulers, &mut table)?;
    all_applied(client, &changes)?;
    compare_all(client, &table, CHANGED)?;
    met.table(CHANGED, &table);
    met.changes(&changes);

    client.execute(&Command::Flush)?;
    same(&Table::new(), &ipvsadm::table()?, "ipvsadm after a flush")?;

    restore(&table)?;
    compare_all(client, &table, RESTORED)?;
    met.table(RESTORED, &table);
    client.execute(&Command::Flush)?;
    Ok(())
}

/// `Display` of a command is the line that `ipvsadm -R` takes.
fn restore(table: &Table) -> Result<()> {
    let lines: Vec<_> = table::creation(table)
        .iter()
        .map(|command| format!("{command}\n"))
        .collect();
    ipvsadm::restore(&lines.concat())
}

pub fn all_applied(client: &mut Client, commands: &[Command]) -> Result<()> {
    for (command, outcome) in commands.iter().zip(client.batch(commands)?) {
        if !outcome.is_applied() {
            return Err(format!("{command}: {outcome:?}").into());
        }
    }
    Ok(())
}

fn compare_all(client: &mut Client, table: &Table, how: &str) -> Result<()> {
    same(
        table,
        &ipvsadm::table()?,
        &format!("{how}, read by ipvsadm"),
    )?;
    same(
        table,
        &by_netlink(client)?,
        &format!("{how}, read by the crate"),
    )?;
    compare_proc(table, how)
}

fn by_netlink(client: &mut Client) -> Result<Table> {
    let mut table = Table::new();
    for entry in client.services()? {
        let key = entry.service.key;
        if !entry.unknown.is_empty() {
            return Err(format!("{key}: unknown attributes {:?}", entry.unknown).into());
        }
        if client.service(&key)?.service != entry.service {
            return Err(format!("{key}: alone it is another one than in a dump").into());
        }
        let mut destinations = BTreeMap::new();
        for entry in client.destinations(&key)? {
            if !entry.unknown.is_empty() {
                return Err(format!("{key}: unknown attributes {:?}", entry.unknown).into());
            }
            destinations.insert(entry.destination.key, entry.destination);
        }
        table.insert(key, (entry.service, destinations));
    }
    Ok(table)
}

fn same(expected: &Table, found: &Table, how: &str) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    for (key, value) in expected {
        if found.get(key) != Some(value) {
            println!("expected {value:?}\nfound    {:?}", found.get(key));
        }
    }
    for key in found.keys().filter(|key| !expected.contains_key(key)) {
        println!("not expected: {key}");
    }
    Err(format!("{how}: the tables differ").into())
}

/// What `/proc/net/ip_vs` tells of a service.
type Row = (ProcKey, String, Option<bool>, Option<u8>, Vec<String>);

fn compare_proc(table: &Table, how: &str) -> Result<()> {
    let mut expected: Vec<Row> = table
        .iter()
        .map(|(key, value)| row_of(key, value))
        .collect();
    let mut found: Vec<Row> = procfs::read_services()?.iter().map(proc_row).collect();
    // Two services may have one mark in the file.
    expected.sort();
    found.sort();
    if expected == found {
        return Ok(());
    }
    println!("expected {expected:#?}\nfound {found:#?}");
    Err(format!("{how}: /proc/net/ip_vs differs").into())
}

fn row_of(key: &ServiceKey, (service, destinations): &Value) -> Row {
    let one_packet = service.flags.contains(ServiceFlags::ONE_PACKET);
    let told = matches!(key, ServiceKey::Mark { .. }) || key.family() == Family::Inet;
    let persistent = service.flags.contains(ServiceFlags::PERSISTENT);
    // The file does not tell the family of a mark, so not what its netmask means.
    let by_address = matches!(key, ServiceKey::Address { .. });
    let mut rows: Vec<_> = destinations
        .values()
        .map(|destination| {
            let method = match destination.forward {
                ForwardMethod::Local => ProcForward::Local,
                ForwardMethod::Tunnel(_) => ProcForward::Tunnel,
                ForwardMethod::DirectRoute => ProcForward::DirectRoute,
                ForwardMethod::Masquerade | ForwardMethod::Bypass | ForwardMethod::Other(_) => {
                    ProcForward::Masquerade
                }
            };
            format!("{} {method:?} {}", destination.key, destination.weight)
        })
        .collect();
    rows.sort();
    (
        ProcKey::from(*key),
        service.scheduler.to_string(),
        told.then_some(one_packet),
        (persistent && by_address).then_some(service.netmask),
        rows,
    )
}

fn proc_row(service: &procfs::ProcService) -> Row {
    let netmask = match (service.key, service.persistence) {
        (ProcKey::Address { addr, .. }, Some(persistence)) => persistence.prefix(Family::of(addr)),
        _ => None,
    };
    let mut rows: Vec<_> = service
        .destinations
        .iter()
        .map(|backend| format!("{} {:?} {}", backend.key, backend.forward, backend.weight))
        .collect();
    rows.sort();
    (
        service.key,
        service.scheduler.to_string(),
        service.one_packet,
        netmask,
        rows,
    )
}
