//! An agent in a node.

use std::fs::File;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use super::http::metrics;
use super::wait::eventually;
use crate::dataplane::Program;

/// A running agent; killed when dropped.
pub struct Agent {
    pub node: String,
    child: Child,
    /// Where its log begins in its node's.
    begins: usize,
}

impl Agent {
    /// Starts an agent in a node's namespace. Its log goes on where an earlier one's ended.
    pub fn start(program: &Program, node: &str, args: &[&str]) -> Result<Self> {
        let log = log_path(node);
        let begins = log_of(node).len();
        let file = File::options().create(true).append(true).open(log)?;
        let child = Command::new("ip")
            .args(["netns", "exec", node])
            .arg(&program.path)
            .args([
                "run",
                "--node-name",
                node,
                "--audit-interval",
                "2s",
                "--log",
                "debug",
            ])
            .args(["--cluster-cidr", "10.244.0.0/16,fd00:244::/32"])
            .args(["--external-ip-cidr", "192.168.61.0/24,fd00:61::/64"])
            .args(["--drain-timeout", "10s"])
            .args(["--socket", &socket_of(node)])
            .args(program.dataplane.arguments())
            .args(args)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .context("cannot start the agent")?;
        Ok(Self {
            node: node.to_owned(),
            child,
            begins,
        })
    }

    /// `kill -9`.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// `kill -TERM`, and waits for its end.
    pub fn terminate(&mut self) -> Result<()> {
        let pid = i32::try_from(self.child.id())?;
        let pid = rustix::process::Pid::from_raw(pid).context("no such process")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        self.child.wait()?;
        Ok(())
    }

    /// An error with the end of its log if it has ended by itself.
    pub fn demand_alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(10)..].join("\n    ");
            bail!("the agent of {} ended: {status}\n    {end}", self.node);
        }
        Ok(())
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        log_of(&self.node).split_off(self.begins)
    }

    /// Waits until this agent has done its first sync. The log does not tell that: a sync that finds
    /// everything in place says nothing.
    pub fn synced(&mut self) -> Result<()> {
        eventually(&format!("the agent of {} has synced", self.node), || {
            self.demand_alive()?;
            let metrics = metrics(&self.node)?;
            let last = metrics.get(LAST_SYNC);
            Ok(match last {
                Some(seconds) if *seconds > 0.0 => Ok(()),
                other => Err(format!("its last sync is {other:?}")),
            })
        })
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Where a node's agent is asked: the nodes share a file system.
pub fn socket_of(node: &str) -> String {
    format!("/run/ipvs-agent-{node}/agent.sock")
}

/// All that the agents of a node have logged.
pub fn log_of(node: &str) -> String {
    std::fs::read_to_string(log_path(node)).unwrap_or_default()
}

fn log_path(node: &str) -> String {
    format!("/run/agent-{node}.log")
}

const LAST_SYNC: &str = "kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv4\"}";
