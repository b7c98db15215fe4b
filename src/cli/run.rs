//! The flags of `ipvs-agent run`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ipnet::IpNet;
use jiff::SignedDuration;

use super::kernel::KernelArgs;
use crate::ask;
use crate::model::addr::parse_cidr;

#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES, args_override_self = true)]
pub struct RunArgs {
    #[command(flatten)]
    pub agent: AgentArgs,
    #[command(flatten)]
    pub runtime: RuntimeArgs,
    #[command(flatten)]
    pub file: FileArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Configuration by a file")]
pub struct FileArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Check the flags and the file, print what would be in force, and end
    #[arg(long)]
    pub check_config: bool,
}

/// Also of commands that are to see the node as an agent with that file does.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// A file that sets flags: AgentConfiguration, or kube-proxy's own KubeProxyConfiguration as it is.
    /// Flags on the command line override it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// What decides how Services are served; the same for all commands that ask what would be.
#[derive(Debug, Args)]
pub struct AgentArgs {
    #[command(flatten)]
    pub source: SourceArgs,
    #[command(flatten)]
    pub services: ServiceArgs,
    #[command(flatten)]
    pub kernel: KernelArgs,
}

impl SourceArgs {
    /// Whether a source is named on the command line. KUBECONFIG in a shell's environment is none.
    pub fn is_named(&self) -> bool {
        self.manifests.is_some() || self.kubeconfig.is_some() || !self.apiserver.is_empty()
    }

    /// What was given, or what the environment names. Not clap's to read: a KUBECONFIG that stands
    /// in an administrator's shell is no conflict with `--manifests`.
    pub fn kubeconfig(&self) -> Option<PathBuf> {
        let named = || std::env::var_os("KUBECONFIG").filter(|name| !name.is_empty());
        self.kubeconfig
            .clone()
            .or_else(|| named().map(PathBuf::from))
    }
}

const RUN_EXAMPLES: &str = "\
Examples:
  In a pod of a DaemonSet, the API server's addresses given so that its Service is not needed:
    ipvs-agent run --apiserver https://192.0.2.10:6443 --cluster-cidr 10.244.0.0/16
  With the configuration that kube-proxy had, after a look at what is made of it:
    ipvs-agent run --config /var/lib/kube-proxy/config.conf --check-config
    ipvs-agent run --config /var/lib/kube-proxy/config.conf
  On a machine without Kubernetes:
    ipvs-agent run --manifests /etc/ipvs-agent/services";

#[derive(Debug, Args)]
#[command(next_help_heading = "Where Services come from")]
pub struct SourceArgs {
    /// Read manifests (YAML or JSON) from a directory instead of an API server
    #[arg(long, value_name = "DIR", conflicts_with_all = ["kubeconfig", "apiserver", "context"])]
    pub manifests: Option<PathBuf>,
    /// How to reach the API server; without it the pod's own ServiceAccount is used
    /// (default: the file that KUBECONFIG names)
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context to use
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// The API server's own addresses, so that the agent never needs the cluster IP that it has
    /// to program itself. Several: the next is tried when one does not answer
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub apiserver: Vec<String>,
    /// Certificate authority of the API server, in place of the kubeconfig's or the pod's
    #[arg(long, value_name = "FILE")]
    pub apiserver_ca: Option<PathBuf>,
    /// Bearer token for the API server, in place of the kubeconfig's or the pod's
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// This node's name in Kubernetes
    #[arg(long, value_name = "NAME", env = "NODE_NAME", default_value_t = hostname())]
    pub node_name: String,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "What a Service means here")]
pub struct ServiceArgs {
    /// By what Services are served: IPVS, or iptables, which needs no module but cannot know what
    /// endpoints have to do; auto takes IPVS where the kernel has it
    #[arg(long, value_enum, value_name = "NAME", default_value_t = DataplaneArg::Auto)]
    pub dataplane: DataplaneArg,
    /// Scheduler of Services that ask for none by annotation: rr, wlc, mh …
    #[arg(long, value_name = "NAME", default_value = "rr")]
    pub scheduler: String,
    /// Ranges that cluster IPs come from; without it the API server's ServiceCIDR objects say so
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = cidr)]
    pub service_cidr: Vec<IpNet>,
    /// Ranges whose sources are pods, which keep their address towards cluster IPs; without it
    /// the node's own pod CIDRs
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = cidr)]
    pub cluster_cidr: Vec<IpNet>,
    /// How packets of this node's pods are known, which keep their address and reach all endpoints
    #[arg(long, value_enum, value_name = "MODE", default_value_t = DetectLocalMode::ClusterCidr)]
    pub detect_local_mode: DetectLocalMode,
    /// The bridge that this node's pods are on, for BridgeInterface
    #[arg(long, value_name = "NAME", value_parser = interface_name, required_if_eq("detect_local_mode", "BridgeInterface"))]
    pub pod_bridge_interface: Option<String>,
    /// How the names of this node's interfaces to its pods begin, for InterfaceNamePrefix
    #[arg(long, value_name = "PREFIX", value_parser = interface_name, required_if_eq("detect_local_mode", "InterfaceNamePrefix"))]
    pub pod_interface_name_prefix: Option<String>,
    /// Permit `spec.externalIPs` inside these ranges; without it all are refused (CVE-2020-8554)
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = cidr)]
    pub external_ip_cidr: Vec<IpNet>,
    /// Addresses of this node that NodePorts answer on: CIDRs (a family of which none is given is
    /// open whole), `primary` for the node's InternalIP of each family, or `all`. Never loopback
    /// and link-local ones, nor addresses of Services
    #[arg(
        long,
        value_name = "CIDR|primary|all",
        value_delimiter = ',',
        default_value = "all"
    )]
    pub node_port_addresses: Vec<String>,
    /// Masquerade all traffic to cluster IPs, pods' too
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    pub masquerade_all: bool,
    /// How long IPVS keeps a TCP connection on which nothing moves, at most 24h; without it as long
    /// as conntrack does; 0s leaves it as it is
    #[arg(long, value_name = "DURATION")]
    pub ipvs_tcp_timeout: Option<SignedDuration>,
    /// How long after a FIN; 0s leaves it as it is
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    pub ipvs_tcpfin_timeout: SignedDuration,
    /// The same over UDP; 0s leaves it as it is
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    pub ipvs_udp_timeout: SignedDuration,
    /// How long connections to a TCP endpoint that is gone may last
    #[arg(long, value_name = "DURATION", default_value = "1m")]
    pub drain_timeout: SignedDuration,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "The agent itself")]
pub struct RuntimeArgs {
    /// How often the kernel is compared with what should be there, and repaired
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    pub audit_interval: SignedDuration,
    /// How long the API server (or the directory) may tell nothing before /healthz and /readyz say so. What
    /// was told before stays served. 0s: for ever
    #[arg(long, value_name = "DURATION", default_value = "15m")]
    pub source_patience: SignedDuration,
    /// Where /healthz, /livez and /readyz answer
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:10256")]
    pub health_address: SocketAddr,
    /// Where /metrics answers
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:10249")]
    pub metrics_address: SocketAddr,
    /// What the kernel counts, as metrics: connections, packets and bytes of each Service port, or of each
    /// of its endpoints too. Needs IPVS; docs/metrics.md says what it costs
    #[arg(long, value_enum, value_name = "EXTENT", default_value_t = TrafficMetrics::None)]
    pub traffic_metrics: TrafficMetrics,
    /// The most series that those may have, 7 for each Service port and each endpoint. What has no room is
    /// counted in ipvs_agent_traffic_left_out
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000)]
    pub traffic_metrics_limit: u32,
    /// Where the other commands of this program find the agent; for root alone
    #[arg(long, value_name = "PATH", default_value = ask::SOCKET)]
    pub socket: PathBuf,
    /// Form of the log, on standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or a filter such as ipvs_agent::sync=debug
    #[arg(
        long,
        value_name = "FILTER",
        env = "IPVS_AGENT_LOG",
        default_value = "info"
    )]
    pub log: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TrafficMetrics {
    None,
    Services,
    /// Of each Service and of each endpoint
    Backends,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// A CIDR that everybody reads alike.
pub(super) fn cidr(text: &str) -> Result<IpNet, String> {
    parse_cidr(text).ok_or_else(|| "it takes a CIDR such as 10.96.0.0/16 or fd00::/64".to_owned())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DataplaneArg {
    Auto,
    Ipvs,
    Iptables,
}

/// kube-proxy's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DetectLocalMode {
    /// Their source is in --cluster-cidr, or in the node's pod CIDRs without it
    #[value(name = "ClusterCIDR")]
    ClusterCidr,
    /// Their source is in the node's pod CIDRs
    #[value(name = "NodeCIDR")]
    NodeCidr,
    /// They come in by --pod-bridge-interface
    #[value(name = "BridgeInterface")]
    BridgeInterface,
    /// They come in by an interface named with --pod-interface-name-prefix
    #[value(name = "InterfaceNamePrefix")]
    InterfaceNamePrefix,
}

/// A name reaches a rule, so nothing but what interfaces are named with is taken (`dev_valid_name`).
fn interface_name(text: &str) -> Result<String, String> {
    let permitted = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
    if (1..=14).contains(&text.len()) && text.chars().all(permitted) && !text.starts_with('-') {
        Ok(text.to_owned())
    } else {
        Err("it takes 1 to 14 letters, digits or -_.@".to_owned())
    }
}

fn hostname() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .to_lowercase()
}
