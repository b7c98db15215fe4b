//! The Kubernetes source: four watches whose objects become events. Shell; what an event means
//! is decided in [`track`](super::track).
//!
//! Lists are read in pages of 500 and watches end after about a minute: a server that vanished
//! without a word is noticed then, not after the five minutes of the default. Streaming lists
//! are not used: servers that do not know them never answer with anything else than an error.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use kube::runtime::watcher::{self, Config};
use kube::runtime::{WatchStreamExt, watcher as start_watch};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::Sender;

use super::objects::{self, HEADLESS_LABEL, PROXY_NAME_LABEL};
use super::track::{EndpointSlices, ServiceCidrs, Services, ThisNode, Track};
use super::{ApiAccess, Event, Kind, SourceBoard};

/// Objects per page of a list.
const PAGE_SIZE: u32 = 500;
/// Seconds after which a watch is renewed: the least, and how far nodes are spread beyond it.
const WATCH_SECONDS: u32 = 45;
const WATCH_SPREAD_SECONDS: u64 = 15;
/// Failures to reach the server after which the client is made anew, and the pause before another
/// attempt at that.
const FAILURES_BEFORE_RECONNECT: u32 = 5;
const RECONNECT: Duration = Duration::from_secs(2);
/// Pause between attempts at a kind that the server does not have or does not show us.
const ABSENT_RETRY: Duration = Duration::from_secs(300);
const ABSENT_ADVICE: &str = "the API server has no ServiceCIDR objects, or they may not be read: \
    every cluster IP gets a route of its own unless --service-cidr is given";

/// Watches until the receiver of `events` is gone. Failures show on the board, and are logged when
/// they begin and when they change. When a server cannot be reached several times running, the
/// client is made anew, of the next server if several are known; what was delivered is
/// remembered meanwhile.
pub async fn run(
    mut access: ApiAccess,
    node_name: String,
    events: Sender<Event>,
    board: SourceBoard,
) {
    let mut tracks = Tracks::default();
    let out = Output { events, board };
    while !out.events.is_closed() {
        match access.connect(&out.board.meter).await {
            Ok(client) => {
                watch_all(&client, &node_name, &mut tracks, &out).await;
                // The next server comes first next time.
                if !access.servers.is_empty() {
                    access.servers.rotate_left(1);
                }
            }
            Err(error) => {
                let text = format!("{:#}", anyhow::Error::new(error));
                out.board.failed(Kind::Services, &text);
                tokio::time::sleep(RECONNECT).await;
            }
        }
    }
}

/// What was delivered of each kind. Outlives a connection.
#[derive(Default)]
struct Tracks {
    services: Services,
    slices: EndpointSlices,
    node: ThisNode,
    cidrs: ServiceCidrs,
}

/// Runs the four watches until one of them cannot reach the server any more.
async fn watch_all(client: &Client, node_name: &str, tracks: &mut Tracks, out: &Output) {
    let config = |kind: Kind| {
        Config::default()
            .page_size(PAGE_SIZE)
            .timeout(watch_seconds(node_name, kind))
    };
    // A Service whose proxy label is put on or taken off leaves or enters the selection, which
    // the API server tells as a deletion or an addition.
    let services = config(Kind::Services).labels(&format!("!{PROXY_NAME_LABEL}"));
    let slices = config(Kind::EndpointSlices).labels(&format!("!{HEADLESS_LABEL}"));
    let node = config(Kind::Node).fields(&format!("metadata.name={node_name}"));
    let cidrs = config(Kind::ServiceCidrs);
    tokio::select! {
        () = follow(watch::<objects::Service>(client, services), &mut tracks.services, out) => {}
        () = follow(watch::<objects::EndpointSlice>(client, slices), &mut tracks.slices, out) => {}
        () = follow(watch::<objects::Node>(client, node), &mut tracks.node, out) => {}
        () = follow(watch::<objects::ServiceCidr>(client, cidrs), &mut tracks.cidrs, out) => {}
    }
}

/// Where a watch puts what it found.
struct Output {
    events: Sender<Event>,
    board: SourceBoard,
}

type Watched<K> = watcher::Result<watcher::Event<K>>;

fn watch<K>(client: &Client, config: Config) -> impl Stream<Item = Watched<K>> + Send + use<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    // Without a backoff the stream is polled in a hot loop while the server is away.
    start_watch(Api::<K>::all(client.clone()), config).default_backoff()
}

/// Ends when nobody receives any more, or when the server cannot be reached.
async fn follow<T: Track>(
    stream: impl Stream<Item = Watched<T::Object>>,
    track: &mut T,
    out: &Output,
) {
    let mut stream = pin!(stream);
    let mut unreachable = 0;
    loop {
        let next = tokio::select! {
            next = stream.next() => next,
            () = out.events.closed() => return,
        };
        let event = match next {
            Some(Ok(event)) => event,
            Some(Err(error)) if T::KIND == Kind::ServiceCidrs && is_absent(&error) => {
                out.board.complains(T::KIND, ABSENT_ADVICE);
                // What was known before stays in force.
                if !deliver(vec![Event::Listed(T::KIND)], out).await {
                    return;
                }
                tokio::select! {
                    () = tokio::time::sleep(ABSENT_RETRY) => {}
                    () = out.events.closed() => return,
                }
                continue;
            }
            Some(Err(error)) => {
                unreachable = if is_answer(&error) {
                    0
                } else {
                    unreachable + 1
                };
                let text = format!("{:#}", anyhow::Error::new(error));
                out.board.failed(T::KIND, &text);
                if unreachable == FAILURES_BEFORE_RECONNECT {
                    return;
                }
                continue;
            }
            None => return,
        };
        // A list "begins" before anything was asked of the server: that is no sign of life.
        if !matches!(event, watcher::Event::Init) {
            unreachable = 0;
            let listed = matches!(event, watcher::Event::InitDone);
            out.board.good(T::KIND, listed);
        }
        let seen = track.observe(event);
        for problem in &seen.problems {
            tracing::warn!(%problem, "a value of an object was left out");
        }
        if !deliver(seen.events, out).await {
            return;
        }
    }
}

/// Waits while the channel is full. False when nobody receives any more.
async fn deliver(events: Vec<Event>, out: &Output) -> bool {
    for event in events {
        if out.events.send(event).await.is_err() {
            return false;
        }
    }
    true
}

/// The server answered, if only to refuse: another server would say the same. A new client would
/// list everything anew, so one kind that may not be read must not cause it.
fn is_answer(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => {
            matches!(error, kube::Error::Api(_) | kube::Error::SerdeError(_))
        }
        watcher::Error::WatchError(_) | watcher::Error::NoResourceVersion => true,
    }
}

/// ServiceCIDR objects came with Kubernetes 1.33; an older role may not cover them either.
fn is_absent(error: &watcher::Error) -> bool {
    matches!(
        error,
        watcher::Error::InitialListFailed(kube::Error::Api(status))
            if matches!(status.code, 403 | 404)
    )
}

/// Spreads the renewals of many nodes and of the kinds on one node over time, without a random
/// source: they keep the place that their name gives them.
fn watch_seconds(node_name: &str, kind: Kind) -> u32 {
    let mut hasher = DefaultHasher::new();
    (node_name, format!("{kind:?}")).hash(&mut hasher);
    let spread = hasher.finish() % (WATCH_SPREAD_SECONDS + 1);
    WATCH_SECONDS + u32::try_from(spread).unwrap_or(0)
}

#[cfg(test)]
mod tests;
