//! Laws of the whole agent over random histories: whatever happened, in whatever order, with whatever
//! failures, it ends where a fresh start on the same objects ends.
//!
//! Everything but the kernel is the agent's own: index, resolve, plan, mirror, the loop's turns.

mod answers;
mod history;

use std::collections::BTreeMap;

use ipnet::IpNet;
use proptest::prelude::*;
use tokio::sync::mpsc::{Receiver, Sender, UnboundedReceiver, channel, unbounded_channel};

use super::*;
use crate::dataplane::ipvs::members::OfServer;
use crate::dataplane::ipvs::testing::{Kernel, LACKING, Server};
use crate::dataplane::ipvs::{Observed, ServerKey, Settings};
use crate::dataplane::policy::sets::Member;
use crate::model::{
    Endpoint, EndpointPort, EndpointSlice, Family, HealthCheck, HealthCheckChange, HostPort,
    Protocol, ServicePort, ServiceSpec, TrafficPolicy, VirtualServer,
};
use history::{Change, Happening, Objects, happenings};

/// An agent over a kernel of the laws, and what it has told.
struct Agent {
    kernel: Loop<Kernel>,
    pace: Pace,
    pending: crate::dataplane::ipvs::Scope,
    time: Arc<AtomicU64>,
    health_checks: UnboundedReceiver<HealthCheckChange>,
    notices: UnboundedReceiver<Notice>,
    told: Told,
    _events: Sender<Event>,
}

/// What others have been told and must go by.
#[derive(Debug, Default, PartialEq)]
struct Told {
    health_checks: BTreeMap<ObjectName, HealthCheck>,
    problems: BTreeMap<(ObjectName, Topic), Vec<String>>,
}

impl Agent {
    fn new(kernel: Kernel, time: u64) -> Self {
        let (sender, events): (_, Receiver<Event>) = channel(1);
        let (health_sender, health_checks) = unbounded_channel();
        let (notice_sender, notices) = unbounded_channel();
        let config = EngineConfig {
            node_name: "n1".to_owned(),
            policy: Policy {
                scheduler: Scheduler::named("rr"),
                schedulers: BTreeSet::new(),
                refused_schedulers: BTreeSet::new(),
                approximated: BTreeMap::new(),
                tunable: true,
                external_ip_cidrs: ["192.0.2.0/24", "2001:db8::/32"]
                    .map(|net| net.parse::<IpNet>().unwrap())
                    .into(),
            },
            settings: Settings::default(),
            service_cidrs: BTreeSet::new(),
            pod_cidrs: BTreeSet::new(),
            place: PlaceConfig::default(),
        };
        let time = Arc::new(AtomicU64::new(time));
        let clock = Arc::clone(&time);
        let now = move || Moment(Duration::from_secs(clock.load(Ordering::Relaxed)));
        Self {
            pace: Pace::new(HOUR, now()),
            kernel: Loop {
                dataplane: kernel,
                engine: Engine::new(config),
                events,
                questions: crate::ask::channel().1,
                board: Arc::new(Board::new(SourceBoard::default())),
                outlets: Outlets {
                    health_checks: Some(health_sender),
                    notices: Some(notice_sender),
                    names: None,
                },
                timing: Timing {
                    audit_interval: HOUR,
                    seed: 1,
                },
                shutdown: CancellationToken::new(),
                memory: Memory::default(),
                retire: None,
                clock: Box::new(now),
            },
            pending: crate::dataplane::ipvs::Scope::default(),
            time,
            health_checks,
            notices,
            told: Told::default(),
            _events: sender,
        }
    }

    /// One that begins with a list of what there is.
    fn listing(kernel: Kernel, time: u64, events: Vec<Event>) -> Self {
        let mut agent = Self::new(kernel, time);
        for event in events {
            agent.kernel.engine.take(event);
        }
        for kind in Kind::ALL {
            agent.kernel.engine.take(Event::Listed(kind));
        }
        agent
    }

    fn kernel(&mut self) -> &mut Kernel {
        &mut self.kernel.dataplane
    }

    fn wait(&mut self, seconds: u64) {
        self.time.fetch_add(seconds, Ordering::Relaxed);
    }

    fn turn(&mut self) {
        self.kernel.turn(&mut self.pace, &mut self.pending);
        while let Ok(change) = self.health_checks.try_recv() {
            match change.check {
                Some(check) => self.told.health_checks.insert(change.service, check),
                None => self.told.health_checks.remove(&change.service),
            };
        }
        while let Ok(notice) = self.notices.try_recv() {
            let key = (notice.service, notice.topic);
            let problems: Vec<String> = notice.problems.iter().map(|p| p.text.clone()).collect();
            if problems.is_empty() {
                self.told.problems.remove(&key);
            } else {
                self.told.problems.insert(key, problems);
            }
        }
    }

    /// The steps that a plan over everything has now.
    fn left(&self) -> Vec<String> {
        let engine = &self.kernel.engine;
        let everything = engine.everything().expect("the kernel was read");
        let now = (self.kernel.clock)();
        let steps = engine.plan(&everything, now);
        steps.iter().map(ToString::to_string).collect()
    }

    /// Nothing fails any more, no client is left, and time passes.
    fn settle(&mut self) {
        let kernel = self.kernel();
        kernel.faults.clear();
        kernel.unreadable = false;
        kernel.hush();
        // Only who has tried knows it; it is nothing that objects say.
        self.kernel
            .engine
            .refuse_schedulers([LACKING.to_owned()].into());
        // The retry, then the next audit, then what these have found and what drains.
        for seconds in [40, 3600, 40, 3600, 40] {
            self.wait(seconds);
            self.turn();
        }
        self.pace.audit_soon();
        self.turn();
    }
}

/// All that is compared: what is wished, what the kernel holds of ours and of others, and what was told.
#[derive(Debug, PartialEq)]
struct End {
    desired: BTreeMap<VipPort, VirtualServer>,
    servers: BTreeMap<ServerKey, Server>,
    members: BTreeSet<Member>,
    routes: BTreeSet<IpNet>,
    told: Told,
}

fn end(agent: &Agent) -> End {
    let engine = &agent.kernel.engine;
    let kernel = &agent.kernel.dataplane;
    let desired = engine.desired().iter();
    End {
        desired: desired
            .map(|(vip, server)| (*vip, server.clone()))
            .collect(),
        servers: kernel.servers.clone(),
        members: kernel.members.clone(),
        routes: kernel.routes.clone(),
        told: Told {
            health_checks: agent.told.health_checks.clone(),
            problems: agent.told.problems.clone(),
        },
    }
}

/// The mirror is the kernel, but for what a kernel cannot tell.
fn check_mirror(agent: &mut Agent) {
    let mirror = agent.kernel.engine.observed().cloned().unwrap();
    let read = agent.kernel().observe(Some(&mirror)).unwrap();
    let of = |observed: &Observed| {
        let servers = observed.virtual_servers.iter().map(|(key, server)| {
            let reals = server.real_servers.iter();
            let reals: Vec<_> = reals
                .map(|(real, state)| (*real, state.weight, state.thresholds))
                .collect();
            (*key, server.service.clone(), reals)
        });
        (
            servers.collect::<Vec<_>>(),
            observed.members.clone(),
            observed.routes.clone(),
            observed.base.sets.clone(),
            observed.base.sysctls.clone(),
            observed.base.policy_rules.clone(),
            observed.base.rules.clone(),
        )
    };
    assert_eq!(of(&mirror), of(&read), "the mirror is not the kernel");
}

/// What is known to be somebody else's is not in the set of ours, not even until the next turn, unless
/// taking it out has failed: then the retry does it.
fn check_foreign(agent: &Agent) {
    let engine = &agent.kernel.engine;
    if agent.kernel.dataplane.faults.is_empty()
        && agent.pace.failures() == 0
        && let Some(mirror) = engine.observed()
    {
        for key in &mirror.foreign {
            let mark = Member::ownership(*key);
            assert!(!mirror.members.contains(&mark), "{key} is marked as ours");
        }
    }
}

/// No flow leads to a real server that its tuple has no more. Flows elsewhere stay, and so do those to
/// tuples where somebody else's virtual server has ever stood: they may be theirs, and end by themselves.
fn check_flows(agent: &Agent, history: &[Happening]) {
    let engine = &agent.kernel.engine;
    let shared: BTreeSet<VipPort> = history
        .iter()
        .filter_map(|happening| match happening {
            Happening::Intruder(key, true) => key.tuple(),
            _ => None,
        })
        .collect();
    let flows = agent.kernel.dataplane.flows.iter();
    for (vip, real) in flows.filter(|(vip, _)| !shared.contains(vip)) {
        let wanted = engine.desired().virtual_server(vip);
        let serves = |real: &HostPort| {
            wanted.is_some_and(|server| {
                let sets = [Some(&server.real_servers), server.near.as_ref()];
                let mut sets = sets.into_iter().flatten();
                sets.any(|set| set.get(real).is_some_and(|real| !real.draining))
            })
        };
        assert!(serves(real), "a flow to {vip} still leads to {real:?}");
    }
}

/// Lives through a history.
fn live(history: &[Happening], objects: &mut Objects) -> Agent {
    let mut kernel = Kernel::new();
    kernel.network = objects.network.clone();
    let mut agent = Agent::listing(kernel, 1000, objects.events(0));
    for happening in history {
        match happening {
            Happening::Object(change) => {
                let events = objects.change(change);
                let moved = agent.kernel().network != objects.network;
                agent.kernel().network = objects.network.clone();
                agent.kernel.memory.moved |= moved;
                for event in events {
                    agent.kernel.engine.take(event);
                }
            }
            Happening::Turn { faults, unreadable } => {
                let kernel = agent.kernel();
                kernel.faults = faults.clone();
                kernel.unreadable = *unreadable;
                kernel.steps_seen = 0;
                agent.turn();
                check_foreign(&agent);
                if agent.kernel().crashed {
                    agent.kernel().forget_unmarked();
                    agent = restarted(agent, objects, 1);
                }
            }
            Happening::Restart(seed) => agent = restarted(agent, objects, *seed),
            Happening::Wait(seconds) => agent.wait(*seconds),
            Happening::Traffic => agent.kernel().traffic(),
            Happening::Intruder(key, comes) => {
                if *comes {
                    agent.kernel().intrude(*key);
                } else {
                    agent.kernel().withdraw(*key);
                }
            }
        }
    }
    agent
}

/// Another process over the same kernel. What was told to others is told anew.
fn restarted(agent: Agent, objects: &Objects, seed: u64) -> Agent {
    let time = agent.time.load(Ordering::Relaxed);
    let mut kernel = agent.kernel.dataplane;
    kernel.crashed = false;
    kernel.faults.clear();
    Agent::listing(kernel, time, objects.events(seed))
}

proptest! {
    #[test]
    fn any_history_ends_where_a_fresh_start_does(
        history in happenings(),
        order in any::<u64>(),
    ) {
        let mut objects = Objects::default();
        let mut agent = live(&history, &mut objects);
        agent.settle();
        prop_assert!(agent.left().is_empty(), "not settled: {:?}", agent.left());
        check_mirror(&mut agent);
        check_flows(&agent, &history);

        // The same objects at once, in another order, over a kernel with the same foreign entries.
        let mut kernel = Kernel::new();
        kernel.network = objects.network.clone();
        let theirs = agent.kernel().servers.iter().filter(|(_, server)| server.foreign);
        kernel.servers.extend(theirs.map(|(key, server)| (*key, server.clone())));
        let mut fresh = Agent::listing(kernel, 0, objects.events(order));
        fresh.turn();
        fresh.settle();
        prop_assert!(fresh.left().is_empty(), "a fresh start plans twice: {:?}", fresh.left());
        check_mirror(&mut fresh);
        let (before, after) = (end(&agent), end(&fresh));
        prop_assert_eq!(&before.desired, &after.desired);
        prop_assert_eq!(&before.servers, &after.servers);
        prop_assert_eq!(&before.members, &after.members);
        prop_assert_eq!(&before.routes, &after.routes);
        prop_assert_eq!(&before.told, &after.told);
    }
}

/// A Service with one UDP port under `externalTrafficPolicy: Local`.
fn local_udp(number: u8, external: &str) -> Happening {
    let spec = ServiceSpec {
        created_seconds: number.into(),
        cluster_ips: vec![[10, 96, 0, number + 1].into()],
        external_ips: external.split(' ').map(|ip| ip.parse().unwrap()).collect(),
        external_traffic_policy: TrafficPolicy::Local,
        ports: vec![ServicePort {
            name: "".into(),
            protocol: Protocol::Udp,
            port: 53,
            node_port: 0,
        }],
        ..ServiceSpec::default()
    };
    Happening::Object(Change::Service(number.into(), Some(Box::new(spec))))
}

/// Its slice, with endpoints each on a node.
fn udp_slice(number: u8, endpoints: &[(&str, &str)]) -> Happening {
    let endpoint = |(addr, node): &(&str, &str)| Endpoint {
        addr: addr.parse().unwrap(),
        ready: true,
        serving: true,
        terminating: false,
        node_name: Some((*node).into()),
        zone: Some("z1".into()),
        for_zones: Vec::new(),
        for_nodes: Vec::new(),
    };
    let slice = EndpointSlice {
        hostnames: BTreeMap::new(),
        triggered: None,
        weight: None,
        service: ObjectName::new("ns", &format!("s{number}")),
        address_type: Family::V4,
        ports: vec![EndpointPort {
            name: "".into(),
            protocol: Protocol::Udp,
            port: 53,
        }],
        endpoints: endpoints.iter().map(endpoint).collect(),
    };
    Happening::Object(Change::Slice(number.into(), Some(Box::new(slice))))
}

fn undisturbed_turn() -> Happening {
    Happening::Turn {
        faults: BTreeMap::new(),
        unreadable: false,
    }
}

/// A tuple that another Service wins, which has a mark and a virtual server by it already.
#[test]
fn flows_by_a_mark_are_forgotten_when_the_tuple_gets_another_mark() {
    let history = [
        local_udp(0, "192.0.2.1"),
        local_udp(1, "192.0.2.1 192.0.2.2"),
        udp_slice(0, &[("10.244.0.1", "n2")]),
        udp_slice(1, &[("10.244.0.2", "n2")]),
        undisturbed_turn(),
        Happening::Traffic,
        Happening::Object(Change::Service(0, None)),
        undisturbed_turn(),
    ];
    let agent = live(&history, &mut Objects::default());
    assert!(!agent.kernel.dataplane.flows.is_empty());
    check_flows(&agent, &history);
}
