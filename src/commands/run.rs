//! `ipvs-agent run`: starts the parts and keeps them until a signal.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use ipvs_sys::Client;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::choice::{self, Choice, choose};
use super::config::{api_access, engine_config, positive};
use super::{print, systemd, tell};
use crate::ask;
use crate::ask::server::AskSocket;
use crate::cli::{RunArgs, RuntimeArgs, TrafficMetrics};
use crate::cluster::{Event, SourceBoard, manifests, watch};
use crate::dataplane::iptables::IptablesDataplane;
use crate::dataplane::ipvs::{IpvsDataplane, Settings};
use crate::dataplane::{self, Dataplane, remove_all};
use crate::events;
use crate::http::service_health::ServiceHealth;
use crate::http::{Pages, listen, serve_health, serve_metrics};
use crate::metrics::traffic::{Extent, Told, Traffic};
use crate::model::{Moment, Notice, Problem, Topic};
use crate::netfilter::exec::Iptables;
use crate::routing::AddressWatch;
use crate::sync::engine::EngineConfig;
use crate::sync::{Board, Engine, Loop, Memory, Outlets, Retire, Timing};
use crate::telemetry;

/// Runs the agent. `effective` are the flags in force, with what a file says; `warnings` what it says in vain.
pub fn run(
    args: RunArgs,
    effective: serde_json::Map<String, serde_json::Value>,
    warnings: &[String],
) -> anyhow::Result<()> {
    if args.file.check_config {
        return check_config(&args, &effective, warnings);
    }
    telemetry::start(args.runtime.log_format, &args.runtime.log)
        .with_context(|| format!("--log {:?} is not a filter", args.runtime.log))?;
    let timing = Timing {
        audit_interval: positive("--audit-interval", args.runtime.audit_interval)?,
        seed: seed(&args.agent.source.node_name),
    };
    if let Some(file) = &args.file.config.config {
        for warning in warnings {
            warn!(file = %file.display(), "{warning}");
        }
    }
    let services = &args.agent.services;
    let client = choice::open(services.dataplane)?;
    let choice = choose(services.dataplane, &services.scheduler, client.is_some())?;
    let config = engine_config(&args.agent, &choice)?;
    // Two, so that health and metrics answer while a large list is decoded.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let said = Said::of(&choice, effective);
    source_patience(&args)?;
    let doors = runtime.block_on(Doors::open(&args))?;
    match client {
        Some(mut client) => {
            let (major, minor, patch) = client.info()?.version;
            let version = format!("{major}.{minor}.{patch}");
            let dataplane = IpvsDataplane::open(Some(client), config.settings.clone())?;
            log_start(&args, &config, &version, dataplane.iptables().name());
            let retire = retire(IptablesDataplane::with);
            runtime.block_on(serve(args, config, timing, said, doors, dataplane, retire))
        }
        None => {
            let dataplane = IptablesDataplane::open()?;
            log_start(&args, &config, "none", dataplane.iptables().name());
            let settings = config.settings.clone();
            let retire = retire(move |iptables| ipvs_left(iptables, &settings));
            let policy = config.settings.policy.clone();
            let config = config.with_settings(policy);
            runtime.block_on(serve(args, config, timing, said, doors, dataplane, retire))
        }
    }
}

/// Everything that a start would refuse is refused; nothing is opened, read or written.
fn check_config(
    args: &RunArgs,
    effective: &serde_json::Map<String, serde_json::Value>,
    warnings: &[String],
) -> anyhow::Result<()> {
    positive("--audit-interval", args.runtime.audit_interval)?;
    source_patience(args)?;
    telemetry::filter(&args.runtime.log)
        .with_context(|| format!("--log {:?} is not a filter", args.runtime.log))?;
    engine_config(&args.agent, &choice::expect(&args.agent.services)?)?;
    for warning in warnings {
        tell(format_args!("warning: {warning}"));
    }
    print(&serde_saphyr::to_string(effective)?)
}

/// What may be taken by somebody else: opened before the dataplane is, whose sockets must not be dropped
/// where nothing may wait.
struct Doors {
    health: TcpListener,
    metrics: TcpListener,
    /// Before the addresses are first read, so that no change falls in between.
    watch: AddressWatch,
}

impl Doors {
    async fn open(args: &RunArgs) -> anyhow::Result<Self> {
        Ok(Self {
            health: listen(args.runtime.health_address).await?,
            metrics: listen(args.runtime.metrics_address).await?,
            watch: AddressWatch::open().context("cannot follow the node's addresses")?,
        })
    }
}

fn source_patience(args: &RunArgs) -> anyhow::Result<Duration> {
    let patience = Duration::try_from(args.runtime.source_patience);
    patience.map_err(|_| anyhow!("--source-patience must not be less than 0"))
}

/// What the pages and the Node's Events say of the dataplane.
struct Said {
    effective: serde_json::Map<String, serde_json::Value>,
    dataplane: &'static str,
    reason: &'static str,
    problems: Vec<Problem>,
}

impl Said {
    fn of(choice: &Choice, effective: serde_json::Map<String, serde_json::Value>) -> Self {
        Self {
            effective,
            dataplane: choice.name(),
            reason: choice.reason,
            problems: choice.problems.clone(),
        }
    }
}

fn log_start(args: &RunArgs, config: &EngineConfig<Settings>, ipvs: &str, iptables: &str) {
    info!(
        version = env!("CARGO_PKG_VERSION"),
        node = args.agent.source.node_name,
        kernel = %rustix::system::uname().release().to_string_lossy(),
        ipvs,
        schedulers = config.policy.schedulers.iter().cloned().collect::<Vec<_>>().join(","),
        iptables,
        source = source_name(args),
        "ipvs-agent starts"
    );
}

/// Removes what another dataplane has on the node, in every variant of iptables, but for what this one
/// uses too.
fn retire<D: Dataplane>(
    open: impl Fn(Iptables) -> Result<D, dataplane::Error> + Send + 'static,
) -> Retire {
    Box::new(move || {
        let mut removed = 0;
        // The sets go once no variant has rules that ask them.
        for last in [false, true] {
            for iptables in Iptables::installed() {
                let report = remove_all(&mut open(iptables)?, true)?;
                removed += report.applied;
                let left = report.failed.len() + report.skipped;
                if let Some(failure) = report.failed.into_iter().next().filter(|_| last) {
                    return Err(failure.source);
                }
                if last && (left > 0 || report.reobserve) {
                    let text = format!("{left} objects are left");
                    return Err(dataplane::Error::new("remove it all", text));
                }
            }
        }
        Ok(removed)
    })
}

/// IPVS as another dataplane finds it. To ask for it where it is not loaded would load it.
fn ipvs_left(iptables: Iptables, settings: &Settings) -> Result<IpvsDataplane, dataplane::Error> {
    let client = match choice::is_loaded() {
        false => None,
        true => match Client::open() {
            Ok(client) => Some(client),
            Err(error) if error.is_no_module() => None,
            Err(error) => return Err(dataplane::Error::new("open IPVS", error)),
        },
    };
    IpvsDataplane::with(iptables, client, settings.clone())
}

async fn serve<D>(
    args: RunArgs,
    config: EngineConfig<D::Settings>,
    timing: Timing,
    said: Said,
    doors: Doors,
    dataplane: D,
    retire: Retire,
) -> anyhow::Result<()>
where
    D: Dataplane + Send + 'static,
    D::Settings: Send,
    D::Target: Send,
    D::Observed: Send,
{
    let shutdown = CancellationToken::new();
    let source_patience = source_patience(&args)?;
    let Doors {
        health,
        metrics,
        watch,
    } = doors;
    let started = start_of_clock();
    let sources = SourceBoard::new(clock(started));
    let counted = Told::default();
    let traffic = traffic(&args.runtime, D::name(), &counted);
    let board = Arc::new(Board::with_traffic(sources.clone(), counted));
    board.serves_by(said.dataplane, said.reason, D::STEP_KINDS);
    let pages = Pages {
        board: board.clone(),
        traffic: traffic.clone(),
        dataplane: said.dataplane,
        effective: Arc::new(said.effective),
        started,
        patience: timing.patience(),
        source_patience,
    };
    tokio::spawn(serve_health(health, pages.clone(), shutdown.clone()));
    tokio::spawn(serve_metrics(metrics, pages.clone(), shutdown.clone()));

    let (deliver, receiver) = mpsc::channel::<Event>(EVENT_QUEUE);
    let node_name = args.agent.source.node_name.clone();
    let mut outlets = Outlets {
        names: traffic.as_deref().map(Traffic::names),
        ..Outlets::default()
    };
    let access = api_access(&args.agent.source);
    match args.agent.source.manifests {
        Some(directory) => {
            tokio::spawn(manifests::run(
                directory,
                node_name.clone(),
                deliver,
                sources,
            ));
        }
        None => {
            let counted = board.clone();
            let reporter = events::Reporter {
                access: access.clone(),
                meter: sources.meter.clone(),
                node: node_name.clone(),
                seed: timing.seed,
                clock: clock(started),
                count: Box::new(move |end, count| counted.events(end, count)),
            };
            let (notices, noticed) = mpsc::unbounded_channel::<Notice>();
            outlets.notices = Some(notices);
            tokio::spawn(events::run(reporter, noticed, shutdown.clone()));
            tokio::spawn(watch::run(access, node_name.clone(), deliver, sources));
        }
    }
    for problem in &said.problems {
        warn!("{problem}");
    }
    if !said.problems.is_empty() {
        outlets.notice(Notice::of_node(&node_name, Topic::Dataplane, said.problems));
    }
    let (health_checks, changes) = mpsc::unbounded_channel();
    outlets.health_checks = Some(health_checks);
    let supervised = pages.clone();
    let service_health = ServiceHealth::new(pages, node_name, outlets.notices.clone());
    tokio::spawn(service_health.run(changes, shutdown.clone()));

    let (asks, questions) = ask::channel();
    match AskSocket::open(&args.runtime.socket) {
        Ok(socket) => {
            tokio::spawn(socket.serve(asks, shutdown.clone()));
        }
        Err(error) => warn!(
            path = %args.runtime.socket.display(),
            %error,
            "cannot listen for the other commands: they will show no names of Services"
        ),
    }

    let memory = Memory::default();
    let told = memory.addresses.clone();
    tokio::spawn(watch.run(move || told.notify_one()));

    let kernel = Loop {
        dataplane,
        engine: Engine::new(config),
        events: receiver,
        questions,
        board,
        outlets,
        timing,
        shutdown: shutdown.clone(),
        clock: clock(started),
        memory,
        retire: Some(retire),
    };
    let mut thread = tokio::task::spawn_blocking(move || kernel.run());
    tokio::spawn(systemd::tell(supervised));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        ended = &mut thread => {
            ended.context("the kernel thread failed")?;
            bail!("the kernel thread ended");
        }
    }
    systemd::stopping();
    shutdown.cancel();
    thread.await.context("the kernel thread failed")
}

/// What the kernel counts for Services, if it is asked for and there is IPVS to count it.
fn traffic(args: &RuntimeArgs, dataplane: &str, told: &Told) -> Option<Arc<Traffic>> {
    let backends = match args.traffic_metrics {
        TrafficMetrics::None => return None,
        TrafficMetrics::Services => false,
        TrafficMetrics::Backends => true,
    };
    if dataplane != IpvsDataplane::name() {
        warn!("--traffic-metrics is in vain: this node is served by {dataplane}, only IPVS counts");
        return None;
    }
    let extent = Extent {
        backends,
        series: usize::try_from(args.traffic_metrics_limit).unwrap_or(usize::MAX),
    };
    Some(Arc::new(Traffic::new(extent, told.clone())))
}

fn source_name(args: &RunArgs) -> String {
    match &args.agent.source.manifests {
        Some(directory) => format!("manifests in {}", directory.display()),
        None if !args.agent.source.apiserver.is_empty() => args.agent.source.apiserver.join(","),
        None => match args.agent.source.kubeconfig() {
            Some(file) => format!("kubeconfig {}", file.display()),
            None => "in-cluster".to_owned(),
        },
    }
}

/// FNV-1a of the node's name: the same after a restart, different on each node.
fn seed(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[expect(clippy::disallowed_methods, reason = "the shell's clock")]
fn start_of_clock() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the shell's clock")]
fn clock(started: Instant) -> Box<dyn Fn() -> Moment + Send + Sync> {
    Box::new(move || Moment(Instant::now().saturating_duration_since(started)))
}

/// Enough that a list of 10,000 objects does not wait for each.
const EVENT_QUEUE: usize = 4096;
