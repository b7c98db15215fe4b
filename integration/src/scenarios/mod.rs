//! The stories. Each reads from top to bottom, waits on conditions, and holds over IPv4 and IPv6.

mod all;
mod changes;
mod check;
mod choice;
mod cleanup;
pub mod demo;
mod diff;
mod events;
pub mod expect;
mod explain;
mod foreign;
mod health_check;
mod history;
mod icmp;
mod iptables;
mod lifecycle;
mod matrix;
mod neighbours;
mod node;
mod node_addresses;
mod node_leaving;
mod one_family;
mod operator;
mod policies;
mod reach;
mod regressions;
mod repair;
mod run;
mod scale;
mod services;
mod shell_table;
mod top;
mod traffic;
mod tuning;
mod versions;

use anyhow::{Context, Result};

use crate::conformance::cell::TRANSPORTS;
use crate::dataplane::Program;
use crate::guest::agent::Agent;
use crate::guest::cluster::{ApiServer, Cluster};
use crate::guest::probe::Transport;
use crate::guest::served::Served;
use crate::guest::sh_in;
use crate::guest::topology::{NODES, Topology};

pub use all::{ALL, Scenario, known};
pub use run::run;

use expect::{
    answered_by, at, node_addresses, refused, route_from_client, seen_client, silence, unserved,
    unserved_at,
};

/// What a story works with.
pub struct Lab {
    pub program: Program,
    /// Whether the kernel has sockets of SCTP.
    pub has_sctp: bool,
    pub cluster: Cluster,
    pub agents: Vec<Agent>,
    _topology: Topology,
}

impl Lab {
    pub fn new(program: Program, has_sctp: bool, api: ApiServer) -> Result<Self> {
        let topology = Topology::new()?;
        println!("topology is up; waiting for the API server");
        let mut cluster = Cluster::connect(api)?;
        for node in NODES {
            cluster.node(node)?;
        }
        Ok(Self {
            program,
            has_sctp,
            cluster,
            agents: Vec::new(),
            _topology: topology,
        })
    }

    /// Starts the agents that a story needs and are not there, or ends those that it cannot have.
    pub fn prepare(&mut self, scenario: &Scenario) -> Result<()> {
        if scenario.bare {
            for agent in std::mem::take(&mut self.agents) {
                let node = agent.node.clone();
                drop(agent);
                self.agent_command(&node, "cleanup")?;
            }
            return Ok(());
        }
        for node in NODES {
            if !self.agents.iter().any(|agent| agent.node == node) {
                self.start_agent(node)?;
            }
        }
        Ok(())
    }

    /// Over what the kernel can ask.
    pub fn transports(&self) -> &'static [Transport] {
        if self.has_sctp {
            &TRANSPORTS
        } else {
            &[Transport::Tcp, Transport::Udp]
        }
    }

    pub fn start_agent(&mut self, node: &str) -> Result<()> {
        self.start_agent_with(node, &[])
    }

    /// The same with more on its command line.
    pub fn start_agent_with(&mut self, node: &str, args: &[&str]) -> Result<()> {
        let kubeconfig = self.cluster.kubeconfig.display().to_string();
        let source = ["--kubeconfig", &kubeconfig];
        let agent = Agent::start(&self.program, node, &[&source, args].concat())?;
        self.agents.push(agent);
        Ok(())
    }

    /// The agent at work in a node.
    pub fn agent(&mut self, node: &str) -> Result<&mut Agent> {
        let mut agents = self.agents.iter_mut();
        agents
            .find(|agent| agent.node == node)
            .with_context(|| format!("no agent runs in {node}"))
    }

    pub fn stop_agent(&mut self, node: &str) -> Result<()> {
        for agent in self.agents.iter_mut().filter(|agent| agent.node == node) {
            agent.kill()?;
        }
        self.agents.retain(|agent| agent.node != node);
        Ok(())
    }

    /// What a node's kernel balances.
    pub fn served(&self, node: &str) -> Result<Served> {
        Served::by(self.program.dataplane, node)
    }

    /// After a story: its objects go.
    pub fn tidy(&mut self) {
        self.cluster.tidy();
    }

    /// After a failure: what the kernel and the agents say.
    pub fn diagnose(&self) {
        for node in NODES {
            for line in [
                "ipvsadm -Ln",
                "cat /proc/net/ip_vs",
                "ipset save",
                "ip rule",
                "ip -6 rule",
                "ip route show table 10256",
                "ip -6 route show table 10256",
                "iptables-save",
                "ip6tables-save",
                "conntrack -L",
            ] {
                let text = sh_in(node, line).unwrap_or_else(|error| format!("{error:#}"));
                println!("--- {node}: {line}");
                text.lines()
                    .take(200)
                    .for_each(|line| println!("    {line}"));
            }
        }
        for agent in &self.agents {
            let log = agent.log();
            let lines: Vec<&str> = log.lines().collect();
            println!("--- {}: the agent's log, its end", agent.node);
            lines
                .iter()
                .skip(lines.len().saturating_sub(40))
                .for_each(|l| println!("    {l}"));
        }
    }

    /// Runs a subcommand of the agent in a node.
    pub fn agent_command(&self, node: &str, words: &str) -> Result<String> {
        sh_in(node, &format!("{} {words}", self.program.path.display()))
    }
}
