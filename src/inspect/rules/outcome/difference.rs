//! From one picture of the table to another: commands, and the lines that tell them.

use std::fmt;

use ipvs_sys::{Command, Destination, ServiceKey};

use super::{Entry, Picture};

/// One thing to be done, and how it looks in the language of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What does it.
    pub command: Command,
    /// Rules that are no more.
    pub removed: Vec<String>,
    /// Rules that come.
    pub added: Vec<String>,
}

impl fmt::Display for Change {
    /// A line for each rule, after a minus or a plus.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for rule in &self.removed {
            writeln!(f, "- {rule}")?;
        }
        for rule in &self.added {
            writeln!(f, "+ {rule}")?;
        }
        Ok(())
    }
}

/// What makes `to` of `from`: what is new or changed in the order in which it was made, real servers
/// right behind their virtual service, and what goes at the end.
pub fn difference(from: &Picture, to: &Picture) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut entries: Vec<&Entry> = to.entries.values().collect();
    entries.sort_by_key(|entry| entry.at);
    for entry in entries {
        changed(from.entries.get(&entry.service.key), entry, &mut changes);
    }
    for (key, entry) in &from.entries {
        if !to.entries.contains_key(key) {
            let mut removed = vec![format!("-A {}", entry.service)];
            removed.extend(
                entry
                    .destinations
                    .values()
                    .map(|(_, there)| rule(key, there)),
            );
            let command = Command::DelService(*key);
            changes.push(Change {
                command,
                removed,
                added: Vec::new(),
            });
        }
    }
    changes
}

fn changed(before: Option<&Entry>, entry: &Entry, changes: &mut Vec<Change>) {
    let (key, service) = (entry.service.key, &entry.service);
    let line = format!("-A {service}");
    match before {
        None => changes.push(Change {
            command: Command::NewService(service.clone()),
            removed: Vec::new(),
            added: vec![line],
        }),
        Some(before) if before.service != *service => changes.push(Change {
            command: Command::SetService(service.clone()),
            removed: vec![format!("-A {}", before.service)],
            added: vec![line],
        }),
        Some(_) => {}
    }
    let there = |wanted: &Destination| {
        let found = before.and_then(|before| before.destinations.get(&wanted.key));
        found.map(|(_, there)| there)
    };
    let mut destinations: Vec<_> = entry.destinations.values().collect();
    destinations.sort_by_key(|(at, _)| *at);
    for (_, wanted) in destinations {
        let added = vec![rule(&key, wanted)];
        match there(wanted) {
            None => changes.push(Change {
                command: Command::NewDest(key, *wanted),
                removed: Vec::new(),
                added,
            }),
            Some(there) if there != wanted => changes.push(Change {
                command: Command::SetDest(key, *wanted),
                removed: vec![rule(&key, there)],
                added,
            }),
            Some(_) => {}
        }
    }
    let gone = before
        .into_iter()
        .flat_map(|before| before.destinations.values());
    for (_, there) in gone.filter(|(_, there)| !entry.destinations.contains_key(&there.key)) {
        changes.push(Change {
            command: Command::DelDest(key, there.key),
            removed: vec![rule(&key, there)],
            added: Vec::new(),
        });
    }
}

fn rule(key: &ServiceKey, destination: &Destination) -> String {
    format!("-a {key} {destination}")
}
