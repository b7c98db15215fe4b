//! The thread that owns the kernel: waits for events or time, then resolves, plans and applies.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::alarm::Alarm;
use super::board::{Board, Pass, Phase, Trigger, wall};
use super::engine::{Complaint, Engine, Resolution};
use super::outlets::Outlets;
use super::pace::Pace;
use super::programming::Programming;
use crate::ask::{Answer, Ask, Question};
use crate::cluster::Event;
use crate::dataplane::{Dataplane, Error, Report, Scope, StepError};
use crate::model::{
    Family, Moment, Notice, ObjectName, Problem, Reason, Scheduler, Topic, VipKind, VipPort, causes,
};

/// Rhythm of the loop.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    pub audit_interval: Duration,
    /// Differs between nodes, so that their retries spread.
    pub seed: u64,
}

impl Timing {
    /// How long something may fail before it counts: twice the audit interval, as kube-proxy's sync period.
    pub fn patience(&self) -> Duration {
        self.audit_interval * 2
    }
}

/// The loop with everything it owns.
pub struct Loop<D: Dataplane> {
    pub dataplane: D,
    pub engine: Engine<D>,
    pub events: Receiver<Event>,
    /// What other commands on this node ask.
    pub questions: Receiver<Question>,
    pub board: Arc<Board>,
    pub outlets: Outlets,
    pub timing: Timing,
    pub shutdown: CancellationToken,
    pub clock: Clock,
    pub memory: Memory,
    /// Removes what another dataplane left on the node, once this one serves.
    pub retire: Option<Retire>,
}

/// Gives the number of objects that went.
pub type Retire = Box<dyn FnMut() -> Result<usize, Error> + Send>;

/// After so many passes the other dataplane goes though something still fails in this one.
const PASSES_BEFORE_RETIRING: u32 = 3;

/// What one turn leaves for the next, beside what failed.
#[derive(Debug, Default)]
pub struct Memory {
    /// Told when the node's addresses may have changed.
    pub addresses: Arc<Notify>,
    /// The next audit may find what we did ourselves.
    in_doubt: bool,
    /// Passes over everything so far.
    whole_passes: u32,
    /// What somebody else's virtual servers kept from being, when last looked at.
    shadowed: BTreeMap<VipPort, (ObjectName, VipKind)>,
    /// The node's addresses may be others than when they were last read.
    moved: bool,
    /// Changes of endpoints that are on their way.
    programming: Programming,
    /// Whether somebody knows what fails.
    alarm: Alarm,
    /// The last thing that was done is an answer.
    has_answered: bool,
    /// Where NodePorts answer, as last logged.
    node_ports: Option<BTreeSet<IpAddr>>,
}

/// Tells the time. Handed in, so that the loop has none of its own.
pub type Clock = Box<dyn Fn() -> Moment + Send>;

/// What woke the loop.
enum Wake {
    Events(Vec<Event>),
    Due,
    Addresses,
    Question(Question),
    Shutdown,
}

impl<D: Dataplane> Loop<D> {
    /// Runs until shut down. Leaves the kernel as it is: the node goes on serving.
    pub fn run(mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        let Ok(runtime) = runtime else {
            error!("cannot start the timer of the kernel thread");
            return;
        };
        let mut pace = Pace::new(self.timing.audit_interval, self.now());
        let mut pending = D::Scope::default();
        let mut waiting_told = false;
        loop {
            let due = if self.engine.index().synced() {
                Some(pace.next_due())
            } else {
                None
            };
            match runtime.block_on(self.wake(due)) {
                Wake::Shutdown => {
                    info!("stopped; the node goes on serving what is programmed");
                    return;
                }
                Wake::Events(events) => {
                    self.board.events_taken(&events);
                    for event in events {
                        let index = self.engine.index();
                        self.memory.programming.look_at(&event, index);
                        self.engine.take(event);
                    }
                    self.board.node(self.engine.index().node().leaving);
                }
                Wake::Addresses => self.memory.moved = true,
                Wake::Question(question) => {
                    self.answer(question);
                    continue;
                }
                Wake::Due => {}
            }
            self.board.turned(self.now());
            if !self.engine.index().synced() {
                if !waiting_told {
                    debug!(missing = ?self.engine.index().missing(), "waiting for sources");
                    waiting_told = true;
                }
                continue;
            }
            self.turn(&mut pace, &mut pending);
        }
    }

    async fn wake(&mut self, due: Option<Moment>) -> Wake {
        // Where audits take longer than their interval, each of them leaves room for one question.
        let has_answered = std::mem::take(&mut self.memory.has_answered);
        if !has_answered && let Ok(question) = self.questions.try_recv() {
            return Wake::Question(question);
        }
        let wait = due.map(|due| due.since(self.now()));
        let until_due = async {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => Wake::Shutdown,
            event = self.events.recv() => match event {
                None => {
                    // Every source has ended: only a shutdown does that.
                    self.shutdown.cancelled().await;
                    Wake::Shutdown
                }
                Some(first) => {
                    let mut events = vec![first];
                    while events.len() < EVENTS_AT_ONCE && let Ok(event) = self.events.try_recv() {
                        events.push(event);
                    }
                    Wake::Events(events)
                }
            },
            () = self.memory.addresses.notified() => Wake::Addresses,
            // Before a second question, or those who ask again and again would put off audits and drains.
            () = until_due => Wake::Due,
            Some(question) = self.questions.recv() => Wake::Question(question),
        }
    }

    /// Answers from what is known; only a diff reads the kernel, and changes nothing by it.
    fn answer(&mut self, Question { ask, reply }: Question) {
        if reply.is_closed() {
            return;
        }
        self.memory.has_answered = true;
        let missing = self.engine.index().missing();
        let answer = if !missing.is_empty() {
            let kinds: Vec<String> = missing.iter().map(|kind| format!("{kind:?}")).collect();
            Answer::NotNow(format!("it waits to be told {}", kinds.join(", ")))
        } else {
            match ask {
                Ask::Table => Answer::Table(self.engine.table(self.now())),
                Ask::Explain(asked) => Answer::Explained(self.engine.explain(&asked)),
                Ask::Diff => match self.dataplane.observe(self.engine.observed()) {
                    Ok(observed) => Answer::Diff(self.engine.diff(&observed, self.now())),
                    Err(error) => Answer::NotNow(format!("it could not {}", causes(&error))),
                },
            }
        };
        // Who asked may have gone.
        let _ = reply.send(answer);
    }

    /// One turn: read what is due, resolve what is dirty, plan, apply. What fails is kept in
    /// `pending` and tried again by the retry; changes elsewhere do not wait for it.
    fn turn(&mut self, pace: &mut Pace, pending: &mut D::Scope) {
        let now = self.now();
        // A kernel that has never been read cannot be planned for.
        if self.engine.observed().is_none() && pace.failures() > 0 && !pace.retry_due(now) {
            return;
        }
        let trigger = self.trigger(pace, now);
        let begun = self.now();
        let network_changed = self.engine.refresh_network();
        let mut scope = match self.read(trigger, pace) {
            Ok(scope) => scope,
            Err(source) => {
                if network_changed {
                    // Nobody says it twice.
                    pending.extend(self.engine.everything().unwrap_or_default());
                }
                self.postpone(trigger, pace, now);
                pace.waiting(self.waits(), now);
                self.report_failure(&source, pace);
                return;
            }
        };
        let observed = self.engine.observed();
        if trigger == Trigger::First && observed.is_some_and(D::may_begin_with_some) {
            self.program_early(pending, begun);
        }
        if network_changed {
            scope.extend(self.engine.everything().unwrap_or_default());
        }
        let in_doubt = self.memory.in_doubt || network_changed || pace.failures() > 0;
        if trigger == Trigger::Audit && !in_doubt {
            let settled = self.engine.settled().unwrap_or_default();
            let steps = self.engine.plan(&settled, now);
            if let Some(observed) = self.engine.observed() {
                self.tell_drift(&steps, observed);
            }
        }
        let resolution = self.resolve(None);
        if network_changed {
            // Marks may be others.
            self.outlets.rename_all(self.engine.names());
        }
        self.tell_node_ports();
        self.tell(resolution.complaints);
        scope.extend(resolution.scope);
        if trigger == Trigger::First {
            scope.extend(self.engine.everything().unwrap_or_default());
        }
        if trigger.takes_all() {
            scope.extend(std::mem::take(pending));
        }
        let steps = self.plan(&scope, now);
        let pass = self.apply(trigger, resolution.services, steps, begun);
        self.tell_programmed(&pass);
        // Load balancers come once the kernel is ready for them.
        self.outlets.check_health(resolution.health_checks);
        self.engine.set_started();
        let now = self.now();
        self.memory.in_doubt = pass.reobserve || pass.postponed > 0;
        if trigger.takes_all() || pass.failed > 0 {
            self.tell_shadowed();
        }
        if pass.postponed > 0 {
            pending.extend(scope);
            pace.go_on(now);
        } else if pass.failed > 0 {
            pending.extend(scope);
            self.postpone(trigger, pace, now);
        } else if trigger.takes_all() {
            pace.succeeded();
        }
        if pass.reobserve {
            pace.audit_soon();
        }
        pace.waiting(self.waits(), now);
        self.board.passed(&pass, now);
        self.tell_trouble();
        // It may take its time, and health need not wait for it.
        if trigger.takes_all() {
            self.memory.whole_passes += 1;
            let good = pass.failed + pass.postponed == 0 && !pass.reobserve;
            // One Service that fails for good must not keep what nobody maintains on the node.
            let finished = !D::meets_first() || self.memory.whole_passes > 1;
            if finished && (good || self.memory.whole_passes > PASSES_BEFORE_RETIRING) {
                self.retire_other(pace);
            }
        }
    }

    /// Resolves what is dirty, and says whose the tuples are.
    fn resolve(&mut self, only: Option<&dyn Fn(&ObjectName) -> bool>) -> Resolution<D::Scope> {
        let begun = self.now();
        let mut resolution = self.engine.resolve_dirty(only);
        self.outlets.rename(std::mem::take(&mut resolution.renamed));
        if only.is_none() {
            self.board.taken_up();
        }
        self.board.refused(self.engine.refused());
        self.board.phase(Phase::Resolve, self.now().since(begun));
        resolution
    }

    fn plan(&self, scope: &D::Scope, now: Moment) -> Vec<D::Step> {
        let begun = self.now();
        let steps = self.engine.plan(scope, now);
        self.board.phase(Phase::Plan, self.now().since(begun));
        steps
    }

    /// New connections find this dataplane whole before the other one goes.
    fn retire_other(&mut self, pace: &mut Pace) {
        let Some(retire) = &mut self.retire else {
            return;
        };
        match retire() {
            Ok(removed) => {
                if removed > 0 {
                    info!(
                        removed,
                        "removed what the other dataplane had left on this node"
                    );
                }
                self.retire = None;
            }
            Err(error) => {
                pace.audit_soon();
                warn!(
                    error = causes(&error),
                    "cannot remove what the other dataplane left; the next audit tries again"
                );
            }
        }
    }

    /// A change that fails while a retry waits joins it, and does not put it off.
    fn postpone(&self, trigger: Trigger, pace: &mut Pace, now: Moment) {
        if trigger.takes_all() || pace.failures() == 0 {
            pace.failed(now, self.timing.seed);
        }
    }

    /// Whether something drains or grows, which takes its time.
    fn waits(&self) -> bool {
        let holdings = self.engine.observed().map(D::holdings);
        holdings.is_some_and(|holdings| holdings.draining + holdings.ramping > 0)
    }

    fn trigger(&self, pace: &Pace, now: Moment) -> Trigger {
        if !self.engine.started() {
            Trigger::First
        } else if pace.audit_due(now) {
            Trigger::Audit
        } else if pace.retry_due(now) {
            Trigger::Retry
        } else if pace.refresh_due(now) {
            Trigger::Drain
        } else {
            Trigger::Change
        }
    }

    /// The API server's own Service and cluster DNS: others depend on them to start.
    fn program_early(&mut self, pending: &mut D::Scope, begun: Moment) {
        let early = |name: &ObjectName| {
            matches!(
                (&*name.namespace, &*name.name),
                ("default", "kubernetes") | ("kube-system", "kube-dns")
            )
        };
        let resolution = self.resolve(Some(&early));
        self.tell(resolution.complaints);
        let mut scope = resolution.scope;
        scope.extend(D::Scope::base());
        let steps = self.plan(&scope, begun);
        let pass = self.apply(Trigger::First, resolution.services, steps, begun);
        self.outlets.check_health(resolution.health_checks);
        if pass.failed > 0 || pass.reobserve {
            pending.extend(scope);
        }
    }

    /// Reads of the kernel what this turn needs to know, and gives the scope that it adds.
    fn read(&mut self, trigger: Trigger, pace: &mut Pace) -> Result<D::Scope, Error> {
        let now = self.now();
        let mut scope = D::Scope::default();
        if matches!(trigger, Trigger::First | Trigger::Audit) || self.engine.observed().is_none() {
            let network = self.dataplane.node_network()?;
            self.engine.set_node_network(network);
            self.memory.moved = false;
            // A failed read leaves the mirror as it was: changes go on with it.
            let observed = self.dataplane.observe(self.engine.observed())?;
            *self.engine.observed_mut() = Some(observed);
            self.board.phase(Phase::Observe, self.now().since(now));
            pace.audited(now);
            if trigger != Trigger::First {
                scope.extend(self.engine.everything().unwrap_or_default());
            }
        }
        if std::mem::take(&mut self.memory.moved) {
            match self.dataplane.node_network() {
                Ok(network) => self.engine.set_node_network(network),
                // That is not to have none: the last ones stay, and an audit tries again.
                Err(error) => {
                    warn!(
                        error = causes(&error),
                        "cannot read the node's addresses; retrying"
                    );
                    pace.audit_soon();
                }
            }
        }
        if let Some(observed) = self.engine.observed_mut()
            && (trigger != Trigger::Change)
        {
            scope.extend(self.dataplane.refresh(observed)?);
        }
        Ok(scope)
    }

    fn apply(
        &mut self,
        trigger: Trigger,
        services: usize,
        steps: Vec<D::Step>,
        begun: Moment,
    ) -> Pass {
        let mut pass = Pass {
            trigger,
            services,
            steps: steps.len(),
            ..Pass::default()
        };
        if !steps.is_empty() {
            for step in &steps {
                debug!(%step, "step");
            }
            let now = self.now();
            let Some(observed) = self.engine.observed_mut() else {
                return pass;
            };
            let Report {
                applied,
                failed,
                skipped,
                reobserve,
                postponed,
                refused_schedulers,
                tally,
            } = self.dataplane.apply(steps, observed, now);
            self.board.phase(Phase::Apply, (self.clock)().since(now));
            self.board.stepped(&tally);
            pass.applied = applied;
            pass.failed = failed.len() + skipped;
            pass.reobserve = reobserve;
            pass.postponed = postponed;
            if let Some(scheduler) = self.engine.refuse_schedulers(refused_schedulers) {
                self.tell_lost_scheduler(&scheduler);
            }
            for failure in failed.iter().take(FAILURES_TOLD) {
                warn!(step = %failure.step, error = %causes(&failure.source), "step failed");
            }
            pass.errors = first_failures::<D>(&failed);
            if skipped > 0 && failed.is_empty() {
                let text = format!(
                    "{skipped} steps wait: the kernel's answer to one before them was lost"
                );
                pass.errors = Family::ALL.map(|family| (family, text.clone())).into();
            }
        }
        pass.elapsed = self.now().since(begun);
        self.board.counters(self.dataplane.counters());
        if let Some(observed) = self.engine.observed() {
            self.board.holdings(D::holdings(observed));
        }
        if pass.steps > 0 {
            info!(
                trigger = %trigger,
                services,
                steps = pass.steps,
                failed = pass.failed,
                elapsed = ?pass.elapsed,
                "synced"
            );
        }
        pass
    }

    /// Tells how long the changes took that are in the kernel now, and who lacks endpoints here.
    fn tell_programmed(&mut self, pass: &Pass) {
        self.board.no_local(self.engine.desired().no_local());
        let changes = self.memory.programming.passed(pass);
        if !changes.is_empty() {
            self.board.programmed(&changes, wall());
        }
    }

    /// The node serves, but not as it was told to.
    fn tell_lost_scheduler(&self, scheduler: &Scheduler) {
        let text = format!(
            "this kernel has no ip_vs_{}, which --scheduler asks for: {} is used instead; load the module and \
             restart the agent",
            scheduler.name,
            Scheduler::NEAREST
        );
        warn!("{text}");
        self.outlets.notice(Notice::of_node(
            self.engine.node_name(),
            Topic::Dataplane,
            vec![Problem {
                reason: Reason::IpvsUnavailable,
                text,
            }],
        ));
    }

    /// Services whose tuples somebody else's virtual servers hold are told of once each.
    fn tell_shadowed(&mut self) {
        let shadowed = self.engine.shadowed();
        let new: Vec<_> = shadowed
            .iter()
            .filter(|(vip, _)| !self.memory.shadowed.contains_key(vip))
            .collect();
        for (vip, (service, _)) in new.iter().take(FAILURES_TOLD) {
            warn!(%service, %vip, "not served: somebody else's virtual server stands there; is kube-proxy or \
                another proxy at work, or are its leftovers there (ipvsadm -Ln)?");
        }
        if new.len() > FAILURES_TOLD {
            warn!(
                count = new.len(),
                "so many Services are not served for that reason"
            );
        }
        self.outlets
            .notice_shadowed(&self.memory.shadowed, &shadowed, |service| {
                let spec = self.engine.index().service(service);
                spec.map(|spec| spec.uid.clone()).unwrap_or_default()
            });
        self.board.shadowed(&shadowed, self.now());
        self.memory.shadowed = shadowed;
    }

    /// Where NodePorts answer is told when it changes.
    fn tell_node_ports(&mut self) {
        let now = self.engine.node_port_addresses();
        if self.memory.node_ports.as_ref() == Some(now) {
            return;
        }
        if now.is_empty() {
            warn!(
                "NodePorts answer nowhere: --node-port-addresses permits no address of this node"
            );
        } else {
            let text: Vec<String> = now.iter().map(IpAddr::to_string).collect();
            let addresses = text.join(",");
            info!(addresses, "NodePorts answer on these addresses");
        }
        self.memory.node_ports = Some(now.clone());
    }

    /// An audit that finds work has found somebody else's hand, or a mistake of ours.
    fn tell_drift(&self, steps: &[D::Step], observed: &D::Observed) {
        let of_drift = |step: &&D::Step| !D::drift(step, observed).is_empty();
        let steps: Vec<&D::Step> = steps.iter().filter(of_drift).collect();
        if steps.is_empty() {
            return;
        }
        let examples: Vec<String> = steps.iter().take(3).map(ToString::to_string).collect();
        warn!(
            steps = steps.len(),
            examples = examples.join("; "),
            "kernel differs from what was programmed; repairing"
        );
        self.board.drift(steps.len());
    }

    fn tell(&self, complaints: Vec<Complaint>) {
        for Complaint {
            service,
            uid,
            problems,
        } in complaints
        {
            if problems.is_empty() {
                info!(%service, "the Service is in order again");
            }
            for problem in &problems {
                warn!(%service, reason = %problem.reason, %problem, "part of the Service is not served as asked");
            }
            self.outlets.notice(Notice {
                service,
                uid,
                topic: Topic::Meaning,
                problems,
            });
        }
    }

    fn report_failure(&mut self, error: &Error, pace: &Pace) {
        let text = causes(error);
        if pace.failures() == 1 || self.board.error_changed(&text) {
            warn!(error = text, "cannot read the kernel's state; retrying");
        }
        self.board.failed(&text, self.now());
        self.tell_trouble();
    }

    /// What fails for so long that it makes health red is told where people look for it.
    fn tell_trouble(&mut self) {
        let (health, patience) = (self.board.health(), self.timing.patience());
        if let Some(problems) = self.memory.alarm.look(&health, self.now(), patience) {
            let node = self.engine.node_name();
            self.outlets
                .notice(Notice::of_node(node, Topic::Programming, problems));
        }
    }

    fn now(&self) -> Moment {
        (self.clock)()
    }
}

/// Of each family. A step that is about both has failed for both.
fn first_failures<D: Dataplane>(failed: &[StepError<D::Step>]) -> BTreeMap<Family, String> {
    let mut first = BTreeMap::new();
    for family in Family::ALL {
        let of_it =
            |failure: &&StepError<D::Step>| D::family(&failure.step).is_none_or(|of| of == family);
        if let Some(StepError { step, source }) = failed.iter().find(of_it) {
            first.insert(family, format!("{step}: {}", causes(source)));
        }
    }
    first
}

/// Enough to take a burst in one pass, few enough that a pass stays short.
const EVENTS_AT_ONCE: usize = 10_000;
/// A broken subsystem fails every step alike; a few tell the story.
const FAILURES_TOLD: usize = 5;

#[cfg(test)]
mod tests;
