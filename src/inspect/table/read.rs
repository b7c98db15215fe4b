//! Reads the table from the kernel.
//!
//! Netlink has no dump of all real servers: each virtual server takes a request of its own.
//! `/proc/net/ip_vs` tells all in one read, some ten times faster, but not everything. So
//! [`Detail::Brief`] takes virtual servers from one dump and real servers from the file, and asks by
//! netlink for those that the file leaves out, tells twice or cannot tell apart: a mark that both
//! families have. What the file has no word for is not looked for either: forwarding methods that no
//! administrator can set (it calls them `Masq`).

use std::collections::{BTreeMap, BTreeSet};

use ipvs_sys::procfs::{self, ProcDestination, ProcForward, ProcKey, ProcService};
use ipvs_sys::{
    Client, Destination, DestinationEntry, Error, ForwardMethod, ServiceEntry, ServiceKey, Tunnel,
};

use super::order::{self, Order};
use super::{Row, Table};

/// How much of a real server is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Address, method, weight, connections.
    Brief,
    /// Thresholds, kind of tunnel, persistent connections, counters too.
    Full,
}

/// A table that is read a virtual server at a time, so that fifty thousand real servers need not be in
/// memory to be printed.
#[derive(Debug)]
pub struct Reading {
    /// Of IPVS, such as 1.2.1.
    pub version: (u8, u8, u8),
    /// Buckets of the table of connections.
    pub connection_table_size: u32,
    services: std::vec::IntoIter<ServiceEntry>,
    told: BTreeMap<ProcKey, Option<ProcService>>,
    twice: BTreeSet<ProcKey>,
    order: Order,
}

impl Reading {
    /// Reads all virtual servers.
    ///
    /// # Errors
    /// When the kernel refuses or does not answer.
    pub fn all(client: &mut Client, detail: Detail, order: Order) -> Result<Self, Error> {
        let services = client.services()?;
        let told = match detail {
            // A file that is not there or not understood tells nothing, and all is asked for.
            Detail::Brief => procfs::read_services().map(told_once).unwrap_or_default(),
            Detail::Full => BTreeMap::new(),
        };
        Self::of(client, services, told, order)
    }

    /// Reads one virtual server.
    ///
    /// # Errors
    /// When there is none such ([`Error::is_not_found`]), or the kernel refuses.
    pub fn one(client: &mut Client, key: &ServiceKey, order: Order) -> Result<Self, Error> {
        let service = client.service(key)?;
        Self::of(client, vec![service], BTreeMap::new(), order)
    }

    fn of(
        client: &mut Client,
        services: Vec<ServiceEntry>,
        told: BTreeMap<ProcKey, Option<ProcService>>,
        order: Order,
    ) -> Result<Self, Error> {
        let info = client.info()?;
        let twice = marks_of_both_families(&services);
        let services = match order {
            Order::Kernel => services,
            Order::Ipvsadm => order::services(services),
        };
        Ok(Self {
            version: info.version,
            connection_table_size: info.connection_table_size,
            services: services.into_iter(),
            told,
            twice,
            order,
        })
    }

    /// The next virtual server with its real servers; none at the end.
    ///
    /// # Errors
    /// When the kernel refuses or does not answer.
    pub fn next(&mut self, client: &mut Client) -> Result<Option<Row>, Error> {
        for service in self.services.by_ref() {
            let key = ProcKey::from(service.service.key);
            let told = self.told.remove(&key).flatten();
            let destinations: Vec<_> = match told.filter(|_| !self.twice.contains(&key)) {
                Some(file) => file.destinations.iter().map(entry).collect(),
                None => match client.destinations(&service.service.key) {
                    Ok(destinations) => destinations,
                    // Deleted in between: it is not there any more.
                    Err(error) if error.is_not_found() => continue,
                    Err(error) => return Err(error),
                },
            };
            let destinations = match self.order {
                Order::Kernel => destinations,
                Order::Ipvsadm => order::destinations(destinations),
            };
            return Ok(Some(Row {
                service,
                destinations,
            }));
        }
        Ok(None)
    }

    /// All that is to be kept.
    ///
    /// # Errors
    /// When the kernel refuses or does not answer.
    pub fn table(
        mut self,
        client: &mut Client,
        mut keep: impl FnMut(&mut Row) -> bool,
    ) -> Result<Table, Error> {
        let mut rows = Vec::new();
        while let Some(mut row) = self.next(client)? {
            if keep(&mut row) {
                rows.push(row);
            }
        }
        Ok(Table {
            version: self.version,
            connection_table_size: self.connection_table_size,
            rows,
        })
    }
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

fn marks_of_both_families(services: &[ServiceEntry]) -> BTreeSet<ProcKey> {
    let mut met = BTreeSet::new();
    let keys = services
        .iter()
        .map(|entry| ProcKey::from(entry.service.key));
    keys.filter(|key| !met.insert(*key)).collect()
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
