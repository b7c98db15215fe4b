//! Services, EndpointSlices, this Node and ServiceCIDRs from an API server: paged lists, then
//! watches. The shell; what an object means is decided in `convert`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures_util::{StreamExt, future};
use ipnet::IpNet;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::Sender;
use tracing::warn;

use super::board::SourceBoard;
use super::connect::ApiAccess;
use super::convert::{self, Problem};
use super::event::{Event, Kind};
use super::objects::{EndpointSlice, Node, Service, ServiceCIDR};
use crate::model::{NodeInfo, ObjectName};

/// Watches until the receiver of events is gone. After repeated failures it connects anew, to the
/// next server if several are known.
pub async fn run(access: ApiAccess, node_name: String, events: Sender<Event>, board: SourceBoard) {
    let mut access = access;
    let mut delivered = Delivered::default();
    while !events.is_closed() {
        match access.connect().await {
            Ok(client) => {
                watch_all(client, &node_name, &events, &board, &mut delivered).await;
                // The next server comes first next time.
                if !access.servers.is_empty() {
                    access.servers.rotate_left(1);
                }
            }
            Err(error) => {
                let text = format!("{:#}", anyhow::Error::new(error));
                board.failed(Kind::Services, &text);
                tokio::time::sleep(RECONNECT).await;
            }
        }
    }
}

/// What was delivered, so that a new list can tell what is gone. Outlives a connection.
#[derive(Default)]
struct Delivered {
    services: BTreeSet<ObjectName>,
    slices: BTreeSet<ObjectName>,
    cidrs: BTreeMap<ObjectName, Vec<IpNet>>,
}

/// Runs the four watches until one of them fails for good.
async fn watch_all(
    client: Client,
    node_name: &str,
    events: &Sender<Event>,
    board: &SourceBoard,
    delivered: &mut Delivered,
) {
    let sink = Sink { events, board };
    let services = follow(
        Api::<Service>::all(client.clone()),
        config().labels("!service.kubernetes.io/service-proxy-name"),
        Kind::Services,
        &sink,
        &mut delivered.services,
        |object, problems| {
            let spec = Box::new(convert::service(&object, problems));
            Some(Event::ServiceApplied(convert::object_name(&object), spec))
        },
        Event::ServiceDeleted,
    );
    let slices = follow(
        Api::<EndpointSlice>::all(client.clone()),
        config().labels("!service.kubernetes.io/headless"),
        Kind::EndpointSlices,
        &sink,
        &mut delivered.slices,
        |object, problems| {
            let slice = Box::new(convert::endpoint_slice(&object, problems)?);
            Some(Event::SliceApplied(convert::object_name(&object), slice))
        },
        Event::SliceDeleted,
    );
    let mut nodes = BTreeSet::new();
    let node = follow(
        Api::<Node>::all(client.clone()),
        config().fields(&format!("metadata.name={node_name}")),
        Kind::Node,
        &sink,
        &mut nodes,
        |object, problems| {
            let info: NodeInfo = convert::node(&object, problems);
            Some(Event::NodeApplied(Box::new(info)))
        },
        |_| Event::NodeDeleted,
    );
    let cidrs = follow_cidrs(Api::<ServiceCIDR>::all(client), &sink, &mut delivered.cidrs);
    let watches: [std::pin::Pin<Box<dyn Future<Output = ()> + Send>>; 4] = [
        Box::pin(services),
        Box::pin(slices),
        Box::pin(node),
        Box::pin(cidrs),
    ];
    future::select_all(watches).await;
}

struct Sink<'a> {
    events: &'a Sender<Event>,
    board: &'a SourceBoard,
}

impl Sink<'_> {
    /// False once nobody listens.
    async fn send(&self, event: Event) -> bool {
        self.events.send(event).await.is_ok()
    }

    fn tell(&self, problems: &[Problem]) {
        for problem in problems {
            warn!(%problem, "bad object");
        }
    }
}

/// Follows one kind until it fails too often. `delivered` holds the names told and not deleted.
async fn follow<K>(
    api: Api<K>,
    config: watcher::Config,
    kind: Kind,
    sink: &Sink<'_>,
    delivered: &mut BTreeSet<ObjectName>,
    convert: impl Fn(K, &mut Vec<Problem>) -> Option<Event>,
    deletion: impl Fn(ObjectName) -> Event,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut stream = pin!(watcher(api, config).default_backoff());
    let mut listing: BTreeSet<ObjectName> = BTreeSet::new();
    while let Some(event) = stream.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                if sink.board.failed(kind, &error_text(error)) >= FAILURES_BEFORE_RECONNECT {
                    return;
                }
                continue;
            }
        };
        let mut out = Vec::new();
        let mut problems = Vec::new();
        let is_listed = matches!(event, watcher::Event::InitDone);
        match event {
            watcher::Event::Init => listing.clear(),
            watcher::Event::InitApply(object) | watcher::Event::Apply(object) => {
                let name = convert::object_name(&object);
                match convert(object, &mut problems) {
                    Some(event) => {
                        listing.insert(name.clone());
                        delivered.insert(name);
                        out.push(event);
                    }
                    // It was of interest and is no longer.
                    None if delivered.remove(&name) => out.push(deletion(name)),
                    None => {}
                }
            }
            watcher::Event::Delete(object) => {
                let name = convert::object_name(&object);
                if delivered.remove(&name) {
                    out.push(deletion(name));
                }
            }
            watcher::Event::InitDone => {
                let gone: Vec<_> = delivered.difference(&listing).cloned().collect();
                *delivered = std::mem::take(&mut listing);
                out.extend(gone.into_iter().map(&deletion));
                out.push(Event::Listed(kind));
            }
        }
        sink.tell(&problems);
        sink.board.good(kind, is_listed);
        for event in out {
            if !sink.send(event).await {
                return;
            }
        }
    }
}

/// Follows ServiceCIDRs. API servers before 1.33 have none, and a role may not permit them: then
/// the list is empty, said once, and asked for again now and then.
async fn follow_cidrs(
    api: Api<ServiceCIDR>,
    sink: &Sink<'_>,
    known: &mut BTreeMap<ObjectName, Vec<IpNet>>,
) {
    loop {
        let mut stream = pin!(watcher(api.clone(), config()).default_backoff());
        let mut listing = BTreeMap::new();
        while let Some(event) = stream.next().await {
            let mut problems = Vec::new();
            let mut listed = false;
            match event {
                Err(error) if is_absent(&error) => {
                    let advice = "the API server has no ServiceCIDR objects, or they may not be \
                                  read: every cluster IP gets a route of its own unless \
                                  --service-cidr is given";
                    sink.board.failed(Kind::ServiceCidrs, advice);
                    if !sink.send(Event::Listed(Kind::ServiceCidrs)).await {
                        return;
                    }
                    break;
                }
                Err(error) => {
                    let failures = sink.board.failed(Kind::ServiceCidrs, &error_text(error));
                    if failures >= FAILURES_BEFORE_RECONNECT {
                        return;
                    }
                    continue;
                }
                Ok(watcher::Event::Init) => listing.clear(),
                Ok(watcher::Event::InitApply(object)) => {
                    let cidrs = convert::service_cidrs(&object, &mut problems);
                    listing.insert(convert::object_name(&object), cidrs);
                }
                Ok(watcher::Event::InitDone) => {
                    *known = std::mem::take(&mut listing);
                    listed = true;
                }
                Ok(watcher::Event::Apply(object)) => {
                    let cidrs = convert::service_cidrs(&object, &mut problems);
                    known.insert(convert::object_name(&object), cidrs);
                }
                Ok(watcher::Event::Delete(object)) => {
                    known.remove(&convert::object_name(&object));
                }
            }
            sink.tell(&problems);
            sink.board.good(Kind::ServiceCidrs, listed);
            let all = known.values().flatten().map(IpNet::trunc).collect();
            if !sink.send(Event::ServiceCidrs(all)).await {
                return;
            }
            if listed && !sink.send(Event::Listed(Kind::ServiceCidrs)).await {
                return;
            }
        }
        tokio::time::sleep(ABSENT_AGAIN).await;
    }
}

fn config() -> watcher::Config {
    watcher::Config::default()
        .page_size(500)
        .timeout(WATCH_SECONDS)
}

fn is_absent(error: &watcher::Error) -> bool {
    let status = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status,
        _ => return false,
    };
    matches!(status.code, 403 | 404)
}

fn error_text(error: watcher::Error) -> String {
    format!("{:#}", anyhow::Error::new(error))
}

/// A watch ends by itself after so long, so that a server that vanished is noticed.
const WATCH_SECONDS: u32 = 50;
const FAILURES_BEFORE_RECONNECT: u32 = 5;
const RECONNECT: Duration = Duration::from_secs(2);
const ABSENT_AGAIN: Duration = Duration::from_secs(300);
