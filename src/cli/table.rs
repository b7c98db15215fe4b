//! The flags of `list`, `connections`, `save`, `restore` and `ipvsadm`: the kernel's tables.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use jiff::SignedDuration;

use super::output::interval;

/// `ipvs-agent list`.
#[derive(Debug, Args)]
#[command(after_help = LIST_EXAMPLES)]
pub struct ListArgs {
    #[command(flatten)]
    pub ipvsadm: IpvsadmListArgs,
    /// `table` is ipvsadm's; `wide` adds Service, state, node, zone and drain; JSON and YAML have it all
    #[arg(
        long,
        short = 'o',
        value_enum,
        default_value_t = TableOutput::Table,
        conflicts_with_all = ["connection", "timeout", "daemon", "watch"]
    )]
    pub output: TableOutput,
    #[command(flatten)]
    pub which: WhichArgs,
    /// Virtual servers with this scheduler only
    #[arg(long, value_name = "NAME")]
    pub scheduler: Option<String>,
    /// Print the table, then every change of it as rules that went (-) and came (+), until stopped
    #[arg(long, short = 'w', conflicts_with_all = ["connection", "timeout", "daemon"])]
    pub watch: bool,
    /// How often --watch looks
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "2s",
        requires = "watch",
        value_parser = interval
    )]
    pub interval: SignedDuration,
}

/// The options of `ipvsadm -L`.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "As of ipvsadm -L")]
pub struct IpvsadmListArgs {
    /// Connections
    #[arg(long, short = 'c')]
    pub connection: bool,
    /// Addresses and ports as numbers, as they always are here
    #[arg(long, short = 'n')]
    pub numeric: bool,
    /// Counters
    #[arg(long)]
    pub stats: bool,
    /// Rates
    #[arg(long)]
    pub rate: bool,
    /// Thresholds
    #[arg(long)]
    pub thresholds: bool,
    /// Persistent connections; with -c the data of persistence engines
    #[arg(long)]
    pub persistent_conn: bool,
    /// Kinds of tunnels
    #[arg(long)]
    pub tun_info: bool,
    /// Large numbers in full
    #[arg(long)]
    pub exact: bool,
    /// Lives of connections
    #[arg(long)]
    pub timeout: bool,
    /// Synchronisation daemons
    #[arg(long)]
    pub daemon: bool,
    /// In ipvsadm's order, as without it
    #[arg(long)]
    pub sort: bool,
    /// In the kernel's order
    #[arg(long)]
    pub nosort: bool,
    /// This virtual server only
    #[arg(long, short = 't', value_name = "ADDR:PORT")]
    pub tcp_service: Option<String>,
    /// This virtual server only
    #[arg(long, short = 'u', value_name = "ADDR:PORT")]
    pub udp_service: Option<String>,
    /// This virtual server only
    #[arg(long, value_name = "ADDR:PORT")]
    pub sctp_service: Option<String>,
    /// This virtual server only
    #[arg(long, short = 'f', value_name = "MARK", allow_negative_numbers = true)]
    pub fwmark_service: Option<String>,
    /// The mark is one of IPv6 packets
    #[arg(long = "ipv6", short = '6', requires = "fwmark_service")]
    pub ipv6: bool,
}

impl IpvsadmListArgs {
    /// The command line of ipvsadm that asks the same.
    pub fn words(&self) -> Vec<String> {
        let flags = [
            (self.connection, "-c"),
            (self.stats, "--stats"),
            (self.rate, "--rate"),
            (self.thresholds, "--thresholds"),
            (self.persistent_conn, "--persistent-conn"),
            (self.tun_info, "--tun-info"),
            (self.exact, "--exact"),
            (self.timeout, "--timeout"),
            (self.daemon, "--daemon"),
            (self.nosort, "--nosort"),
            (self.ipv6, "-6"),
        ];
        let services = [
            (&self.tcp_service, "-t"),
            (&self.udp_service, "-u"),
            (&self.sctp_service, "--sctp-service"),
            (&self.fwmark_service, "-f"),
        ];
        let mut words = vec!["-L".to_owned()];
        words.extend(
            flags
                .iter()
                .filter(|(given, _)| *given)
                .map(|(_, flag)| (*flag).to_owned()),
        );
        for (value, flag) in services {
            words.extend(
                value
                    .iter()
                    .flat_map(|value| [flag.to_owned(), value.clone()]),
            );
        }
        words
    }
}

/// Which part of a table is shown, and who is asked for names.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Which part")]
pub struct WhichArgs {
    /// Services of this namespace; an agent must run here
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// This Service; an agent must run here
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = service)]
    pub service: Option<(String, String)>,
    /// Virtual servers at this address
    #[arg(long, value_name = "ADDR[:PORT]")]
    pub vip: Option<String>,
    /// Real servers at this address
    #[arg(long, value_name = "ADDR[:PORT]")]
    pub backend: Option<String>,
    /// The agent's socket
    #[arg(
        long,
        value_name = "PATH",
        default_value = "/run/ipvs-agent/agent.sock"
    )]
    pub socket: PathBuf,
}

fn service(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        _ => Err("it takes NAMESPACE/NAME, such as default/kubernetes".to_owned()),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TableOutput {
    Table,
    Wide,
    Json,
    Yaml,
}

const LIST_EXAMPLES: &str = "\
Examples:
  ipvs-agent list                                   as ipvsadm -Ln
  ipvs-agent list --stats -t 10.96.0.1:443          counters of one virtual server
  ipvs-agent list -o wide --namespace shop          with Services, states of endpoints, nodes
  ipvs-agent list --backend 10.244.1.7              where does this pod take part?
  ipvs-agent list -o json | jq '.virtualServers[] | select(.realServers == [])'
  ipvs-agent list --watch                           what changes, as rules

It exits with 1 if the virtual server of -t, -u, --sctp-service or -f is not there.";

/// `ipvs-agent connections`.
#[derive(Debug, Args)]
#[command(after_help = CONNECTIONS_EXAMPLES)]
pub struct ConnectionsArgs {
    #[command(flatten)]
    pub which: WhichArgs,
    /// Connections of this client
    #[arg(long, value_name = "ADDR[:PORT]")]
    pub client: Option<String>,
    /// Connections in this state: ESTABLISHED, TIME_WAIT, UDP …
    #[arg(long, value_name = "STATE")]
    pub state: Option<String>,
    /// tcp, udp or sctp
    #[arg(long, value_enum)]
    pub protocol: Option<ProtocolArg>,
    /// Count them instead
    #[arg(long, value_enum)]
    pub by: Option<ByArg>,
    #[arg(long, short = 'o', value_enum, default_value_t = PlainOutput::Table)]
    pub output: PlainOutput,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProtocolArg {
    Tcp,
    Udp,
    Sctp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ByArg {
    /// Service port, or virtual server without an agent
    Service,
    /// Real server
    Backend,
    /// Address of the client
    Client,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PlainOutput {
    Table,
    Json,
    Yaml,
}

const CONNECTIONS_EXAMPLES: &str = "\
Examples:
  ipvs-agent connections --client 10.244.1.7        what does this pod talk to?
  ipvs-agent connections --backend 10.244.2.9:8080 --state established
  ipvs-agent connections --service shop/web --by client
  ipvs-agent connections --by backend               which backend has most?

Rows that persistence has made, which tie a client to a backend, show the state `template`.";

/// `ipvs-agent save`.
#[derive(Debug, Args)]
#[command(after_help = SAVE_EXAMPLES)]
pub struct SaveArgs {
    /// Leave out what an agent made: it makes that again by itself
    #[arg(long)]
    pub foreign: bool,
    /// In the kernel's order
    #[arg(long)]
    pub nosort: bool,
    /// Addresses and ports as numbers, as they always are here
    #[arg(long, short = 'n')]
    pub numeric: bool,
}

const SAVE_EXAMPLES: &str = "\
Examples:
  ipvs-agent save > rules                           everything, with thresholds
  ipvs-agent save --foreign > rules                 without what an agent made
  ipvs-agent save | ssh other ipvsadm -R            ipvsadm reads it";

/// `ipvs-agent restore`.
#[derive(Debug, Args)]
#[command(after_help = RESTORE_EXAMPLES)]
pub struct RestoreArgs {
    /// Rules as `ipvs-agent save` and `ipvsadm-save` write them [default: standard input]
    pub file: Option<PathBuf>,
    /// Change entries that are there otherwise; without it they are an error
    #[arg(long, conflicts_with = "replace")]
    pub merge: bool,
    /// Make the table what the rules say: change what is there otherwise, remove what they do not
    /// name. What stays as it is keeps its connections; what an agent made stays
    #[arg(long)]
    pub replace: bool,
    /// Touch what an agent made, too
    #[arg(long)]
    pub force: bool,
    /// Print what would be removed (-) and added (+), and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

const RESTORE_EXAMPLES: &str = "\
Examples:
  ipvs-agent restore < rules                        add what is missing; nothing is flushed
  ipvs-agent restore --dry-run --replace rules      what would change?
  ipvsadm-save | ipvs-agent restore --merge         rules of ipvsadm, with names or numbers

All rules are checked before the first is carried out: an error leaves the kernel as it was.";

/// `ipvs-agent ipvsadm`.
#[derive(Debug, Args)]
#[command(disable_help_flag = true, after_help = IPVSADM_EXAMPLES)]
pub struct IpvsadmArgs {
    /// ipvsadm's own command line; --force before it touches what an agent made, too
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGUMENT"
    )]
    pub words: Vec<OsString>,
}

const IPVSADM_EXAMPLES: &str = "\
Examples:
  ipvs-agent ipvsadm -A -t 192.0.2.1:80 -s wlc
  ipvs-agent ipvsadm -a -t 192.0.2.1:80 -r 10.0.0.7:8080 -m -w 3
  ipvs-agent ipvsadm -Ln --rate

A link named ipvsadm, ipvsadm-save or ipvsadm-restore to this program does the same.";
