//! The sysctls of IPVS itself.

use crate::dataplane::policy::sysctl::{FORWARDING, Wanted};

/// Exist only once `ip_vs` is loaded, and per network namespace.
const OF_IPVS: [Wanted; 3] = [
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

/// All that this dataplane needs.
pub fn wanted() -> impl Iterator<Item = Wanted> {
    FORWARDING.into_iter().chain(OF_IPVS)
}
