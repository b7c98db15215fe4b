//! What the other commands are told: whose a virtual server is, and what becomes of its endpoints.

use super::*;
use crate::ask::{EndpointState, NamedServer, ServerKey as Key};

fn served() -> Vec<Happening> {
    vec![
        local_udp(0, "192.0.2.1"),
        udp_slice(0, &[("10.244.0.1", "n1"), ("10.244.0.2", "n2")]),
        undisturbed_turn(),
    ]
}

fn told(agent: &Agent) -> Vec<NamedServer> {
    let engine = &agent.kernel.engine;
    engine.table((agent.kernel.clock)()).virtual_servers
}

/// Addresses of those that take connections.
fn used(server: &NamedServer) -> Vec<String> {
    let used = server.real_servers.iter().filter(|real| real.used);
    used.map(|real| real.address.to_string()).collect()
}

#[test]
fn each_virtual_server_has_the_name_of_its_service_port() {
    let agent = live(&served(), &mut Objects::default());
    let told = told(&agent);
    let shown: Vec<(String, &str, &str, bool, Vec<String>)> = told
        .iter()
        .map(|server| {
            let key = match server.key {
                Key::Tuple { address, port, .. } => format!("{address}:{port}"),
                Key::Mark { .. } => "mark".to_owned(),
            };
            (
                key,
                &*server.kind,
                &*server.policy,
                server.near,
                used(server),
            )
        })
        .collect();
    let (here, both) = (
        vec!["10.244.0.1".to_owned()],
        vec!["10.244.0.1".to_owned(), "10.244.0.2".to_owned()],
    );
    assert_eq!(
        shown,
        [
            (
                "10.96.0.1:53".to_owned(),
                "ClusterIP",
                "Cluster",
                false,
                both.clone()
            ),
            (
                "192.0.2.1:53".to_owned(),
                "ExternalIP",
                "Local",
                false,
                here
            ),
            ("mark".to_owned(), "ExternalIP", "Cluster", true, both),
        ]
    );
    assert!(
        told.iter()
            .all(|server| (&*server.namespace, &*server.service) == ("ns", "s0"))
    );
    let external = &told[1].real_servers;
    let places: Vec<_> = external.iter().map(|real| real.node.as_deref()).collect();
    assert_eq!(places, [Some("n1"), Some("n2")]);
    assert!(
        external
            .iter()
            .all(|real| real.state == EndpointState::Ready)
    );
}

#[test]
fn a_kernel_as_it_is_wished_has_no_drift_and_one_that_lost_something_has() {
    let mut agent = live(&served(), &mut Objects::default());
    let seen = agent.kernel.dataplane.observe(None).unwrap();
    let lines = |agent: &Agent, seen: &Observed| -> Vec<String> {
        let drift = agent.kernel.engine.diff_anew(seen).drift;
        drift.iter().map(ToString::to_string).collect()
    };
    assert_eq!(lines(&agent, &seen), [""; 0]);
    let key = ServerKey::Tuple("10.96.0.1:53/UDP".parse().unwrap());
    agent.kernel().servers.remove(&key);
    let seen = agent.kernel.dataplane.observe(None).unwrap();
    assert_eq!(
        lines(&agent, &seen),
        [
            "+ -A -u 10.96.0.1:53 -s rr",
            "+ -a -u 10.96.0.1:53 -r 10.244.0.1:53 -m -w 1",
            "+ -a -u 10.96.0.1:53 -r 10.244.0.2:53 -m -w 1",
        ]
    );
}
