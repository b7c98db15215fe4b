//! Nodes: namespaces on one network with the API server, each with kubelet and containerd, and the controllers that
//! a control plane has beside it.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use serde_json::json;

use super::{Arguments, PROGRAMS};
use crate::chart::server::Server;
use crate::guest::{sh, sh_in};

/// Names of the nodes; each one's network namespace is called the same.
pub const NODES: [&str; 2] = ["n1", "n2"];

/// The address of a node, by its number from 1.
pub fn address(number: usize) -> String {
    format!("10.97.0.1{number}")
}

fn pods(number: usize) -> String {
    format!("10.244.{number}.0/24")
}

/// What runs beside the checks. It ends with this process, which is the first of its namespace.
pub struct Machines {
    work: PathBuf,
    children: Vec<(String, Child)>,
}

impl Machines {
    /// Starts the controllers and the nodes, whose Node objects are there before, with the pods' prefixes.
    pub fn start(arguments: &Arguments, server: &Server) -> Result<Self> {
        let work = &arguments.work;
        let bin = work.join("bin");
        fs::create_dir_all(&bin)?;
        for (built, name) in PROGRAMS {
            symlink(arguments.cache.join("bin").join(built), bin.join(name))?;
        }
        fs::copy(&server.kubeconfig, work.join("kubeconfig"))?;
        let mut machines = Self {
            work: work.clone(),
            children: Vec::new(),
        };
        machines.controllers(arguments)?;
        network()?;
        for (number, node) in (1..).zip(NODES) {
            server.apply(&json!({
                "apiVersion": "v1", "kind": "Node", "metadata": { "name": node },
                "spec": { "podCIDR": pods(number), "podCIDRs": [pods(number)] },
            }))?;
            let mut command = Command::new("unshare");
            command
                .arg("--mount")
                .arg(arguments.tree.join("integration/cluster/node.sh"))
                .args(["enter", node])
                .env("WORK", work)
                .env("GROUPS_BEGIN", &arguments.groups)
                .env("ADDRESS", address(number))
                .env("PODS", pods(number));
            machines.spawn(node, &mut command)?;
        }
        Ok(machines)
    }

    fn controllers(&mut self, arguments: &Arguments) -> Result<()> {
        let kubeconfig = format!("--kubeconfig={}", self.work.join("kubeconfig").display());
        let common = [
            kubeconfig.as_str(),
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
        ];
        let key = arguments.account_key.display();
        let authority = arguments.authority.display();
        let bin = self.work.join("bin");
        self.spawn(
            "kube-controller-manager",
            Command::new(bin.join("kube-controller-manager"))
                .args(common)
                .arg(format!("--service-account-private-key-file={key}"))
                .arg(format!("--root-ca-file={authority}")),
        )?;
        self.spawn(
            "kube-scheduler",
            Command::new(bin.join("kube-scheduler")).args(common),
        )
    }

    fn spawn(&mut self, name: &str, command: &mut Command) -> Result<()> {
        let log = File::create(self.log_path(name))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        self.children.push((name.to_owned(), child));
        Ok(())
    }

    /// The ends of all logs, for somebody who has to find out what went wrong.
    pub fn logs(&mut self) -> String {
        let mut text = String::new();
        for (name, child) in &mut self.children {
            if let Ok(Some(status)) = child.try_wait() {
                text += &format!("{name} ended: {status}\n");
            }
        }
        let own = self.children.iter().map(|(name, _)| name.clone());
        let of_nodes = NODES
            .iter()
            .flat_map(|node| ["containerd", "kubelet"].map(|name| format!("{node}/{name}")));
        for name in own.chain(of_nodes) {
            let log = fs::read_to_string(self.log_path(&name)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            text += &format!("--- {name}\n");
            for line in &lines[lines.len().saturating_sub(LINES)..] {
                text += &format!("{line}\n");
            }
        }
        text
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.work.join(format!("{name}.log"))
    }
}

/// One network: this namespace's end of the cable to the API server, and the nodes.
fn network() -> Result<()> {
    for line in [
        "ip link add br0 type bridge",
        "ip addr flush dev eth0",
        "ip link set eth0 master br0",
        "ip addr add 10.97.0.2/24 dev br0",
        "ip link set br0 up",
        "sysctl -qw net.ipv4.ip_forward=1",
        // Somebody outside, who knows the nodes and no pod.
        "ip netns add outside",
        "ip link add to-outside type veth peer name eth0 netns outside",
        "ip link set to-outside master br0 up",
        "ip -n outside addr add 10.97.0.9/24 dev eth0",
        "ip -n outside link set eth0 up",
    ] {
        sh(line)?;
    }
    for (number, node) in (1..).zip(NODES) {
        sh(&format!("ip netns add {node}"))?;
        sh(&format!(
            "ip link add to-{node} type veth peer name eth0 netns {node}"
        ))?;
        sh(&format!("ip link set to-{node} master br0 up"))?;
        sh_in(node, "ip link set lo up")?;
        let at = address(number);
        sh_in(node, &format!("ip addr add {at}/24 dev eth0"))?;
        sh_in(node, "ip link set eth0 up")?;
        sh_in(node, "ip route add default via 10.97.0.1")?;
        let (pods, other) = (pods(number), 3 - number);
        sh(&format!("ip route add {pods} via {at}"))?;
        let other_pods = self::pods(other);
        let via = address(other);
        sh_in(node, &format!("ip route add {other_pods} via {via}"))?;
    }
    Ok(())
}

/// How much of each log is shown.
const LINES: usize = 15;
