//! The lab: a guest with a real IPVS kernel, a real API server, nodes, pods and clients as network
//! namespaces, and scenarios that send real packets.
//!
//! * `host` boots guests and runs the API server, in a network namespace of its own
//! * `guest` what a scenario is made of: topology, servers, probes, agents, API objects
//! * `scenarios` the stories
//! * `chart` the Helm chart, by Helm and an API server
//! * `image` the container image, built and run as the chart says
//! * `cluster` the chart on nodes with kubelet and containerd
//! * `bench` the agent and kube-proxy side by side
//! * `conformance` what a Service must do for whom, as a table
//! * `dataplane` by what the agents serve
//! * `protocol` what host and guest say to each other

#![allow(
    clippy::disallowed_methods,
    reason = "the lab is all shell: its time is real"
)]
#![allow(
    clippy::needless_pass_by_value,
    reason = "stories hand over literal JSON"
)]

mod bench;
mod chart;
mod cluster;
mod conformance;
mod dataplane;
mod guest;
mod host;
mod image;
mod protocol;
mod scenarios;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use dataplane::{Dataplane, Program};
use guest::cluster::ApiServer;
use host::{Kernel, Platform, Wanted};
use scenarios::Lab;

#[derive(Debug, Parser)]
#[command(about = "Runs ipvs-agent on real kernels with real packets")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Boot guests and run scenarios in them, all of them if none is named
    Run {
        #[arg(long, value_enum, default_value_t = Kernel::Uml)]
        kernel: Kernel,
        /// By what the agents serve [default: iptables on this machine's own kernel, else ipvs]
        #[arg(long, value_enum)]
        dataplane: Option<Dataplane>,
        /// How many guests share the scenarios, side by side [default: by kernel and processors]
        #[arg(long, value_parser = clap::value_parser!(u8).range(1..))]
        guests: Option<u8>,
        /// Also what is alike on every kernel and left to a quicker one [always so with names]
        #[arg(long)]
        whole: bool,
        names: Vec<String>,
    },
    /// Boot a guest and run one command in it
    Exec {
        #[arg(long, value_enum, default_value_t = Kernel::Uml)]
        kernel: Kernel,
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Show the agent at work in a guest
    Demo,
    /// Measure the agent and kube-proxy side by side on this machine's own kernel
    Bench {
        /// The agent, built for release
        #[arg(long)]
        agent: PathBuf,
        /// Where the tables are written
        #[arg(long)]
        report: PathBuf,
        /// Numbers of Services, ascending
        #[arg(long, value_delimiter = ',', default_values_t = [100, 1000, 5000])]
        services: Vec<usize>,
    },
    /// Check the Helm chart: rendered, refused, installed, permitted, and what it alerts of
    Chart {
        /// Write what is rendered as the goldens
        #[arg(long)]
        update: bool,
        /// Those whose names contain one of these [default: all]
        names: Vec<String>,
    },
    /// Build the container image, test it, or look into it
    #[command(subcommand)]
    Image(image::Command),
    /// Install the chart in a cluster with kubelet and containerd, upgrade it, and take it away
    Cluster {
        /// The agent's image, an archive as `make image` makes one
        #[arg(long)]
        image: PathBuf,
        /// Whose namespaces the nodes are
        #[arg(long, value_enum, default_value_t = Kernel::NativeNft)]
        kernel: Kernel,
    },
    /// Name the scenarios
    List,
    /// Print what runs have proved, as `docs/conformance.md` has it
    Conformance {
        /// Forget it instead
        #[arg(long)]
        forget: bool,
    },
    /// Inside a guest: run scenarios
    #[command(hide = true)]
    Guest {
        #[arg(long)]
        agent: PathBuf,
        #[arg(long, value_enum)]
        dataplane: Dataplane,
        /// Leave out what asks over SCTP
        #[arg(long)]
        without_sctp: bool,
        #[arg(long)]
        api: String,
        /// Who signed its certificate
        #[arg(long)]
        authority: PathBuf,
        /// Where a guest takes the scenario that it runs
        #[arg(long)]
        queue: PathBuf,
        names: Vec<String>,
    },
    /// Inside a guest: the benchmark
    #[command(hide = true)]
    GuestBench(bench::Arguments),
    /// Inside a guest: the chart's checks
    #[command(hide = true)]
    GuestChart(chart::Arguments),
    /// Inside a guest: the cluster
    #[command(hide = true)]
    GuestCluster(cluster::Arguments),
    /// Inside a guest: the image's checks
    #[command(hide = true)]
    GuestImage(image::checks::Arguments),
    /// Inside a guest: becomes a container's program
    #[command(hide = true)]
    GuestContainer(image::sandbox::Arguments),
    /// Inside a guest: the demo
    #[command(hide = true)]
    GuestDemo {
        #[arg(long)]
        agent: PathBuf,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run {
            kernel,
            dataplane,
            guests,
            whole,
            names,
        } => scenarios::known(&names).and_then(|()| {
            let platform = Platform::new(kernel, dataplane);
            host::run(platform, guests.map(usize::from), &Wanted { names, whole })
        }),
        Command::Exec { kernel, command } => host::exec(kernel, &command),
        Command::Demo => host::demo(),
        Command::Bench {
            agent,
            report,
            services,
        } => host::bench(&agent, &report, &services),
        Command::Chart { update, names } => host::chart(update, &names),
        Command::Image(command) => image::run(command),
        Command::Cluster { image, kernel } => host::cluster(kernel, &image),
        Command::List => {
            for scenario in scenarios::ALL {
                println!("{:<20} {}", scenario.name, scenario.about);
            }
            Ok(())
        }
        Command::Conformance { forget: true } => host::forget(),
        Command::Conformance { forget: false } => host::conformance().map(|text| print!("{text}")),
        Command::Guest {
            agent,
            dataplane,
            without_sctp,
            api,
            authority,
            queue,
            names,
        } => {
            let api = ApiServer {
                url: api,
                authority,
            };
            let program = Program {
                path: agent,
                dataplane,
            };
            Lab::new(program, !without_sctp, api)
                .and_then(|lab| scenarios::run(lab, &queue, &names))
        }
        Command::GuestBench(arguments) => bench::run(&arguments),
        Command::GuestChart(arguments) => chart::run(&arguments),
        Command::GuestCluster(arguments) => cluster::run(&arguments),
        Command::GuestImage(arguments) => image::checks::run(&arguments),
        Command::GuestContainer(arguments) => image::sandbox::enter(&arguments),
        Command::GuestDemo { agent } => scenarios::demo::run(agent),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}
