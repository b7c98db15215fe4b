//! The other side of the comparison: runs `ipvsadm`, and reads what it prints without any of the
//! crate's own formatting.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::process::{Command, Stdio};

use ipvs_sys::{
    Destination, DestinationKey, Family, ForwardMethod, Protocol, Service, ServiceFlags,
    ServiceKey, Tunnel, TunnelFlags,
};

use crate::Result;
use crate::table::Table;

/// Runs `ipvsadm` and gives its standard output.
pub fn run(arguments: &[&str]) -> Result<String> {
    let output = Command::new("ipvsadm").args(arguments).output()?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("ipvsadm {}: {words}", arguments.join(" ")).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// `ipvsadm -R`.
pub fn restore(lines: &str) -> Result<()> {
    let mut child = Command::new("ipvsadm")
        .arg("-R")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(lines.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() && words.is_empty() {
        return Ok(());
    }
    Err(format!("ipvsadm -R: {words}").into())
}

/// The kernel's table, as `ipvsadm -Sn` prints it, with the thresholds of `-Ln --thresholds`.
pub fn table() -> Result<Table> {
    let mut table = parse_save(&run(&["-Sn"])?)?;
    add_thresholds(&mut table, &run(&["-Ln", "--thresholds"])?)?;
    Ok(table)
}

fn parse_save(text: &str) -> Result<Table> {
    let mut table = Table::new();
    for line in text.lines() {
        let options = options(line);
        let bad = || format!("cannot understand: {line}");
        let key = service_key(&options).ok_or_else(bad)?;
        if options.contains_key("-A") {
            table.insert(key, (service(key, &options)?, BTreeMap::new()));
        } else {
            let destination = destination(&options).ok_or_else(bad)?;
            let (_, destinations) = table.get_mut(&key).ok_or_else(bad)?;
            destinations.insert(destination.key, destination);
        }
    }
    Ok(table)
}

/// Options and their values; those without have an empty one.
fn options(line: &str) -> BTreeMap<&str, &str> {
    let mut options = BTreeMap::new();
    let mut last = "";
    for word in line.split_whitespace() {
        let negative = word
            .strip_prefix('-')
            .is_some_and(|rest| last == "-f" && rest.starts_with(|c: char| c.is_ascii_digit()));
        if word.starts_with('-') && !negative {
            last = word;
            options.insert(word, "");
        } else {
            options.insert(last, word);
            last = "";
        }
    }
    options
}

fn service_key(options: &BTreeMap<&str, &str>) -> Option<ServiceKey> {
    for (option, protocol) in [
        ("-t", Protocol::Tcp),
        ("-u", Protocol::Udp),
        ("--sctp-service", Protocol::Sctp),
    ] {
        if let Some(addr) = options.get(option) {
            return Some(ServiceKey::address(protocol, addr.parse().ok()?));
        }
    }
    let family = if options.contains_key("-6") {
        Family::Inet6
    } else {
        Family::Inet
    };
    mark(options.get("-f")?, family)
}

/// `ipvsadm` prints marks as signed numbers.
fn mark(text: &str, family: Family) -> Option<ServiceKey> {
    let mark = match text.parse::<i64>().ok()? {
        negative @ ..0 => u32::try_from(negative + (1 << 32)).ok()?,
        positive => u32::try_from(positive).ok()?,
    };
    let mark = NonZeroU32::new(mark)?;
    Some(ServiceKey::Mark { family, mark })
}

fn service(key: ServiceKey, options: &BTreeMap<&str, &str>) -> Result<Service> {
    let mut service = Service::new(key, options.get("-s").copied().unwrap_or("").parse()?);
    if let Some(seconds) = options.get("-p") {
        service = service.with_persistence(seconds.parse()?);
    }
    if let Some(mask) = options.get("-M") {
        let bits = match key.family() {
            Family::Inet => u8::try_from(mask.parse::<Ipv4Addr>()?.to_bits().count_ones())?,
            Family::Inet6 => mask.parse()?,
        };
        service = service.with_netmask(bits);
    }
    if options.contains_key("-o") {
        service.flags |= ServiceFlags::ONE_PACKET;
    }
    if let Some(name) = options.get("--pe") {
        service = service.with_pe_name(name.parse()?);
    }
    for flag in options.get("-b").copied().unwrap_or("").split(',') {
        service.flags |= match flag {
            "" => ServiceFlags::empty(),
            "sh-fallback" | "mh-fallback" | "flag-1" => ServiceFlags::SCHED1,
            "sh-port" | "mh-port" | "flag-2" => ServiceFlags::SCHED2,
            "flag-3" => ServiceFlags::SCHED3,
            other => return Err(format!("cannot understand flag {other}").into()),
        };
    }
    Ok(service)
}

fn destination(options: &BTreeMap<&str, &str>) -> Option<Destination> {
    let addr: SocketAddr = options.get("-r")?.parse().ok()?;
    let forward = if options.contains_key("-m") {
        ForwardMethod::Masquerade
    } else if options.contains_key("-g") {
        ForwardMethod::DirectRoute
    } else {
        options.get("-i")?;
        ForwardMethod::Tunnel(tunnel(options)?)
    };
    let weight = options.get("-w")?.parse().ok()?;
    Some(Destination::new(addr.into(), forward).with_weight(weight))
}

fn tunnel(options: &BTreeMap<&str, &str>) -> Option<Tunnel> {
    let flags = if options.contains_key("--tun-csum") {
        TunnelFlags::CHECKSUM
    } else if options.contains_key("--tun-remcsum") {
        TunnelFlags::REMOTE_CHECKSUM
    } else {
        TunnelFlags::empty()
    };
    Some(match *options.get("--tun-type")? {
        "ipip" => Tunnel::Ipip { flags },
        "gue" => Tunnel::Gue {
            port: options.get("--tun-port")?.parse().ok()?,
            flags,
        },
        "gre" => Tunnel::Gre { flags },
        _ => return None,
    })
}

fn add_thresholds(table: &mut Table, text: &str) -> Result<()> {
    let mut key = None;
    let mut lines = 0;
    for line in text.lines().skip(3) {
        let words: Vec<_> = line.split_whitespace().collect();
        let under = key;
        let bad = || format!("cannot understand, under {under:?}: {line}");
        match words.as_slice() {
            ["->", addr, upper, lower, ..] => {
                let backend = DestinationKey::from(addr.parse::<SocketAddr>()?);
                let destination = key
                    .and_then(|key| table.get_mut(&key))
                    .and_then(|(_, destinations)| destinations.get_mut(&backend))
                    .ok_or_else(bad)?;
                *destination = destination.with_thresholds(upper.parse()?, lower.parse()?);
                lines += 1;
            }
            ["FWM", number, rest @ ..] => {
                let six = rest.first() == Some(&"IPv6");
                let family = if six { Family::Inet6 } else { Family::Inet };
                key = Some(mark(number, family).ok_or_else(bad)?);
            }
            [protocol, addr, ..] => {
                let protocol = match *protocol {
                    "TCP" => Protocol::Tcp,
                    "UDP" => Protocol::Udp,
                    "SCTP" => Protocol::Sctp,
                    _ => return Err(bad().into()),
                };
                key = Some(ServiceKey::address(protocol, addr.parse()?));
            }
            _ => return Err(bad().into()),
        }
    }
    let destinations: usize = table
        .values()
        .map(|(_, destinations)| destinations.len())
        .sum();
    if lines != destinations {
        return Err(format!("{lines} lines of thresholds for {destinations} destinations").into());
    }
    Ok(())
}
