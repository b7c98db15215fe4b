//! The agent's iptables dataplane and kube-proxy side by side, in one run on this machine's own kernel:
//! the first sync, one change, the first packet of a connection. It judges no time.
//!
//! * `load` the Services
//! * `node` the namespaces
//! * `peer` who is measured
//! * `measure` one peer at one number of Services
//! * `packets`, `cpu` the two clocks
//! * `report` the tables

mod cpu;
mod load;
mod measure;
mod node;
mod packets;
mod peer;
mod report;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::guest::cluster::{ApiServer, Cluster};
use crate::protocol::Verdict;
use load::{NOBODYS, PORT};
use measure::measure;
use node::{NODE, NODE_ADDRESS, Node};
use packets::Latency;
use peer::{Peer, Programs};
use report::{Machine, Report, Row};

/// What the host tells.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[arg(long)]
    agent: PathBuf,
    #[arg(long)]
    kube_proxy: PathBuf,
    #[arg(long)]
    api: String,
    /// Who signed its certificate
    #[arg(long)]
    authority: PathBuf,
    #[arg(long)]
    report: PathBuf,
    #[arg(long, value_delimiter = ',')]
    services: Vec<usize>,
}

/// Measures every peer at every number of Services, and ends with a verdict: a peer that could not be
/// measured has failed.
pub fn run(arguments: &Arguments) -> Result<()> {
    let mut cluster = Cluster::connect(ApiServer {
        url: arguments.api.clone(),
        authority: arguments.authority.clone(),
    })?;
    cluster.node(NODE)?;
    cluster.node_addresses(NODE, &[("InternalIP", NODE_ADDRESS)])?;
    let programs = Programs {
        agent: arguments.agent.clone(),
        kube_proxy: arguments.kube_proxy.clone(),
        kubeconfig: cluster.kubeconfig.clone(),
    };
    let mut report = Report {
        machine: Machine::read()?,
        straight: straight()?,
        rows: Vec::new(),
        load_after: String::new(),
    };
    let mut there = 0;
    for &services in &arguments.services {
        println!("making Services {there} to {services}");
        load::create(&cluster, there..services)?;
        there = services;
        for peer in Peer::ALL {
            let outcome = measure(peer, &programs, &mut cluster, services);
            let outcome = outcome.map_err(|error| format!("{error:#}"));
            let row = Row {
                services,
                peer,
                outcome,
            };
            println!("{}", row.line());
            report.rows.push(row);
        }
    }
    report.load_after = report::load_average()?;
    fs::write(&arguments.report, report.render()).context("cannot write the report")?;
    let failed = report.rows.iter().filter(|row| row.outcome.is_err());
    let failed = failed.count();
    let passed = report.rows.len() - failed;
    Verdict { passed, failed }.announce();
    Ok(())
}

/// A connection that meets no proxy, through the same namespaces.
fn straight() -> Result<Latency> {
    let _node = Node::new()?;
    let [latency] = packets::latency([(NOBODYS, PORT).into()])?;
    Ok(latency)
}
