//! Pods as the API server tells of them, and their processes as this kernel does.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::chart::server::Server;
use crate::guest::sh;

/// A pod of a node, by a label.
#[derive(Debug, Clone)]
pub struct Pod {
    object: Value,
}

impl Pod {
    /// The one pod with a label on a node that is not being deleted.
    pub fn on(server: &Server, namespace: &str, label: (&str, &str), node: &str) -> Result<Self> {
        let mut pods = server.list("Pod", namespace)?;
        let (key, value) = label;
        pods.retain(|pod| {
            pod["metadata"]["labels"][key] == value
                && pod["spec"]["nodeName"] == node
                && pod["metadata"]["deletionTimestamp"].is_null()
        });
        ensure!(
            pods.len() == 1,
            "{} pods with {key}={value} on {node}",
            pods.len()
        );
        let object = pods.pop().context("no pod")?;
        Ok(Self { object })
    }

    pub fn name(&self) -> &str {
        text(&self.object["metadata"]["name"])
    }

    pub fn uid(&self) -> &str {
        text(&self.object["metadata"]["uid"])
    }

    pub fn is_ready(&self) -> bool {
        let conditions = self.object["status"]["conditions"].as_array();
        conditions.is_some_and(|all| {
            all.iter()
                .any(|one| one["type"] == "Ready" && one["status"] == "True")
        })
    }

    /// Of its first container.
    pub fn restarts(&self) -> u64 {
        let container = &self.object["status"]["containerStatuses"][0];
        container["restartCount"].as_u64().unwrap_or_default()
    }

    /// The first process of its first container, as this namespace numbers it.
    pub fn process(&self) -> Result<Process> {
        let id = text(&self.object["status"]["containerStatuses"][0]["containerID"]);
        let id = id
            .strip_prefix("containerd://")
            .with_context(|| format!("{} has no container", self.name()))?;
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let Ok(number) = name.parse() else {
                continue;
            };
            let process = Process { number };
            // One that has ended meanwhile is none.
            let groups = process.read("cgroup").unwrap_or_default();
            if groups.contains(id) && process.is_first() {
                return Ok(process);
            }
        }
        bail!("{} has no process", self.name())
    }

    /// Gives its network namespace a name here.
    pub fn attach(&self, name: &str) -> Result<()> {
        let process = self.process()?;
        sh(&format!("ip netns attach {name} {}", process.number)).map(|_| ())
    }
}

/// A process of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    pub number: u32,
}

impl Process {
    /// A file of its folder in /proc.
    pub fn read(self, name: &str) -> Result<String> {
        let path = PathBuf::from(format!("/proc/{}/{name}", self.number));
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Whether it is the first of its container's processes, by that namespace's own numbers.
    fn is_first(self) -> bool {
        let numbers = self.status("NSpid").unwrap_or_default();
        numbers.split_whitespace().next_back() == Some("1")
    }

    /// A field of its `status`.
    pub fn status(self, field: &str) -> Result<String> {
        let text = self.read("status")?;
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let value = value.with_context(|| format!("no {field} in its status"))?;
        Ok(value.trim().to_owned())
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
