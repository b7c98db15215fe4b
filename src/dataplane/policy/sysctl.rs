//! The sysctls that forwarding needs here: wanted value and why.
//!
//! They are set and kept, never set back: others may have come to rely on them.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::LazyLock;
use std::{fmt, fs};

use crate::dataplane::Error;
use crate::model::Family;

/// A sysctl with the value that correct forwarding needs.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Dotted, as `sysctl` prints it.
    pub name: &'static str,
    pub value: &'static str,
    pub reason: &'static str,
    /// Wanted only where there are Services of this family.
    pub family: Option<Family>,
}

impl Wanted {
    /// Sets it.
    pub fn write(&self) -> io::Result<()> {
        fs::write(path(self.name), self.value)
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sysctl -w {}={}", self.name, self.value)
    }
}

/// What forwarding needs, whatever balances.
pub const FORWARDING: [Wanted; 2] = [
    Wanted {
        name: "net.ipv4.ip_forward",
        value: "1",
        reason: "replies of real servers pass through this node",
        family: Some(Family::V4),
    },
    // A node that forwards IPv6 drops default routes that routers advertised to it
    // (`addrconf_fixup_forwarding`), unless `accept_ra` is 2.
    Wanted {
        name: "net.ipv6.conf.all.forwarding",
        value: "1",
        reason: "replies of real servers pass through this node",
        family: Some(Family::V6),
    },
];

/// Those of `wanted` whose values differ; a sysctl that this kernel lacks is left out, and so is one
/// of a family that no Service is of.
pub fn plan<'a>(
    wanted: impl IntoIterator<Item = Wanted> + 'a,
    have: &'a BTreeMap<&'static str, String>,
    serves: impl Fn(Family) -> bool + 'a,
) -> impl Iterator<Item = Wanted> + 'a {
    wanted
        .into_iter()
        .filter(move |wanted| wanted.family.is_none_or(&serves))
        .filter(|wanted| {
            have.get(wanted.name)
                .is_some_and(|value| value != wanted.value)
        })
}

/// Reads the values of those that exist.
pub fn read(
    wanted: impl IntoIterator<Item = Wanted>,
) -> Result<BTreeMap<&'static str, String>, Error> {
    let mut values = BTreeMap::new();
    for wanted in wanted {
        match fs::read_to_string(path(wanted.name)) {
            Ok(value) => {
                values.insert(wanted.name, value.trim().to_owned());
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(Error::new(format!("read {}", wanted.name), error)),
        }
    }
    Ok(values)
}

/// Where a sysctl is read and written: in `/proc/sys`, or where `IPVS_AGENT_PROC_SYS` says that the node's is. A
/// container without privileges may write none in its own.
pub fn path(name: &str) -> String {
    static ROOT: LazyLock<String> = LazyLock::new(|| {
        let told = std::env::var(ROOT_VARIABLE).ok();
        let told = told.filter(|root| Path::new(root).join("net").is_dir());
        told.unwrap_or_else(|| "/proc/sys".to_owned())
    });
    path_in(&ROOT, name)
}

fn path_in(root: &str, name: &str) -> String {
    format!("{}/{}", root.trim_end_matches('/'), name.replace('.', "/"))
}

const ROOT_VARIABLE: &str = "IPVS_AGENT_PROC_SYS";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sysctl_is_a_file_below_the_root() {
        let name = "net.ipv4.ip_forward";
        assert_eq!(path_in("/proc/sys", name), "/proc/sys/net/ipv4/ip_forward");
        let mounted = path_in("/host/proc/sys/", name);
        assert_eq!(mounted, "/host/proc/sys/net/ipv4/ip_forward");
    }
}
