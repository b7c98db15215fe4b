//! From what a watch saw to events: pure. Remembers which objects were delivered, so that a new
//! list ends with the deletions of those that are gone (a watch may have missed them).
//!
//! One [`Track`] per kind; names are all that is kept, the values go on to the index.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use kube::runtime::watcher;

use super::convert::{self, Converted, Problem};
use super::{Event, Kind, objects};
use crate::model::{NodeInfo, ObjectName, SliceName};

/// What one event of a watch means.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    pub events: Vec<Event>,
    pub problems: Vec<Problem>,
}

impl Seen {
    fn events(events: Vec<Event>) -> Self {
        Self {
            events,
            problems: Vec::new(),
        }
    }
}

/// Turns the events of one watch into the agent's.
pub trait Track {
    type Object;
    const KIND: Kind;

    /// An object as it is now.
    fn applied(&mut self, object: &Self::Object) -> Seen;
    /// An object is gone.
    fn deleted(&mut self, object: &Self::Object) -> Seen;
    /// A new list begins.
    fn begin(&mut self);
    /// The list is complete: the deletions that follow from it.
    fn end(&mut self) -> Vec<Event>;

    /// One event of `kube`'s watcher.
    fn observe(&mut self, event: watcher::Event<Self::Object>) -> Seen {
        match event {
            watcher::Event::Init => {
                self.begin();
                Seen::default()
            }
            watcher::Event::InitApply(object) | watcher::Event::Apply(object) => {
                self.applied(&object)
            }
            watcher::Event::Delete(object) => self.deleted(&object),
            watcher::Event::InitDone => {
                let mut events = self.end();
                events.push(Event::Listed(Self::KIND));
                Seen::events(events)
            }
        }
    }
}

/// Names that were delivered, and those of the list that is being read.
#[derive(Debug, Default)]
struct Delivered {
    names: BTreeSet<ObjectName>,
    listing: Option<BTreeSet<ObjectName>>,
}

impl Delivered {
    fn insert(&mut self, name: &ObjectName) {
        self.names.insert(name.clone());
        if let Some(listing) = &mut self.listing {
            listing.insert(name.clone());
        }
    }

    /// True if it had been delivered.
    fn remove(&mut self, name: &ObjectName) -> bool {
        if let Some(listing) = &mut self.listing {
            listing.remove(name);
        }
        self.names.remove(name)
    }

    fn begin(&mut self) {
        self.listing = Some(BTreeSet::new());
    }

    fn end(&mut self) -> Vec<ObjectName> {
        let Some(listing) = self.listing.take() else {
            return Vec::new();
        };
        let gone = self.names.difference(&listing).cloned().collect();
        self.names = listing;
        gone
    }
}

/// Services, of any type.
#[derive(Debug, Default)]
pub struct Services(Delivered);

impl Track for Services {
    type Object = objects::Service;
    const KIND: Kind = Kind::Services;

    fn applied(&mut self, object: &Self::Object) -> Seen {
        let Converted {
            value: (name, spec),
            problems,
        } = convert::service(object);
        self.0.insert(&name);
        Seen {
            events: vec![Event::ServiceApplied(name, Box::new(spec))],
            problems,
        }
    }

    fn deleted(&mut self, object: &Self::Object) -> Seen {
        let name = convert::object_name(object);
        self.0.remove(&name);
        Seen::events(vec![Event::ServiceDeleted(name)])
    }

    fn begin(&mut self) {
        self.0.begin();
    }

    fn end(&mut self) -> Vec<Event> {
        self.0
            .end()
            .into_iter()
            .map(Event::ServiceDeleted)
            .collect()
    }
}

/// EndpointSlices that belong to a Service.
#[derive(Debug, Default)]
pub struct EndpointSlices(Delivered);

impl EndpointSlices {
    fn gone(&mut self, name: SliceName) -> Vec<Event> {
        if self.0.remove(&name) {
            vec![Event::SliceDeleted(name)]
        } else {
            Vec::new()
        }
    }
}

impl Track for EndpointSlices {
    type Object = objects::EndpointSlice;
    const KIND: Kind = Kind::EndpointSlices;

    fn applied(&mut self, object: &Self::Object) -> Seen {
        let Converted { value, problems } = convert::endpoint_slice(object);
        let events = match value {
            Some((name, slice)) => {
                self.0.insert(&name);
                vec![Event::SliceApplied(name, Box::new(slice))]
            }
            // It may have belonged to a Service before its label was taken off.
            None => self.gone(convert::object_name(object)),
        };
        Seen { events, problems }
    }

    fn deleted(&mut self, object: &Self::Object) -> Seen {
        Seen::events(self.gone(convert::object_name(object)))
    }

    fn begin(&mut self) {
        self.0.begin();
    }

    fn end(&mut self) -> Vec<Event> {
        self.0.end().into_iter().map(Event::SliceDeleted).collect()
    }
}

/// This node. Its status is written every few seconds; only what counts here is passed on.
#[derive(Debug, Default)]
pub struct ThisNode {
    current: Option<NodeInfo>,
    listing: Option<bool>,
}

impl Track for ThisNode {
    type Object = objects::Node;
    const KIND: Kind = Kind::Node;

    fn applied(&mut self, object: &Self::Object) -> Seen {
        if let Some(found) = &mut self.listing {
            *found = true;
        }
        let Converted { value, problems } = convert::node(object);
        if self.current.as_ref() == Some(&value) {
            return Seen::default();
        }
        self.current = Some(value.clone());
        Seen {
            events: vec![Event::NodeApplied(Box::new(value))],
            problems,
        }
    }

    fn deleted(&mut self, _: &Self::Object) -> Seen {
        self.current = None;
        Seen::events(vec![Event::NodeDeleted])
    }

    fn begin(&mut self) {
        self.listing = Some(false);
    }

    fn end(&mut self) -> Vec<Event> {
        if self.listing.take() == Some(false) {
            self.current = None;
            vec![Event::NodeDeleted]
        } else {
            Vec::new()
        }
    }
}

/// ServiceCIDRs; the event holds the union of all objects.
#[derive(Debug, Default)]
pub struct ServiceCidrs {
    objects: BTreeMap<Box<str>, BTreeSet<IpNet>>,
    listing: Option<BTreeMap<Box<str>, BTreeSet<IpNet>>>,
}

impl ServiceCidrs {
    fn all(&self) -> Event {
        Event::ServiceCidrs(self.objects.values().flatten().copied().collect())
    }
}

impl Track for ServiceCidrs {
    type Object = objects::ServiceCidr;
    const KIND: Kind = Kind::ServiceCidrs;

    fn applied(&mut self, object: &Self::Object) -> Seen {
        let name = object.metadata.name.as_deref().unwrap_or_default().into();
        let Converted { value, problems } = convert::service_cidr(object);
        // A list is told as a whole when it ends.
        let events = if let Some(listing) = &mut self.listing {
            listing.insert(name, value);
            Vec::new()
        } else {
            self.objects.insert(name, value);
            vec![self.all()]
        };
        Seen { events, problems }
    }

    fn deleted(&mut self, object: &Self::Object) -> Seen {
        self.objects
            .remove(object.metadata.name.as_deref().unwrap_or_default());
        Seen::events(vec![self.all()])
    }

    fn begin(&mut self) {
        self.listing = Some(BTreeMap::new());
    }

    fn end(&mut self) -> Vec<Event> {
        if let Some(listing) = self.listing.take() {
            self.objects = listing;
        }
        vec![self.all()]
    }
}

#[cfg(test)]
mod tests;
