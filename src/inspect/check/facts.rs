//! All that is read of a node, as values. What could not be read says why.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::saved::Saved;

/// A fact, or why it could not be read.
pub type Read<T> = Result<T, String>;

/// Numbers of capabilities (`linux/capability.h`).
pub const NET_ADMIN: u32 = 12;
pub const NET_RAW: u32 = 13;

/// What the agent is to be told, by flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub dataplane: Plane,
    pub scheduler: String,
    pub route_mark: u32,
    pub masquerade_mark: u32,
    pub near_marks: u32,
    pub route_table: u32,
    pub rule_priority: u32,
    /// Given, or learnt from the routes of an agent that was here.
    pub service_cidrs: BTreeSet<IpNet>,
    pub health_port: u16,
    pub metrics_port: u16,
}

/// By what Services are to be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plane {
    Auto,
    Ipvs,
    Iptables,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub wanted: Wanted,
    /// `uname -r`.
    pub release: String,
    pub modules: Modules,
    /// Set types that rules need, and whether the kernel has them.
    pub set_types: Read<BTreeMap<String, bool>>,
    /// Dotted names with their values; one that is not here the kernel has not.
    pub sysctls: BTreeMap<String, String>,
    /// Whether they can be written here; in a container they often cannot.
    pub sysctls_writable: bool,
    /// Those of single interfaces, `all` among them.
    pub interfaces: BTreeMap<String, InterfaceSysctls>,
    pub iptables: Vec<IptablesDump>,
    /// Names of the tables of nftables.
    pub nft_tables: Read<BTreeSet<String>>,
    pub links: Read<Vec<Link>>,
    pub rules: Read<Vec<RoutingRule>>,
    /// Routes in the agent's table that are not the agent's.
    pub foreign_routes: Read<usize>,
    /// Service proxies in this network namespace, as far as processes can be seen.
    pub processes: Read<Vec<Process>>,
    /// Who listens on the agent's ports.
    pub listeners: Read<Vec<Listener>>,
    /// The answer at the health port; none where nobody listens.
    pub health: Option<Read<Health>>,
    /// None where IPVS is not loaded.
    pub ipvs: Option<Read<Ipvs>>,
    /// None where there is nobody to ask: manifests, or nothing was said.
    pub api_servers: Option<Read<Vec<ApiServer>>>,
    /// Effective capabilities.
    pub capabilities: Read<u64>,
    pub processors: usize,
}

/// What is known of the kernel's modules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Modules {
    pub loaded: BTreeSet<String>,
    pub built_in: BTreeSet<String>,
    pub loadable: BTreeSet<String>,
    /// Whether the list of those that can be loaded was there to read.
    pub known: bool,
    /// Matches and targets of iptables that the kernel has at this moment, by name.
    pub extensions: BTreeSet<String>,
    /// Whether IPVS is at work.
    pub ip_vs: bool,
}

impl Modules {
    /// Loaded, built in or to be loaded.
    pub fn has(&self, module: &str) -> bool {
        [&self.loaded, &self.built_in, &self.loadable]
            .iter()
            .any(|set| set.contains(module))
    }
}

/// Of one interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InterfaceSysctls {
    pub rp_filter: u32,
    pub src_valid_mark: u32,
    pub route_localnet: u32,
    pub arp_ignore: u32,
    pub arp_announce: u32,
}

/// What one `iptables-save` printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IptablesDump {
    /// `iptables-legacy`, `ip6tables-nft` …
    pub program: String,
    pub variant: Variant,
    pub saved: Read<Saved>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Variant {
    Legacy,
    Nft,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// `veth`, `bridge` …; empty for hardware.
    pub kind: String,
    /// The bridge that it is a port of.
    pub bridge: Option<u32>,
    pub hairpin: Option<bool>,
    pub promiscuous: bool,
}

/// A line of `ip rule`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutingRule {
    pub priority: u32,
    /// Value and mask.
    pub mark: Option<(u32, u32)>,
    pub table: u32,
    /// Whether the agent made it.
    pub ours: bool,
    /// Whether it asks for anything beside the mark.
    pub selects: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    pub port: u16,
    /// Unknown where its owner cannot be seen.
    pub process: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    pub status: u16,
    pub body: String,
}

/// The state of IPVS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ipvs {
    pub servers: Vec<VirtualServer>,
    pub tcp_timeout: u32,
    /// Buckets of its connection table.
    pub connection_table: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualServer {
    /// As `ipvsadm` names it.
    pub name: String,
    /// None for one at a mark.
    pub addr: Option<IpAddr>,
    pub ours: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiServer {
    /// Host and port.
    pub name: String,
    pub addresses: BTreeSet<IpAddr>,
    /// Known from a pod's environment, which names the cluster IP of `default/kubernetes`.
    pub cluster_ip: bool,
    /// Whether something accepted a connection there.
    pub reached: Read<()>,
}

impl Facts {
    /// A sysctl as a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.sysctls.get(name)?.trim().parse().ok()
    }

    /// A dump of iptables for which there is text, with its text.
    pub fn saved(&self) -> impl Iterator<Item = (&IptablesDump, &Saved)> {
        let read = |dump| -> Option<_> {
            let dump: &IptablesDump = dump;
            Some((dump, dump.saved.as_ref().ok()?))
        };
        self.iptables.iter().filter_map(read)
    }

    /// Why no dump of iptables can be read, if none can.
    pub fn unsaved(&self) -> Option<&str> {
        match self.saved().next() {
            Some(_) => None,
            None => Some(
                self.iptables
                    .iter()
                    .find_map(|dump| dump.saved.as_ref().err())
                    .map_or("no iptables", String::as_str),
            ),
        }
    }

    /// Whether Services are, or would be, served by IPVS.
    pub fn serves_by_ipvs(&self) -> bool {
        self.wanted.dataplane != Plane::Iptables
            && (self.modules.ip_vs || self.modules.has("ip_vs"))
    }

    /// The name of whoever listens at a port of the agent's; the inner one is empty where he cannot be
    /// seen.
    pub fn listens_at(&self, port: u16) -> Option<Option<&str>> {
        let listeners = self.listeners.as_ref().ok()?;
        let listener = listeners.iter().find(|listener| listener.port == port)?;
        Some(listener.process.as_deref())
    }
}
