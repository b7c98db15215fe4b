//! What stands behind an option: addresses, marks, masks, numbers.
//!
//! Each function gives the value, or what the option takes, for the message.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use ipvs_sys::{Family, Protocol, ServiceFlags};

use super::Names;

/// What an option takes instead of what it was given.
pub(super) type Allowed = String;

/// `HOST[:PORT]`, IPv6 in brackets if a port follows; no port is `None`.
pub(super) fn host_port(
    text: &str,
    protocol: Protocol,
    names: Names<'_>,
) -> Result<(IpAddr, Option<u16>), Allowed> {
    if let Ok(addr) = text.parse::<Ipv6Addr>() {
        return Ok((addr.into(), None));
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (addr, rest) = rest.split_once(']').ok_or_else(|| ADDRESS.to_owned())?;
        let addr: Ipv6Addr = addr.parse().map_err(|_| ADDRESS.to_owned())?;
        let port = match rest.strip_prefix(':') {
            Some(name) => Some(port(name, protocol, names)?),
            None if rest.is_empty() => None,
            None => return Err(ADDRESS.to_owned()),
        };
        return Ok((addr.into(), port));
    }
    let (name, port) = match text.split_once(':') {
        Some((host, name)) => (host, Some(port(name, protocol, names)?)),
        None => (text, None),
    };
    Ok((host(name, names)?, port))
}

fn host(name: &str, names: Names<'_>) -> Result<IpAddr, Allowed> {
    if let Ok(addr) = name.parse::<Ipv4Addr>() {
        return Ok(addr.into());
    }
    // What looks like an address and is none shall not be looked up.
    let looks_like_one = name.chars().all(|c| c.is_ascii_digit() || c == '.');
    if name.is_empty() || looks_like_one {
        return Err(ADDRESS.to_owned());
    }
    (names.host)(name).ok_or_else(|| format!("{ADDRESS}; no host is known by the name {name}"))
}

fn port(name: &str, protocol: Protocol, names: Names<'_>) -> Result<u16, Allowed> {
    if !name.is_empty() && name.chars().all(|c| c.is_ascii_digit()) {
        return name
            .parse()
            .map_err(|_| "a port is a number from 0 to 65535".to_owned());
    }
    names.ports.port(name, protocol).ok_or_else(|| {
        format!(
            "a port is a number from 0 to 65535 or a name of /etc/services, which has no {name:?} \
             over {protocol} (`ipvsadm-save -n` writes numbers)"
        )
    })
}

/// A decimal number; `ipvsadm -S` writes those from 2³¹ with a minus sign.
pub(super) fn mark(text: &str) -> Result<NonZeroU32, Allowed> {
    let number = match text.parse::<i64>() {
        Ok(number @ ..0) => number + (1 << 32),
        Ok(number) => number,
        Err(_) => 0,
    };
    u32::try_from(number)
        .ok()
        .and_then(NonZeroU32::new)
        .ok_or_else(|| "a firewall mark is a decimal number from 1 to 4294967295".to_owned())
}

/// Bits of the clients' addresses.
pub(super) fn netmask(text: &str, family: Family) -> Result<u8, Allowed> {
    match family {
        Family::Inet => {
            let allowed =
                || "an IPv4 netmask is written as 255.255.255.0, ones before zeros".to_owned();
            let bits = text.parse::<Ipv4Addr>().map_err(|_| allowed())?.to_bits();
            let ones = bits.leading_ones();
            let whole = ones == bits.count_ones() && ones > 0;
            u8::try_from(ones)
                .ok()
                .filter(|_| whole)
                .ok_or_else(allowed)
        }
        Family::Inet6 => number(text, 1..=128, "an IPv6 netmask is a prefix length")
            .map(|bits| u8::try_from(bits).unwrap_or(128)),
    }
}

/// A decimal number in a range.
pub(super) fn number(text: &str, range: RangeInclusive<u32>, what: &str) -> Result<u32, Allowed> {
    let digits = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|number| digits && range.contains(number))
        .ok_or_else(|| format!("{what} from {} to {}", range.start(), range.end()))
}

/// `sh-fallback,sh-port`, or `flag-1` to `flag-3` for any scheduler.
pub(super) fn scheduler_flags(text: &str, scheduler: &str) -> Result<ServiceFlags, Allowed> {
    let mut flags = ServiceFlags::empty();
    for name in text.split(',') {
        let of_scheduler = name
            .strip_prefix(scheduler)
            .filter(|_| matches!(scheduler, "sh" | "mh"));
        flags |= match (name, of_scheduler) {
            ("flag-1", _) | (_, Some("-fallback")) => ServiceFlags::SCHED1,
            ("flag-2", _) | (_, Some("-port")) => ServiceFlags::SCHED2,
            ("flag-3", _) => ServiceFlags::SCHED3,
            _ => {
                let own = match scheduler {
                    "sh" | "mh" => format!("{scheduler}-fallback, {scheduler}-port, "),
                    _ => String::new(),
                };
                return Err(format!(
                    "the flags of scheduler {scheduler} are {own}flag-1, flag-2, flag-3, with commas between"
                ));
            }
        };
    }
    Ok(flags)
}

const ADDRESS: &str = "an address is written as 10.96.0.1:80, [fd00::1]:80 or with a host's name";

/// Seconds that `ipvsadm` takes for a timeout: 31 days.
pub(super) const MAX_TIMEOUT: u32 = ipvs_sys::MAX_PERSISTENCE;
