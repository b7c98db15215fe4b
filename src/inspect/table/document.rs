//! The table as JSON and YAML, but for the envelope. `docs/shell.md` documents it.

use std::net::IpAddr;

use ipvs_sys::{
    DestinationEntry, Family, ForwardMethod, Service, ServiceFlags, ServiceKey, Stats, Tunnel,
    TunnelFlags,
};
use serde::Serialize;

use super::names::{Endpoint, Names, ServerName};
use super::text::scheduler_flags;
use super::{Row, Table};

/// The whole.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document<'a> {
    ipvs: Ipvs,
    virtual_servers: Vec<VirtualServer<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Ipvs {
    version: String,
    connection_table_size: u32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct VirtualServer<'a> {
    #[serde(flatten)]
    key: Key,
    scheduler: &'a str,
    scheduler_flags: Vec<String>,
    one_packet: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    persistence: Option<Persistence<'a>>,
    /// An agent made it.
    agent: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a ServerName>,
    stats: Numbers,
    real_servers: Vec<RealServer<'a>>,
}

/// What a virtual server is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum Key {
    /// Protocol, address, port.
    Address {
        /// `TCP`, `UDP`, `SCTP`.
        protocol: &'static str,
        /// The virtual address.
        address: IpAddr,
        /// 0 for every port.
        port: u16,
    },
    /// A firewall mark.
    Mark {
        /// The mark.
        mark: u32,
        /// `IPv4` or `IPv6`.
        family: &'static str,
    },
}

impl From<&ServiceKey> for Key {
    fn from(key: &ServiceKey) -> Self {
        match *key {
            ServiceKey::Address {
                protocol,
                addr,
                port,
            } => Self::Address {
                protocol: match protocol {
                    ipvs_sys::Protocol::Tcp => "TCP",
                    ipvs_sys::Protocol::Udp => "UDP",
                    ipvs_sys::Protocol::Sctp => "SCTP",
                    ipvs_sys::Protocol::Other(_) => "other",
                },
                address: addr,
                port,
            },
            ServiceKey::Mark { family, mark } => Self::Mark {
                mark: mark.get(),
                family: match family {
                    Family::Inet => "IPv4",
                    Family::Inet6 => "IPv6",
                },
            },
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Persistence<'a> {
    timeout_seconds: u32,
    prefix_length: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<&'a str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RealServer<'a> {
    address: IpAddr,
    port: u16,
    forward: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tunnel: Option<TunnelInfo>,
    weight: u32,
    upper_threshold: u32,
    lower_threshold: u32,
    active_connections: u32,
    inactive_connections: u32,
    persistent_connections: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<&'a Endpoint>,
    stats: Numbers,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TunnelInfo {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    checksum: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Numbers {
    connections: u64,
    in_packets: u64,
    out_packets: u64,
    in_bytes: u64,
    out_bytes: u64,
    connections_per_second: u64,
    in_packets_per_second: u64,
    out_packets_per_second: u64,
    in_bytes_per_second: u64,
    out_bytes_per_second: u64,
}

impl From<&Stats> for Numbers {
    fn from(stats: &Stats) -> Self {
        Self {
            connections: stats.conns,
            in_packets: stats.in_packets,
            out_packets: stats.out_packets,
            in_bytes: stats.in_bytes,
            out_bytes: stats.out_bytes,
            connections_per_second: stats.cps,
            in_packets_per_second: stats.in_pps,
            out_packets_per_second: stats.out_pps,
            in_bytes_per_second: stats.in_bps,
            out_bytes_per_second: stats.out_bps,
        }
    }
}

/// The document of a table that was read in full.
pub fn document<'a>(
    table: &'a Table,
    names: &'a Names,
    is_agents: impl Fn(&Service) -> bool,
) -> Document<'a> {
    let (major, minor, patch) = table.version;
    let virtual_server = |row: &'a Row| {
        let service = &row.service.service;
        let name = names.get(&service.key);
        let endpoint = |entry: &DestinationEntry| {
            name.and_then(|name| name.endpoints.get(&entry.destination.key))
        };
        let real_server = |entry: &'a DestinationEntry| real_server(entry, endpoint(entry));
        VirtualServer {
            key: Key::from(&service.key),
            scheduler: service.scheduler.as_str(),
            scheduler_flags: scheduler_flags(service.scheduler.as_str(), service.flags),
            one_packet: service.flags.contains(ServiceFlags::ONE_PACKET),
            persistence: persistence(service),
            agent: is_agents(service),
            service: name,
            stats: Numbers::from(&row.service.stats),
            real_servers: row.destinations.iter().map(real_server).collect(),
        }
    };
    Document {
        ipvs: Ipvs {
            version: format!("{major}.{minor}.{patch}"),
            connection_table_size: table.connection_table_size,
        },
        virtual_servers: table.rows.iter().map(virtual_server).collect(),
    }
}

fn persistence(service: &Service) -> Option<Persistence<'_>> {
    let persistent = service.flags.contains(ServiceFlags::PERSISTENT);
    persistent.then(|| Persistence {
        timeout_seconds: service.timeout,
        prefix_length: service.netmask,
        engine: service.pe_name.as_ref().map(ipvs_sys::PeName::as_str),
    })
}

fn real_server<'a>(entry: &DestinationEntry, endpoint: Option<&'a Endpoint>) -> RealServer<'a> {
    let destination = &entry.destination;
    RealServer {
        address: destination.key.addr,
        port: destination.key.port,
        forward: match destination.forward {
            ForwardMethod::Masquerade => "masquerade",
            ForwardMethod::Local => "local",
            ForwardMethod::Tunnel(_) => "tunnel",
            ForwardMethod::DirectRoute => "route",
            ForwardMethod::Bypass => "bypass",
            ForwardMethod::Other(_) => "other",
        },
        tunnel: match &destination.forward {
            ForwardMethod::Tunnel(tunnel) => Some(tunnel_info(tunnel)),
            _ => None,
        },
        weight: destination.weight,
        upper_threshold: destination.upper_threshold,
        lower_threshold: destination.lower_threshold,
        active_connections: entry.active,
        inactive_connections: entry.inactive,
        persistent_connections: entry.persistent,
        endpoint,
        stats: Numbers::from(&entry.stats),
    }
}

fn tunnel_info(tunnel: &Tunnel) -> TunnelInfo {
    let flags = tunnel.flags();
    TunnelInfo {
        kind: match tunnel {
            Tunnel::Ipip { .. } => "ipip",
            Tunnel::Gue { .. } => "gue",
            Tunnel::Gre { .. } => "gre",
            Tunnel::Other { .. } => "other",
        },
        port: (tunnel.port() != 0).then_some(tunnel.port()),
        checksum: if flags.contains(TunnelFlags::CHECKSUM) {
            "full"
        } else if flags.contains(TunnelFlags::REMOTE_CHECKSUM) {
            "remote"
        } else {
            "none"
        },
    }
}
