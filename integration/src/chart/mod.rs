//! The Helm chart: what it renders, refuses, installs, permits, and alerts of.
//!
//! * `helm` the two Helms; `server` the API server beside them
//! * `render` goldens; `configuration` one schema with the agent; `refusals` what ends an installation
//! * `lifecycle` install to uninstall, what the API server says of each object, Pod Security
//! * `permissions` the agent with the chart's own ServiceAccount, and with one verb less
//! * `prometheus` one that scrapes an agent; `exposition` and `alerts` promtool; `documents` the tables and entries that go with the values and the alerts

mod alerts;
mod configuration;
mod documents;
mod exposition;
pub mod helm;
mod lifecycle;
mod permissions;
mod prometheus;
mod refusals;
mod render;
pub mod server;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::guest::checks::{self, Check};
use crate::guest::cluster::ApiServer;
use helm::Helm;
use server::Server;

/// Below the cache, by version.
pub const HELM_4: &str = "bin/helm-v4.3.1";
pub const HELM_3: &str = "bin/helm-v3.22.0";
pub const PROMTOOL: &str = "bin/promtool";
pub const PROMETHEUS: &str = "bin/prometheus";
pub const CRDS: &str = "crds-v0.87.1";

/// What the host tells.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[arg(long)]
    agent: PathBuf,
    #[arg(long)]
    cache: PathBuf,
    /// The project
    #[arg(long)]
    tree: PathBuf,
    #[arg(long)]
    work: PathBuf,
    #[arg(long)]
    api: String,
    /// Who signed its certificate
    #[arg(long)]
    authority: PathBuf,
    #[arg(long)]
    update: bool,
    names: Vec<String>,
}

/// What the checks are made with.
struct Bench {
    agent: PathBuf,
    tree: PathBuf,
    work: PathBuf,
    update: bool,
    promtool: PathBuf,
    prometheus: PathBuf,
    /// Helm 4 and Helm 3.
    helms: [Helm; 2],
    server: Server,
}

impl Bench {
    fn chart(&self) -> PathBuf {
        self.tree.join("charts/ipvs-agent")
    }

    /// A text of the chart's folder.
    fn read(&self, path: impl AsRef<Path>) -> Result<String> {
        let path = self.chart().join(path);
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// The sets of values in `ci/`, by name.
    fn value_sets(&self) -> Result<Vec<(String, PathBuf)>> {
        let mut sets = Vec::new();
        for entry in std::fs::read_dir(self.chart().join("ci"))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if let Some(name) = name.strip_suffix("-values.yaml") {
                sets.push((name.to_owned(), path.clone()));
            }
        }
        sets.sort();
        ensure!(sets.len() >= 5, "only {} sets of values in ci/", sets.len());
        Ok(sets)
    }
}

const CHECKS: [Check<Bench>; 25] = [
    ("lint", render::lint),
    ("goldens", render::goldens),
    ("schema-has-the-fields", configuration::fields),
    ("schema-has-the-choices", configuration::choices),
    ("schema-is-no-laxer", configuration::values),
    ("rendered-configuration", configuration::rendered),
    ("refusals", refusals::refusals),
    ("readme", documents::readme),
    ("version", documents::version),
    ("runbook", documents::runbook),
    ("alert-rules", alerts::rules),
    ("alert-tests", alerts::tests),
    ("dashboard-queries", alerts::dashboard),
    ("objects", lifecycle::objects),
    ("pod-security", lifecycle::pod_security),
    ("helm-4", lifecycle::helm_4),
    ("helm-3", lifecycle::helm_3),
    ("permitted", permissions::permitted),
    ("unprivileged", permissions::unprivileged),
    ("test-command", permissions::test_command),
    ("metrics-exist", permissions::metrics),
    ("metrics-please-promtool", exposition::exposition),
    ("panels-have-answers", prometheus::panels),
    ("each-verb-is-missed", permissions::each_verb),
    ("no-verb-is-idle", permissions::no_verb_is_idle),
];

/// Runs the checks and ends with a verdict.
pub fn run(arguments: &Arguments) -> Result<()> {
    let server = Server::connect(ApiServer {
        url: arguments.api.clone(),
        authority: arguments.authority.clone(),
    })?;
    let helm = |path| Helm::new(&arguments.cache.join(path), &arguments.work, &server);
    let bench = Bench {
        agent: arguments.agent.clone(),
        tree: arguments.tree.clone(),
        work: arguments.work.clone(),
        update: arguments.update,
        promtool: arguments.cache.join(PROMTOOL),
        prometheus: arguments.cache.join(PROMETHEUS),
        helms: [helm(HELM_4), helm(HELM_3)],
        server,
    };
    bench.server.crds(&arguments.cache.join(CRDS))?;
    let wanted = |name: &str| {
        let names = &arguments.names;
        names.is_empty() || names.iter().any(|part| name.contains(part.as_str()))
    };
    checks::run(&bench, CHECKS.iter().filter(|(name, _)| wanted(name)));
    Ok(())
}
