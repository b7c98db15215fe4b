//! A release from its installation to its removal, one check after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::node_state::node_state;
use super::nodes::{NODES, address};
use super::pods::{Pod, Process};
use super::stream::{Line, Record, Stream, demand_none_failed, judge};
use super::{VALUES, WORKLOAD};
use crate::chart::helm::{Helm, NAMESPACE, RELEASE, objects, text};
use crate::chart::server::Server;
use crate::dataplane::Dataplane;
use crate::guest::state::differences;
use crate::guest::wait::eventually_within;
use crate::guest::{http, sh, sh_in};

/// What the checks have in common.
pub struct Story {
    helm: Helm,
    pub server: Server,
    tree: PathBuf,
    dataplane: Dataplane,
    /// Each node before anything was installed.
    before: BTreeMap<&'static str, BTreeSet<String>>,
    stream: Option<Stream>,
}

/// What it says beside that it passed.
type Said = Result<String>;

type Check = (&'static str, fn(&mut Story) -> Said);

pub const CHECKS: [Check; 11] = [
    ("nodes-ready", Story::nodes_ready),
    ("install", Story::install),
    ("confined", Story::confined),
    ("services", Story::services),
    ("cluster-dns", Story::cluster_dns),
    ("helm-test", Story::helm_test),
    ("upgrade", Story::upgrade),
    ("rollback", Story::rollback),
    ("agent-killed", Story::agent_killed),
    ("agent-hangs", Story::agent_hangs),
    ("uninstall", Story::uninstall),
];

impl Story {
    pub fn new(helm: Helm, server: Server, tree: &Path, dataplane: Dataplane) -> Self {
        Self {
            helm,
            server,
            tree: tree.to_owned(),
            dataplane,
            before: BTreeMap::new(),
            stream: None,
        }
    }

    /// Nodes are ready, and so are the pods that need no Service. No Service answers: nobody serves any.
    fn nodes_ready(&mut self) -> Said {
        // An account that a pod's token is of comes after the namespace.
        eventually_within(LIMIT, "the default ServiceAccount", || {
            let accounts = self.server.names("ServiceAccount", "default")?;
            Ok(demand(accounts.contains(&"default".to_owned()), || {
                format!("{accounts:?}")
            }))
        })?;
        for object in objects(&fs::read_to_string(self.tree.join(WORKLOAD))?)? {
            self.server.apply(&object)?;
        }
        eventually_within(LIMIT, "the nodes are ready", || {
            let nodes = self.server.list("Node", "")?;
            let ready = nodes.iter().filter(|node| is_ready(node)).count();
            Ok(demand(ready == NODES.len(), || format!("{ready} are")))
        })?;
        for name in ["web", "client"] {
            self.rolled_out("default", name)?;
        }
        for node in NODES {
            let pod = Pod::on(&self.server, "default", ("app", "client"), node)?;
            pod.attach(&client(node))?;
        }
        // It waits for the API server, which it reaches by a Service.
        eventually_within(LIMIT, "CoreDNS has a network", || {
            let pods = self.server.list("Pod", NAMESPACE)?;
            let has = pods.iter().any(|pod| pod["status"]["podIP"].is_string());
            Ok(demand(has, || "it has no address".to_owned()))
        })?;
        for line in lines()? {
            let answer = http::get(&line.from, line.to, "/name");
            let answered = matches!(answer, Ok(Some(_)));
            ensure!(!answered, "{line:?} answers before the agent is there");
        }
        for node in NODES {
            self.before.insert(node, node_state(self.dataplane, node)?);
        }
        Ok(String::new())
    }

    /// `helm install --wait`: the DaemonSet is ready.
    fn install(&mut self) -> Said {
        self.release("install", &["--wait", TIMEOUT])?;
        let set = self.server.get("DaemonSet", NAMESPACE, RELEASE)?;
        ensure!(
            set["status"]["numberReady"] == NODES.len(),
            "{}",
            set["status"]
        );
        let image = &set["spec"]["template"]["spec"]["containers"][0]["image"];
        Ok(format!("{image} is ready on {} nodes", NODES.len()))
    }

    /// The agent may what the chart says, and no more, by the kernel's own account.
    fn confined(&mut self) -> Said {
        for node in NODES {
            let process = self.agent(node)?.process()?;
            ensure!(
                process.read("comm")?.trim() == "ipvs-agent",
                "another process"
            );
            for (field, wanted) in STATUS {
                let is = process.status(field)?;
                ensure!(is == wanted, "{node}: {field} is {is}, not {wanted}");
            }
            // What a pod has that asks for none of this is not the chart's doing.
            let other = Pod::on(&self.server, "default", ("app", "client"), node)?;
            for field in ["CapBnd", "NoNewPrivs", "Seccomp"] {
                let is = other.process()?.status(field)?;
                ensure!(
                    is != process.status(field)?,
                    "{node}: every pod has {field} {is}"
                );
            }
            let mounts = process.read("mounts")?;
            let root = mounts
                .lines()
                .find(|line| line.split(' ').nth(1) == Some("/"));
            let root = root.context("no root")?;
            let options = root.split(' ').nth(3).unwrap_or_default();
            ensure!(
                options.split(',').any(|option| option == "ro"),
                "{node}: {root}"
            );
        }
        Ok("NET_ADMIN and NET_RAW alone, no new privileges, seccomp, root read-only".to_owned())
    }

    /// From a pod of each node by cluster IP, from outside by each node's port: every server answers.
    fn services(&mut self) -> Said {
        for node in NODES.iter().filter(|_| self.dataplane == Dataplane::Ipvs) {
            let table = sh_in(node, "ipvsadm -Sn")?;
            let virtual_server = format!("-A -t {CLUSTER_IP}:80 ");
            ensure!(table.contains(&virtual_server), "{node}: {table}");
        }
        self.stream = Some(Stream::start(lines()?)?);
        self.steady(&BTreeMap::new())
    }

    /// CoreDNS reaches the API server by its cluster IP, and answers at its own.
    fn cluster_dns(&mut self) -> Said {
        eventually_within(LIMIT, "CoreDNS is ready", || {
            let coredns = self.server.list("Pod", NAMESPACE)?;
            let mut coredns = coredns
                .iter()
                .filter(|pod| pod["metadata"]["labels"]["app"] == "coredns");
            Ok(demand(coredns.all(is_ready), || "it is not".to_owned()))
        })?;
        for node in NODES {
            let name = "web.default.svc.cluster.local";
            let client = client(node);
            let asked = format!("ip netns exec {client} busybox nslookup {name} 10.96.0.10");
            // That it is ready has yet to be told to the nodes.
            eventually_within(LIMIT, &format!("DNS answers on {node}"), || {
                let answer = sh(&asked).unwrap_or_else(|error| format!("{error:#}"));
                let is_known = answer.contains(CLUSTER_IP);
                Ok(demand(is_known, || answer))
            })?;
        }
        Ok(String::new())
    }

    fn helm_test(&mut self) -> Said {
        let args = ["test", RELEASE, "--namespace", NAMESPACE, TIMEOUT];
        let said = self.helm.run(&args)?.out;
        ensure!(said.contains("Succeeded"), "{said}");
        Ok(String::new())
    }

    /// Another configuration, so other pods, and no connection fails meanwhile.
    fn upgrade(&mut self) -> Said {
        self.replaced(|story| {
            story.release(
                "upgrade",
                &["--wait", TIMEOUT, "--set=config.scheduler=wlc"],
            )
        })
    }

    fn rollback(&mut self) -> Said {
        self.replaced(|story| {
            let args = ["rollback", RELEASE, "1", "--namespace", NAMESPACE];
            story
                .helm
                .run(&[&args[..], &["--wait", TIMEOUT]].concat())?;
            Ok(())
        })
    }

    /// kubelet starts the container again.
    fn agent_killed(&mut self) -> Said {
        self.restarted(Signal::KILL)
    }

    /// kubelet's probe of its life ends it and starts it again.
    fn agent_hangs(&mut self) -> Said {
        self.restarted(Signal::STOP)
    }

    /// With the hook that cleans up each node is as it was.
    fn uninstall(&mut self) -> Said {
        self.stream = None;
        let args = ["uninstall", RELEASE, "--namespace", NAMESPACE, TIMEOUT];
        self.helm.run(&args)?;
        self.rolled_out(NAMESPACE, "ipvs-agent-cleanup")?;
        self.server
            .delete("DaemonSet", NAMESPACE, "ipvs-agent-cleanup")?;
        for node in NODES {
            let before = self.before.get(node).context("not looked at before")?;
            let after = node_state(self.dataplane, node)?;
            let differ = differences(("before", before), ("after", &after));
            ensure!(differ.is_empty(), "{node} is not as it was:\n{differ}");
            ensure!(
                before.len() > SOME,
                "only {} lines are of {node}",
                before.len()
            );
        }
        for line in lines()? {
            let answered = matches!(http::get(&line.from, line.to, "/name"), Ok(Some(_)));
            ensure!(!answered, "{line:?} still answers");
        }
        Ok(String::new())
    }

    /// Helm with the values, to success.
    fn release(&self, verb: &str, more: &[&str]) -> Result<()> {
        let (chart, values) = (self.tree.join("charts/ipvs-agent"), self.tree.join(VALUES));
        let args = [verb, RELEASE, text(&chart)?, "--namespace", NAMESPACE];
        let values = ["--values", text(&values)?];
        // Only where there are some to load.
        let modules = match self.dataplane {
            Dataplane::Ipvs => &["--set=modules.load=true"][..],
            Dataplane::Iptables => &[],
        };
        self.helm
            .run(&[&args[..], &values, modules, more].concat())?;
        Ok(())
    }

    /// Every pod of the agent is replaced by what is done, and no connection fails from before to after.
    fn replaced(&mut self, done: impl FnOnce(&Self) -> Result<()>) -> Said {
        let before = self.records()?;
        let pods = self.agents()?;
        done(self)?;
        for (old, new) in pods.iter().zip(self.agents()?) {
            ensure!(old.uid() != new.uid(), "{} is still there", new.name());
            ensure!(new.is_ready(), "{} is not ready", new.name());
        }
        self.steady(&before)
    }

    /// Every agent's process gets a signal and is another one after it, in the same pod, and no connection fails.
    fn restarted(&mut self, signal: Signal) -> Said {
        let before = self.records()?;
        for node in NODES {
            let old = self.agent(node)?;
            let process = old.process()?;
            send(process, signal)?;
            eventually_within(LIMIT, &format!("the agent of {node} is back"), || {
                let new = self.agent(node)?;
                let is_back = new.restarts() > old.restarts() && new.is_ready();
                Ok(demand(is_back, || format!("{} restarts", new.restarts())))
            })?;
            let new = self.agent(node)?;
            ensure!(new.uid() == old.uid(), "another pod of {node}");
            ensure!(new.process()? != process, "the same process on {node}");
        }
        self.steady(&before)
    }

    /// Waits until every line had another answer of every server since then; none may have failed.
    fn steady(&self, before: &BTreeMap<Line, Record>) -> Said {
        let servers = self.servers()?;
        let beginning = self.records()?;
        eventually_within(LIMIT, "connections", || {
            let now = self.records()?;
            // What has failed will not mend.
            demand_none_failed(before, &now)?;
            let all = now.len() == lines()?.len();
            let new = judge(&beginning, &now, &servers);
            Ok(match new {
                Ok(_) if all => Ok(()),
                Ok(_) => Err(format!("only {} lines", now.len())),
                Err(error) => Err(format!("{error:#}")),
            })
        })?;
        let total = judge(before, &self.records()?, &servers)?;
        let stream = self.stream.as_ref().context("no stream")?;
        let late = match stream.sent_again()? {
            0 => String::new(),
            // A machine that is busy may do that, so it is told and not judged.
            some => format!("; first packets sent again by now: {some}"),
        };
        Ok(format!("{total} connections, none failed{late}"))
    }

    fn records(&self) -> Result<BTreeMap<Line, Record>> {
        Ok(self.stream.as_ref().context("no stream")?.records())
    }

    /// Names that the servers answer with.
    fn servers(&self) -> Result<Vec<String>> {
        let pod = |node| Pod::on(&self.server, "default", ("app", "web"), node);
        let names = NODES.iter().map(|node| Ok(pod(node)?.name().to_owned()));
        names.collect()
    }

    fn agent(&self, node: &str) -> Result<Pod> {
        let label = ("app.kubernetes.io/component", "agent");
        Pod::on(&self.server, NAMESPACE, label, node)
    }

    fn agents(&self) -> Result<Vec<Pod>> {
        NODES.iter().map(|node| self.agent(node)).collect()
    }

    /// Waits until a DaemonSet is ready on every node.
    fn rolled_out(&self, namespace: &str, name: &str) -> Result<()> {
        eventually_within(LIMIT, &format!("{name} is rolled out"), || {
            let status = self.server.get("DaemonSet", namespace, name)?["status"].clone();
            Ok(demand(status["numberReady"] == NODES.len(), || {
                status.to_string()
            }))
        })
    }
}

/// Who connects to what: a pod of each node to the cluster IP, somebody outside to each node's port.
fn lines() -> Result<Vec<Line>> {
    let line = |from: &str, to: String| {
        let (from, to) = (from.to_owned(), to.parse::<SocketAddr>()?);
        Ok(Line { from, to })
    };
    let mut lines = Vec::new();
    for (number, node) in (1..).zip(NODES) {
        lines.push(line(&client(node), format!("{CLUSTER_IP}:80")));
        lines.push(line(OUTSIDE, format!("{}:30080", address(number))));
    }
    lines.into_iter().collect()
}

/// What the network namespace of a node's client is called here.
fn client(node: &str) -> String {
    format!("client-{node}")
}

fn send(process: Process, signal: Signal) -> Result<()> {
    let number = i32::try_from(process.number)?;
    kill_process(Pid::from_raw(number).context("no such process")?, signal)?;
    Ok(())
}

fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.is_some_and(|all| {
        all.iter()
            .any(|one| one["type"] == "Ready" && one["status"] == "True")
    })
}

fn demand(holds: bool, complaint: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(complaint()) }
}

/// The agent's own, as the chart has it: NET_ADMIN is capability 12 and NET_RAW 13; 2 is a filter.
const STATUS: [(&str, &str); 7] = [
    ("CapInh", "0000000000000000"),
    ("CapPrm", "0000000000003000"),
    ("CapEff", "0000000000003000"),
    ("CapBnd", "0000000000003000"),
    ("CapAmb", "0000000000000000"),
    ("NoNewPrivs", "1"),
    ("Seccomp", "2"),
];
/// The workload's Service.
const CLUSTER_IP: &str = "10.96.1.1";
/// The network namespace of somebody outside, on the nodes' network.
const OUTSIDE: &str = "outside";
/// A node has more lines than these, whatever it is.
const SOME: usize = 100;
const LIMIT: Duration = Duration::from_secs(600);
/// Helm's.
const TIMEOUT: &str = "--timeout=10m";
