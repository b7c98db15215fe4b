//! Kernel → `Observed`.
//!
//! Cost: one dump of virtual servers, one read of `/proc/net/ip_vs` for their real servers (a
//! dump of real servers is one request for each virtual server and was six times slower at
//! 10,000 × 10), the agent's own sets and routing table, two `iptables-save`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use ipvs_sys::procfs::{self, ProcForward, ProcKey};
use ipvs_sys::{Client, ForwardMethod};

use super::IpvsDataplane;
use crate::dataplane::ipvs::observed::{Base, Draining, ObservedRealServer, ObservedVirtualServer};
use crate::dataplane::ipvs::signature::is_signed;
use crate::dataplane::ipvs::{Observed, Scope, ServerKey, convert, sysctl};
use crate::dataplane::policy::kernel::{has_ipv6, read_members, read_sets};
use crate::dataplane::policy::rules::is_of_iptables;
use crate::dataplane::policy::sets::{Element, Member, SetKind};
use crate::dataplane::{Error, policy};
use crate::model::{Family, RealServerKey, Thresholds};

/// Reads everything that is ours. `previous` lends what a kernel cannot tell.
pub fn observe(plane: &mut IpvsDataplane, previous: Option<&Observed>) -> Result<Observed, Error> {
    let mut observed = Observed::default();
    observed.base = base(plane)?;
    // What is held is let go within its plan, or by the kernel.
    let lasting = |(set, _): &&(SetKind, Family)| *set != SetKind::Held;
    let lasting = observed.base.sets.iter().filter(lasting).copied().collect();
    observed.members = read_members(&mut plane.sets, &lasting)?;
    let routes = plane
        .routes
        .routes()
        .map_err(|e| Error::new("read the routes", e))?;
    for (table, net) in routes {
        if table == plane.settings.route_table {
            observed.routes.insert(net);
        } else {
            observed.base.stray_routes.insert((table, net));
        }
    }
    virtual_servers(plane, previous, &mut observed)?;
    match previous {
        Some(previous) => {
            observed.owed_flows.clone_from(&previous.owed_flows);
            observed.drained = previous.drained;
        }
        None => observed.owe_all_flows(),
    }
    Ok(observed)
}

/// Virtual servers with their real servers, ours and foreign ones told apart.
fn virtual_servers(
    plane: &mut IpvsDataplane,
    previous: Option<&Observed>,
    observed: &mut Observed,
) -> Result<(), Error> {
    // Without the module there is none.
    let Some(ipvs) = &mut plane.ipvs else {
        return Ok(());
    };
    let services = ipvs
        .services()
        .map_err(|e| Error::new("read the virtual servers", e))?;
    let mut real_servers = real_servers()?;
    for entry in services {
        let Some(key) = convert::server_key(&entry.service.key) else {
            continue;
        };
        let known = previous.and_then(|previous| previous.virtual_servers.get(&key));
        // What we made is ours though somebody edited it and took the signature off.
        if known.is_none() && !is_signed(&entry.service) {
            observed.foreign.insert(key);
            continue;
        }
        let limited = |vip| Member {
            set: SetKind::Limited,
            element: Element::VipPort(vip),
        };
        // The file does not tell thresholds.
        let told = key
            .tuple()
            .is_some_and(|vip| !observed.members.contains(&limited(vip)));
        let read = real_servers.remove(&(ProcKey::from(entry.service.key), key.family()));
        let mut real = match read.filter(|_| told) {
            Some(real) => real,
            None => real_servers_of(ipvs, key)?,
        };
        for (real_server, server) in &mut real {
            let before = known.and_then(|known| known.real_servers.get(real_server));
            let connections = server.draining.take().and_then(|read| read.connections);
            server.ramps_since = before.and_then(|before| before.ramps_since);
            server.draining = before
                .and_then(|before| before.draining)
                .map(|draining| Draining {
                    connections: if server.weight == 0 {
                        connections
                    } else {
                        None
                    },
                    ..draining
                });
        }
        let server = ObservedVirtualServer {
            service: entry.service,
            real_servers: real,
        };
        observed.put_virtual_server(key, server);
    }
    Ok(())
}

/// The real servers of one virtual server, asked for by netlink. The file leaves services out when
/// other network namespaces have some too: each `read` of a page resumes at a position that
/// counts theirs (`ip_vs_info_seq_next`) and skips only ours (`ip_vs_info_array`); seen on 6.1.
fn real_servers_of(
    ipvs: &mut Client,
    server: ServerKey,
) -> Result<BTreeMap<RealServerKey, ObservedRealServer>, Error> {
    let destinations = match ipvs.destinations(&convert::service_key(server)) {
        Ok(destinations) => destinations,
        // Deleted since it was listed.
        Err(error) if error.is_not_found() => Vec::new(),
        Err(error) => {
            let act = format!("read the real servers of {server}");
            return Err(Error::new(act, error));
        }
    };
    let real = destinations.into_iter().map(|entry| {
        let key = convert::real_server_key(entry.destination.key);
        let connections = u64::from(entry.active) + u64::from(entry.inactive);
        let masquerade = entry.destination.forward == ForwardMethod::Masquerade;
        let thresholds = Thresholds {
            upper: entry.destination.upper_threshold,
            lower: entry.destination.lower_threshold,
        };
        let weight = entry.destination.weight;
        (key, as_read(weight, masquerade, thresholds, connections))
    });
    Ok(real.collect())
}

/// A real server as read, its connections put where those of a draining one belong, for the
/// caller to keep or drop.
fn as_read(
    weight: u32,
    masquerade: bool,
    thresholds: Thresholds,
    connections: u64,
) -> ObservedRealServer {
    let draining = Some(Draining {
        gone_since: None,
        unready: false,
        connections: Some(connections),
    });
    ObservedRealServer {
        weight,
        masquerade,
        thresholds,
        draining,
        ramps_since: None,
    }
}

/// All real servers of the kernel in one read, by virtual server. The file does not tell the family
/// of a virtual server for a mark, of which there may be one of each; it is that of its real servers,
/// since a packet that is masqueraded keeps its family. One without real servers has no place here
/// and is asked for by netlink.
fn real_servers() -> Result<BTreeMap<(ProcKey, Family), RealServers>, Error> {
    let services =
        procfs::read_services().map_err(|e| Error::new(format!("read {}", procfs::IP_VS), e))?;
    let mut found: BTreeMap<(ProcKey, Family), RealServers> = BTreeMap::new();
    for service in services {
        for destination in service.destinations {
            let connections = u64::from(destination.active) + u64::from(destination.inactive);
            let masquerade = destination.forward == ProcForward::Masquerade;
            let server = as_read(
                destination.weight,
                masquerade,
                Thresholds::default(),
                connections,
            );
            let key = convert::real_server_key(destination.key);
            let of = (service.key, Family::of(key.addr));
            found.entry(of).or_default().insert(key, server);
        }
    }
    Ok(found)
}

type RealServers = BTreeMap<RealServerKey, ObservedRealServer>;

/// Reads the connections of draining real servers. One request for each virtual server with one.
pub fn refresh(plane: &mut IpvsDataplane, observed: &mut Observed) -> Result<Scope, Error> {
    let servers: BTreeSet<ServerKey> = observed.draining().clone();
    let Some(ipvs) = &mut plane.ipvs else {
        return Ok(Scope::default());
    };
    for key in &servers {
        let destinations = match ipvs.destinations(&convert::service_key(*key)) {
            Ok(destinations) => destinations,
            // Gone by another hand: the audit will tell.
            Err(error) if error.is_not_found() => continue,
            Err(error) => {
                return Err(Error::new(format!("read the real servers of {key}"), error));
            }
        };
        let Some(server) = observed.virtual_servers.get_mut(key) else {
            continue;
        };
        for entry in destinations {
            let key = convert::real_server_key(entry.destination.key);
            if let Some(real) = server.real_servers.get_mut(&key)
                && let Some(draining) = &mut real.draining
            {
                draining.connections = Some(u64::from(entry.active) + u64::from(entry.inactive));
            }
        }
    }
    // Nothing is to be read for those whose weight grows.
    Ok(Scope {
        servers: servers.union(observed.ramping()).copied().collect(),
        ..Scope::default()
    })
}

fn base(plane: &mut IpvsDataplane) -> Result<Base, Error> {
    let mut base = Base {
        sets: read_sets(&mut plane.sets, &SetKind::IPVS)?,
        ..Base::default()
    };
    for family in Family::ALL {
        if family == Family::V6 && !has_ipv6() {
            continue;
        }
        let rules = plane
            .iptables
            .observe(family)
            .map_err(|e| Error::new(format!("read the {family} netfilter rules"), e))?
            .only(|name| !is_of_iptables(name));
        base.rules.insert(family, rules);
        let rules = plane
            .routes
            .policy_rules(family)
            .map_err(|e| Error::new(format!("read the {family} policy rules"), e))?;
        base.policy_rules
            .extend(rules.into_iter().map(|rule| (family, rule)));
        base.families.insert(family);
    }
    base.sysctls = policy::sysctl::read(sysctl::wanted())?;
    if let Some(ipvs) = &mut plane.ipvs {
        let timeouts = ipvs.timeouts();
        base.timeouts = Some(timeouts.map_err(|e| Error::new("read the IPVS timeouts", e))?);
    }
    // Absent until conntrack is there.
    let conntrack = fs::read_to_string(policy::sysctl::path(CONNTRACK_ESTABLISHED)).ok();
    base.conntrack_established = conntrack.and_then(|value| value.trim().parse().ok());
    Ok(base)
}

const CONNTRACK_ESTABLISHED: &str = "net.netfilter.nf_conntrack_tcp_timeout_established";
