//! What a step changes, as lines that a dump of the kernel would lose or gain. Pure.

use ipnet::IpNet;

use super::convert;
use super::key::ServerKey;
use super::observed::{Observed, ObservedRealServer};
use super::share::Share;
use super::step::Step;
use crate::dataplane::policy::drift as shared;
use crate::model::drift::{Drift, Kind};
use crate::model::{Family, RealServerKey};
use crate::routing::PolicyRule;

/// The lines that a step changes.
pub fn drift(step: &Step, observed: &Observed) -> Vec<Drift> {
    let server = |key: &ServerKey| observed.virtual_servers.get(key);
    let had = |key: &ServerKey| server(key).map(|have| format!("-A {}", have.service));
    let real_had = |key: &ServerKey, real: &RealServerKey| {
        let have = server(key)?.real_servers.get(real)?;
        Some(real_line(*key, *real, share_of(have)))
    };
    let ipvs =
        |before: Option<String>, after: Option<String>| shared::lines(Kind::Ipvs, before, after);
    match step {
        Step::SetSysctl(wanted) => shared::sysctl(wanted, &observed.base.sysctls),
        Step::SetTimeouts(timeouts) => {
            let before = observed.base.timeouts.map(|now| format!("--set {now}"));
            ipvs(before, Some(format!("--set {timeouts}")))
        }
        Step::AddVirtualServer(_, service) => ipvs(None, Some(format!("-A {service}"))),
        Step::SetVirtualServer(key, service) => ipvs(had(key), Some(format!("-A {service}"))),
        Step::DelVirtualServer(key) => {
            let reals = server(key).into_iter().flat_map(|have| &have.real_servers);
            let reals = reals.map(|(real, have)| real_line(*key, *real, share_of(have)));
            let lines = had(key).into_iter().chain(reals);
            lines.map(|line| Drift::goes(Kind::Ipvs, line)).collect()
        }
        Step::AddRealServer(key, real, share) => ipvs(None, Some(real_line(*key, *real, *share))),
        Step::SetRealServer(key, real, share) => {
            ipvs(real_had(key, real), Some(real_line(*key, *real, *share)))
        }
        Step::DrainRealServer {
            server,
            real_server,
            ..
        } => {
            let after = real_line(*server, *real_server, Share::NONE);
            ipvs(real_had(server, real_server), Some(after))
        }
        Step::DelRealServer(key, real) => ipvs(real_had(key, real), None),
        Step::WriteRules { family, after, .. } => {
            shared::rules(*family, observed.base.rules.get(family), after)
        }
        Step::AddPolicyRule { family, rule } => {
            vec![Drift::comes(Kind::Route, rule_line(*family, rule))]
        }
        Step::DelPolicyRule { family, rule } => {
            vec![Drift::goes(Kind::Route, rule_line(*family, rule))]
        }
        Step::DelStrayRoute { table, net } => {
            let line = format!("{} table {table}", route_line(*net));
            vec![Drift::goes(Kind::Route, line)]
        }
        Step::AddRoute(net) => vec![Drift::comes(Kind::Route, route_line(*net))],
        Step::DelRoute(net) => vec![Drift::goes(Kind::Route, route_line(*net))],
        // Clients' connections are no state of the agent's, and what is held is let go at once.
        Step::ForgetFlows { .. } | Step::HoldClients(_) | Step::LetClientsIn(_) => Vec::new(),
        Step::CreateSet { .. }
        | Step::DestroySet { .. }
        | Step::AddMember(_)
        | Step::DelMember(_) => step.set_act().map(shared::set).into_iter().collect(),
    }
}

/// As `ip rule` has it.
fn rule_line(family: Family, rule: &PolicyRule) -> String {
    let PolicyRule {
        mark,
        table,
        priority,
    } = rule;
    let tool = ip(family);
    format!("{tool} rule {priority}: from all fwmark {mark:#x}/{mark:#x} lookup {table}")
}

/// As `ip route` has it.
fn route_line(net: IpNet) -> String {
    format!("{} route local {net} dev lo", ip(Family::of(net.addr())))
}

fn ip(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip -6",
    }
}

fn share_of(have: &ObservedRealServer) -> Share {
    Share {
        weight: have.weight,
        thresholds: have.thresholds,
        ramps: false,
    }
}

fn real_line(key: ServerKey, real: RealServerKey, share: Share) -> String {
    let destination = convert::destination(real, share);
    format!("-a {} {destination}", convert::service_key(key))
}
