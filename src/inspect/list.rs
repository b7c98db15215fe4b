//! `ipvs-agent list`: the output of `ipvsadm -Ln` (1.31), byte for byte.
//!
//! Its quirks are part of the format that scripts parse: marks from 2³¹ are printed negative, and
//! the order comes from 32-bit subtractions that overflow (192.168.x before 10.x).

use std::cmp::Ordering;
use std::fmt::Write;
use std::net::IpAddr;

use ipvs_sys::{
    Client, DestinationEntry, DestinationKey, Error, Family, ForwardMethod, Info, Protocol,
    ServiceEntry, ServiceFlags, ServiceKey,
};

/// One virtual server with its real servers.
pub type Entry = (ServiceEntry, Vec<DestinationEntry>);

/// Reads the whole table: one dump of services and one of destinations for each.
pub fn read(client: &mut Client) -> Result<(Info, Vec<Entry>), Error> {
    let info = client.info()?;
    let mut entries = Vec::new();
    for service in client.services()? {
        match client.destinations(&service.service.key) {
            Ok(destinations) => entries.push((service, destinations)),
            // Deleted in between: it is not there any more.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok((info, entries))
}

/// The table as text.
pub fn render(info: &Info, entries: Vec<Entry>) -> String {
    let (major, minor, patch) = info.version;
    let mut out = format!(
        "IP Virtual Server version {major}.{minor}.{patch} (size={})\n\
         Prot LocalAddress:Port Scheduler Flags\n  \
         -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n",
        info.connection_table_size
    );
    for (service, destinations) in merge_sort(entries, &|a, b| {
        compare_keys(&a.0.service.key, &b.0.service.key)
    }) {
        service_line(&mut out, &service);
        let by_key = |a: &DestinationEntry, b: &DestinationEntry| {
            compare_destinations(&a.destination.key, &b.destination.key)
        };
        for destination in merge_sort(destinations, &by_key) {
            destination_line(&mut out, &destination);
        }
    }
    out
}

fn service_line(out: &mut String, entry: &ServiceEntry) {
    let service = &entry.service;
    let (protocol, name) = match service.key {
        ServiceKey::Address {
            protocol,
            addr,
            port,
        } => (
            protocol_name(protocol).to_owned(),
            host_port(addr, port, VIP_WIDTH),
        ),
        ServiceKey::Mark { family, mark } => {
            let ipv6 = if family == Family::Inet6 { " IPv6" } else { "" };
            (
                "FWM".to_owned(),
                format!("{}{ipv6}", mark.get().cast_signed()),
            )
        }
    };
    let scheduler = service.scheduler.as_str();
    let _ = write!(out, "{protocol:<4} {name} {scheduler}");
    let flags = scheduler_flags(scheduler, service.flags);
    if !flags.is_empty() {
        let _ = write!(out, " ({})", flags.join(","));
    }
    if service.flags.contains(ServiceFlags::PERSISTENT) {
        let _ = write!(out, " persistent {}", service.timeout);
        let family = service.key.family();
        if service.netmask != family.bits() {
            match family {
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
        }
        if let Some(pe) = &service.pe_name {
            let _ = write!(out, " pe {pe}");
        }
    }
    if service.flags.contains(ServiceFlags::ONE_PACKET) {
        out.push_str(" ops");
    }
    out.push('\n');
}

fn destination_line(out: &mut String, entry: &DestinationEntry) {
    let destination = &entry.destination;
    let name = host_port(
        destination.key.addr,
        destination.key.port,
        REAL_SERVER_WIDTH,
    );
    let forward = match destination.forward {
        ForwardMethod::Masquerade => "Masq",
        ForwardMethod::Local => "Local",
        ForwardMethod::Tunnel(_) => "Tunnel",
        ForwardMethod::DirectRoute => "Route",
        _ => "Unknown",
    };
    let _ = writeln!(
        out,
        "  -> {name:<28} {forward:<7} {:<6} {:<10} {:<10}",
        destination.weight.cast_signed(),
        entry.active,
        entry.inactive
    );
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
        // As ipvsadm, which knows no fourth.
        Protocol::Other(_) => "TCP",
    }
}

/// `ADDRESS:PORT`; an IPv4 one is cut at `width`, an IPv6 one never.
fn host_port(addr: IpAddr, port: u16, width: usize) -> String {
    match addr {
        IpAddr::V4(v4) => {
            let mut text = format!("{v4}:{port}");
            text.truncate(width);
            text
        }
        IpAddr::V6(v6) => format!("[{v6}]:{port}"),
    }
}

fn scheduler_flags(scheduler: &str, flags: ServiceFlags) -> Vec<String> {
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

/// ipvsadm's order: differences of unsigned 32-bit numbers taken as signed ones.
fn compare_keys(a: &ServiceKey, b: &ServiceKey) -> Ordering {
    let mark = |key: &ServiceKey| match key {
        ServiceKey::Mark { mark, .. } => mark.get(),
        ServiceKey::Address { .. } => 0,
    };
    let rest = |key: &ServiceKey| match *key {
        ServiceKey::Address {
            protocol,
            addr,
            port,
        } => (protocol.number(), Some(addr), port),
        ServiceKey::Mark { .. } => (0, None, 0),
    };
    let (a_protocol, a_addr, a_port) = rest(a);
    let (b_protocol, b_addr, b_port) = rest(b);
    wrapped(mark(a), mark(b))
        .then_with(|| a.family().cmp(&b.family()))
        .then_with(|| a_protocol.cmp(&b_protocol))
        .then_with(|| match (a_addr, b_addr) {
            (Some(a), Some(b)) => compare_addresses(a, b),
            _ => Ordering::Equal,
        })
        .then_with(|| a_port.cmp(&b_port))
}

fn compare_destinations(a: &DestinationKey, b: &DestinationKey) -> Ordering {
    compare_addresses(a.addr, b.addr).then_with(|| a.port.cmp(&b.port))
}

fn compare_addresses(a: IpAddr, b: IpAddr) -> Ordering {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => wrapped(a.to_bits(), b.to_bits()),
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let word = |v: std::net::Ipv6Addr, n: u32| (v.to_bits() >> (96 - 32 * n)) as u32;
            (0..4)
                .map(|n| wrapped(word(a, n), word(b, n)))
                .find(|order| order.is_ne())
                .unwrap_or(Ordering::Equal)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) => Ordering::Less,
        (IpAddr::V6(_), IpAddr::V4(_)) => Ordering::Greater,
    }
}

fn wrapped(a: u32, b: u32) -> Ordering {
    a.wrapping_sub(b).cast_signed().cmp(&0)
}

/// The merge sort of glibc's `qsort`. The order above is no total order, so the outcome depends
/// on the algorithm, and the standard library's sort may refuse such an order by a panic.
fn merge_sort<T>(mut items: Vec<T>, compare: &impl Fn(&T, &T) -> Ordering) -> Vec<T> {
    if items.len() < 2 {
        return items;
    }
    let right = items.split_off(items.len() / 2);
    let mut left = merge_sort(items, compare).into_iter().peekable();
    let mut right = merge_sort(right, compare).into_iter().peekable();
    let mut sorted = Vec::with_capacity(left.len() + right.len());
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        let next = if compare(a, b).is_le() {
            left.next()
        } else {
            right.next()
        };
        sorted.extend(next);
    }
    sorted.extend(left);
    sorted.extend(right);
    sorted
}

const VIP_WIDTH: usize = 33;
const REAL_SERVER_WIDTH: usize = 28;
