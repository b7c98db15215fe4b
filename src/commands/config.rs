//! From flags to what the parts go by.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use jiff::SignedDuration;

use super::choice::Choice;
use super::settings;
use crate::cli::{AgentArgs, DetectLocalMode, ServiceArgs, SourceArgs};
use crate::cluster::ApiAccess;
use crate::dataplane::ipvs::Settings;
use crate::dataplane::ipvs::settings::{TcpTimeout, TimeoutSettings};
use crate::dataplane::policy::PolicySettings;
use crate::dataplane::policy::settings::DetectLocal;
use crate::resolve::{NodePortAddresses, Policy};
use crate::sync::engine::EngineConfig;
use crate::sync::place::PlaceConfig;

/// What the engine goes by, if the flags go together.
pub fn engine_config(args: &AgentArgs, choice: &Choice) -> anyhow::Result<EngineConfig<Settings>> {
    let services = &args.services;
    if let Some(whole) = services
        .cluster_cidr
        .iter()
        .find(|net| net.prefix_len() == 0)
    {
        bail!("--cluster-cidr {whole}: pods cannot have every address there is; give their ranges");
    }
    let drain_timeout = positive("--drain-timeout", services.drain_timeout)?;
    Ok(EngineConfig {
        node_name: args.source.node_name.clone(),
        policy: Policy {
            scheduler: choice.scheduler.clone(),
            schedulers: choice.schedulers.clone(),
            refused_schedulers: BTreeSet::new(),
            approximated: choice.approximated(),
            tunable: choice.serves_by_ipvs,
            external_ip_cidrs: services.external_ip_cidr.clone(),
        },
        settings: Settings {
            policy: PolicySettings {
                masquerade_mark: args.kernel.masquerade_mark,
                detect_local: detect_local(services),
                masquerade_all: services.masquerade_all,
            },
            drain_timeout,
            timeouts: timeouts(services)?,
            ..settings(&args.kernel)?
        },
        service_cidrs: truncated(&services.service_cidr),
        pod_cidrs: match services.detect_local_mode {
            // The Node says them.
            DetectLocalMode::NodeCidr => BTreeSet::new(),
            _ => truncated(&services.cluster_cidr),
        },
        place: place_config(args)?,
    })
}

fn timeouts(services: &ServiceArgs) -> anyhow::Result<TimeoutSettings> {
    let tcp = services.ipvs_tcp_timeout;
    let tcp = tcp.map(|wanted| seconds("--ipvs-tcp-timeout", wanted));
    Ok(TimeoutSettings {
        tcp: match tcp.transpose()? {
            None => TcpTimeout::AsConntrack,
            Some(None) => TcpTimeout::Keep,
            Some(Some(seconds)) => TcpTimeout::Seconds(seconds),
        },
        tcp_fin: seconds("--ipvs-tcpfin-timeout", services.ipvs_tcpfin_timeout)?,
        udp: seconds("--ipvs-udp-timeout", services.ipvs_udp_timeout)?,
    })
}

/// Whole seconds up to a day; none for 0.
fn seconds(flag: &str, wanted: SignedDuration) -> anyhow::Result<Option<u32>> {
    let seconds = u32::try_from(wanted.as_secs()).ok();
    match seconds.filter(|seconds| *seconds <= 86_400 && wanted.subsec_nanos() == 0) {
        Some(0) => Ok(None),
        Some(seconds) => Ok(Some(seconds)),
        None => bail!("{flag} {wanted:#}: it takes whole seconds up to 24h, or 0s"),
    }
}

fn detect_local(services: &ServiceArgs) -> DetectLocal {
    let interface = match services.detect_local_mode {
        DetectLocalMode::ClusterCidr | DetectLocalMode::NodeCidr => None,
        DetectLocalMode::BridgeInterface => services.pod_bridge_interface.clone(),
        DetectLocalMode::InterfaceNamePrefix => services
            .pod_interface_name_prefix
            .as_ref()
            .map(|prefix| format!("{prefix}+")),
    };
    interface.map_or(DetectLocal::Sources, DetectLocal::Interface)
}

fn place_config(args: &AgentArgs) -> anyhow::Result<PlaceConfig> {
    let items = &args.services.node_port_addresses;
    Ok(PlaceConfig {
        node_port_addresses: NodePortAddresses::parse(items).context("--node-port-addresses")?,
        api_servers: match args.source.manifests {
            Some(_) => BTreeSet::new(),
            None => api_access(&args.source).server_addresses(),
        },
    })
}

/// How the API server is reached.
pub fn api_access(source: &SourceArgs) -> ApiAccess {
    ApiAccess {
        kubeconfig: source.kubeconfig(),
        context: source.context.clone(),
        servers: source.apiserver.clone(),
        ca_file: source.apiserver_ca.clone(),
        token_file: source.token_file.clone(),
    }
}

/// `10.96.0.1/16` means `10.96.0.0/16`.
fn truncated(nets: &[ipnet::IpNet]) -> BTreeSet<ipnet::IpNet> {
    nets.iter().map(ipnet::IpNet::trunc).collect()
}

/// A duration that must not be nothing.
pub fn positive(flag: &str, duration: SignedDuration) -> anyhow::Result<Duration> {
    let duration = Duration::try_from(duration).ok().filter(|d| !d.is_zero());
    duration.ok_or_else(|| anyhow!("{flag} must be more than 0"))
}
