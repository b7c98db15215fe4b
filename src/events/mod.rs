//! Kubernetes Events: what a person must fix on a Service is said where they look,
//! `kubectl describe service`.
//!
//! * `outbox` (pure) what is worth an Event, and when it may go
//! * `limits` (pure) how often one object may be told of for one reason
//! * `object` (pure) the Event's API object
//! * this file: the task that sends. It has a client of its own, never holds up the loop, and
//!   what cannot be sent is dropped: an Event is a courtesy, the log has it too.

mod limits;
mod object;
mod outbox;

use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Error};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::cluster::ApiAccess;
use crate::cluster::requests::RequestMeter;
use crate::model::{Moment, Notice};
use outbox::{Outbox, Popped, Report, Taken};

/// The task's surroundings.
pub struct Reporter {
    pub access: ApiAccess,
    pub meter: RequestMeter,
    /// The node's name: the reporting instance.
    pub node: String,
    /// Spreads the Events of many nodes over time.
    pub seed: u64,
    pub clock: Box<dyn Fn() -> Moment + Send + Sync>,
    /// Hears how many Events came to which end: `made`, `counted`, `known`, `left_out`, `failed`.
    pub count: Box<dyn Fn(&'static str, u64) + Send + Sync>,
}

/// Sends Events about what `notices` tell, until shut down.
pub async fn run(
    reporter: Reporter,
    mut notices: UnboundedReceiver<Notice>,
    shutdown: CancellationToken,
) {
    let mut outbox = Outbox::new(reporter.seed);
    let mut sender = Sender {
        reporter,
        client: None,
        failing: false,
    };
    loop {
        let now = sender.now();
        let wait = outbox.next_due(now).map(|due| due.since(now));
        let until_due = async {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            notice = notices.recv() => match notice {
                Some(notice) => {
                    let now = sender.now();
                    if let Taken::Full(left_out) = outbox.take(notice, now) {
                        (sender.reporter.count)("left_out", left_out as u64);
                        warn!("too many problems at once; no Events are sent for some of them");
                    }
                }
                None => return,
            },
            () = until_due => {
                match outbox.pop(sender.now()) {
                    Some(Popped::Due(report)) => tokio::select! {
                        () = shutdown.cancelled() => return,
                        () = sender.send(&mut outbox, report) => {}
                    },
                    Some(Popped::LeftOut(report)) => sender.leave_out(&mut outbox, &report),
                    None => {}
                }
            }
        }
    }
}

/// What sends.
struct Sender {
    reporter: Reporter,
    client: Option<Client>,
    /// The last attempt failed, and that has been told.
    failing: bool,
}

impl Sender {
    /// Sends one report, or says once that it cannot.
    async fn send(&mut self, outbox: &mut Outbox, report: Report) {
        let attempt = tokio::time::timeout(PATIENCE, self.publish(outbox, &report)).await;
        let failure = match attempt {
            Ok(Ok(end)) => {
                self.failing = false;
                (self.reporter.count)(end, 1);
                return;
            }
            Ok(Err(error)) => {
                // What the server refuses it has at least answered.
                if !matches!(error.downcast_ref(), Some(Error::Api(_))) {
                    self.client = None;
                }
                format!("{error:#}")
            }
            Err(_) => {
                self.client = None;
                format!("no answer within {} s", PATIENCE.as_secs())
            }
        };
        (self.reporter.count)("failed", 1);
        let service = &report.service;
        if self.failing {
            debug!(%service, error = failure, "no Event was sent");
        } else {
            warn!(%service, error = failure, "no Event was sent, nor will others be until this is mended; \
                the agent needs to create and patch events in events.k8s.io");
        }
        self.failing = true;
    }

    /// Sends nothing; an Event of this agent's says so when it is next counted up.
    fn leave_out(&self, outbox: &mut Outbox, report: &Report) {
        let name = object::name(&self.reporter.node, report);
        outbox.repeat(&name, self.now());
        (self.reporter.count)("left_out", 1);
        debug!(
            event = name,
            "too many of this object for this reason; left out"
        );
    }

    /// Makes the Event, or counts it up if it is this agent's own. One that another node's agent
    /// has made says the same: nothing is left to do. Gives how it ended.
    async fn publish(
        &mut self,
        outbox: &mut Outbox,
        report: &Report,
    ) -> anyhow::Result<&'static str> {
        let client = match &self.client {
            Some(client) => client.clone(),
            None => self
                .client
                .insert(self.reporter.access.connect(&self.reporter.meter).await?)
                .clone(),
        };
        let events: Api<Event> = Api::namespaced(client, object::namespace(report));
        let name = object::name(&self.reporter.node, report);
        let (now, wall) = (self.now(), Timestamp::now());
        if let Some(count) = outbox.repeat(&name, now) {
            let patch = Patch::Merge(object::series(count, wall));
            match events.patch(&name, &PatchParams::default(), &patch).await {
                // The API server forgets Events after an hour.
                Err(Error::Api(status)) if status.code == 404 => {}
                other => {
                    other?;
                    debug!(event = name, count, "the Event was counted up");
                    return Ok("counted");
                }
            }
        }
        let event = object::event(&self.reporter.node, report, wall);
        match events.create(&PostParams::default(), &event).await {
            Ok(_) => {
                debug!(event = name, "the Event was made");
                outbox.made(name, now);
                Ok("made")
            }
            Err(Error::Api(status)) if status.code == 409 => {
                debug!(event = name, "the Event is there already");
                Ok("known")
            }
            Err(error) => Err(error.into()),
        }
    }

    fn now(&self) -> Moment {
        (self.reporter.clock)()
    }
}

/// For one Event, connection included.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
