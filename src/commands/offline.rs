//! An agent for a moment: it reads its sources and the kernel, and writes nothing.

use std::time::Duration;

use anyhow::{Context, bail};
use ipvs_sys::Client;
use tokio::sync::mpsc;

use super::choice::{self, Choice};
use super::config::{api_access, engine_config};
use super::explain_ipvs;
use crate::ask::Diff;
use crate::ask::explain::{Asked, Explained};
use crate::cli::{AgentArgs, LogFormat, SourceArgs};
use crate::cluster::{Event, SourceBoard, manifests, watch};
use crate::dataplane::Dataplane;
use crate::dataplane::iptables::IptablesDataplane;
use crate::dataplane::ipvs::IpvsDataplane;
use crate::netfilter::exec::Iptables;
use crate::routing::RouteClient;
use crate::sync::Engine;
use crate::sync::engine::EngineConfig;
use crate::telemetry;

/// What an agent with these flags would change on this node.
pub fn diff(args: &AgentArgs) -> anyhow::Result<Diff> {
    let (choice, client) = choose(args)?;
    let config = engine_config(args, &choice)?;
    let iptables = Iptables::detect().context("find iptables")?;
    if choice.serves_by_ipvs {
        let settings = config.settings.clone();
        let mut dataplane = IpvsDataplane::with(iptables, client, settings)?;
        compare(&mut dataplane, engine(config, &args.source)?)
    } else {
        let mut dataplane = IptablesDataplane::with(iptables)?;
        let policy = config.settings.policy.clone();
        compare(
            &mut dataplane,
            engine(config.with_settings(policy), &args.source)?,
        )
    }
}

/// What an agent with these flags would answer about a Service or a packet. Nobody needs to be root.
pub fn explain(args: &AgentArgs, asked: &Asked) -> anyhow::Result<Explained> {
    let choice = choice::expect(&args.services)?;
    let config = engine_config(args, &choice)?;
    if choice.serves_by_ipvs {
        knowing(engine::<IpvsDataplane>(config, &args.source)?, asked)
    } else {
        let policy = config.settings.policy.clone();
        let config = config.with_settings(policy);
        knowing(engine::<IptablesDataplane>(config, &args.source)?, asked)
    }
}

/// It goes by where the node stands, and by nothing else of the kernel's.
fn knowing<D: Dataplane>(mut engine: Engine<D>, asked: &Asked) -> anyhow::Result<Explained> {
    let network = RouteClient::open().and_then(|mut routes| routes.node_network());
    engine.set_node_network(network.context("read the node's addresses")?);
    engine.refresh_network();
    engine.resolve_dirty(None);
    Ok(engine.explain(asked))
}

/// The dataplane that an agent would take.
fn choose(args: &AgentArgs) -> anyhow::Result<(Choice, Option<Client>)> {
    let choice = choice::expect(&args.services)?;
    let client = match choice::is_loaded() && choice.serves_by_ipvs {
        true => Some(Client::open().map_err(explain_ipvs)?),
        false => None,
    };
    Ok((choice, client))
}

fn compare<D: Dataplane>(dataplane: &mut D, mut engine: Engine<D>) -> anyhow::Result<Diff> {
    engine.set_node_network(dataplane.node_network()?);
    let observed = dataplane.observe(None)?;
    engine.refresh_network();
    engine.resolve_dirty(None);
    Ok(engine.diff_anew(&observed))
}

/// An engine that has been told everything once.
fn engine<D: Dataplane>(
    config: EngineConfig<D::Settings>,
    source: &SourceArgs,
) -> anyhow::Result<Engine<D>> {
    // What the sources complain of belongs on standard error.
    telemetry::start(LogFormat::Text, "warn")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut engine = Engine::new(config);
    runtime.block_on(listen(&mut engine, source))?;
    // A watch may be waiting for the API server; nobody needs its answer.
    runtime.shutdown_background();
    Ok(engine)
}

async fn listen<D: Dataplane>(engine: &mut Engine<D>, source: &SourceArgs) -> anyhow::Result<()> {
    let (deliver, mut events) = mpsc::channel::<Event>(EVENT_QUEUE);
    let (board, node) = (SourceBoard::default(), source.node_name.clone());
    let sources = board.clone();
    match source.manifests.clone() {
        Some(directory) => {
            tokio::spawn(manifests::run(directory, node, deliver, sources));
        }
        None => {
            tokio::spawn(watch::run(api_access(source), node, deliver, sources));
        }
    }
    let told = async {
        while !engine.index().synced() {
            match events.recv().await {
                Some(event) => engine.take(event),
                None => return,
            }
        }
    };
    tokio::select! {
        () = told => {}
        () = failing(&board) => {}
        () = tokio::time::sleep(PATIENCE) => {}
    }
    if engine.index().synced() {
        return Ok(());
    }
    let states = board.states();
    let error = states.values().find_map(|state| state.last_error.clone());
    let error = error.unwrap_or_else(|| "it does not answer".to_owned());
    bail!(
        "the source has not told {:?}: {error}",
        engine.index().missing()
    );
}

/// Until a source has failed several times in a row.
async fn failing(board: &SourceBoard) {
    let fails = || {
        board
            .states()
            .values()
            .any(|state| state.errors_in_a_row >= FAILURES)
    };
    while !fails() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// As many as an API server that restarts may give.
const FAILURES: u32 = 3;

/// Enough for a large cluster's lists.
const PATIENCE: Duration = Duration::from_secs(30);
const EVENT_QUEUE: usize = 4096;
