//! Reads the kernel: modules, sysctls, rules of iptables, the state of IPVS.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use ipvs_sys::{Client, ServiceKey};
use rustix::fs::{Access, access};
use rustix::io::Errno;

use crate::commands::choice::is_loaded;
use crate::dataplane::ipvs::signature::is_signed;
use crate::dataplane::policy::sets::SetKind;
use crate::dataplane::policy::sysctl;
use crate::inspect::check::facts::{
    InterfaceSysctls, IptablesDump, Ipvs, Modules, Read, Variant, VirtualServer,
};
use crate::inspect::check::saved;
use crate::netfilter::exec::Iptables;
use crate::netfilter::ipset::SetType;
use crate::netfilter::probe;

pub fn release() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

pub fn modules() -> Modules {
    let loaded = fs::read_to_string("/proc/modules").unwrap_or_default();
    let folder = format!("/lib/modules/{}", release());
    let list = |file: &str| fs::read_to_string(format!("{folder}/{file}"));
    let (built_in, loadable) = (list("modules.builtin"), list("modules.dep"));
    let ip_vs = is_loaded();
    let mut modules = Modules {
        loaded: loaded
            .lines()
            .filter_map(|line| line.split(' ').next())
            .map(str::to_owned)
            .collect(),
        known: built_in.is_ok() || loadable.is_ok(),
        built_in: names(&built_in.unwrap_or_default()),
        loadable: names(&loadable.unwrap_or_default()),
        extensions: BTreeSet::new(),
        ip_vs,
    };
    for file in ["ip_tables_matches", "ip_tables_targets"] {
        let text = fs::read_to_string(format!("/proc/net/{file}")).unwrap_or_default();
        modules.extensions.extend(text.lines().map(str::to_owned));
    }
    modules
}

/// Names of modules in a list of their files.
fn names(list: &str) -> BTreeSet<String> {
    let files = list.lines().filter_map(|line| line.split(':').next());
    let names = files.filter_map(|file| {
        Some(
            file.rsplit('/')
                .next()?
                .split(".ko")
                .next()?
                .replace('-', "_"),
        )
    });
    names.collect()
}

pub fn set_types() -> Read<BTreeMap<String, bool>> {
    let kinds = SetKind::IPVS.iter().chain(&SetKind::IPTABLES);
    // The last one is of session affinity without IPVS.
    let types = kinds
        .map(|kind| kind.set_type())
        .chain([SetType::HashIpTimeout]);
    probe::set_types(types.map(|set_type| set_type.to_string()).collect()).map_err(said)
}

pub fn nft_tables() -> Read<BTreeSet<String>> {
    probe::nft_tables().map_err(said)
}

fn said(error: impl std::error::Error + Send + Sync + 'static) -> String {
    format!("{:#}", anyhow::Error::new(error))
}

pub fn sysctls() -> BTreeMap<String, String> {
    let read = |name: &&str| {
        let value = fs::read_to_string(sysctl::path(name)).ok()?;
        Some(((*name).to_owned(), value.trim().to_owned()))
    };
    SYSCTLS.iter().filter_map(read).collect()
}

/// Whether the agent could write them from where this runs. What only this user may not is no hindrance.
pub fn sysctls_writable() -> bool {
    access(sysctl::path(SYSCTLS[0]), Access::WRITE_OK) != Err(Errno::ROFS)
}

pub fn interfaces() -> BTreeMap<String, InterfaceSysctls> {
    let folder = "/proc/sys/net/ipv4/conf";
    let Ok(entries) = fs::read_dir(folder) else {
        return BTreeMap::new();
    };
    let names = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    let of = |name: String| {
        let number = |sysctl: &str| {
            let text = fs::read_to_string(format!("{folder}/{name}/{sysctl}")).unwrap_or_default();
            text.trim().parse().unwrap_or(0)
        };
        let values = InterfaceSysctls {
            rp_filter: number("rp_filter"),
            src_valid_mark: number("src_valid_mark"),
            route_localnet: number("route_localnet"),
            arp_ignore: number("arp_ignore"),
            arp_announce: number("arp_announce"),
        };
        (name, values)
    };
    names.map(of).collect()
}

/// `may`: whether this process may ask. One that may not is shown nothing by some variants, without an error.
pub fn iptables(may: bool) -> Vec<IptablesDump> {
    let dumps = Iptables::dumps().into_iter();
    dumps
        .map(|(program, text)| IptablesDump {
            variant: if program.ends_with("legacy") {
                Variant::Legacy
            } else {
                Variant::Nft
            },
            saved: if may {
                text.map(|text| saved::parse(&text)).map_err(said)
            } else {
                Err("it takes CAP_NET_ADMIN".to_owned())
            },
            program,
        })
        .collect()
}

pub fn ipvs() -> Option<Read<Ipvs>> {
    is_loaded().then(|| read_ipvs().map_err(said))
}

fn read_ipvs() -> Result<Ipvs, ipvs_sys::Error> {
    let mut client = Client::open()?;
    let services = client.services()?.into_iter();
    Ok(Ipvs {
        servers: services
            .map(|entry| VirtualServer {
                name: entry.service.key.to_string(),
                addr: match entry.service.key {
                    ServiceKey::Address { addr, .. } => Some(addr),
                    ServiceKey::Mark { .. } => None,
                },
                ours: is_signed(&entry.service),
            })
            .collect(),
        tcp_timeout: client.timeouts()?.tcp,
        connection_table: client.info()?.connection_table_size,
    })
}

/// The first is one that every kernel has.
const SYSCTLS: [&str; 13] = [
    "net.ipv4.ip_forward",
    "net.ipv6.conf.all.forwarding",
    "net.ipv4.vs.conntrack",
    "net.ipv4.vs.expire_nodest_conn",
    "net.ipv4.vs.expire_quiescent_template",
    "net.ipv4.vs.conn_reuse_mode",
    "net.ipv4.vs.run_estimation",
    "net.bridge.bridge-nf-call-iptables",
    "net.bridge.bridge-nf-call-ip6tables",
    "net.netfilter.nf_conntrack_count",
    "net.netfilter.nf_conntrack_max",
    "net.netfilter.nf_conntrack_buckets",
    "net.netfilter.nf_conntrack_tcp_timeout_established",
];
