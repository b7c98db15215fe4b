//! The flags of `ipvs-agent explain`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

use super::output::Output;
use super::run::{AgentArgs, ConfigArgs};
use crate::ask;
use crate::model::Protocol;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_override_self = true)]
pub struct ExplainArgs {
    /// A Service, or a packet
    #[arg(
        value_name = "NAMESPACE/NAME | SRC -> DST:PORT/PROTOCOL",
        required_unless_present = "to"
    )]
    pub question: Option<String>,
    /// Who sends the packet: an address, or `node` for a process of this node
    #[arg(long, value_name = "SRC", default_value = "node", requires = "to")]
    pub from: String,
    /// Where the packet goes
    #[arg(
        long,
        value_name = "DST",
        requires = "port",
        conflicts_with = "question"
    )]
    pub to: Option<IpAddr>,
    /// The port that it asks for
    #[arg(long, value_name = "PORT", requires = "to")]
    pub port: Option<u16>,
    /// TCP, UDP or SCTP
    #[arg(long, value_name = "PROTOCOL", default_value = "TCP", requires = "to")]
    pub protocol: Protocol,
    /// Form of the output; json and yaml are for scripts
    #[arg(short, long, value_enum, value_name = "FORM", default_value_t = Output::Text)]
    pub output: Output,
    /// What the cluster's DNS names end in
    #[arg(long, value_name = "DOMAIN", default_value = ask::CLUSTER_DOMAIN)]
    pub cluster_domain: String,
    /// Where the agent of this node is asked
    #[arg(long, value_name = "PATH", default_value = ask::SOCKET)]
    pub socket: PathBuf,
    /// With --manifests, --kubeconfig or --apiserver no agent is asked: how would one with these flags
    /// see it on this node?
    #[command(flatten)]
    pub agent: AgentArgs,
    #[command(flatten)]
    pub file: ConfigArgs,
}

const EXAMPLES: &str = "\
A Service: its addresses, each served or why not; its endpoints, each used or why not; what a person
must fix; the names by which clients find it.
A packet: who sends it, what it asks, which endpoints are there for it, whom they see, and what becomes
of it, with the rule behind each step. It is followed through this node: ask where it comes by.

Exit code: 0 explained, and the packet reaches an endpoint; 1 there is no such Service, or the packet
reaches none; 2 an error.

Examples:
  Why does nobody reach the shop?
    ipvs-agent explain shop/web
  What becomes of a pod's query to cluster DNS?
    ipvs-agent explain '10.244.1.7 -> 10.96.0.10:53/UDP'
  Would a client from outside get through to a NodePort of this node?
    ipvs-agent explain --from 203.0.113.9 --to 192.0.2.11 --port 30080
  May a process of this node use that Service?
    ipvs-agent explain 'node -> [fd00:96::10]:443/TCP' && echo yes
  What would these manifests mean here, without an agent?
    ipvs-agent explain shop/web --manifests /etc/ipvs-agent/services";
