//! Sums over the virtual servers of a Service that never fall, and which of them are told. Pure.
//!
//! The kernel counts by virtual server, and a virtual server that is deleted takes its counts along;
//! a sum that fell would look to Prometheus like a restart. So what each has gained since the last
//! reading is added up here. What was counted before the first reading is left out: a restarted agent
//! that began with it would seem to have gained it all at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use ipvs_sys::{DestinationKey, ServiceKey, Stats};

use super::Extent;
use super::told::{Line, Reading, Snapshot};
use crate::model::ServicePortName;

/// What the kernel counts of connections, packets and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub(super) connections: u64,
    pub(super) packets: [u64; 2],
    pub(super) bytes: [u64; 2],
}

/// Open connections of a real server, as the file tells them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) active: u64,
    pub(super) inactive: u64,
}

/// A Service port, and one of its endpoints if it is that endpoint's line.
pub(super) type Place = (ServicePortName, Option<SocketAddr>);

/// One line's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sum {
    pub(super) counts: Counts,
    pub(super) active: u64,
    pub(super) inactive: u64,
}

/// Everything since the first reading.
#[derive(Debug)]
pub(super) struct Account {
    extent: Extent,
    /// Owners of the virtual servers that were there at the last reading.
    owners: BTreeMap<ServiceKey, ServicePortName>,
    /// What was read last of all virtual servers, others' too; `None` before the first reading.
    servers: Option<BTreeMap<ServiceKey, Counts>>,
    /// The same of the backends of one, as far as they have been read.
    backends: BTreeMap<ServiceKey, BTreeMap<DestinationKey, Counts>>,
    /// Backends that were there at the first reading, and whose counts have not been read yet.
    unread: BTreeSet<(ServiceKey, DestinationKey)>,
    /// A virtual server's counts when its backends were read, and in which order that was.
    backends_read: BTreeMap<ServiceKey, (u64, Counts)>,
    reads: u64,
    sums: BTreeMap<Place, Sum>,
    told: BTreeSet<Place>,
    left_out: [usize; 2],
    /// Endpoints of the last reading.
    there: BTreeSet<Place>,
}

impl Account {
    pub(super) fn new(extent: Extent) -> Self {
        Self {
            extent,
            owners: BTreeMap::new(),
            servers: None,
            backends: BTreeMap::new(),
            unread: BTreeSet::new(),
            backends_read: BTreeMap::new(),
            reads: 0,
            sums: BTreeMap::new(),
            told: BTreeSet::new(),
            left_out: [0; 2],
            there: BTreeSet::new(),
        }
    }

    /// Takes a reading of all virtual servers; those without an owner are somebody else's. Of the
    /// `alive` Service ports some may have no virtual server now: one without an endpoint has none.
    pub(super) fn take(
        &mut self,
        stats: &BTreeMap<ServiceKey, Stats>,
        loads: &BTreeMap<(ServiceKey, DestinationKey), Load>,
        owners: &BTreeMap<ServiceKey, ServicePortName>,
        alive: &BTreeSet<ServicePortName>,
    ) {
        for sum in self.sums.values_mut() {
            (sum.active, sum.inactive) = (0, 0);
        }
        let mut there: BTreeSet<Place> = BTreeSet::new();
        let read = stats.iter().map(|(key, stats)| (*key, Counts::from(stats)));
        let now: BTreeMap<ServiceKey, Counts> = read.collect();
        if self.servers.is_none() {
            self.unread = match self.extent.backends {
                true => loads.keys().copied().collect(),
                false => BTreeSet::new(),
            };
        }
        let before = self.servers.take().unwrap_or_else(|| now.clone());
        for (key, owner) in owners {
            let Some(now) = now.get(key) else {
                continue;
            };
            let before = before.get(key).copied().unwrap_or_default();
            let sum = self.sums.entry((owner.clone(), None)).or_default();
            sum.counts.add(now.since(before));
        }
        self.servers = Some(now);
        for ((server, backend), load) in loads {
            let Some(owner) = owners.get(server) else {
                continue;
            };
            let whole = self.sums.entry((owner.clone(), None)).or_default();
            whole.active += load.active;
            whole.inactive += load.inactive;
            if self.extent.backends {
                let address = SocketAddr::new(backend.addr, backend.port);
                let place = (owner.clone(), Some(address));
                let sum = self.sums.entry(place.clone()).or_default();
                sum.active += load.active;
                sum.inactive += load.inactive;
                there.insert(place);
            }
        }
        // The file may leave out what is there, so an endpoint is gone when it was missing twice.
        let was_there = &self.there;
        self.sums.retain(|place, _| match place {
            (owner, None) => alive.contains(owner),
            (owner, _) => {
                there.contains(place) || (was_there.contains(place) && alive.contains(owner))
            }
        });
        self.there = there;
        // For the same reason counts are forgotten with the virtual server.
        self.backends
            .retain(|server, _| owners.contains_key(server));
        self.unread.retain(|(server, _)| stats.contains_key(server));
        self.backends_read.retain(|key, _| owners.contains_key(key));
        self.owners.clone_from(owners);
        self.choose();
    }

    /// Virtual servers whose backends are told and have had traffic since they were read; those first
    /// that have waited longest.
    pub(super) fn wanted(&self, most: usize) -> Vec<ServiceKey> {
        let told: BTreeSet<&ServicePortName> = self
            .told
            .iter()
            .filter_map(|(owner, backend)| backend.map(|_| owner))
            .collect();
        let mut wanted: Vec<(u64, ServiceKey)> = Vec::new();
        let servers = self.servers.iter().flatten();
        for (key, now) in servers {
            let owner = self.owners.get(key);
            if !owner.is_some_and(|owner| told.contains(owner)) {
                continue;
            }
            match self.backends_read.get(key) {
                Some((_, at)) if at == now => {}
                Some((order, _)) => wanted.push((*order, *key)),
                None => wanted.push((0, *key)),
            }
        }
        wanted.sort_unstable();
        wanted.into_iter().take(most).map(|(_, key)| key).collect()
    }

    /// Takes what the kernel counts for the backends of one virtual server.
    pub(super) fn take_backends(
        &mut self,
        server: ServiceKey,
        backends: impl Iterator<Item = (DestinationKey, Stats)>,
    ) {
        let Some(owner) = self.owners.get(&server) else {
            return;
        };
        let before = self.backends.remove(&server).unwrap_or_default();
        let mut read = BTreeMap::new();
        for (key, stats) in backends {
            let place = (owner.clone(), Some(SocketAddr::new(key.addr, key.port)));
            let known = before.get(&key).copied();
            // One that came since the file was read has its turn later.
            let Some(sum) = self.sums.get_mut(&place) else {
                read.extend(known.map(|counts| (key, counts)));
                continue;
            };
            let now = Counts::from(&stats);
            let of_before = self.unread.remove(&(server, key)).then_some(now);
            sum.counts
                .add(now.since(known.or(of_before).unwrap_or_default()));
            read.insert(key, now);
        }
        self.backends.insert(server, read);
        self.reads += 1;
        let at = self.servers.as_ref().and_then(|all| all.get(&server));
        let at = at.copied().unwrap_or_default();
        self.backends_read.insert(server, (self.reads, at));
    }

    /// Puts one whose backends could not be read behind the others.
    pub(super) fn put_off(&mut self, server: ServiceKey) {
        self.reads += 1;
        let read = self.backends_read.entry(server).or_default();
        read.0 = self.reads;
    }

    /// What is told now.
    pub(super) fn snapshot(&self, reading: Reading) -> Snapshot {
        let lines = self.told.iter().filter_map(|place| {
            let sum = *self.sums.get(place)?;
            let (owner, backend) = place.clone();
            Some(Line {
                owner,
                backend,
                sum,
            })
        });
        Snapshot {
            lines: lines.collect(),
            left_out: self.left_out,
            backends: self.extent.backends,
            reading: Some(reading),
        }
    }

    /// Services have room before endpoints. Those that were told go on being told, so that no series
    /// comes and goes; what room is left is for those with the most connections.
    fn choose(&mut self) {
        let mut room = self.extent.series / SERIES_OF_ONE;
        let mut chosen = BTreeSet::new();
        for (left_out, backends) in self.left_out.iter_mut().zip([false, true]) {
            let of_this = |(place, _): &(&Place, &Sum)| place.1.is_some() == backends;
            let mut all: Vec<(bool, u64, &Place)> = self
                .sums
                .iter()
                .filter(of_this)
                .map(|(place, sum)| {
                    let load = sum.counts.connections + sum.active + sum.inactive;
                    (!self.told.contains(place), u64::MAX - load, place)
                })
                .collect();
            if all.len() > room {
                all.sort_unstable();
            }
            *left_out = all.len().saturating_sub(room);
            let taken = all.into_iter().take(room);
            chosen.extend(taken.map(|(_, _, place)| place.clone()));
            room = room.saturating_sub(chosen.len());
        }
        self.told = chosen;
    }
}

impl Counts {
    /// What was gained; everything, if it counts from nought again.
    fn since(self, before: Self) -> Self {
        let pairs = [
            (self.connections, before.connections),
            (self.packets[0], before.packets[0]),
            (self.packets[1], before.packets[1]),
            (self.bytes[0], before.bytes[0]),
            (self.bytes[1], before.bytes[1]),
        ];
        if pairs.iter().any(|(now, before)| now < before) {
            return self;
        }
        let [connections, in_packets, out_packets, in_bytes, out_bytes] =
            pairs.map(|(now, before)| now - before);
        Self {
            connections,
            packets: [in_packets, out_packets],
            bytes: [in_bytes, out_bytes],
        }
    }

    fn add(&mut self, more: Self) {
        self.connections += more.connections;
        for way in [0, 1] {
            self.packets[way] += more.packets[way];
            self.bytes[way] += more.bytes[way];
        }
    }
}

impl From<&Stats> for Counts {
    fn from(stats: &Stats) -> Self {
        Self {
            connections: stats.conns,
            packets: [stats.in_packets, stats.out_packets],
            bytes: [stats.in_bytes, stats.out_bytes],
        }
    }
}

/// Connections, packets and bytes in and out, active and inactive connections.
pub(super) const SERIES_OF_ONE: usize = 7;

#[cfg(test)]
mod tests;
