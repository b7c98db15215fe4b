//! One Service: what it asks for, what this node makes of it, and why.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::{Facts, addresses, endpoints, names};
use crate::ask::explain::{ExplainedPort, ExplainedProblem, ExplainedService, Leading};
use crate::model::{
    EndpointSlice, Family, ObjectName, ServicePort, ServiceSpec, ServiceType, TrafficPolicy,
    VipKind,
};
use crate::resolve::desired::LostClaim;
use crate::resolve::{Resolved, Selection, Topology, View, resolve, scheduler_wish, survey};

/// Explains a Service whose names end in `domain`.
pub fn service(
    facts: &Facts<'_>,
    name: &ObjectName,
    spec: &ServiceSpec,
    slices: &[&EndpointSlice],
    domain: &str,
) -> ExplainedService {
    let view = View {
        name,
        spec,
        slices,
        node: facts.node,
        node_port_addresses: facts.node_port_addresses,
        reserved: facts.reserved,
        policy: facts.policy,
    };
    let resolved = resolve(view);
    let surveyed = survey(view);
    let scheduler = resolved
        .virtual_servers
        .values()
        .next()
        .map(|server| &server.scheduler);
    let instead = scheduler.and_then(|used| facts.policy.approximated.get(used.name.as_str()));
    let leading = match resolved.skipped {
        None => leading(spec),
        Some(_) => Vec::new(),
    };
    let sets = match resolved.skipped {
        None => sets(spec),
        Some(_) => Vec::new(),
    };
    ExplainedService {
        node: facts.node.name.clone(),
        dataplane: facts.dataplane.to_owned(),
        namespace: name.namespace.to_string(),
        name: name.name.to_string(),
        service_type: spec.service_type.to_string(),
        skipped: resolved.skipped.as_ref().map(ToString::to_string),
        has_selector: spec.has_selector,
        external_name: spec.external_name.as_ref().map(ToString::to_string),
        ports: spec.ports.iter().map(port).collect(),
        addresses: addresses::addresses(facts, name, spec, &resolved),
        scheduler_asked: scheduler_wish(spec).map(|(key, value)| format!("{key}: {value}")),
        scheduler: scheduler.map(ToString::to_string),
        scheduler_instead: instead.map(|text| (*text).to_owned()),
        affinity_seconds: spec.affinity_timeout_seconds,
        source_ranges: spec
            .load_balancer_source_ranges
            .iter()
            .map(IpNet::to_string)
            .collect(),
        health_check_node_port: resolved.health_check.as_ref().map(|check| check.port),
        traffic_distribution: spec.traffic_distribution.map(|wanted| wanted.to_string()),
        topology: topology(&surveyed, facts),
        leading,
        endpoints: endpoints::endpoints(&surveyed, slices, &sets),
        problems: problems(facts, name, &resolved),
        dns: names::dns(name, spec, slices, domain),
        environment: names::environment(&name.name, spec),
        notes: notes(spec, slices, &resolved),
    }
}

fn port(port: &ServicePort) -> ExplainedPort {
    ExplainedPort {
        name: port.name.to_string(),
        protocol: port.protocol.into(),
        port: port.port,
        node_port: (port.node_port != 0).then_some(port.node_port),
    }
}

/// Whether it has addresses for clients outside the cluster.
fn is_external(spec: &ServiceSpec) -> bool {
    let node_port = spec.ports.iter().any(|port| port.node_port != 0);
    node_port || !spec.external_ips.is_empty() || !spec.load_balancer_ips.is_empty()
}

/// Which set is there for whom.
fn leading(spec: &ServiceSpec) -> Vec<Leading> {
    let to = |clients: &str, set: TrafficPolicy| Leading {
        clients: clients.to_owned(),
        set: set.to_string(),
    };
    let (internal, external) = (spec.internal_traffic_policy, spec.external_traffic_policy);
    if !is_external(spec) {
        return vec![to("everybody", internal)];
    }
    if internal == TrafficPolicy::Cluster && external == TrafficPolicy::Cluster {
        return vec![to("everybody", TrafficPolicy::Cluster)];
    }
    let mut leading = vec![to("of the cluster IP", internal)];
    match external {
        TrafficPolicy::Cluster => leading.push(to("of the other addresses", external)),
        TrafficPolicy::Local => leading.extend([
            to("of the other addresses, from elsewhere", external),
            to(
                "of the other addresses, pods and processes of this node",
                TrafficPolicy::Cluster,
            ),
        ]),
    }
    leading
}

/// The sets that anybody is led to.
fn sets(spec: &ServiceSpec) -> Vec<TrafficPolicy> {
    let mut sets = BTreeSet::from([spec.internal_traffic_policy]);
    if is_external(spec) {
        sets.extend([TrafficPolicy::Cluster, spec.external_traffic_policy]);
    }
    sets.into_iter().collect()
}

fn topology(surveyed: &[(&ServicePort, Family, Selection)], facts: &Facts<'_>) -> Vec<String> {
    let told = surveyed
        .iter()
        .filter_map(|(_, _, selection)| match &selection.topology {
            Topology::Anywhere => None,
            Topology::Zone(zone) => Some(format!("endpoints that are hinted for zone {zone}")),
            Topology::Node => Some(format!(
                "endpoints that are hinted for node {}",
                facts.node.name
            )),
        });
    told.collect::<BTreeSet<_>>().into_iter().collect()
}

/// What a person must fix: in the Service, and at its tuples.
fn problems(facts: &Facts<'_>, name: &ObjectName, resolved: &Resolved) -> Vec<ExplainedProblem> {
    let tuples = resolved.virtual_servers.keys();
    let lost = tuples.clone().filter_map(|vip| {
        let winner = &facts.desired.virtual_server(vip)?.owner.service;
        let lost = LostClaim {
            vip: *vip,
            winner: winner.clone(),
        };
        (winner != name).then(|| lost.problem())
    });
    let told = resolved.problems().into_iter().chain(lost);
    let mut problems: Vec<ExplainedProblem> = told
        .map(|problem| ExplainedProblem {
            reason: problem.reason.to_string(),
            text: problem.text,
        })
        .collect();
    let shadowed = tuples.filter(|vip| facts.foreign.contains(vip));
    problems.extend(shadowed.map(|vip| ExplainedProblem {
        reason: crate::model::Reason::ForeignVirtualServer.to_string(),
        text: format!(
            "{vip}: somebody else's virtual server stands there; is kube-proxy or another proxy at work, or \
             are its leftovers there (ipvsadm -Ln)?"
        ),
    }));
    problems
}

fn notes(spec: &ServiceSpec, slices: &[&EndpointSlice], resolved: &Resolved) -> Vec<String> {
    let mut notes = Vec::new();
    let headless = spec.cluster_ips.is_empty() && spec.service_type != ServiceType::ExternalName;
    if !spec.has_selector && spec.service_type != ServiceType::ExternalName {
        notes.push(
            "it has no selector: its EndpointSlices are written by somebody else than Kubernetes"
                .to_owned(),
        );
    }
    if headless && slices.is_empty() {
        notes.push(
            "Kubernetes labels the slices of a headless Service, and the agent does not watch those: \
             kubectl get endpointslices shows what DNS answers with"
                .to_owned(),
        );
    } else if slices.is_empty() && resolved.skipped.is_none() {
        notes.push("no EndpointSlice belongs to it (label kubernetes.io/service-name)".to_owned());
    }
    let has_names = slices.iter().flat_map(|slice| &slice.ports);
    let is_of_port = |name: &str| spec.ports.iter().any(|port| *port.name == *name);
    let strangers: BTreeSet<&str> = has_names
        .map(|port| &*port.name)
        .filter(|name| !is_of_port(name))
        .collect();
    if !strangers.is_empty() && !headless {
        notes.push(format!(
            "slices have ports named {}, which the Service has not: ports are matched by name and protocol",
            strangers.into_iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
        ));
    }
    let kinds = resolved.virtual_servers.values().map(|server| server.kind);
    if spec.load_balancer_source_ranges.is_empty() {
        return notes;
    }
    if !kinds.clone().any(|kind| kind == VipKind::LoadBalancer) {
        notes.push(
            "its source ranges limit nothing: it has no load balancer's address here".to_owned(),
        );
    } else if kinds.clone().any(|kind| kind == VipKind::NodePort) {
        notes.push(
            "its source ranges limit the load balancer's addresses alone, not its NodePorts"
                .to_owned(),
        );
    }
    notes
}
