//! `ipvs-agent explain`: asks the agent of this node, or is one for a moment.

use std::io::stdout;
use std::process::ExitCode;

use anyhow::bail;
use serde::Serialize;

use super::{offline, print, tell};
use crate::ask::explain::{Asked, Explained, Verdict};
use crate::ask::{self, AskError};
use crate::cli::{ExplainArgs, Output};
use crate::inspect::explain::question::{is_name, packet, parse, path};
use crate::inspect::explain::{packet as of_packet, service as of_service};
use crate::inspect::structured;
use crate::telemetry::colours;

/// Prints what a Service means here, or what becomes of a packet.
pub fn run(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    if !is_name(&args.cluster_domain) {
        bail!(
            "--cluster-domain {:?} is no domain such as cluster.local",
            args.cluster_domain
        );
    }
    match explained(args, &question(args)?)? {
        Explained::Service(service) => {
            show(args, &*service, of_service::render)?;
            Ok(ExitCode::SUCCESS)
        }
        Explained::Packet(trace) => {
            show(args, &trace, of_packet::render)?;
            Ok(match trace.verdict {
                Verdict::Balanced { .. } => ExitCode::SUCCESS,
                _ => ExitCode::FAILURE,
            })
        }
        Explained::NoSuch(text) => {
            tell(format_args!("ipvs-agent: {text}"));
            Ok(ExitCode::FAILURE)
        }
    }
}

fn explained(args: &ExplainArgs, asked: &Asked) -> anyhow::Result<Explained> {
    if args.agent.source.is_named() {
        return offline::explain(&args.agent, asked);
    }
    let path = path(asked);
    let answer = match asked {
        Asked::Service { .. } => ask::ask(&args.socket, &path).map(Explained::Service),
        Asked::Packet(_) => ask::ask(&args.socket, &path).map(Explained::Packet),
    };
    match answer {
        Ok(explained) => Ok(explained),
        Err(AskError::NoSuch(text)) => Ok(Explained::NoSuch(text)),
        Err(error @ AskError::NoAgent(_)) => Err(anyhow::Error::new(error).context(
            "start one, or name a source to explain from, such as --manifests DIR or --kubeconfig FILE",
        )),
        Err(error) => Err(error.into()),
    }
}

fn question(args: &ExplainArgs) -> anyhow::Result<Asked> {
    let domain = &args.cluster_domain;
    Ok(match (&args.question, args.to, args.port) {
        (Some(text), ..) => parse(text, domain)?,
        (None, Some(to), Some(port)) => packet(&args.from, to, port, args.protocol)?,
        _ => bail!("name a Service, or a packet with --to and --port"),
    })
}

fn show<T: Serialize>(
    args: &ExplainArgs,
    found: &T,
    render: impl Fn(&T, bool) -> String,
) -> anyhow::Result<()> {
    print(&match args.output {
        Output::Text => render(found, colours(&stdout())),
        Output::Json => structured::json(found)?,
        Output::Yaml => structured::yaml(found)?,
    })
}
