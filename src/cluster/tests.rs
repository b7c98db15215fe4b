//! What upstream's own unit tests ask of its trackers of Services and EndpointSlices: objects as the
//! API server sends them in, what the index holds of them and which Services are to be resolved
//! again out. Numbers are those of `docs/checklist.md`; what a Service then means is asked in
//! `resolve`.

mod endpoints;
mod services;

use kube::runtime::watcher;
use serde_json::{Value, json};

use super::Index;
use super::track::{EndpointSlices, Services, Track};
use crate::model::{ObjectName, ServiceSpec};

/// The two watches and what they fill.
struct Cluster {
    services: Services,
    slices: EndpointSlices,
    index: Index,
}

impl Cluster {
    fn new() -> Self {
        Self {
            services: Services::default(),
            slices: EndpointSlices::default(),
            index: Index::new("n1"),
        }
    }

    fn take<T: Track>(index: &mut Index, track: &mut T, event: watcher::Event<Value>) -> String
    where
        T::Object: serde::de::DeserializeOwned,
    {
        let decode = |value| serde_json::from_value(value).unwrap();
        let event = match event {
            watcher::Event::Delete(object) => watcher::Event::Delete(decode(object)),
            watcher::Event::Apply(object) => watcher::Event::Apply(decode(object)),
            other => panic!("{other:?}"),
        };
        let seen = track.observe(event);
        assert_eq!(seen.problems, []);
        for event in seen.events {
            index.apply(event);
        }
        let dirty: Vec<String> = index.take_dirty().iter().map(ToString::to_string).collect();
        dirty.join(" ")
    }

    /// A Service as it is now; what is to be resolved again.
    fn service(&mut self, object: Value) -> String {
        let event = watcher::Event::Apply(object);
        Self::take(&mut self.index, &mut self.services, event)
    }

    fn no_service(&mut self, object: Value) -> String {
        let event = watcher::Event::Delete(object);
        Self::take(&mut self.index, &mut self.services, event)
    }

    fn slice(&mut self, object: Value) -> String {
        let event = watcher::Event::Apply(object);
        Self::take(&mut self.index, &mut self.slices, event)
    }

    fn no_slice(&mut self, object: Value) -> String {
        let event = watcher::Event::Delete(object);
        Self::take(&mut self.index, &mut self.slices, event)
    }

    fn spec(&self, name: &str) -> &ServiceSpec {
        self.index.service(&ObjectName::new("ns", name)).unwrap()
    }

    /// What serves a Service: `PORT/PROTOCOL: ADDRESS…` for each port of each slice.
    fn served(&self, service: &str) -> Vec<String> {
        let (namespace, name) = service.split_once('/').unwrap();
        let slices = self.index.slices(&ObjectName::new(namespace, name));
        let lines = slices.into_iter().flat_map(|slice| {
            let addresses: Vec<_> = slice.endpoints.iter().map(|e| e.addr.to_string()).collect();
            let addresses = addresses.join(" ");
            slice.ports.iter().map(move |port| {
                format!("{} {}/{}: {addresses}", port.name, port.port, port.protocol)
            })
        });
        lines.collect()
    }
}
