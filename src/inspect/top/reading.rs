//! One reading of the kernel's table.
//!
//! Virtual servers come in one dump, with their counters. Backends cost a request for each virtual
//! server, so only those of what is looked at are asked for; of all others weights and numbers of
//! connections come from `/proc/net/ip_vs`, in one go, and that only as often as it is cheap
//! ([`whole_is_due`]), or when the order of the lines needs it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ipvs_sys::procfs::{ProcDestination, ProcKey, ProcService};
use ipvs_sys::{Client, DestinationEntry, DestinationKey, Error, Family, ServiceKey, Stats};

/// A real server of one virtual server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backend {
    pub key: DestinationKey,
    pub weight: u32,
    pub active: u32,
    pub inactive: u32,
    /// Only of those that were asked for.
    pub stats: Option<Stats>,
}

/// What was read.
#[derive(Debug, Default)]
pub struct Reading {
    pub services: BTreeMap<ServiceKey, Stats>,
    /// Of virtual servers that are known that far.
    pub backends: BTreeMap<ServiceKey, Vec<Backend>>,
}

/// All virtual servers, and the backends of the `wanted` ones.
pub fn read(client: &mut Client, wanted: &BTreeSet<ServiceKey>) -> Result<Reading, Error> {
    let services: BTreeMap<ServiceKey, Stats> = client
        .services()?
        .into_iter()
        .map(|entry| (entry.service.key, entry.stats))
        .collect();
    let mut backends = BTreeMap::new();
    for key in wanted.iter().filter(|key| services.contains_key(key)) {
        match client.destinations(key) {
            Ok(entries) => {
                backends.insert(*key, entries.iter().map(Backend::from).collect());
            }
            // Deleted in between: it is not there any more.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Reading { services, backends })
}

impl From<&DestinationEntry> for Backend {
    fn from(entry: &DestinationEntry) -> Self {
        Self {
            key: entry.destination.key,
            weight: entry.destination.weight,
            active: entry.active,
            inactive: entry.inactive,
            stats: Some(entry.stats),
        }
    }
}

impl From<&ProcDestination> for Backend {
    fn from(line: &ProcDestination) -> Self {
        Self {
            key: line.key,
            weight: line.weight,
            active: line.active,
            inactive: line.inactive,
            stats: None,
        }
    }
}

/// `/proc/net/ip_vs`, kept until it is read again.
#[derive(Debug, Default)]
pub struct Whole {
    backends: BTreeMap<ProcKey, Vec<Backend>>,
}

impl From<&[ProcService]> for Whole {
    fn from(services: &[ProcService]) -> Self {
        let mut backends: BTreeMap<ProcKey, Vec<Backend>> = BTreeMap::new();
        for service in services {
            let lines = service.destinations.iter().map(Backend::from);
            // A mark has a line in each family.
            backends.entry(service.key).or_default().extend(lines);
        }
        Self { backends }
    }
}

impl Whole {
    /// Adds the backends of those virtual servers that were not asked for.
    pub fn complete(&self, reading: &mut Reading) {
        for key in reading.services.keys() {
            let Some(lines) = self.backends.get(&ProcKey::from(*key)) else {
                continue;
            };
            let own = lines.iter().filter(|line| match key {
                ServiceKey::Address { .. } => true,
                ServiceKey::Mark { family, .. } => Family::of(line.key.addr) == *family,
            });
            reading
                .backends
                .entry(*key)
                .or_insert_with(|| own.copied().collect());
        }
    }
}

/// Whether the whole table should be read again: whenever it is needed for the order of the lines, else
/// when that takes no more than a twentieth of the time.
pub fn whole_is_due(needed: bool, age: Duration, cost: Duration) -> bool {
    needed || age >= cost * 20
}
