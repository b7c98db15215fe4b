//! The flags of `ipvs-agent diff`.

use std::path::PathBuf;

use clap::Args;

use super::output::Output;
use super::run::{AgentArgs, ConfigArgs};
use crate::ask;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_override_self = true)]
pub struct DiffArgs {
    /// Form of the output; json and yaml are for scripts
    #[arg(short, long, value_enum, value_name = "FORM", default_value_t = Output::Text)]
    pub output: Output,
    /// Where the agent of this node is asked
    #[arg(long, value_name = "PATH", default_value = ask::SOCKET)]
    pub socket: PathBuf,
    /// With --manifests, --kubeconfig or --apiserver no agent is asked: what would one with these
    /// flags change here?
    #[command(flatten)]
    pub agent: AgentArgs,
    #[command(flatten)]
    pub file: ConfigArgs,
}

const EXAMPLES: &str = "\
Lines with + are wanted and missing, lines with - are there and not wanted. Nothing is changed.
Exit code: 0 no difference, 1 a difference, 2 an error.

Examples:
  Has anybody changed what the agent of this node programmed?
    ipvs-agent diff
  What would an agent change on this node, before there is one?
    ipvs-agent diff --kubeconfig /etc/kubernetes/kubelet.conf --cluster-cidr 10.244.0.0/16
  Would these manifests change anything?
    ipvs-agent diff --manifests /etc/ipvs-agent/services && echo nothing to do";
