//! What the other commands on the node are told of what the engine knows. Pure.

use std::collections::BTreeMap;

use super::engine::Engine;
use crate::ask::explain::{Asked, Explained};
use crate::ask::{Diff, EndpointState, NamedRealServer, NamedServer, ServerKey, Table};
use crate::dataplane::{self, Dataplane, Drain};
use crate::explain;
use crate::model::{
    Endpoint, HostPort, Moment, RealServer, RealServers, TrafficPolicy, VipPort, VirtualServer,
    endpoints_of,
};

impl<D: Dataplane> Engine<D> {
    /// What every virtual server is for, whether it has real servers or not. Costs all virtual servers.
    pub fn table(&self, now: Moment) -> Table {
        let drains = self
            .observed()
            .map(|seen| D::drains(self.target(), seen, now));
        let mut draining: BTreeMap<dataplane::ServerKey, Vec<Drain>> = BTreeMap::new();
        for drain in drains.into_iter().flatten() {
            draining.entry(drain.server).or_default().push(drain);
        }
        let mut servers: BTreeMap<ServerKey, NamedServer> = BTreeMap::new();
        for (vip, server) in self.desired().iter() {
            let drains = draining.remove(&(*vip).into()).unwrap_or_default();
            let of_all = self.named(*vip, server, &server.real_servers, &drains);
            servers.insert(of_all.key, of_all);
            let near = server.near.as_ref();
            let mark = near.and_then(|_| D::near_mark(self.target(), *vip, server));
            if let Some((mark, near)) = mark.zip(near) {
                let family = vip.family();
                let key = dataplane::ServerKey::Mark { family, mark };
                let drains = draining.remove(&key).unwrap_or_default();
                let of_near = self.named(*vip, server, near, &drains);
                let key = ServerKey::Mark {
                    mark,
                    family: family.into(),
                };
                servers.entry(key).or_insert(NamedServer {
                    key,
                    near: true,
                    policy: TrafficPolicy::Cluster.to_string(),
                    ..of_near
                });
            }
        }
        Table {
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            node: self.node_name().to_owned(),
            virtual_servers: servers.into_values().collect(),
        }
    }

    /// What a kernel that was read just now lacks, or has too much of; not what waits for time to pass.
    pub fn diff(&self, observed: &D::Observed, now: Moment) -> Diff {
        let scope = D::settled(self.desired(), self.target(), observed);
        self.diff_within(&scope, observed, now)
    }

    /// The same of one that nobody has programmed yet, or somebody who told nothing.
    pub fn diff_anew(&self, observed: &D::Observed) -> Diff {
        let scope = D::everything(self.desired(), self.target(), observed);
        self.diff_within(&scope, observed, Moment::default())
    }

    fn diff_within(&self, scope: &D::Scope, observed: &D::Observed, now: Moment) -> Diff {
        let steps = D::plan(self.desired(), self.target(), observed, scope, now);
        let drift = steps.iter().flat_map(|step| D::drift(step, observed));
        Diff {
            drift: drift.collect(),
        }
    }

    /// Why a Service is served as it is, or what becomes of a packet.
    pub fn explain(&self, asked: &Asked) -> Explained {
        let (facts, index) = (self.facts(), self.index());
        match asked {
            Asked::Packet(packet) => Explained::Packet(explain::follow(&facts, *packet)),
            Asked::Service { name, domain } => match index.service(name) {
                Some(spec) => {
                    let slices = index.slices(name);
                    let service = explain::service(&facts, name, spec, &slices, domain);
                    Explained::Service(Box::new(service))
                }
                None => Explained::NoSuch(explain::no_such_service(name, index.service_names())),
            },
        }
    }

    fn named(
        &self,
        vip: VipPort,
        server: &VirtualServer,
        real_servers: &RealServers,
        drains: &[Drain],
    ) -> NamedServer {
        let (owner, slices) = (&server.owner, self.index().slices(&server.owner.service));
        let known = endpoints_of(slices, (&owner.port, owner.protocol), vip.family());
        let mut named: BTreeMap<HostPort, NamedRealServer> = real_servers
            .iter()
            .map(|(key, real)| (*key, real_server(*key, Some(real), known.get(key).copied())))
            .collect();
        for drain in drains {
            let key = drain.real_server;
            let entry = named
                .entry(key)
                .or_insert_with(|| real_server(key, None, known.get(&key).copied()));
            // Rounded up: a second that has begun is not over.
            entry.drain_seconds_left = drain
                .left
                .map(|left| left.as_secs() + u64::from(left.subsec_nanos() > 0));
        }
        NamedServer {
            key: vip.into(),
            namespace: server.owner.service.namespace.to_string(),
            service: server.owner.service.name.to_string(),
            port_name: server.owner.port.to_string(),
            kind: server.kind.to_string(),
            policy: server.policy.to_string(),
            scheduler: server.scheduler.name.clone(),
            near: false,
            real_servers: named.into_values().collect(),
        }
    }
}

fn real_server(
    key: HostPort,
    real: Option<&RealServer>,
    known: Option<&Endpoint>,
) -> NamedRealServer {
    let text = |text: &Option<Box<str>>| text.as_ref().map(ToString::to_string);
    NamedRealServer {
        address: key.addr,
        port: key.port,
        state: known.map_or(EndpointState::Gone, EndpointState::from),
        used: real.is_some_and(|real| !real.draining),
        node: known.and_then(|endpoint| text(&endpoint.node_name)),
        zone: known.and_then(|endpoint| text(&endpoint.zone)),
        drain_seconds_left: None,
    }
}
