//! Which features the compared tables really had: a run that never met one proves nothing about it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use ipvs_sys::{
    Command, Destination, Family, ForwardMethod, Service, ServiceFlags, ServiceKey, Tunnel,
    TunnelFlags,
};

use crate::Result;
use crate::table::{Table, family_name};

/// What every way of writing a table has to have met, besides the schedulers.
const WANTED: [&str; 50] = [
    "TCP IPv4",
    "TCP IPv6",
    "UDP IPv4",
    "UDP IPv6",
    "SCTP IPv4",
    "SCTP IPv6",
    "mark IPv4",
    "mark IPv6",
    "mark above 2^31",
    "every port",
    "no destination",
    "not persistent",
    "persistent IPv4",
    "persistent IPv6",
    "netmask IPv4",
    "netmask IPv6",
    "engine sip",
    "one-packet",
    "sh-fallback",
    "sh-port",
    "sh-fallback,sh-port",
    "mh-fallback",
    "mh-port",
    "mh-fallback,mh-port",
    "flag-1",
    "flag-2",
    "flag-3",
    "masquerade IPv4",
    "masquerade IPv6",
    "direct routing IPv4",
    "direct routing IPv6",
    "tunnel IPv4",
    "tunnel IPv6",
    "tunnel IPv4 of IPv6",
    "tunnel IPv6 of IPv4",
    "ipip",
    "gue",
    "gue csum",
    "gue remcsum",
    "gre",
    "gre csum",
    "masquerade of a mark",
    "direct routing of a mark",
    "tunnel of a mark",
    "weight 0",
    "weight above 0",
    "no threshold",
    "upper threshold",
    "both thresholds",
    "another port than the service",
];
/// What a change of a table has to have been.
const CHANGES: [&str; 7] = ["-A", "-E", "-D", "-a", "-e", "-d", "-e of a tunnel"];

/// The schedulers that this kernel has, from its list of modules.
pub fn schedulers() -> Result<Vec<String>> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let modules = format!("/lib/modules/{}", release.trim());
    let mut found = BTreeSet::new();
    for list in ["modules.dep", "modules.builtin"] {
        let text = fs::read_to_string(format!("{modules}/{list}"))?;
        for line in text.lines() {
            let path = line.split(':').next().unwrap_or(line);
            let file = path.rsplit('/').next().unwrap_or(path);
            if let Some((name, _)) = file
                .strip_prefix("ip_vs_")
                .and_then(|rest| rest.split_once(".ko"))
                // An application's helper and persistence engines.
                && name != "ftp"
                && !name.starts_with("pe_")
            {
                found.insert(name.to_owned());
            }
        }
    }
    if found.is_empty() {
        return Err(format!("no scheduler among the modules in {modules}").into());
    }
    Ok(found.into_iter().collect())
}

/// Features by the way in which they were written.
#[derive(Default)]
pub struct Met(BTreeMap<&'static str, BTreeSet<String>>);

impl Met {
    /// Notes what is in a table that was found equal on both sides.
    pub fn table(&mut self, how: &'static str, table: &Table) {
        let met = self.0.entry(how).or_default();
        for (key, (service, destinations)) in table {
            met.extend(of_service(service));
            if destinations.is_empty() {
                met.insert("no destination".to_owned());
            }
            for destination in destinations.values() {
                met.extend(of_destination(key, destination));
            }
        }
    }

    /// Notes changes that led to a table that was found equal on both sides.
    pub fn changes(&mut self, commands: &[Command]) {
        let met = self.0.entry("changes").or_default();
        for command in commands {
            let text = command.to_string();
            let option = text.split(' ').next().unwrap_or_default();
            met.insert(option.to_owned());
            if let Command::SetDest(_, destination) = command
                && matches!(destination.forward, ForwardMethod::Tunnel(_))
            {
                met.insert("-e of a tunnel".to_owned());
            }
        }
    }

    /// Fails unless everything was met in every way.
    pub fn check(&self, ways: &[&str], schedulers: &[String]) -> Result<()> {
        let mut missing = Vec::new();
        let mut want = |way: &str, feature: &str| {
            if !self.0.get(way).is_some_and(|met| met.contains(feature)) {
                missing.push(format!("{way}: {feature}"));
            }
        };
        for way in ways {
            for feature in WANTED {
                want(way, feature);
            }
            for scheduler in schedulers {
                want(way, &format!("scheduler {scheduler}"));
            }
        }
        for change in CHANGES {
            want("changes", change);
        }
        if !missing.is_empty() {
            return Err(format!("never met: {}", missing.join("; ")).into());
        }
        println!(
            "each of {} features met in each of {} ways, schedulers {}",
            WANTED.len() + schedulers.len(),
            ways.len(),
            schedulers.join(" ")
        );
        Ok(())
    }
}

fn of_service(service: &Service) -> Vec<String> {
    let family = service.key.family();
    let (name, scheduler) = (family_name(family), service.scheduler.as_str());
    let has = |flag| service.flags.contains(flag);
    let persistent = has(ServiceFlags::PERSISTENT);
    let mut met = vec![format!("scheduler {scheduler}")];
    let mut note = |holds: bool, feature: String| {
        if holds {
            met.push(feature);
        }
    };
    match service.key {
        ServiceKey::Address { protocol, port, .. } => {
            note(true, format!("{protocol} {name}"));
            note(port == 0, "every port".to_owned());
        }
        ServiceKey::Mark { mark, .. } => {
            note(true, format!("mark {name}"));
            note(mark.get() > 1 << 31, "mark above 2^31".to_owned());
        }
    }
    note(!persistent, "not persistent".to_owned());
    note(persistent, format!("persistent {name}"));
    note(service.netmask != family.bits(), format!("netmask {name}"));
    note(has(ServiceFlags::ONE_PACKET), "one-packet".to_owned());
    if let Some(engine) = &service.pe_name {
        note(true, format!("engine {engine}"));
    }
    if let "sh" | "mh" = scheduler {
        let names = [
            (ServiceFlags::SCHED1, format!("{scheduler}-fallback")),
            (ServiceFlags::SCHED2, format!("{scheduler}-port")),
        ];
        let set: Vec<_> = names
            .into_iter()
            .filter(|(flag, _)| has(*flag))
            .map(|(_, name)| name)
            .collect();
        note(true, set.join(","));
    } else {
        note(has(ServiceFlags::SCHED1), "flag-1".to_owned());
        note(has(ServiceFlags::SCHED2), "flag-2".to_owned());
        note(has(ServiceFlags::SCHED3), "flag-3".to_owned());
    }
    met
}

fn of_destination(service: &ServiceKey, destination: &Destination) -> Vec<String> {
    let mut met = Vec::new();
    let family = Family::of(destination.key.addr);
    let method = match destination.forward {
        ForwardMethod::Masquerade => "masquerade",
        ForwardMethod::DirectRoute => "direct routing",
        ForwardMethod::Tunnel(tunnel) => {
            met.push(encapsulation(&tunnel));
            "tunnel"
        }
        // See `traits`.
        ForwardMethod::Local | ForwardMethod::Bypass | ForwardMethod::Other(_) => "other",
    };
    let name = family_name(family);
    met.push(if family == service.family() {
        format!("{method} {name}")
    } else {
        format!("{method} {name} of {}", family_name(service.family()))
    });
    if let ServiceKey::Mark { .. } = service {
        met.push(format!("{method} of a mark"));
    } else if destination.key.port != service.port() {
        met.push("another port than the service".to_owned());
    }
    met.push(if destination.weight == 0 {
        "weight 0".to_owned()
    } else {
        "weight above 0".to_owned()
    });
    match (destination.upper_threshold, destination.lower_threshold) {
        (0, _) => met.push("no threshold".to_owned()),
        (_, 0) => met.push("upper threshold".to_owned()),
        _ => met.push("both thresholds".to_owned()),
    }
    met
}

fn encapsulation(tunnel: &Tunnel) -> String {
    let kind = match tunnel {
        Tunnel::Ipip { .. } => "ipip",
        Tunnel::Gue { .. } => "gue",
        Tunnel::Gre { .. } => "gre",
        Tunnel::Other { .. } => "other",
    };
    let flags = match tunnel.flags() {
        TunnelFlags::CHECKSUM => " csum",
        TunnelFlags::REMOTE_CHECKSUM => " remcsum",
        _ => "",
    };
    format!("{kind}{flags}")
}
