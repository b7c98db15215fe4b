//! The table as `ipvsadm -L -n` (1.31) prints it, byte for byte. Scripts parse it.
//!
//! Names are never looked up: what `ipvsadm` prints without `-n` depends on a resolver that the
//! table may be the way to.

use std::fmt::Write;
use std::net::SocketAddr;

use ipvs_sys::{
    DestinationEntry, Family, ForwardMethod, Protocol, ServiceEntry, ServiceFlags, ServiceKey,
    Stats, Tunnel, TunnelFlags,
};

use super::Row;

/// Which columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Columns {
    /// Scheduler, method, weight, connections.
    #[default]
    Plain,
    /// `--stats`.
    Stats,
    /// `--rate`.
    Rate,
    /// `--thresholds`.
    Thresholds,
    /// `--persistent-conn`.
    PersistentConn,
    /// `--tun-info`.
    TunnelInfo,
}

/// How it is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style {
    /// Which columns.
    pub columns: Columns,
    /// `--exact`: large numbers in full.
    pub exact: bool,
    /// One virtual server was asked for: the line of the version is left out.
    pub single: bool,
}

/// The lines before the first row: the version of IPVS, the size of its table of connections, the columns.
pub fn heading(version: (u8, u8, u8), connection_table_size: u32, style: Style) -> String {
    let mut out = String::new();
    if !style.single {
        let (major, minor, patch) = version;
        let _ = writeln!(
            out,
            "IP Virtual Server version {major}.{minor}.{patch} (size={connection_table_size})"
        );
    }
    out + title(style.columns)
}

/// The lines of a virtual server and its real servers.
pub fn row(out: &mut String, row: &Row, style: Style) {
    service_line(out, &row.service, style);
    for entry in &row.destinations {
        destination_line(out, entry, style);
    }
}

fn title(columns: Columns) -> &'static str {
    match columns {
        Columns::Plain => concat!(
            "Prot LocalAddress:Port Scheduler Flags\n",
            "  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n"
        ),
        Columns::Stats => concat!(
            "Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes\n",
            "  -> RemoteAddress:Port\n"
        ),
        Columns::Rate => concat!(
            "Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS\n",
            "  -> RemoteAddress:Port\n"
        ),
        Columns::Thresholds => concat!(
            "Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn \n",
            "  -> RemoteAddress:Port\n"
        ),
        Columns::PersistentConn => concat!(
            "Prot LocalAddress:Port            Weight    PersistConn ActiveConn InActConn \n",
            "  -> RemoteAddress:Port\n"
        ),
        Columns::TunnelInfo => concat!(
            "Prot LocalAddress:Port Scheduler Flags\n",
            "  -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn\n"
        ),
    }
}

fn service_line(out: &mut String, entry: &ServiceEntry, style: Style) {
    let name = service_name(&entry.service.key);
    match style.columns {
        Columns::Stats | Columns::Rate => {
            let _ = write!(out, "{name:<33}");
            let numbers = numbers(&entry.stats, style.columns);
            numbers
                .into_iter()
                .for_each(|number| large(out, number, style.exact));
            out.push('\n');
        }
        _ => {
            let _ = writeln!(out, "{name} {}", configuration(entry));
        }
    }
}

/// `TCP  10.96.0.1:443`, `FWM  200 IPv6`; a mark from 2³¹ is a negative number.
pub(super) fn service_name(key: &ServiceKey) -> String {
    match *key {
        ServiceKey::Address {
            protocol,
            addr,
            port,
        } => {
            let protocol = match protocol {
                Protocol::Udp => "UDP",
                Protocol::Sctp => "SCTP",
                // ipvsadm knows no fourth.
                Protocol::Tcp | Protocol::Other(_) => "TCP",
            };
            format!("{protocol:<4} {}", SocketAddr::new(addr, port))
        }
        ServiceKey::Mark { family, mark } => {
            let ipv6 = if family == Family::Inet6 { " IPv6" } else { "" };
            format!("FWM  {}{ipv6}", mark.get().cast_signed())
        }
    }
}

/// `sh (sh-fallback,sh-port) persistent 360 mask 255.255.255.0`.
pub(super) fn configuration(entry: &ServiceEntry) -> String {
    let service = &entry.service;
    let mut out = service.scheduler.to_string();
    let flags = scheduler_flags(service.scheduler.as_str(), service.flags);
    if !flags.is_empty() {
        let _ = write!(out, " ({})", flags.join(","));
    }
    if service.flags.contains(ServiceFlags::PERSISTENT) {
        let _ = write!(out, " persistent {}", service.timeout);
        match service.key.family() {
            family if service.netmask == family.bits() => {}
            Family::Inet6 => {
                let _ = write!(out, " mask {}", service.netmask);
            }
            Family::Inet => {
                let bits = u32::MAX
                    .checked_shl(32 - u32::from(service.netmask))
                    .unwrap_or(0);
                let _ = write!(out, " mask {}", std::net::Ipv4Addr::from(bits));
            }
        }
        if let Some(engine) = &service.pe_name {
            let _ = write!(out, " pe {engine}");
        }
    }
    if service.flags.contains(ServiceFlags::ONE_PACKET) {
        out.push_str(" ops");
    }
    out
}

/// The names that `ipvsadm -b` has for them.
pub(super) fn scheduler_flags(scheduler: &str, flags: ServiceFlags) -> Vec<String> {
    let named = |flag: &str| match (scheduler, flag) {
        ("sh" | "mh", "flag-1") => format!("{scheduler}-fallback"),
        ("sh" | "mh", "flag-2") => format!("{scheduler}-port"),
        _ => flag.to_owned(),
    };
    [
        (ServiceFlags::SCHED1, "flag-1"),
        (ServiceFlags::SCHED2, "flag-2"),
        (ServiceFlags::SCHED3, "flag-3"),
    ]
    .into_iter()
    .filter(|(bit, _)| flags.contains(*bit))
    .map(|(_, flag)| named(flag))
    .collect()
}

fn destination_line(out: &mut String, entry: &DestinationEntry, style: Style) {
    let destination = &entry.destination;
    let (active, inactive) = (entry.active, entry.inactive);
    let weight = destination.weight.cast_signed();
    let forward = forward(&destination.forward);
    let _ = write!(out, "  -> {:<28}", destination.key.to_string());
    let _ = match style.columns {
        Columns::Plain => {
            write!(out, " {forward:<7} {weight:<6} {active:<10} {inactive:<10}")
        }
        Columns::TunnelInfo => {
            let tunnel = tunnel(&destination.forward);
            write!(
                out,
                " {forward:<7} {tunnel:<13} {weight:<6} {active:<10} {inactive:<10}"
            )
        }
        Columns::Thresholds => {
            let (upper, lower) = (destination.upper_threshold, destination.lower_threshold);
            write!(out, " {upper:<10} {lower:<10} {active:<10} {inactive:<10}")
        }
        Columns::PersistentConn => {
            let persistent = entry.persistent;
            write!(
                out,
                " {weight:<9} {persistent:<11} {active:<10} {inactive:<10}"
            )
        }
        Columns::Stats => {
            let numbers = numbers(&entry.stats, style.columns);
            numbers
                .into_iter()
                .for_each(|number| large(out, number, style.exact));
            Ok(())
        }
        Columns::Rate => {
            let [cps, in_pps, out_pps, in_bps, out_bps] = numbers(&entry.stats, style.columns);
            // The first three are never shortened.
            let _ = write!(out, " {cps:>8} {in_pps:>8} {out_pps:>8}");
            [in_bps, out_bps]
                .into_iter()
                .for_each(|number| large(out, number, style.exact));
            Ok(())
        }
    };
    out.push('\n');
}

/// `Masq`, `Route` …
pub(super) fn forward(forward: &ForwardMethod) -> &'static str {
    match forward {
        ForwardMethod::Masquerade => "Masq",
        ForwardMethod::Local => "Local",
        ForwardMethod::Tunnel(_) => "Tunnel",
        ForwardMethod::DirectRoute => "Route",
        ForwardMethod::Bypass | ForwardMethod::Other(_) => "Unknown",
    }
}

/// `gue:5555:+c`, `gre:-c`, `ipip`, `n/a`.
fn tunnel(forward: &ForwardMethod) -> String {
    let ForwardMethod::Tunnel(tunnel) = forward else {
        return "n/a".to_owned();
    };
    let flags = tunnel.flags();
    let checksum = if flags.contains(TunnelFlags::CHECKSUM) {
        "+c"
    } else if flags.contains(TunnelFlags::REMOTE_CHECKSUM) {
        "r+c"
    } else {
        "-c"
    };
    match tunnel {
        Tunnel::Ipip { .. } => "ipip".to_owned(),
        Tunnel::Gue { port, .. } => format!("gue:{port}:{checksum}"),
        Tunnel::Gre { .. } => format!("gre:{checksum}"),
        Tunnel::Other { kind, .. } => format!("{kind}"),
    }
}

fn numbers(stats: &Stats, columns: Columns) -> [u64; 5] {
    if columns == Columns::Rate {
        [
            stats.cps,
            stats.in_pps,
            stats.out_pps,
            stats.in_bps,
            stats.out_bps,
        ]
    } else {
        [
            stats.conns,
            stats.in_packets,
            stats.out_packets,
            stats.in_bytes,
            stats.out_bytes,
        ]
    }
}

/// Nine wide; from 100 million on in thousands and so forth, unless they are to be exact.
fn large(out: &mut String, number: u64, exact: bool) {
    let _ = match number {
        _ if exact => {
            let text = number.to_string();
            let width = (text.len() + 1).max(9);
            write!(out, "{text:>width$}")
        }
        ..100_000_000 => write!(out, "{number:>9}"),
        100_000_000..1_000_000_000 => write!(out, "{:>8}K", number / 1_000),
        1_000_000_000..100_000_000_000 => write!(out, "{:>8}M", number / 1_000_000),
        100_000_000_000..100_000_000_000_000 => write!(out, "{:>8}G", number / 1_000_000_000),
        _ => write!(out, "{:>8}T", number / 1_000_000_000_000),
    };
}

#[cfg(test)]
mod tests;
