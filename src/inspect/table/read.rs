//! Reads the table from the kernel.
//!
//! Netlink has no dump of all real servers: each virtual server takes a request of its own.
//! `/proc/net/ip_vs` tells all in one read, some ten times faster, but not everything. So
//! [`Detail::Brief`] takes virtual servers from one dump and real servers from the file, and asks by
//! netlink for those that the file leaves out, tells twice or cannot tell apart: a mark that both
//! families have. What the file has no word for is not looked for either: forwarding methods that no
//! administrator can set (it calls them `Masq`).

use std::collections::BTreeMap;

use ipvs_sys::procfs::{self, ProcDestination, ProcForward, ProcKey, ProcService};
use ipvs_sys::{
    Client, Destination, DestinationEntry, Error, ForwardMethod, ServiceEntry, ServiceKey, Tunnel,
};

use super::{Row, Table};

/// How much of a real server is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Address, method, weight, connections.
    Brief,
    /// Thresholds, kind of tunnel, persistent connections, counters too.
    Full,
}

/// Reads the whole table, in the kernel's order.
///
/// # Errors
/// When the kernel refuses or does not answer.
pub fn read(client: &mut Client, detail: Detail) -> Result<Table, Error> {
    let services = client.services()?;
    let mut told = match detail {
        // A file that is not there or not understood tells nothing, and all is asked for.
        Detail::Brief => procfs::read_services().map(told_once).unwrap_or_default(),
        Detail::Full => BTreeMap::new(),
    };
    let twice = marks_of_both_families(&services);
    let mut rows = Vec::with_capacity(services.len());
    for service in services {
        let key = ProcKey::from(service.service.key);
        let from_file = told
            .remove(&key)
            .flatten()
            .filter(|_| !twice.contains_key(&key));
        let destinations = match from_file {
            Some(file) => file.destinations.iter().map(entry).collect(),
            None => match client.destinations(&service.service.key) {
                Ok(destinations) => destinations,
                // Deleted in between: it is not there any more.
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error),
            },
        };
        rows.push(Row {
            service,
            destinations,
        });
    }
    table(client, rows)
}

/// Reads virtual servers, and the real servers of those that are wanted.
///
/// # Errors
/// When the kernel refuses or does not answer.
pub fn read_some(
    client: &mut Client,
    wanted: impl Fn(&ServiceKey) -> bool,
) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    for service in client.services()? {
        if wanted(&service.service.key) {
            match client.destinations(&service.service.key) {
                Ok(destinations) => rows.push(Row {
                    service,
                    destinations,
                }),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(rows)
}

/// Reads one virtual server.
///
/// # Errors
/// When there is none such ([`Error::is_not_found`]), or the kernel refuses.
pub fn read_one(client: &mut Client, key: &ServiceKey) -> Result<Table, Error> {
    let service = client.service(key)?;
    let destinations = client.destinations(key)?;
    table(
        client,
        vec![Row {
            service,
            destinations,
        }],
    )
}

fn table(client: &mut Client, rows: Vec<Row>) -> Result<Table, Error> {
    let info = client.info()?;
    Ok(Table {
        version: info.version,
        connection_table_size: info.connection_table_size,
        rows,
    })
}

/// What the file tells, by key; nothing for a key that it tells twice.
fn told_once(services: Vec<ProcService>) -> BTreeMap<ProcKey, Option<ProcService>> {
    let mut told = BTreeMap::new();
    for service in services {
        told.entry(service.key)
            .and_modify(|first| *first = None)
            .or_insert(Some(service));
    }
    told
}

fn marks_of_both_families(services: &[ServiceEntry]) -> BTreeMap<ProcKey, usize> {
    let mut marks = BTreeMap::new();
    for entry in services {
        *marks.entry(ProcKey::from(entry.service.key)).or_insert(0) += 1;
    }
    marks.retain(|_, count| *count > 1);
    marks
}

fn entry(told: &ProcDestination) -> DestinationEntry {
    let forward = match told.forward {
        ProcForward::Masquerade => ForwardMethod::Masquerade,
        ProcForward::Local => ForwardMethod::Local,
        ProcForward::Tunnel => ForwardMethod::Tunnel(Tunnel::default()),
        ProcForward::DirectRoute => ForwardMethod::DirectRoute,
    };
    let mut entry =
        DestinationEntry::new(Destination::new(told.key, forward).with_weight(told.weight));
    entry.active = told.active;
    entry.inactive = told.inactive;
    entry
}
