//! What is read, named and measured → lines in order.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use ipvs_sys::{DestinationKey, ServiceKey};

use super::names::{Names, server_text};
use super::reading::{Backend, Reading};
use super::sample::{Meter, Rates};
use super::state::{Column, Group, Place, RowKey, State};

/// All that lines are made of.
#[derive(Debug, Clone, Copy)]
pub struct Data<'a> {
    pub reading: &'a Reading,
    pub servers: &'a Meter<ServiceKey>,
    pub backends: &'a Meter<(ServiceKey, DestinationKey)>,
    pub names: &'a Names,
}

/// A line of the overview or of a list of backends.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub key: RowKey,
    pub name: String,
    /// In a word: `draining`, `uneven`, or what the slices say.
    pub state: String,
    pub rates: Option<Rates>,
    /// How many backends take new connections, and how many there are.
    pub backends: Option<(u64, u64)>,
    pub active: Option<u64>,
    pub inactive: Option<u64>,
    pub weight: Option<u64>,
    /// Of the new connections of all backends since this was first looked at, in percent.
    pub share: Option<f64>,
    /// Takes no new connections, or has a backend that takes none.
    pub draining: bool,
    /// Its share is far from its weight's, or a backend's is.
    pub uneven: bool,
}

/// The lines of where one is, but for connections.
pub fn rows(data: &Data<'_>, state: &State) -> Vec<Row> {
    let mut rows = match &state.screen().place {
        Place::Overview => overview(data, state),
        Place::Backends(group) => backends_of(data, group),
        Place::Connections(..) => Vec::new(),
    };
    if state.screen().place != Place::Overview {
        rows.retain(|row| holds(&row.name, &state.screen().filter));
    }
    rows.sort_by(|a, b| {
        let order = compare(a, b, state.sort);
        let order = if state.reverse {
            order.reverse()
        } else {
            order
        };
        order.then_with(|| a.key.cmp(&b.key))
    });
    rows
}

/// The virtual servers of a line.
pub fn servers_of(data: &Data<'_>, group: &Group) -> BTreeSet<ServiceKey> {
    match group {
        Group::Server(key) => BTreeSet::from([*key]),
        Group::Service(name) => {
            let keys = data.reading.services.keys();
            keys.filter(|key| data.names.service(key) == Some(name))
                .copied()
                .collect()
        }
    }
}

/// The virtual servers of several lines, in one walk over all of them.
pub fn servers_of_all<'a>(
    data: &Data<'a>,
    groups: &BTreeSet<&Group>,
) -> impl Iterator<Item = ServiceKey> {
    let (names, keys) = (data.names, data.reading.services.keys());
    keys.copied().filter(|key| {
        groups.contains(&Group::Server(*key))
            || names
                .service(key)
                .is_some_and(|name| groups.contains(&Group::Service(name.clone())))
    })
}

/// All of these lines in one.
pub fn total(rows: &[Row]) -> Row {
    let sum = |of: fn(&Row) -> Option<u64>| rows.iter().filter_map(of).reduce(|a, b| a + b);
    Row {
        key: RowKey::Line(0),
        name: "TOTAL".to_owned(),
        state: String::new(),
        rates: rows.iter().filter_map(|row| row.rates).reduce(|a, b| a + b),
        backends: rows
            .iter()
            .filter_map(|row| row.backends)
            .reduce(|a, b| (a.0 + b.0, a.1 + b.1)),
        active: sum(|row| row.active),
        inactive: sum(|row| row.inactive),
        weight: sum(|row| row.weight),
        share: None,
        draining: false,
        uneven: false,
    }
}

fn overview(data: &Data<'_>, state: &State) -> Vec<Row> {
    let filter = &state.screen().filter;
    let mut groups: BTreeMap<Group, Vec<ServiceKey>> = BTreeMap::new();
    for key in data.reading.services.keys() {
        let name = data.names.service(key);
        if let Some(namespace) = &state.namespace
            && name.is_none_or(|name| name.namespace != *namespace)
        {
            continue;
        }
        let found = holds(&server_text(key), filter)
            || name.is_some_and(|name| holds(&name.to_string(), filter));
        let group = match name {
            Some(name) if state.by_service => Group::Service(name.clone()),
            _ => Group::Server(*key),
        };
        if found {
            groups.entry(group).or_default().push(*key);
        }
    }
    let rows = groups.into_iter().map(|(group, keys)| {
        let known = keys
            .iter()
            .any(|key| data.reading.backends.contains_key(key));
        let merged = merge(data, &keys);
        let uneven = uneven(&merged);
        let taking = merged.values().filter(|backend| backend.weight > 0).count() as u64;
        let sum = |of: fn(&Merged) -> u64| known.then(|| merged.values().map(of).sum());
        Row {
            name: match &group {
                Group::Service(name) => name.to_string(),
                Group::Server(key) => server_text(key),
            },
            key: RowKey::Group(group),
            state: String::new(),
            rates: together(keys.iter().map(|key| data.servers.rates(key))),
            backends: known.then_some((taking, merged.len() as u64)),
            active: sum(|backend| backend.active),
            inactive: sum(|backend| backend.inactive),
            weight: sum(|backend| backend.weight),
            share: None,
            draining: taking < merged.len() as u64,
            uneven: !uneven.is_empty(),
        }
    });
    rows.collect()
}

fn backends_of(data: &Data<'_>, group: &Group) -> Vec<Row> {
    let servers = servers_of(data, group);
    let merged = merge(data, &servers);
    let uneven = uneven(&merged);
    let all: u64 = merged.values().map(|backend| backend.conns).sum();
    let rows = merged.iter().map(|(key, backend)| {
        let told = servers
            .iter()
            .find_map(|server| data.names.endpoint(server, key));
        let draining = backend.weight == 0;
        let uneven = uneven.contains(key);
        Row {
            key: RowKey::Backend(*key),
            name: key.to_string(),
            state: match told {
                _ if draining => "draining".to_owned(),
                _ if uneven => "uneven".to_owned(),
                Some(state) => state.to_string(),
                None => "-".to_owned(),
            },
            rates: backend.rates,
            backends: None,
            active: Some(backend.active),
            inactive: Some(backend.inactive),
            weight: Some(backend.weight),
            share: (all > 0).then(|| 100.0 * backend.conns as f64 / all as f64),
            draining,
            uneven,
        }
    });
    rows.collect()
}

/// One backend behind several virtual servers.
#[derive(Debug, Default)]
struct Merged {
    /// The greatest: it drains when none of them gives it anything.
    weight: u64,
    active: u64,
    inactive: u64,
    rates: Option<Rates>,
    conns: u64,
    /// How many connections its weights would have given it, of those of the same virtual servers.
    due: f64,
}

fn merge<'a>(
    data: &Data<'_>,
    servers: impl IntoIterator<Item = &'a ServiceKey>,
) -> BTreeMap<DestinationKey, Merged> {
    let mut merged: BTreeMap<DestinationKey, Merged> = BTreeMap::new();
    for server in servers {
        let backends: &[Backend] = data.reading.backends.get(server).map_or(&[], Vec::as_slice);
        let conns_of = |backend: &Backend| data.backends.conns(&(*server, backend.key));
        let conns: u64 = backends.iter().map(conns_of).sum();
        let weights: u64 = backends.iter().map(|b| u64::from(b.weight)).sum();
        for backend in backends {
            let to = merged.entry(backend.key).or_default();
            let measured = (*server, backend.key);
            to.weight = to.weight.max(u64::from(backend.weight));
            to.active += u64::from(backend.active);
            to.inactive += u64::from(backend.inactive);
            to.rates = together([to.rates, data.backends.rates(&measured)].into_iter());
            to.conns += conns_of(backend);
            to.due += conns as f64 * f64::from(backend.weight) / weights.max(1) as f64;
        }
    }
    merged
}

/// Those whose part of the new connections is further from their weight's than half of it, and further
/// than chance would take it.
fn uneven(backends: &BTreeMap<DestinationKey, Merged>) -> BTreeSet<DestinationKey> {
    let far = backends.iter().filter(|(_, backend)| {
        let due = backend.due;
        let off = (backend.conns as f64 - due).abs();
        backend.weight > 0 && off > due / 2.0 && off > 3.0 * due.sqrt()
    });
    far.map(|(key, _)| *key).collect()
}

/// The sum of what is known.
fn together(rates: impl Iterator<Item = Option<Rates>>) -> Option<Rates> {
    rates.flatten().reduce(|a, b| a + b)
}

fn holds(text: &str, filter: &str) -> bool {
    text.to_lowercase().contains(&filter.to_lowercase())
}

/// Names from A, numbers from the greatest.
fn compare(a: &Row, b: &Row, column: Column) -> Ordering {
    let rate = |of: fn(&Rates) -> f64| {
        let value = |row: &Row| row.rates.as_ref().map_or(-1.0, of);
        value(b).total_cmp(&value(a))
    };
    match column {
        Column::Name => a.name.cmp(&b.name),
        Column::Backends => b.backends.cmp(&a.backends),
        Column::Conns => rate(|rates| rates.conns),
        Column::PacketsIn => rate(|rates| rates.in_packets),
        Column::PacketsOut => rate(|rates| rates.out_packets),
        Column::BytesIn => rate(|rates| rates.in_bytes),
        Column::BytesOut => rate(|rates| rates.out_bytes),
        Column::Active => b.active.cmp(&a.active),
        Column::Inactive => b.inactive.cmp(&a.inactive),
        Column::Weight => b.weight.cmp(&a.weight),
    }
}
