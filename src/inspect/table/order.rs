//! `ipvsadm`'s order. It is part of what scripts parse, quirks included: it comes from 32-bit
//! subtractions that overflow, so that 192.168.x stands before 10.x and marks from 2³¹ before 1.

use std::cmp::Ordering;
use std::net::IpAddr;

use ipvs_sys::{DestinationEntry, DestinationKey, ServiceEntry, ServiceKey};

/// In which order a table is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// That of its hash tables.
    Kernel,
    /// `ipvsadm`'s.
    Ipvsadm,
}

/// Virtual servers.
pub(super) fn services(entries: Vec<ServiceEntry>) -> Vec<ServiceEntry> {
    merge_sort(entries, &|a, b| {
        compare_keys(&a.service.key, &b.service.key)
    })
}

/// The real servers of one.
pub(super) fn destinations(entries: Vec<DestinationEntry>) -> Vec<DestinationEntry> {
    merge_sort(entries, &|a, b| {
        compare_destinations(&a.destination.key, &b.destination.key)
    })
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
        // Real servers of the other family, through a tunnel: here IPv6 comes first.
        (IpAddr::V4(_), IpAddr::V6(_)) => Ordering::Greater,
        (IpAddr::V6(_), IpAddr::V4(_)) => Ordering::Less,
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
