//! What the kernel counts for each Service and each endpoint, for those who ask for it.
//!
//! * `names` whose each virtual server is, told by the loop as it changes
//! * `account` sums that never fall, and which of them are told; pure
//! * `told` what Prometheus gets
//! * this file: reads the kernel when Prometheus asks, on a thread and a socket of its own
//!
//! A reading costs one dump of the virtual servers (made again where they changed meanwhile) and one read of `/proc/net/ip_vs`, however many
//! there are, and for endpoints a bounded number of dumps more: the kernel tells their counters by
//! virtual server only.

mod account;
pub mod names;
mod told;

use std::collections::BTreeMap;
use std::sync::{Mutex, TryLockError};
use std::time::Duration;

use ipvs_sys::procfs::{self, ProcKey, ProcService};
use ipvs_sys::{Client, DestinationKey, Family, ServiceKey, Stats};
use tracing::warn;

use crate::model::{Moment, causes};
use account::{Account, Load};
pub use names::{Names, SharedNames};
use told::Reading;
pub use told::Told;

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Endpoints beside Services.
    pub backends: bool,
    /// The most series.
    pub series: usize,
}

/// Reads, and keeps what was read.
pub struct Traffic {
    names: SharedNames,
    told: Told,
    reader: Mutex<Reader>,
}

struct Reader {
    client: Option<Client>,
    account: Account,
    last: Option<Moment>,
    failing: bool,
    /// Of readings that failed.
    failures: u64,
    /// Requests over sockets that are closed.
    messages: u64,
}

impl Traffic {
    /// One that has read nothing yet. Its names are to be kept up to date, `told` to be registered.
    pub fn new(extent: Extent, told: Told) -> Self {
        Self {
            names: SharedNames::default(),
            told,
            reader: Mutex::new(Reader {
                client: None,
                account: Account::new(extent),
                last: None,
                failing: false,
                failures: 0,
                messages: 0,
            }),
        }
    }

    /// Where the loop says whose each virtual server is.
    pub fn names(&self) -> SharedNames {
        self.names.clone()
    }

    /// Reads the kernel, unless that was done just now or somebody does it at this moment. May take its
    /// time: not for a thread on which others wait.
    pub fn refresh(&self, clock: &dyn Fn() -> Moment) {
        let mut reader = match self.reader.try_lock() {
            Ok(reader) => reader,
            Err(TryLockError::Poisoned(reader)) => reader.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let begun = clock();
        if reader.last.is_some_and(|last| begun.since(last) < FRESH) {
            return;
        }
        match reader.read(&self.names) {
            Ok(()) => reader.failing = false,
            Err(error) => {
                reader.failures += 1;
                // A socket that failed may be of a module that was loaded anew.
                reader.messages = reader.sent();
                reader.client = None;
                if !std::mem::replace(&mut reader.failing, true) {
                    warn!(
                        error,
                        "cannot read the kernel's counters; metrics of traffic stand still"
                    );
                }
            }
        }
        let ended = clock();
        reader.last = Some(ended);
        let reading = Reading {
            seconds: ended.since(begun).as_secs_f64(),
            failures: reader.failures,
            messages: reader.sent(),
        };
        self.told.set(reader.account.snapshot(reading));
    }
}

impl Reader {
    /// Requests over all sockets so far.
    fn sent(&self) -> u64 {
        let open = self.client.as_ref();
        self.messages + open.map_or(0, |client| client.counters().messages)
    }

    fn read(&mut self, names: &SharedNames) -> Result<(), String> {
        let client = match &mut self.client {
            Some(client) => client,
            none => none.insert(Client::open().map_err(|e| causes(&e))?),
        };
        let services = client.services().map_err(|e| causes(&e))?;
        let stats = services.into_iter().map(|e| (e.service.key, e.stats));
        let stats: BTreeMap<ServiceKey, Stats> = stats.collect();
        let file = procfs::read_services().map_err(|e| causes(&e))?;
        // Not kept while the account is made up: the loop waits for it.
        let (owners, alive) = {
            let names = names.lock();
            (names.of_all(stats.keys()), names.owners())
        };
        self.account.take(&stats, &loads(&file), &owners, &alive);
        for key in self.account.wanted(DUMPS) {
            match client.destinations(&key) {
                Ok(backends) => {
                    let backends = backends.iter().map(|e| (e.destination.key, e.stats));
                    self.account.take_backends(key, backends);
                }
                // Deleted since.
                Err(error) if error.is_not_found() => {}
                // It changed while it was read, each time; the others need not wait for it.
                Err(error) if error.is_inconsistent() => self.account.put_off(key),
                Err(error) => return Err(causes(&error)),
            }
        }
        Ok(())
    }
}

/// The file does not tell the family of a virtual server for a mark: it is its real servers'. A line
/// that it tells twice counts once.
fn loads(file: &[ProcService]) -> BTreeMap<(ServiceKey, DestinationKey), Load> {
    let mut loads = BTreeMap::new();
    for service in file {
        for line in &service.destinations {
            let server = match service.key {
                ProcKey::Address {
                    protocol,
                    addr,
                    port,
                } => ServiceKey::Address {
                    protocol,
                    addr,
                    port,
                },
                ProcKey::Mark(mark) => ServiceKey::Mark {
                    family: Family::of(line.key.addr),
                    mark,
                },
            };
            let load = Load {
                active: u64::from(line.active),
                inactive: u64::from(line.inactive),
            };
            loads.insert((server, line.key), load);
        }
    }
    loads
}

/// The kernel counts anew every two seconds.
const FRESH: Duration = Duration::from_secs(2);
/// Dumps of endpoints' counters in one reading; the other virtual servers' turn comes with the next.
/// Some 0.1 ms each.
const DUMPS: usize = 256;
