//! The rules that pick an endpoint. Pure.
//!
//! A scheduler of IPVS knows what its real servers have to do; a rule knows the packet alone. So an
//! endpoint is picked at random, by weight where the scheduler goes by weight, or by the client where
//! the scheduler promises that a client stays. What that leaves out is in `docs/design.md`.

use super::chain::ChainKey;
use crate::dataplane::policy::affinity::AffinitySet;
use crate::dataplane::policy::digest::Digest;
use crate::model::{
    Family, Persistence, Protocol, RealServerKey, RealServers, ServicePortName, VirtualServer,
    WEIGHTED_SCHEDULERS,
};
use crate::netfilter::ruleset::{Match, Rule, Target};

/// How many kinds of client the schedulers that hash tell apart: by the last eight bits of the address.
const CLIENTS: u32 = 256;

/// The rules of one Service port's chain.
pub fn rules(family: Family, server: &VirtualServer, real_servers: &RealServers) -> Vec<Rule> {
    let shares = shares(server, real_servers);
    let protocol = server.owner.protocol;
    if let Some(affinity) = server.persistence {
        return faithful(family, &server.owner, affinity, &shares);
    }
    match server.scheduler.name.as_str() {
        "sh" | "mh" => by_client(family, protocol, &shares),
        // One for each address of the Service, whoever asks.
        "dh" => {
            let chosen = choice(0, &shares).map(|key| dnat(protocol, [], key));
            chosen.into_iter().collect()
        }
        _ => at_random(&shares)
            .map(|(key, random)| dnat(protocol, random, key))
            .collect(),
    }
}

/// Whether a scheduler's promise is kept by other means than its own.
pub fn is_kept(scheduler: &str) -> bool {
    ["rr", "wrr", "sh", "mh", "dh", "fo"].contains(&scheduler)
}

/// The sets of clients that the rules ask.
pub fn affinity_sets(
    family: Family,
    server: &VirtualServer,
    real_servers: &RealServers,
) -> Vec<AffinitySet> {
    let Some(_) = server.persistence else {
        return Vec::new();
    };
    let keys = shares(server, real_servers).into_iter();
    keys.map(|(key, _)| AffinitySet::new(family, &server.owner, &key))
        .collect()
}

/// Who takes new connections, and for how large a share.
fn shares(server: &VirtualServer, real_servers: &RealServers) -> Vec<(RealServerKey, u32)> {
    let scheduler = server.scheduler.name.as_str();
    let weighted = WEIGHTED_SCHEDULERS.contains(&scheduler) || scheduler == "fo";
    let serving = real_servers.iter().filter(|(_, real)| !real.draining);
    // Whoever serves has a share: a tuple is balanced once anybody does.
    let mut shares: Vec<(RealServerKey, u32)> = serving
        .map(|(key, real)| (*key, if weighted { real.weight.max(1) } else { 1 }))
        .collect();
    if scheduler == "fo" {
        let most = shares.iter().map(|(_, weight)| *weight).max();
        shares.retain(|(_, weight)| Some(*weight) == most);
        shares.truncate(1);
    }
    shares
}

/// Each with the chance that it takes a packet which those before it left. The last takes what is left.
fn at_random(
    shares: &[(RealServerKey, u32)],
) -> impl Iterator<Item = (RealServerKey, Option<Match>)> {
    let mut left: u64 = shares.iter().map(|(_, weight)| u64::from(*weight)).sum();
    shares.iter().map(move |(key, weight)| {
        let weight = u64::from(*weight);
        let parts = ((weight << 31) + left / 2) / left.max(1);
        let random =
            (weight < left).then(|| Match::Random(u32::try_from(parts).unwrap_or(u32::MAX)));
        left -= weight;
        (*key, random)
    })
}

/// A client that was led to an endpoint goes there again; another is led at random and remembered.
fn faithful(
    family: Family,
    owner: &ServicePortName,
    affinity: Persistence,
    shares: &[(RealServerKey, u32)],
) -> Vec<Rule> {
    let set = |key: &RealServerKey| AffinitySet::new(family, owner, key).to_string();
    let known = |key: &RealServerKey| Match::Set {
        name: set(key),
        direction: "src",
        negated: false,
    };
    let remember = |key: &RealServerKey| Target::Remember {
        set: set(key),
        seconds: affinity.timeout_seconds,
    };
    let lead = |key: &RealServerKey| dnat(owner.protocol, [known(key)], *key);
    let again = shares
        .iter()
        .flat_map(|(key, _)| [Rule::new([known(key)], remember(key)), lead(key)]);
    let anew = at_random(shares).flat_map(|(key, random)| {
        let random: Vec<Match> = random.into_iter().collect();
        [Rule::new(random, remember(&key)), lead(&key)]
    });
    // Whoever could not be remembered is led all the same.
    let unremembered = shares.last().map(|(key, _)| dnat(owner.protocol, [], *key));
    again.chain(anew).chain(unremembered).collect()
}

/// A rule for each kind of client. Rendezvous hashing: where an endpoint comes or goes, the clients of
/// the others stay.
fn by_client(family: Family, protocol: Protocol, shares: &[(RealServerKey, u32)]) -> Vec<Rule> {
    if let [(only, _)] = shares {
        return vec![dnat(protocol, [], *only)];
    }
    (0..CLIENTS)
        .filter_map(|bits| {
            let client = Match::SourceBits {
                family,
                bits,
                mask: CLIENTS - 1,
            };
            Some(dnat(protocol, [client], choice(bits, shares)?))
        })
        .collect()
}

/// Whom a kind of client is led to: a weighted draw by lot (Efraimidis and Spirakis) whose lots follow
/// from client and endpoint.
fn choice(client: u32, shares: &[(RealServerKey, u32)]) -> Option<RealServerKey> {
    let score = |(key, weight): &(RealServerKey, u32)| {
        let lot = Digest::of(&[&client.to_string(), &key.to_string()]).fraction();
        lot.ln() / f64::from(*weight)
    };
    let mut scores = shares.iter().map(|share| (score(share), share.0));
    let first = scores.next()?;
    let best = scores.fold(
        first,
        |best, next| if next.0 > best.0 { next } else { best },
    );
    Some(best.1)
}

fn dnat(protocol: Protocol, matches: impl IntoIterator<Item = Match>, key: RealServerKey) -> Rule {
    let mut all = vec![Match::Protocol(protocol)];
    all.extend(matches);
    Rule::new(all, Target::Dnat(key))
}

/// The chain that these rules are for.
pub fn chain_of(family: Family, server: &VirtualServer) -> ChainKey {
    ChainKey::service(family, &server.owner, server.policy)
}
