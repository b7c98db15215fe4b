//! The sysctls that IPVS needs here: wanted value and why.
//!
//! They are set and kept, never set back: others may have come to rely on them.

use std::collections::BTreeMap;

use super::step::Step;
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

/// All of them. `net.ipv4.vs.*` exists only once `ip_vs` is loaded, and per network namespace.
pub const WANTED: [Wanted; 5] = [
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
    Wanted {
        name: "net.ipv4.vs.conntrack",
        value: "1",
        reason: "without conntrack a MASQUERADE rule never sees IPVS packets",
        family: None,
    },
    Wanted {
        name: "net.ipv4.vs.expire_nodest_conn",
        value: "1",
        reason: "connections to a real server that is gone end at once instead of hanging",
        family: None,
    },
    Wanted {
        name: "net.ipv4.vs.expire_quiescent_template",
        value: "1",
        reason: "session affinity lets go of a real server that drains",
        family: None,
    },
];

/// Steps for values that differ; a sysctl that this kernel lacks is left out, and so is one of a
/// family that no Service is of.
pub fn plan(
    have: &BTreeMap<&'static str, String>,
    serves: impl Fn(Family) -> bool,
) -> impl Iterator<Item = Step> {
    WANTED
        .into_iter()
        .filter(move |wanted| wanted.family.is_none_or(&serves))
        .filter(|wanted| {
            have.get(wanted.name)
                .is_some_and(|value| value != wanted.value)
        })
        .map(
            |Wanted {
                 name,
                 value,
                 reason,
                 family: _,
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
