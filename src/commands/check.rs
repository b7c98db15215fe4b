//! `ipvs-agent check`: gathers the facts, asks the rules, prints what they say.

mod kernel;
mod network;
mod processes;
mod sources;

use std::io::stdout;
use std::process::ExitCode;

use anyhow::bail;

use super::{print, settings};
use crate::cli::{CheckArgs, DataplaneArg, Output};
use crate::inspect::check::facts::{Facts, NET_ADMIN, Plane, Wanted};
use crate::inspect::check::{Level, Report, table};
use crate::inspect::structured;
use crate::resolve::KERNEL_SCHEDULERS;
use crate::telemetry::colours;

/// Exit code 1: a check failed.
pub fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    // Flags that do not go together are no finding about the node.
    settings(&args.kernel)?;
    if !KERNEL_SCHEDULERS.contains(&args.scheduler.as_str()) {
        bail!(
            "--scheduler {:?}: allowed are {}",
            args.scheduler,
            KERNEL_SCHEDULERS.join(" ")
        );
    }
    let report = Report::of(&facts(args));
    print(&text(args, &report)?)?;
    Ok(match report.result {
        Level::Ok | Level::Warn => ExitCode::SUCCESS,
        Level::Fail => ExitCode::FAILURE,
    })
}

fn text(args: &CheckArgs, report: &Report) -> anyhow::Result<String> {
    let shown = if args.quiet {
        report.clone().only_not_ok()
    } else {
        report.clone()
    };
    Ok(match args.output {
        Output::Json => structured::json(&shown)?,
        Output::Yaml => structured::yaml(&shown)?,
        Output::Text if args.quiet => table::render(&shown, colours(&stdout())),
        Output::Text => table::render(&shown, colours(&stdout())) + &table::summary(report),
    })
}

/// Reads the node.
fn facts(args: &CheckArgs) -> Facts {
    let capabilities = processes::capabilities();
    let is_admin = capabilities
        .as_ref()
        .is_ok_and(|have| have & (1 << NET_ADMIN) != 0);
    let listeners = processes::listeners([args.health_port, args.metrics_port]);
    // Where nobody listens nobody is asked.
    let asks = listeners.as_ref().map_or(true, |listeners| {
        listeners
            .iter()
            .any(|listener| listener.port == args.health_port)
    });
    let network = network::survey(args.kernel.route_table);
    let given = args.service_cidr.iter().map(ipnet::IpNet::trunc).collect();
    let wanted = Wanted {
        dataplane: match args.dataplane {
            DataplaneArg::Auto => Plane::Auto,
            DataplaneArg::Ipvs => Plane::Ipvs,
            DataplaneArg::Iptables => Plane::Iptables,
        },
        scheduler: args.scheduler.clone(),
        route_mark: args.kernel.route_mark,
        masquerade_mark: args.kernel.masquerade_mark,
        near_marks: args.kernel.near_marks,
        route_table: args.kernel.route_table,
        rule_priority: args.kernel.rule_priority,
        service_cidrs: if args.service_cidr.is_empty() {
            network.service_cidrs
        } else {
            given
        },
        health_port: args.health_port,
        metrics_port: args.metrics_port,
    };
    Facts {
        wanted,
        release: kernel::release(),
        modules: kernel::modules(),
        set_types: kernel::set_types(),
        sysctls: kernel::sysctls(),
        sysctls_writable: kernel::sysctls_writable(),
        interfaces: kernel::interfaces(),
        iptables: kernel::iptables(is_admin),
        nft_tables: kernel::nft_tables(),
        links: network.links,
        rules: network.rules,
        foreign_routes: network.foreign_routes,
        processes: processes::proxies(),
        listeners,
        health: if asks {
            sources::health(args.health_port)
        } else {
            None
        },
        ipvs: kernel::ipvs(),
        api_servers: sources::api_servers(&args.source),
        capabilities,
        processors: std::thread::available_parallelism().map_or(1, usize::from),
    }
}
