//! Events in, a view of each Service out. Pure: no clock, no sockets.
//!
//! An event marks Services dirty; whoever drives the index resolves the dirty ones and no others.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::event::{Event, Kind};
use crate::model::{EndpointSlice, Leaving, NodeInfo, ObjectName, ServiceSpec, SliceName};

/// All that the sources have told.
#[derive(Debug, Default)]
pub struct Index {
    services: BTreeMap<ObjectName, ServiceSpec>,
    /// Slices by the Service that they belong to.
    slices: BTreeMap<ObjectName, BTreeMap<SliceName, EndpointSlice>>,
    /// The Service of each slice, since a deletion names only the slice.
    owners: BTreeMap<SliceName, ObjectName>,
    node: NodeInfo,
    service_cidrs: BTreeSet<IpNet>,
    listed: BTreeSet<Kind>,
    dirty: BTreeSet<ObjectName>,
    network_changed: bool,
}

impl Index {
    /// An empty index of the node named `node_name`.
    pub fn new(node_name: &str) -> Self {
        let node = NodeInfo {
            name: node_name.to_owned(),
            ..NodeInfo::default()
        };
        Self {
            node,
            ..Self::default()
        }
    }

    /// Takes one event in. Costs what the event touches; a change of the node's zone touches all.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::ServiceApplied(name, spec) => {
                if self.services.get(&name) != Some(&*spec) {
                    self.services.insert(name.clone(), *spec);
                    self.dirty.insert(name);
                }
            }
            Event::ServiceDeleted(name) => {
                if self.services.remove(&name).is_some() {
                    self.dirty.insert(name);
                }
            }
            Event::SliceApplied(name, slice) => self.slice_applied(name, *slice),
            Event::SliceDeleted(name) => self.slice_deleted(&name),
            Event::NodeApplied(node) => self.node_changed(*node),
            // Its last known state stays in force: a node object that is deleted and made again
            // must not cut Services off.
            Event::NodeDeleted => self.node.leaving = Some(Leaving::Missing),
            Event::ServiceCidrs(cidrs) => {
                self.network_changed |= self.service_cidrs != cidrs;
                self.service_cidrs = cidrs;
            }
            Event::Listed(kind) => {
                self.listed.insert(kind);
            }
        }
    }

    /// Whether every kind that decides what is served has been listed.
    pub fn synced(&self) -> bool {
        self.missing().is_empty()
    }

    /// The kinds still waited for.
    pub fn missing(&self) -> Vec<Kind> {
        Kind::ALL
            .into_iter()
            .filter(|kind| !self.listed.contains(kind))
            .collect()
    }

    /// Services whose meaning may have changed since the last call.
    pub fn take_dirty(&mut self) -> BTreeSet<ObjectName> {
        std::mem::take(&mut self.dirty)
    }

    /// Gives Services back that were taken and not resolved.
    pub fn mark_again(&mut self, services: BTreeSet<ObjectName>) {
        self.dirty.extend(services);
    }

    /// Marks every Service dirty that `condition` picks. Costs all Services.
    pub fn mark_dirty(&mut self, condition: impl Fn(&ServiceSpec) -> bool) {
        let picked = self.services.iter().filter(|(_, spec)| condition(spec));
        self.dirty.extend(picked.map(|(name, _)| name.clone()));
    }

    /// Whether service or pod CIDRs changed since the last call.
    pub fn take_network_changed(&mut self) -> bool {
        std::mem::take(&mut self.network_changed)
    }

    pub fn service(&self, name: &ObjectName) -> Option<&ServiceSpec> {
        self.services.get(name)
    }

    /// The names of all Services.
    pub fn service_names(&self) -> impl Iterator<Item = &ObjectName> {
        self.services.keys()
    }

    /// The slices of a Service.
    pub fn slices(&self, service: &ObjectName) -> Vec<&EndpointSlice> {
        self.slices
            .get(service)
            .map(|slices| slices.values().collect())
            .unwrap_or_default()
    }

    /// One slice, as it was when it last said something else than before.
    pub fn slice(&self, name: &SliceName) -> Option<&EndpointSlice> {
        self.slices.get(self.owners.get(name)?)?.get(name)
    }

    pub fn node(&self) -> &NodeInfo {
        &self.node
    }

    pub fn service_cidrs(&self) -> &BTreeSet<IpNet> {
        &self.service_cidrs
    }

    fn slice_applied(&mut self, name: SliceName, slice: EndpointSlice) {
        let owner = slice.service.clone();
        if self
            .owners
            .get(&name)
            .is_some_and(|previous| *previous != owner)
        {
            self.slice_deleted(&name);
        }
        let siblings = self.slices.entry(owner.clone()).or_default();
        if siblings
            .get(&name)
            .is_some_and(|known| known.says_the_same(&slice))
        {
            return;
        }
        siblings.insert(name.clone(), slice);
        self.owners.insert(name, owner.clone());
        self.dirty.insert(owner);
    }

    fn slice_deleted(&mut self, name: &SliceName) {
        let Some(owner) = self.owners.remove(name) else {
            return;
        };
        if let Some(siblings) = self.slices.get_mut(&owner) {
            siblings.remove(name);
            if siblings.is_empty() {
                self.slices.remove(&owner);
            }
        }
        self.dirty.insert(owner);
    }

    /// Heartbeats change a Node every few seconds; only what decides about traffic counts.
    fn node_changed(&mut self, node: NodeInfo) {
        let zone = |node: &NodeInfo| node.labels.get("topology.kubernetes.io/zone").cloned();
        let all_dirty = node.name != self.node.name || zone(&node) != zone(&self.node);
        self.network_changed |= node.pod_cidrs != self.node.pod_cidrs;
        self.node = node;
        if all_dirty {
            self.mark_dirty(|_| true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Family;

    fn slice_of(service: &str) -> EndpointSlice {
        EndpointSlice {
            hostnames: BTreeMap::new(),
            triggered: None,
            weight: None,
            service: ObjectName::new("ns", service),
            address_type: Family::V4,
            ports: Vec::new(),
            endpoints: Vec::new(),
        }
    }

    fn name(text: &str) -> ObjectName {
        ObjectName::new("ns", text)
    }

    #[test]
    fn an_event_dirties_the_service_it_belongs_to_and_no_other() {
        let mut index = Index::new("n1");
        index.apply(Event::SliceApplied(name("s-1"), Box::new(slice_of("s"))));
        assert_eq!(index.take_dirty(), BTreeSet::from([name("s")]));
        // The same again is no change.
        index.apply(Event::SliceApplied(name("s-1"), Box::new(slice_of("s"))));
        assert!(index.take_dirty().is_empty());
        // A slice that changes hands touches both.
        index.apply(Event::SliceApplied(name("s-1"), Box::new(slice_of("t"))));
        assert_eq!(index.take_dirty(), BTreeSet::from([name("s"), name("t")]));
        assert!(index.slices(&name("s")).is_empty());
        index.apply(Event::SliceDeleted(name("s-1")));
        assert_eq!(index.take_dirty(), BTreeSet::from([name("t")]));
    }

    #[test]
    fn it_is_synced_only_when_every_kind_was_listed() {
        let mut index = Index::new("n1");
        for kind in [Kind::Services, Kind::EndpointSlices, Kind::Node] {
            index.apply(Event::Listed(kind));
            assert!(!index.synced());
        }
        assert_eq!(index.missing(), [Kind::ServiceCidrs]);
        index.apply(Event::Listed(Kind::ServiceCidrs));
        assert!(index.synced());
    }

    #[test]
    fn a_node_heartbeat_dirties_nothing_and_a_new_zone_everything() {
        let mut index = Index::new("n1");
        index.apply(Event::ServiceApplied(name("s"), Box::default()));
        index.take_dirty();
        let mut node = NodeInfo {
            name: "n1".to_owned(),
            ..NodeInfo::default()
        };
        node.labels.insert("heartbeat".to_owned(), "2".to_owned());
        index.apply(Event::NodeApplied(Box::new(node.clone())));
        assert!(index.take_dirty().is_empty());
        node.labels
            .insert("topology.kubernetes.io/zone".to_owned(), "z".to_owned());
        index.apply(Event::NodeApplied(Box::new(node)));
        assert_eq!(index.take_dirty(), BTreeSet::from([name("s")]));
    }
}
