//! The flags of `ipvs-agent check`.

use clap::Args;
use ipnet::IpNet;

use super::kernel::KernelArgs;
use super::output::Output;
use super::run::{ConfigArgs, DataplaneArg, SourceArgs, cidr};

#[derive(Debug, Args)]
#[command(after_help = CHECK_EXAMPLES)]
pub struct CheckArgs {
    /// Form of what is printed
    #[arg(short, long, value_enum, value_name = "FORM", default_value_t = Output::Text)]
    pub output: Output,
    /// Print only what is not ok
    #[arg(short, long)]
    pub quiet: bool,
    /// By what Services are to be served, as for `run`
    #[arg(long, value_enum, value_name = "NAME", default_value_t = DataplaneArg::Auto)]
    pub dataplane: DataplaneArg,
    /// Scheduler that is wanted, as for `run`
    #[arg(long, value_name = "NAME", default_value = "rr")]
    pub scheduler: String,
    /// Ranges that cluster IPs come from; without it those that an agent on this node has routes for
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = cidr)]
    pub service_cidr: Vec<IpNet>,
    /// Port of /healthz on this node
    #[arg(long, value_name = "PORT", default_value_t = 10256)]
    pub health_port: u16,
    /// Port of /metrics on this node
    #[arg(long, value_name = "PORT", default_value_t = 10249)]
    pub metrics_port: u16,
    #[command(flatten)]
    pub file: ConfigArgs,
    #[command(flatten)]
    pub source: SourceArgs,
    #[command(flatten)]
    pub kernel: KernelArgs,
}

const CHECK_EXAMPLES: &str = "\
It changes nothing. What it cannot read, for want of root or of a host's /proc, it says and goes on.
Exit code: 0 all is ok or to be looked at, 1 something failed, 2 it could not be asked.

Examples:
  Before an agent is installed, with the flags that it is to have:
    ipvs-agent check --service-cidr 10.96.0.0/16 --scheduler mh --kubeconfig /etc/kubernetes/kubelet.conf
  What is wrong here?
    ipvs-agent check --quiet
  For a script:
    ipvs-agent check -o json | jq -r '.findings[] | select(.level == \"fail\") | .check'";
