//! The chart on real nodes: kubelet, containerd, runc and a network plugin, controllers, scheduler and CoreDNS, and no
//! kube-proxy, so that whatever reaches a Service does so by the agent.
//!
//! * `nodes` what runs: namespaces on one network, and the processes in them; `images` what the pods are made of
//! * `pods` pods and their processes; `node_state` what the kernel's tools tell of a node
//! * `stream` connections that go on while something is changed
//! * `story` a release from its installation to its removal, one check after the other

mod images;
mod node_state;
mod nodes;
mod pods;
mod story;
mod stream;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::chart::helm::Helm;
use crate::chart::server::Server;
use crate::dataplane::Dataplane;
use crate::guest::cluster::ApiServer;
use crate::protocol::Verdict;
use nodes::Machines;
use story::Story;

/// What `integration/setup/cluster.sh` builds, below the cache's `bin`, and the name by which it is run.
pub const PROGRAMS: [(&str, &str); 11] = [
    ("kube-controller-manager-v1.36.3", "kube-controller-manager"),
    ("kube-scheduler-v1.36.3", "kube-scheduler"),
    ("kubelet-v1.36.3", "kubelet"),
    ("containerd-v2.4.2", "containerd"),
    ("containerd-shim-runc-v2-v2.4.2", "containerd-shim-runc-v2"),
    ("ctr-v2.4.2", "ctr"),
    ("runc-v1.5.2", "runc"),
    ("host-local-v1.9.1", "host-local"),
    ("loopback-v1.9.1", "loopback"),
    ("ptp-v1.9.1", "ptp"),
    ("coredns-v1.14.2", "coredns"),
];
/// Where the pods of all nodes are.
pub const POD_NETWORK: &str = "10.244.0.0/16";

/// What the host tells.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// By what the agents serve here
    #[arg(long, value_enum)]
    dataplane: Dataplane,
    /// The agent's image, an archive
    #[arg(long)]
    image: PathBuf,
    #[arg(long)]
    cache: PathBuf,
    /// The project
    #[arg(long)]
    tree: PathBuf,
    #[arg(long)]
    work: PathBuf,
    /// How the names of the nodes' groups of processes begin
    #[arg(long)]
    groups: String,
    #[arg(long)]
    api: String,
    /// Who signed its certificate
    #[arg(long)]
    authority: PathBuf,
    /// By what tokens of ServiceAccounts are signed
    #[arg(long)]
    account_key: PathBuf,
}

/// Starts everything, runs the checks and ends with a verdict. A check rests on those before it: the first that fails
/// is the last, and says what the cluster looks like.
pub fn run(arguments: &Arguments) -> Result<()> {
    let server = Server::connect(ApiServer {
        url: arguments.api.clone(),
        authority: arguments.authority.clone(),
    })?;
    let images = arguments.work.join("images");
    fs::create_dir_all(&images)?;
    let coredns = arguments.cache.join("bin/coredns-v1.14.2");
    images::make(&arguments.work, &coredns, &images)?;
    fs::copy(&arguments.image, images.join("ipvs-agent.tar"))
        .with_context(|| format!("no image {}", arguments.image.display()))?;
    let mut machines = Machines::start(arguments, &server)?;
    let helm = arguments.cache.join(crate::chart::HELM_4);
    let mut story = Story::new(
        Helm::new(&helm, &arguments.work, &server),
        server,
        &arguments.tree,
        arguments.dataplane,
    );
    let (mut passed, mut failed) = (0, 0);
    for (name, check) in story::CHECKS {
        match check(&mut story) {
            Ok(said) => {
                passed += 1;
                println!(
                    "ok   {name}{}{said}",
                    if said.is_empty() { "" } else { ": " }
                );
            }
            Err(error) => {
                failed += 1;
                println!("FAIL {name}: {error:#}");
                println!("{}\n{}", described(&story.server), machines.logs());
                break;
            }
        }
    }
    Verdict { passed, failed }.announce();
    Ok(())
}

/// Each pod's containers, and what was said about whatever it was.
fn described(server: &Server) -> String {
    let mut text = String::new();
    for namespace in ["default", "kube-system"] {
        for pod in server.list("Pod", namespace).unwrap_or_default() {
            let (name, status) = (&pod["metadata"]["name"], &pod["status"]);
            let containers = ["initContainerStatuses", "containerStatuses"].map(|of| &status[of]);
            let states = containers
                .into_iter()
                .flat_map(|of| of.as_array().into_iter().flatten());
            for container in states {
                let (state, last) = (&container["state"], &container["lastState"]);
                text += &format!("{name} {} {state} before: {last}\n", container["name"]);
            }
        }
        for event in server.list("Event", namespace).unwrap_or_default() {
            if event["type"] != "Normal" {
                let about = &event["regarding"]["name"];
                text += &format!("{about} {} {}\n", event["reason"], event["note"]);
            }
        }
    }
    text
}

/// The chart's values here.
const VALUES: &str = "integration/cluster/values.yaml";
/// What runs beside the agent.
const WORKLOAD: &str = "integration/cluster/workload.yaml";
