//! Steps → kernel. Runs of steps for one subsystem ride in one batch.
//!
//! No decision is made here but one: a step is skipped when an earlier one failed that it would
//! build on.

use std::collections::BTreeSet;

use ipnet::IpNet;
use rustix::io::Errno;

use super::IpvsDataplane;
use crate::dataplane::ipvs::members::OfServer;
use crate::dataplane::ipvs::{Observed, ServerKey, Step};
use crate::dataplane::policy::flows::StaleFlows;
use crate::dataplane::policy::kernel::{Done, SetAct, change_sets};
use crate::dataplane::policy::sets::Member;
use crate::dataplane::{Error, Outcome as Told, Report, StepError};
use crate::model::Moment;

/// The kernel interface that a step goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subsystem {
    /// Apart from the rest of IPVS: a real server must not be sent along with a virtual server that
    /// the kernel may refuse because somebody else's stands there. It would go into theirs.
    Claims,
    Ipvs,
    Sets,
    AddRoutes,
    DelRoutes,
    Flows,
    One,
}

/// How a step ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    Applied,
    Failed(Error),
    /// Somebody else's virtual server stands there.
    Taken(Error),
    /// The kernel has no such scheduler.
    NoScheduler(Error),
    /// Nobody knows; the kernel must be read again.
    Unknown,
}

impl Outcome {
    /// For metrics.
    fn told(&self) -> Told {
        match self {
            Self::Applied => Told::Applied,
            Self::Failed(_) | Self::Taken(_) | Self::NoScheduler(_) => Told::Failed,
            Self::Unknown => Told::Unknown,
        }
    }
}

/// Carries the steps out in their order.
pub fn apply(
    plane: &mut IpvsDataplane,
    steps: Vec<Step>,
    observed: &mut Observed,
    now: Moment,
) -> Report<Step> {
    apply_by(steps, observed, now, &mut |subsystem, run| {
        carry_out(plane, subsystem, run)
    })
}

/// The same by another hand: `carry_out` gives the outcome of each step of a run.
pub(crate) fn apply_by(
    steps: Vec<Step>,
    observed: &mut Observed,
    now: Moment,
    carry_out: &mut dyn FnMut(Subsystem, &[Step]) -> Vec<Outcome>,
) -> Report<Step> {
    let mut report = Report::default();
    let steps = within_patience(steps, observed, &mut report);
    let mut broken: BTreeSet<ServerKey> = BTreeSet::new();
    let mut taken = Vec::new();
    // Owed until they are forgotten, whatever fails before.
    observed
        .owed_flows
        .extend(steps.iter().filter_map(|step| match step {
            Step::ForgetFlows { vip, .. } => Some(*vip),
            _ => None,
        }));
    let mut steps = steps.into_iter().peekable();
    while let Some(first) = steps.next() {
        let subsystem = subsystem(&first);
        let mut run = vec![first];
        while subsystem != Subsystem::One
            && let Some(next) = steps.next_if(|next| self::subsystem(next) == subsystem)
        {
            run.push(next);
        }
        let breaks = |step: &mut Step| step.server().is_some_and(|s| broken.contains(&s));
        for step in run.extract_if(.., breaks) {
            report.skipped += 1;
            report.tally.add(step.kind(), Told::Skipped);
        }

        let outcomes = carry_out(subsystem, &run);
        for (step, outcome) in run.into_iter().zip(outcomes) {
            report.tally.add(step.kind(), outcome.told());
            match outcome {
                Outcome::Applied => {
                    observed.record(&step, now);
                    report.applied += 1;
                }
                Outcome::Unknown => {
                    // Neither a virtual server without its entry nor a real server in somebody else's.
                    broken.extend(step.server().filter(|_| others_need(&step)));
                    if let Step::AddVirtualServer(server, _) = step {
                        observed.uncertain.insert(server);
                    }
                    report.reobserve = true;
                }
                Outcome::Taken(source) => {
                    broken.extend(step.server());
                    // One of which nobody knew whether it came into being may be ours.
                    let uncertain = |server: &ServerKey| observed.uncertain.contains(server);
                    let foreign = step.server().filter(|server| !uncertain(server));
                    report.reobserve |= foreign.is_none();
                    observed.foreign.extend(foreign);
                    taken.extend(foreign.map(|server| Step::DelMember(Member::ownership(server))));
                    report.failed.push(StepError { step, source });
                }
                Outcome::NoScheduler(source) => {
                    broken.extend(step.server());
                    if let Step::AddVirtualServer(_, service) | Step::SetVirtualServer(_, service) =
                        &step
                    {
                        let name = service.scheduler.to_string();
                        report.refused_schedulers.insert(name);
                    }
                    report.failed.push(StepError { step, source });
                }
                Outcome::Failed(source) => {
                    broken.extend(step.server().filter(|_| others_need(&step)));
                    report.reobserve = true;
                    report.failed.push(StepError { step, source });
                }
            }
        }
    }
    disown(&taken, observed, now, carry_out);
    report
}

/// Somebody else's must not stay in the set of ours until the retry: rules ask that set, and would
/// reset and accept what is somebody else's to judge. What fails here, the retry does.
fn disown(
    taken: &[Step],
    observed: &mut Observed,
    now: Moment,
    carry_out: &mut dyn FnMut(Subsystem, &[Step]) -> Vec<Outcome>,
) {
    if taken.is_empty() {
        return;
    }
    let outcomes = carry_out(Subsystem::Sets, taken);
    for (step, outcome) in taken.iter().zip(outcomes) {
        if matches!(outcome, Outcome::Applied) {
            observed.record(step, now);
        }
    }
}

/// Leaves out all but a few changes of schedulers: the kernel waits for every reader of the old one,
/// some 17 ms for each (`synchronize_rcu` in `ip_vs_unbind_scheduler`), and nothing else is done
/// meanwhile.
fn within_patience(steps: Vec<Step>, observed: &Observed, report: &mut Report<Step>) -> Vec<Step> {
    let reschedules = |step: &Step| match step {
        Step::SetVirtualServer(server, service) => observed
            .virtual_servers
            .get(server)
            .filter(|have| have.service.scheduler != service.scheduler)
            .map(|_| *server),
        _ => None,
    };
    let slow = steps.iter().filter_map(reschedules);
    let late: BTreeSet<ServerKey> = slow.skip(MOST_RESCHEDULED).collect();
    steps
        .into_iter()
        .filter(|step| {
            if let Step::HoldClients(vip) | Step::LetClientsIn(vip) = step {
                return !late.contains(&(*vip).into());
            }
            let keep = reschedules(step).is_none_or(|server| !late.contains(&server));
            if !keep {
                report.postponed += 1;
                report.tally.add(step.kind(), Told::Postponed);
            }
            keep
        })
        .collect()
}

/// Whether later steps for the same tuple build on this one. A real server is not one of them: the
/// others serve without it, and those that are gone go.
fn others_need(step: &Step) -> bool {
    match step {
        Step::AddMember(member) => member.is_ownership(),
        // Ownership stays for as long as there is something to own, or flows to forget.
        Step::AddVirtualServer(..) | Step::DelVirtualServer(_) | Step::ForgetFlows { .. } => true,
        _ => false,
    }
}

fn subsystem(step: &Step) -> Subsystem {
    match step {
        Step::AddVirtualServer(..) => Subsystem::Claims,
        Step::SetTimeouts(_)
        | Step::SetVirtualServer(..)
        | Step::DelVirtualServer(_)
        | Step::AddRealServer(..)
        | Step::SetRealServer(..)
        | Step::DrainRealServer { .. }
        | Step::DelRealServer(..) => Subsystem::Ipvs,
        Step::CreateSet { .. }
        | Step::DestroySet { .. }
        | Step::AddMember(_)
        | Step::DelMember(_)
        | Step::HoldClients(_)
        | Step::LetClientsIn(_) => Subsystem::Sets,
        Step::AddRoute(_) => Subsystem::AddRoutes,
        Step::DelRoute(_) => Subsystem::DelRoutes,
        Step::ForgetFlows { .. } => Subsystem::Flows,
        Step::SetSysctl(_)
        | Step::WriteRules { .. }
        | Step::AddPolicyRule { .. }
        | Step::DelPolicyRule { .. }
        | Step::DelStrayRoute { .. } => Subsystem::One,
    }
}

fn carry_out(plane: &mut IpvsDataplane, subsystem: Subsystem, run: &[Step]) -> Vec<Outcome> {
    match subsystem {
        Subsystem::Claims | Subsystem::Ipvs => ipvs(plane, run),
        Subsystem::Sets => sets(plane, run),
        Subsystem::AddRoutes | Subsystem::DelRoutes => routes(plane, subsystem, run),
        Subsystem::Flows => forget_flows(plane, run),
        Subsystem::One => run.iter().map(|step| one(plane, step)).collect(),
    }
}

fn ipvs(plane: &mut IpvsDataplane, run: &[Step]) -> Vec<Outcome> {
    let commands: Vec<_> = run.iter().filter_map(Step::ipvs_command).collect();
    let Some(ipvs) = &mut plane.ipvs else {
        return all_failed(run.len(), "program IPVS", "the kernel has no ip_vs");
    };
    match ipvs.batch(&commands) {
        Err(error) => all_failed(run.len(), "send IPVS commands", &error.to_string()),
        Ok(outcomes) => outcomes
            .into_iter()
            .zip(run)
            .map(|(outcome, step)| match outcome {
                ipvs_sys::Outcome::Applied => Outcome::Applied,
                ipvs_sys::Outcome::Unknown => Outcome::Unknown,
                ipvs_sys::Outcome::Failed(error) if is_done_already(step, &error) => {
                    Outcome::Applied
                }
                ipvs_sys::Outcome::Failed(error) if is_taken(step, &error) => {
                    Outcome::Taken(Error::new(
                        "take a tuple where somebody else's virtual server stands",
                        error,
                    ))
                }
                ipvs_sys::Outcome::Failed(error) if lacks_scheduler(step, &error) => {
                    Outcome::NoScheduler(Error::new("program IPVS", error))
                }
                ipvs_sys::Outcome::Failed(error) => {
                    Outcome::Failed(Error::new("program IPVS", error))
                }
            })
            .collect(),
    }
}

fn is_taken(step: &Step, error: &ipvs_sys::Error) -> bool {
    matches!(step, Step::AddVirtualServer(..)) && error.is_exists()
}

/// `ip_vs_add_service` and `ip_vs_edit_service` say ENOENT for a scheduler that is not there. The
/// agent asks for no persistence engine, which would be the other reason.
fn lacks_scheduler(step: &Step, error: &ipvs_sys::Error) -> bool {
    matches!(
        step,
        Step::AddVirtualServer(..) | Step::SetVirtualServer(..)
    ) && error.raw_os_error() == Some(Errno::NOENT.raw_os_error())
}

/// To delete what is gone is a success.
fn is_done_already(step: &Step, error: &ipvs_sys::Error) -> bool {
    matches!(step, Step::DelRealServer(..) | Step::DelVirtualServer(_)) && error.is_not_found()
}

fn sets(plane: &mut IpvsDataplane, run: &[Step]) -> Vec<Outcome> {
    let acts: Vec<SetAct> = run.iter().filter_map(Step::set_act).collect();
    change_sets(&mut plane.sets, &acts)
        .into_iter()
        .map(|done| match done {
            Done::Applied => Outcome::Applied,
            Done::Unknown => Outcome::Unknown,
            Done::Failed(error) => Outcome::Failed(error),
        })
        .collect()
}

fn routes(plane: &mut IpvsDataplane, subsystem: Subsystem, run: &[Step]) -> Vec<Outcome> {
    let nets: Vec<IpNet> = run
        .iter()
        .filter_map(|step| match step {
            Step::AddRoute(net) | Step::DelRoute(net) => Some(*net),
            _ => None,
        })
        .collect();
    let table = plane.settings.route_table;
    let results = if subsystem == Subsystem::AddRoutes {
        plane.routes.add_routes(table, &nets)
    } else {
        plane.routes.del_routes(table, &nets)
    };
    results
        .into_iter()
        .map(|result| from_result("change a route", result))
        .collect()
}

fn forget_flows(plane: &mut IpvsDataplane, run: &[Step]) -> Vec<Outcome> {
    let wanted = run.iter().filter_map(Step::stale_flows);
    match wanted
        .collect::<StaleFlows<'_>>()
        .forget(&mut plane.conntrack)
    {
        Ok(()) => run.iter().map(|_| Outcome::Applied).collect(),
        Err(error) => all_failed(run.len(), "delete conntrack entries", &error.to_string()),
    }
}

fn one(plane: &mut IpvsDataplane, step: &Step) -> Outcome {
    match step {
        Step::SetSysctl(wanted) => from_result("write a sysctl", wanted.write()),
        Step::WriteRules { family, text, .. } => from_result(
            "write netfilter rules",
            plane.iptables.restore(*family, text),
        ),
        Step::AddPolicyRule { family, rule } => from_result(
            "add a policy rule",
            plane.routes.add_policy_rule(*family, *rule),
        ),
        Step::DelPolicyRule { family, rule } => from_result(
            "delete a policy rule",
            plane.routes.del_policy_rule(*family, *rule),
        ),
        Step::DelStrayRoute { table, net } => {
            let results = plane.routes.del_routes(*table, &[*net]);
            let result = results.into_iter().next().unwrap_or(Ok(()));
            from_result("delete a route", result)
        }
        other => Outcome::Failed(Error::new(other.to_string(), "rides in a batch")),
    }
}

fn from_result<E>(act: &str, result: Result<(), E>) -> Outcome
where
    E: std::error::Error + Send + Sync + 'static,
{
    match result {
        Ok(()) => Outcome::Applied,
        Err(error) => Outcome::Failed(Error::new(act, error)),
    }
}

fn all_failed(count: usize, act: &str, error: &str) -> Vec<Outcome> {
    (0..count)
        .map(|_| Outcome::Failed(Error::new(act, error.to_owned())))
        .collect()
}

/// About a second.
const MOST_RESCHEDULED: usize = 64;
