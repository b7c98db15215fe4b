//! Reads `/proc` of processes: proxies at work, and who listens.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::inspect::check::facts::{Listener, Process, Read};

/// `TASK_COMM_LEN` cuts none of these.
const PROXIES: [&str; 3] = ["kube-proxy", "kube-router", "ipvs-agent"];
/// `TCP_LISTEN` in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// Service proxies in this network namespace, this process left out.
pub fn proxies() -> Read<Vec<Process>> {
    let own = fs::read_link("/proc/self/ns/net").ok();
    let mut found = Vec::new();
    for pid in pids()? {
        let process = format!("/proc/{pid}");
        let Some(name) = name_of(&process) else {
            continue;
        };
        let namespace = fs::read_link(format!("{process}/ns/net")).ok();
        let elsewhere = namespace.is_some() && namespace != own;
        if PROXIES.contains(&name.as_str()) && pid != std::process::id() && !elsewhere {
            found.push(Process { pid, name });
        }
    }
    Ok(found)
}

/// Who listens at ports of this network namespace.
pub fn listeners(ports: [u16; 2]) -> Read<Vec<Listener>> {
    let mut sockets: BTreeMap<String, u16> = BTreeMap::new();
    let first =
        fs::read_to_string("/proc/net/tcp").map_err(|error| format!("/proc/net/tcp: {error}"))?;
    let second = fs::read_to_string("/proc/net/tcp6").unwrap_or_default();
    for line in first.lines().chain(second.lines()) {
        if let Some((port, inode)) = listener(line)
            && ports.contains(&port)
        {
            sockets.insert(format!("socket:[{inode}]"), port);
        }
    }
    let owners = if sockets.is_empty() {
        BTreeMap::new()
    } else {
        owners(&sockets)
    };
    let listening: BTreeSet<u16> = sockets.into_values().collect();
    let listeners = listening.into_iter().map(|port| Listener {
        port,
        process: owners.get(&port).cloned(),
    });
    Ok(listeners.collect())
}

/// Port and inode of a line about a socket that listens.
fn listener(line: &str) -> Option<(u16, &str)> {
    let mut fields = line.split_whitespace();
    let local = fields.nth(1)?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?;
    let port = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
    (state == LISTEN).then_some((port, inode))
}

/// The names of the processes that hold the sockets, as far as they can be seen.
fn owners(sockets: &BTreeMap<String, u16>) -> BTreeMap<u16, String> {
    let mut holders: BTreeMap<u16, BTreeMap<u32, Holder>> = BTreeMap::new();
    for pid in pids().unwrap_or_default() {
        let process = format!("/proc/{pid}");
        let Ok(files) = fs::read_dir(format!("{process}/fd")) else {
            continue;
        };
        for file in files.flatten() {
            let link = fs::read_link(file.path()).unwrap_or_default();
            if let Some(port) = sockets.get(link.to_string_lossy().as_ref())
                && let Some(name) = name_of(&process)
            {
                let parent = parent_of(&process);
                let of_port = holders.entry(*port).or_default();
                of_port.insert(pid, Holder { name, parent });
            }
        }
    }
    let owner = |(port, of_port)| Some((port, first(&of_port)?));
    holders.into_iter().filter_map(owner).collect()
}

struct Holder {
    name: String,
    parent: Option<u32>,
}

/// The name of the one that opened the socket: a child has it too until it runs its program, by the name
/// of a thread of its parent.
fn first(holders: &BTreeMap<u32, Holder>) -> Option<String> {
    let inherited = |holder: &Holder| {
        let parent = holder.parent.as_ref();
        parent.is_some_and(|parent| holders.contains_key(parent))
    };
    let mut own = holders.values().filter(|holder| !inherited(holder));
    own.next().map(|holder| holder.name.clone())
}

fn parent_of(process: impl AsRef<Path>) -> Option<u32> {
    let status = fs::read_to_string(process.as_ref().join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok()
}

/// Its threads may bear other names: the process's own is that of its first.
fn name_of(process: impl AsRef<Path>) -> Option<String> {
    let name = fs::read_to_string(process.as_ref().join("comm")).ok()?;
    Some(name.trim().to_owned())
}

fn pids() -> Read<Vec<u32>> {
    let entries = fs::read_dir("/proc").map_err(|error| format!("/proc: {error}"))?;
    let names = entries.flatten().map(|entry| entry.file_name());
    Ok(names
        .filter_map(|name| name.to_str()?.parse().ok())
        .collect())
}

/// Effective ones of this process.
pub fn capabilities() -> Read<u64> {
    let file = "/proc/self/status";
    let status = fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    bits.ok_or_else(|| format!("{file} names none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_opened_a_socket_owns_it_and_no_child_on_its_way_to_another_program() {
        let holder = |name: &str, parent| Holder {
            name: name.to_owned(),
            parent,
        };
        let of = |parent, child| {
            BTreeMap::from([
                (parent, holder("ipvs-agent", Some(1))),
                (child, holder("tokio-rt-worker", Some(parent))),
            ])
        };
        // Numbers of processes begin anew at the end.
        assert_eq!(first(&of(70, 71)).as_deref(), Some("ipvs-agent"));
        assert_eq!(first(&of(4_000_000, 71)).as_deref(), Some("ipvs-agent"));
        assert_eq!(first(&BTreeMap::new()), None);
    }

    /// Lines as Linux 6.12 prints them: 127.0.0.1:10249 listens, 192.0.2.1:22 is a connection.
    #[test]
    fn listeners_are_told_from_connections() {
        let listens = "   0: 0100007F:2809 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12345 1 ffff 100 0 0 10 0";
        let connected = "   1: 010200C0:0016 020200C0:C350 01 00000000:00000000 02:000A 00000000     0        0 54321 2 ffff 20 4 30 10 -1";
        let heading = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
        let of_v6 = "   0: 00000000000000000000000000000000:2810 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 777 1 ffff 100 0 0 10 0";
        assert_eq!(listener(listens), Some((10249, "12345")));
        assert_eq!(listener(connected), None);
        assert_eq!(listener(heading), None);
        assert_eq!(listener(of_v6), Some((10256, "777")));
    }
}
