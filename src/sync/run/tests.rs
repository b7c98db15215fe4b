//! The loop over a kernel that holds tuples and fails where a test wants it to.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::cluster::{Kind, SourceBoard};
use crate::dataplane::policy::PolicySettings;
use crate::dataplane::{ClusterNetwork, Counters, Holdings};
use crate::model::{
    Drift, NodeNetwork, Protocol, Scheduler, ServicePort, ServiceSpec, VipPort, drift,
};
use crate::resolve::{Change, DesiredState, Policy};
use crate::sync::engine::EngineConfig;
use crate::sync::place::PlaceConfig;

mod laws;
mod outlets;

/// A kernel of tuples.
struct Tuples {
    held: BTreeSet<VipPort>,
    refused: BTreeSet<IpAddr>,
    unreadable: bool,
    reads: usize,
    /// None: it cannot be read.
    network: Option<NodeNetwork>,
}

#[derive(Debug, Clone)]
struct Add(VipPort);

impl fmt::Display for Add {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "add {}", self.0)
    }
}

#[derive(Default)]
struct Touched(BTreeSet<VipPort>);

impl Scope for Touched {
    fn base() -> Self {
        Self::default()
    }

    fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

impl Dataplane for Tuples {
    type Settings = PolicySettings;
    type Target = ();
    type Observed = BTreeSet<VipPort>;
    type Scope = Touched;
    type Step = Add;

    fn name() -> &'static str {
        "tuples"
    }

    const STEP_KINDS: &'static [&'static str] = &["add"];

    fn kind(_: &Add) -> &'static str {
        "add"
    }

    fn family(step: &Add) -> Option<Family> {
        Some(step.0.family())
    }

    fn policy(settings: &PolicySettings) -> &PolicySettings {
        settings
    }

    fn target(_: &PolicySettings, _: &ClusterNetwork, _: &DesiredState) {}

    fn nothing() {}

    fn spare_shared(_: &mut BTreeSet<VipPort>) {}

    fn retarget((): &mut (), change: Change<'_>, scope: &mut Touched) {
        scope.0.insert(change.vip);
    }

    fn everything(desired: &DesiredState, (): &(), _: &BTreeSet<VipPort>) -> Touched {
        Touched(desired.iter().map(|(vip, _)| *vip).collect())
    }

    fn settled(desired: &DesiredState, (): &(), observed: &BTreeSet<VipPort>) -> Touched {
        Self::everything(desired, &(), observed)
    }

    fn foreign(_: &BTreeSet<VipPort>) -> impl Iterator<Item = VipPort> {
        std::iter::empty()
    }

    fn plan(
        desired: &DesiredState,
        (): &(),
        observed: &BTreeSet<VipPort>,
        scope: &Touched,
        _: Moment,
    ) -> Vec<Add> {
        let wanted = |vip: &&VipPort| desired.virtual_server(vip).is_some();
        let missing = scope.0.difference(observed).filter(wanted);
        missing.map(|vip| Add(*vip)).collect()
    }

    fn observe(&mut self, _: Option<&BTreeSet<VipPort>>) -> Result<BTreeSet<VipPort>, Error> {
        self.reads += 1;
        if self.unreadable {
            return Err(Error::new("read", "it raced with a change"));
        }
        Ok(self.held.clone())
    }

    fn node_network(&mut self) -> Result<NodeNetwork, Error> {
        self.network
            .clone()
            .ok_or_else(|| Error::new("read the addresses", "it raced with a change"))
    }

    fn refresh(&mut self, _: &mut BTreeSet<VipPort>) -> Result<Touched, Error> {
        Ok(Touched::default())
    }

    fn drift(step: &Add, _: &BTreeSet<VipPort>) -> Vec<Drift> {
        vec![Drift::comes(drift::Kind::Ipvs, step.to_string())]
    }

    fn holdings(observed: &BTreeSet<VipPort>) -> Holdings {
        Holdings {
            virtual_servers: observed.len(),
            ..Holdings::default()
        }
    }

    fn counters(&self) -> Counters {
        Counters::default()
    }

    fn apply(
        &mut self,
        steps: Vec<Add>,
        observed: &mut BTreeSet<VipPort>,
        _: Moment,
    ) -> Report<Add> {
        let mut report = Report::default();
        for step in steps {
            if self.refused.contains(&step.0.addr) {
                let source = Error::new("add", "refused");
                report.failed.push(StepError { step, source });
            } else {
                self.held.insert(step.0);
                observed.insert(step.0);
                report.applied += 1;
            }
        }
        report
    }
}

/// A loop whose sources have listed, its pace and what is pending.
struct Bench {
    kernel: Loop<Tuples>,
    pace: Pace,
    /// Seconds that the loop's clock tells.
    time: Arc<AtomicU64>,
    pending: Touched,
    _events: tokio::sync::mpsc::Sender<Event>,
}

impl Bench {
    fn new() -> Self {
        let (sender, events) = tokio::sync::mpsc::channel(1);
        let config = EngineConfig {
            node_name: "n1".to_owned(),
            policy: Policy {
                scheduler: Scheduler::named("rr"),
                schedulers: BTreeSet::new(),
                refused_schedulers: BTreeSet::new(),
                approximated: BTreeMap::new(),
                tunable: true,
                external_ip_cidrs: Vec::new(),
            },
            settings: PolicySettings::default(),
            service_cidrs: BTreeSet::new(),
            pod_cidrs: BTreeSet::new(),
            place: PlaceConfig::default(),
        };
        let mut engine = Engine::new(config);
        for kind in Kind::ALL {
            engine.take(Event::Listed(kind));
        }
        let time = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&time);
        let kernel = Loop {
            dataplane: Tuples {
                held: BTreeSet::new(),
                refused: BTreeSet::new(),
                unreadable: false,
                reads: 0,
                network: Some(NodeNetwork::default()),
            },
            engine,
            events,
            questions: crate::ask::channel().1,
            board: Arc::new(Board::new(SourceBoard::default())),
            outlets: Outlets::default(),
            timing: Timing {
                audit_interval: HOUR,
                seed: 1,
            },
            shutdown: CancellationToken::new(),
            memory: Memory::default(),
            retire: None,
            clock: Box::new(move || Moment(Duration::from_secs(told.load(Ordering::Relaxed)))),
        };
        Self {
            pace: Pace::new(HOUR, Moment::default()),
            kernel,
            time,
            pending: Touched::default(),
            _events: sender,
        }
    }

    fn turn(&mut self) {
        self.kernel.turn(&mut self.pace, &mut self.pending);
    }

    fn wait(&mut self, time: Duration) {
        self.time.fetch_add(time.as_secs(), Ordering::Relaxed);
    }

    fn service(&mut self, name: &str, addr: &str) {
        let port = ServicePort {
            name: "".into(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: 0,
        };
        let spec = ServiceSpec {
            cluster_ips: vec![addr.parse().unwrap()],
            ports: vec![port],
            ..ServiceSpec::default()
        };
        let name = ObjectName::new("default", name);
        self.kernel
            .engine
            .take(Event::ServiceApplied(name, Box::new(spec)));
    }

    fn holds(&self) -> Vec<String> {
        let held = self.kernel.dataplane.held.iter();
        held.map(|vip| vip.addr.to_string()).collect()
    }

    fn is_failing(&self) -> bool {
        let health = self.kernel.board.health();
        health
            .families()
            .iter()
            .any(|(_, family)| family.failing.is_some())
    }
}

#[test]
fn a_service_that_the_kernel_refuses_does_not_hold_up_the_others() {
    let mut bench = Bench::new();
    bench
        .kernel
        .dataplane
        .refused
        .insert("10.96.0.1".parse().unwrap());
    bench.service("broken", "10.96.0.1");
    bench.turn();
    assert!(bench.is_failing());
    bench.service("good", "10.96.0.2");
    bench.turn();
    assert_eq!(bench.holds(), ["10.96.0.2"]);
    assert!(bench.is_failing(), "health forgot what still fails");
    // Nothing is tried again before its time, everything after it.
    bench.kernel.dataplane.refused.clear();
    bench.turn();
    assert_eq!(bench.holds(), ["10.96.0.2"]);
    bench.wait(Duration::from_secs(1));
    bench.turn();
    assert_eq!(bench.holds(), ["10.96.0.1", "10.96.0.2"]);
    assert!(!bench.is_failing());
}

#[test]
fn a_failed_audit_leaves_the_mirror_and_changes_go_on() {
    let mut bench = Bench::new();
    bench.service("a", "10.96.0.1");
    bench.turn();
    bench.kernel.dataplane.unreadable = true;
    bench.wait(HOUR);
    bench.turn();
    assert!(bench.is_failing());
    bench.service("b", "10.96.0.2");
    bench.turn();
    assert_eq!(bench.holds(), ["10.96.0.1", "10.96.0.2"]);
    assert!(bench.is_failing(), "the audit is still owed");
    let reads = bench.kernel.dataplane.reads;
    bench.turn();
    assert_eq!(
        bench.kernel.dataplane.reads, reads,
        "read again before its time"
    );
    bench.kernel.dataplane.unreadable = false;
    bench.wait(Duration::from_secs(1));
    bench.turn();
    assert_eq!(bench.kernel.dataplane.reads, reads + 1);
    assert!(!bench.is_failing());
}

#[test]
fn a_kernel_never_read_is_never_written() {
    let mut bench = Bench::new();
    bench.kernel.dataplane.unreadable = true;
    bench.service("a", "10.96.0.1");
    bench.turn();
    bench.service("b", "10.96.0.2");
    bench.turn();
    assert!(bench.holds().is_empty() && bench.kernel.dataplane.reads == 1);
}

#[test]
fn only_another_hand_is_drift() {
    let mut bench = Bench::new();
    bench.service("a", "10.96.0.1");
    bench.turn();
    bench.service("b", "10.96.0.2");
    bench.wait(HOUR);
    bench.turn();
    assert!(drift(&bench).contains("steps_total 0"), "{}", drift(&bench));
    bench.kernel.dataplane.held.clear();
    bench.wait(HOUR);
    bench.turn();
    assert_eq!(bench.holds(), ["10.96.0.1", "10.96.0.2"]);
    assert!(drift(&bench).contains("steps_total 2"), "{}", drift(&bench));
}

#[test]
fn addresses_that_cannot_be_read_are_not_gone() {
    let mut bench = Bench::new();
    let network = |text: &str| NodeNetwork {
        addresses: BTreeSet::from([text.parse().unwrap()]),
        ..NodeNetwork::default()
    };
    bench.kernel.dataplane.network = Some(network("192.0.2.1/24"));
    bench.service("a", "10.96.0.1");
    bench.turn();
    let first: IpAddr = "192.0.2.1".parse().unwrap();
    let answers = |bench: &Bench| bench.kernel.engine.node_port_addresses().clone();
    assert_eq!(answers(&bench), BTreeSet::from([first]));
    // A notification, and the read that it asks for fails.
    bench.kernel.dataplane.network = None;
    bench.kernel.memory.moved = true;
    bench.turn();
    assert_eq!(answers(&bench), BTreeSet::from([first]));
    bench.turn();
    assert_eq!(answers(&bench), BTreeSet::from([first]));
    assert!(bench.is_failing(), "the audit that tries again fails too");
    bench.kernel.dataplane.network = Some(network("192.0.2.2/24"));
    bench.wait(Duration::from_secs(1));
    bench.turn();
    let second: IpAddr = "192.0.2.2".parse().unwrap();
    assert_eq!(answers(&bench), BTreeSet::from([second]));
    assert!(!bench.is_failing());
}

#[test]
fn a_notification_costs_a_read_of_the_addresses_and_no_audit() {
    let mut bench = Bench::new();
    bench.turn();
    let reads = bench.kernel.dataplane.reads;
    let addresses = BTreeSet::from(["192.0.2.1/24".parse().unwrap()]);
    bench.kernel.dataplane.network = Some(NodeNetwork {
        addresses,
        ..NodeNetwork::default()
    });
    bench.turn();
    assert!(bench.kernel.engine.node_port_addresses().is_empty());
    bench.kernel.memory.moved = true;
    bench.turn();
    assert_eq!(bench.kernel.engine.node_port_addresses().len(), 1);
    assert_eq!(bench.kernel.dataplane.reads, reads);
}

fn drift(bench: &Bench) -> String {
    let metrics = bench.kernel.board.metrics(Moment::default()).unwrap();
    let lines = metrics
        .lines()
        .filter(|line| line.starts_with("ipvs_agent_drift"));
    lines.collect()
}

const HOUR: Duration = Duration::from_secs(3600);
