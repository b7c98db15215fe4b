//! The command line: a file for the flags of each command.

mod check;
pub mod config;
mod diff;
mod explain;
mod kernel;
mod manual;
mod output;
mod run;
mod table;
mod top;

use clap::{Args, Parser, Subcommand};

pub use check::CheckArgs;
pub use diff::DiffArgs;
pub use explain::ExplainArgs;
pub use kernel::KernelArgs;
pub use manual::{CompletionsArgs, ManArgs};
pub use output::Output;
pub use run::{
    AgentArgs, DataplaneArg, DetectLocalMode, LogFormat, RunArgs, RuntimeArgs, ServiceArgs,
    SourceArgs, TrafficMetrics,
};
pub use table::{
    ByArg, ConnectionsArgs, IpvsadmArgs, ListArgs, PlainOutput, ProtocolArg, RestoreArgs, SaveArgs,
    TableOutput, WhichArgs,
};
pub use top::{TopArgs, TopColumn};

/// The service proxy of a Kubernetes node, on the kernel's IPVS.
#[derive(Debug, Parser)]
#[command(name = "ipvs-agent", version, about, long_about = LONG_ABOUT, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const LONG_ABOUT: &str = "\
The service proxy of a Kubernetes node, on the kernel's IPVS.

It watches Services and EndpointSlices and makes the kernel balance their traffic, with any of the
kernel's schedulers. It takes the place of kube-proxy in IPVS mode. Without Kubernetes it does the
same for manifests in a directory.";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Programs this node and keeps it so, until stopped; the node then goes on serving
    Run(Box<RunArgs>),
    /// Prints the kernel's virtual servers as `ipvsadm -Ln` does, or with Services and states
    List(Box<ListArgs>),
    /// Prints the connections that the kernel balances, or counts them
    Connections(Box<ConnectionsArgs>),
    /// Prints the virtual servers as rules that `restore` and `ipvsadm -R` read
    Save(SaveArgs),
    /// Makes virtual servers of rules, after all of them were checked
    Restore(RestoreArgs),
    /// Does what `ipvsadm` does with the same arguments
    Ipvsadm(IpvsadmArgs),
    /// Compares what should be with what the kernel has; before an installation too
    Diff(Box<DiffArgs>),
    /// Tells whether this node is fit for the agent, and whether all is well here
    Check(Box<CheckArgs>),
    /// Shows live who has how much traffic: Services, their backends, their connections
    Top(TopArgs),
    /// Says why a Service is served as it is, or what becomes of a packet
    Explain(Box<ExplainArgs>),
    /// Removes all that the agent made on this node, and nothing else
    Cleanup(CleanupArgs),
    /// Prints what a shell needs to complete this program's command line
    Completions(CompletionsArgs),
    /// Prints the manual page, or writes those of all commands into a directory
    Man(ManArgs),
}

#[derive(Debug, Args)]
#[command(after_help = CLEANUP_EXAMPLES)]
pub struct CleanupArgs {
    #[command(flatten)]
    pub kernel: KernelArgs,
    /// Print what would be removed, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
}

const CLEANUP_EXAMPLES: &str = "\
Run it once the agent has ended; one that runs makes it all again.

Examples:
  What would go?
    ipvs-agent cleanup --dry-run
  Remove it:
    ipvs-agent cleanup";
