//! What the loop hands on: changes, once each, and to nobody's harm where nobody listens.

use tokio::sync::mpsc::{self, UnboundedReceiver};

use super::*;
use crate::model::{HealthCheckChange, Notice, Reason, ServiceType, Topic, TrafficPolicy};

/// A loop with both outlets.
fn bench() -> (
    Bench,
    UnboundedReceiver<HealthCheckChange>,
    UnboundedReceiver<Notice>,
) {
    let mut bench = Bench::new();
    let (health_checks, changes) = mpsc::unbounded_channel();
    let (notices, noticed) = mpsc::unbounded_channel();
    bench.kernel.outlets = Outlets {
        health_checks: Some(health_checks),
        notices: Some(notices),
        names: None,
    };
    (bench, changes, noticed)
}

fn web() -> ObjectName {
    ObjectName::new("default", "web")
}

impl Bench {
    fn apply_service(&mut self, change: impl FnOnce(&mut ServiceSpec)) {
        let mut spec = ServiceSpec {
            uid: "u1".into(),
            cluster_ips: vec!["10.96.0.1".parse().unwrap()],
            ..ServiceSpec::default()
        };
        change(&mut spec);
        let event = Event::ServiceApplied(web(), Box::new(spec));
        self.kernel.engine.take(event);
        self.turn();
    }
}

fn load_balancer(port: u16) -> impl FnOnce(&mut ServiceSpec) {
    move |spec| {
        spec.service_type = ServiceType::LoadBalancer;
        spec.external_traffic_policy = TrafficPolicy::Local;
        spec.health_check_node_port = port;
    }
}

#[test]
fn health_checks_are_handed_on_when_they_change() {
    let (mut bench, mut changes, _noticed) = bench();
    let mut ports = || -> Vec<Option<u16>> {
        std::iter::from_fn(|| changes.try_recv().ok())
            .map(|change| {
                assert_eq!(change.service, web());
                change.check.map(|check| check.port)
            })
            .collect()
    };
    bench.apply_service(|_| {});
    assert_eq!(ports(), []);
    bench.apply_service(load_balancer(30_100));
    assert_eq!(ports(), [Some(30_100)]);
    bench.apply_service(load_balancer(30_100));
    assert_eq!(ports(), [], "nothing has changed");
    bench.apply_service(load_balancer(30_101));
    assert_eq!(ports(), [Some(30_101)]);
    bench.kernel.engine.take(Event::ServiceDeleted(web()));
    bench.turn();
    assert_eq!(ports(), [None]);
}

#[test]
fn complaints_are_noticed_when_they_change_and_when_they_end() {
    let (mut bench, _changes, mut noticed) = bench();
    let refused = |addr: &'static str| {
        move |spec: &mut ServiceSpec| spec.external_ips = vec![addr.parse().unwrap()]
    };
    let mut notices = || -> Vec<Vec<Reason>> {
        std::iter::from_fn(|| noticed.try_recv().ok())
            .map(|notice| {
                assert_eq!((notice.service, &*notice.uid), (web(), "u1"));
                assert_eq!(notice.topic, Topic::Meaning);
                notice.problems.iter().map(|p| p.reason).collect()
            })
            .collect()
    };
    bench.apply_service(refused("192.0.2.1"));
    assert_eq!(notices(), [vec![Reason::RefusedExternalIp]]);
    bench.apply_service(refused("192.0.2.1"));
    assert_eq!(notices(), [[]; 0]);
    bench.apply_service(refused("192.0.2.2"));
    assert_eq!(notices(), [vec![Reason::RefusedExternalIp]]);
    bench.apply_service(|_| {});
    assert_eq!(notices(), [vec![]]);
    bench.apply_service(refused("192.0.2.1"));
    bench.kernel.engine.take(Event::ServiceDeleted(web()));
    bench.turn();
    assert_eq!(notices(), [vec![Reason::RefusedExternalIp], vec![]]);
}

/// A Service counts once for each reason, for as long as it has it.
#[test]
fn services_that_are_refused_in_part_are_counted_by_reason() {
    let (mut bench, _changes, _noticed) = bench();
    let refused = |bench: &Bench| {
        let text = bench.kernel.board.metrics(Moment::default()).unwrap();
        let name = "ipvs_agent_refused_objects{reason=\"RefusedExternalIP\"} ";
        let mut lines = text.lines();
        let found = lines.find_map(|line| line.strip_prefix(name)).unwrap();
        found.to_owned()
    };
    bench.turn();
    assert_eq!(refused(&bench), "0");
    let ips = |ips: &'static [&'static str]| {
        move |spec: &mut ServiceSpec| {
            spec.external_ips = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        }
    };
    bench.apply_service(ips(&["192.0.2.1", "192.0.2.2"]));
    assert_eq!(refused(&bench), "1");
    bench.apply_service(ips(&["192.0.2.1"]));
    assert_eq!(refused(&bench), "1");
    bench.apply_service(ips(&[]));
    assert_eq!(refused(&bench), "0");
    bench.apply_service(ips(&["192.0.2.1"]));
    bench.kernel.engine.take(Event::ServiceDeleted(web()));
    bench.turn();
    assert_eq!(refused(&bench), "0");
}

#[test]
fn a_loop_goes_on_where_nobody_listens() {
    let (mut bench, changes, noticed) = bench();
    drop((changes, noticed));
    bench.apply_service(load_balancer(30_100));
    bench.service("other", "10.96.0.2");
    bench.turn();
    assert_eq!(bench.holds(), ["10.96.0.2"]);
}

/// What the kernel goes on refusing is told of the Node once, and so is its end.
#[test]
fn what_retries_do_not_mend_is_noticed_of_the_node() {
    let (mut bench, _changes, mut noticed) = bench();
    let mut notices = || -> Vec<Vec<Reason>> {
        let notices = std::iter::from_fn(|| noticed.try_recv().ok());
        let of_node = |notice: Notice| {
            assert_eq!(
                (&*notice.service.name, notice.topic),
                ("n1", Topic::Programming)
            );
            notice.problems.iter().map(|p| p.reason).collect()
        };
        notices.map(of_node).collect()
    };
    let refused = &mut bench.kernel.dataplane.refused;
    refused.insert("10.96.0.1".parse().unwrap());
    bench.service("broken", "10.96.0.1");
    bench.turn();
    bench.wait(HOUR);
    bench.turn();
    assert_eq!(notices(), [[]; 0], "it may take twice an audit");
    bench.wait(HOUR);
    bench.turn();
    bench.wait(HOUR);
    bench.turn();
    assert_eq!(notices(), [vec![Reason::FailedToProgram]]);
    bench.kernel.dataplane.refused.clear();
    bench.wait(HOUR);
    bench.turn();
    assert_eq!(notices(), [vec![]]);
}
