//! The sysctls that IPVS needs here: wanted value and why.
//!
//! They are set and kept, never set back: others may have come to rely on them.

use std::collections::BTreeMap;

use super::step::Step;

/// A sysctl with the value that correct forwarding needs.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Dotted, as `sysctl` prints it.
    pub name: &'static str,
    pub value: &'static str,
    pub reason: &'static str,
}

/// All of them. `net.ipv4.vs.*` exists only once `ip_vs` is loaded, and per network namespace.
pub const WANTED: [Wanted; 5] = [
    Wanted {
        name: "net.ipv4.ip_forward",
        value: "1",
        reason: "replies of real servers pass through this node",
    },
    Wanted {
        name: "net.ipv6.conf.all.forwarding",
        value: "1",
        reason: "replies of real servers pass through this node",
    },
    Wanted {
        name: "net.ipv4.vs.conntrack",
        value: "1",
        reason: "without conntrack a MASQUERADE rule never sees IPVS packets",
    },
    Wanted {
        name: "net.ipv4.vs.expire_nodest_conn",
        value: "1",
        reason: "connections to a real server that is gone end at once instead of hanging",
    },
    Wanted {
        name: "net.ipv4.vs.expire_quiescent_template",
        value: "1",
        reason: "session affinity lets go of a real server that drains",
    },
];

/// Steps for values that differ; a sysctl that this kernel lacks is left out.
pub fn plan(have: &BTreeMap<&'static str, String>) -> impl Iterator<Item = Step> {
    WANTED
        .into_iter()
        .filter(|wanted| {
            have.get(wanted.name)
                .is_some_and(|value| value != wanted.value)
        })
        .map(
            |Wanted {
                 name,
                 value,
                 reason,
             }| Step::SetSysctl {
                name,
                value,
                reason,
            },
        )
}

/// Where a sysctl is read and written.
pub fn path(name: &str) -> String {
    format!("/proc/sys/{}", name.replace('.', "/"))
}
