//! What lines make of the kernel's table: they are carried out on a picture of it, and the
//! difference between the picture and the table is what is to be done.
//!
//! So the outcome is that of the lines one after the other, a table that is as they want it is not
//! written to, and what cannot work is found before anything is changed.

use std::collections::{BTreeMap, BTreeSet};

use ipvs_sys::{Command, Destination, DestinationKey, Service, ServiceFlags, ServiceKey};

use super::file::Step;

mod difference;

pub use difference::{Change, difference};

/// What to do with an entry that is there already, and otherwise than a line wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Existing {
    /// It is a mistake.
    #[default]
    Keep,
    /// It is changed.
    Merge,
    /// It is changed, and what no line names goes.
    Replace,
}

/// How lines are carried out.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    /// About what is there already.
    pub existing: Existing,
    /// Whether a virtual service is an agent's, and not to be touched.
    pub owned: &'a dyn Fn(&Service) -> bool,
    /// The agent's may be touched too.
    pub force: bool,
}

/// A virtual service with its destinations, newest last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    at: usize,
    /// Its configuration.
    pub service: Service,
    destinations: BTreeMap<DestinationKey, (usize, Destination)>,
}

/// A table, as it is or as it shall be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Picture {
    entries: BTreeMap<ServiceKey, Entry>,
    next: usize,
}

/// Why a line cannot be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// Something else is there.
    #[error(
        "line {line}: it is there already, as `{there}`, and not `{wanted}`; --merge changes it"
    )]
    Exists {
        /// The line.
        line: usize,
        /// What it wants.
        wanted: String,
        /// What is there.
        there: String,
    },
    /// What the line needs is not there.
    #[error("line {line}: there is no {what}")]
    Missing {
        /// The line.
        line: usize,
        /// What it needs.
        what: String,
    },
    /// The agent's.
    #[error(
        "line {line}: {key} belongs to an agent on this node, which would set it right again; \
         --force changes it all the same"
    )]
    Owned {
        /// The line.
        line: usize,
        /// Whose it is.
        key: ServiceKey,
    },
}

/// Of which virtual services the destinations must be known: `None` for all.
pub fn concerned(steps: &[Step], existing: Existing) -> Option<BTreeSet<ServiceKey>> {
    let flushes = steps.iter().any(|step| step.command == Command::Flush);
    if flushes || existing == Existing::Replace {
        return None;
    }
    Some(
        steps
            .iter()
            .filter_map(|step| step.command.service_key().copied())
            .collect(),
    )
}

impl Picture {
    /// A table as it was read, destinations newest first as the kernel tells them.
    pub fn of(table: impl IntoIterator<Item = (Service, Vec<Destination>)>) -> Self {
        let mut picture = Self::default();
        for (service, destinations) in table {
            let key = service.key;
            picture.add(service);
            for destination in destinations.into_iter().rev() {
                picture.place(&key, destination);
            }
        }
        picture
    }

    fn add(&mut self, service: Service) {
        let at = self.step();
        let destinations = BTreeMap::new();
        self.entries.insert(
            service.key,
            Entry {
                at,
                service,
                destinations,
            },
        );
    }

    fn place(&mut self, key: &ServiceKey, destination: Destination) {
        let at = self.step();
        if let Some(entry) = self.entries.get_mut(key) {
            let place = entry.destinations.entry(destination.key);
            place.or_insert((at, destination)).1 = destination;
        }
    }

    fn step(&mut self) -> usize {
        self.next += 1;
        self.next
    }

    /// The picture after all steps, and the commands among them that are not about the table.
    ///
    /// # Errors
    /// At every line that cannot be carried out.
    pub fn after(
        &self,
        steps: &[Step],
        rules: Rules<'_>,
    ) -> Result<(Self, Vec<Command>), Vec<Conflict>> {
        let mut picture = self.clone();
        if rules.existing == Existing::Replace {
            let stays = |entry: &Entry| !rules.force && (rules.owned)(&entry.service);
            picture.entries.retain(|_, entry| stays(entry));
        }
        let mut others = Vec::new();
        let mut conflicts = Vec::new();
        for step in steps {
            let turn = Turn {
                line: step.line,
                rules,
                there: self,
            };
            match turn.apply(&step.command, &mut picture) {
                Ok(true) => {}
                Ok(false) => others.push(step.command.clone()),
                Err(conflict) => conflicts.push(conflict),
            }
        }
        if conflicts.is_empty() {
            Ok((picture, others))
        } else {
            Err(conflicts)
        }
    }
}

/// One line's turn.
struct Turn<'a> {
    line: usize,
    rules: Rules<'a>,
    there: &'a Picture,
}

impl Turn<'_> {
    /// Whether the command is about the table.
    fn apply(&self, command: &Command, picture: &mut Picture) -> Result<bool, Conflict> {
        match command {
            Command::NewService(service) => self.service(service, picture, false)?,
            Command::SetService(service) => self.service(service, picture, true)?,
            Command::DelService(key) => {
                self.entry(key, picture)?;
                self.may_touch(key)?;
                picture.entries.remove(key);
            }
            Command::NewDest(key, destination) => {
                self.destination(key, *destination, picture, false)?;
            }
            Command::SetDest(key, destination) => {
                self.destination(key, *destination, picture, true)?;
            }
            Command::DelDest(key, destination) => {
                let entry = self.entry(key, picture)?;
                if entry.destinations.remove(destination).is_none() {
                    return Err(self.missing(format!("real server {destination} of {key}")));
                }
                self.may_touch(key)?;
            }
            Command::Flush => {
                picture
                    .entries
                    .keys()
                    .try_for_each(|key| self.may_touch(key))?;
                picture.entries.clear();
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn service(&self, wanted: &Service, picture: &mut Picture, edit: bool) -> Result<(), Conflict> {
        let key = wanted.key;
        let Some(entry) = picture.entries.get_mut(&key) else {
            if edit {
                return Err(self.missing(format!("virtual service {key}")));
            }
            picture.add(wanted.clone());
            // It replaces one that the lines took away, or that was left out of the picture.
            return self.may_touch(&key);
        };
        let mut wanted = wanted.clone();
        keep_unwritten_flags(&mut wanted, &entry.service);
        if wanted == entry.service {
            return Ok(());
        }
        if !edit && self.rules.existing == Existing::Keep {
            let (wanted, there) = (format!("-A {wanted}"), format!("-A {}", entry.service));
            return Err(Conflict::Exists {
                line: self.line,
                wanted,
                there,
            });
        }
        entry.service = wanted;
        self.may_touch(&key)
    }

    fn destination(
        &self,
        key: &ServiceKey,
        wanted: Destination,
        picture: &mut Picture,
        edit: bool,
    ) -> Result<(), Conflict> {
        let entry = self.entry(key, picture)?;
        match entry.destinations.get(&wanted.key) {
            Some((_, there)) if *there == wanted => return Ok(()),
            Some((_, there)) if !edit && self.rules.existing == Existing::Keep => {
                let (wanted, there) = (format!("-a {key} {wanted}"), format!("-a {key} {there}"));
                return Err(Conflict::Exists {
                    line: self.line,
                    wanted,
                    there,
                });
            }
            None if edit => {
                return Err(self.missing(format!("real server {} of {key}", wanted.key)));
            }
            _ => {}
        }
        self.may_touch(key)?;
        picture.place(key, wanted);
        Ok(())
    }

    fn entry<'p>(
        &self,
        key: &ServiceKey,
        picture: &'p mut Picture,
    ) -> Result<&'p mut Entry, Conflict> {
        let missing = || self.missing(format!("virtual service {key}"));
        picture.entries.get_mut(key).ok_or_else(missing)
    }

    fn may_touch(&self, key: &ServiceKey) -> Result<(), Conflict> {
        let there = self.there.entries.get(key);
        let owned = there.is_some_and(|entry| (self.rules.owned)(&entry.service));
        if owned && !self.rules.force {
            return Err(Conflict::Owned {
                line: self.line,
                key: *key,
            });
        }
        Ok(())
    }

    fn missing(&self, what: String) -> Conflict {
        Conflict::Missing {
            line: self.line,
            what,
        }
    }
}

/// An edit leaves the flags as they are for which `ipvsadm` has no word.
pub fn keep_unwritten_flags(wanted: &mut Service, there: &Service) {
    wanted.flags |= there.flags.difference(WRITTEN);
}

/// The flags that a line can say.
const WRITTEN: ServiceFlags = ServiceFlags::PERSISTENT
    .union(ServiceFlags::ONE_PACKET)
    .union(ServiceFlags::SCHED1)
    .union(ServiceFlags::SCHED2)
    .union(ServiceFlags::SCHED3);

#[cfg(test)]
mod tests;
