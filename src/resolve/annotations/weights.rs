//! Weights of endpoints: what share of new connections one takes, relative to its peers.
//!
//! On the Service, `ipvs-agent.io/weights: 10.244.1.2=5,node/worker-1=3,zone/eu-a=2,*=1`: the most
//! telling entry counts, an address before a node before a zone before `*`. On an EndpointSlice,
//! `ipvs-agent.io/weight: 3` is for those of its endpoints that the Service names by no address.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Finding, finding, value};
use crate::model::{MAX_WEIGHT, Scheduler, ServiceSpec, WEIGHTED_SCHEDULERS};

const KEY: &str = "ipvs-agent.io/weights";

/// What a Service says of weights.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::resolve) struct Weights {
    addresses: BTreeMap<IpAddr, u32>,
    nodes: BTreeMap<Box<str>, u32>,
    zones: BTreeMap<Box<str>, u32>,
    others: Option<u32>,
}

impl Weights {
    /// The weight of an endpoint, `slice` being what its slice says.
    pub(in crate::resolve) fn of(
        &self,
        addr: IpAddr,
        node: Option<&str>,
        zone: Option<&str>,
        slice: Option<u32>,
    ) -> u32 {
        let addressed = self.addresses.get(&addr).copied();
        let by_node = || node.and_then(|node| self.nodes.get(node)).copied();
        let by_zone = || zone.and_then(|zone| self.zones.get(zone)).copied();
        addressed
            .or(slice)
            .or_else(by_node)
            .or_else(by_zone)
            .or(self.others)
            .unwrap_or(1)
    }
}

pub(super) fn read(
    spec: &ServiceSpec,
    scheduler: &Scheduler,
    findings: &mut Vec<Finding>,
) -> Weights {
    let Some(weights) = value(spec, KEY, findings, parse) else {
        return Weights::default();
    };
    if !WEIGHTED_SCHEDULERS.contains(&scheduler.name.as_str()) {
        let text = &spec.annotations[KEY];
        let advice = format!(
            "{} takes no account of weights; set ipvs-agent.io/scheduler to one that does: {}",
            scheduler.name,
            WEIGHTED_SCHEDULERS.join(" ")
        );
        findings.push(finding(KEY, text, advice));
    }
    weights
}

fn parse(text: &str) -> Result<Weights, String> {
    let mut weights = Weights::default();
    for entry in text.split(',').map(str::trim) {
        let (whose, weight) = entry
            .rsplit_once('=')
            .ok_or_else(|| format!("{entry:?} is not WHOSE=WEIGHT; {ALLOWED}"))?;
        let (whose, weight) = (whose.trim(), weight.trim());
        let weight = number(weight).ok_or_else(|| {
            format!("{weight:?} is no weight; a weight is 1 to {MAX_WEIGHT}; {ALLOWED}")
        })?;
        let before = if whose == "*" {
            weights.others.replace(weight)
        } else if let Some(node) = whose.strip_prefix("node/") {
            weights.nodes.insert(node.into(), weight)
        } else if let Some(zone) = whose.strip_prefix("zone/") {
            weights.zones.insert(zone.into(), weight)
        } else {
            let addr: IpAddr = whose
                .parse()
                .map_err(|_| format!("{whose:?} is neither an address nor a place; {ALLOWED}"))?;
            weights.addresses.insert(addr, weight)
        };
        if before.is_some() {
            return Err(format!("{whose:?} is there twice; {ALLOWED}"));
        }
    }
    Ok(weights)
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|n| (1..=MAX_WEIGHT).contains(n))
}

const ALLOWED: &str = "allowed are ADDRESS=N, node/NAME=N, zone/NAME=N and *=N, separated by \
                       commas; without it each endpoint has the weight 1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_telling_entry_counts() {
        let weights = parse("10.0.0.1=9, node/n1=3,zone/a=2, fd00::1=7,*=5").unwrap();
        let of =
            |addr: &str, node, zone, slice| weights.of(addr.parse().unwrap(), node, zone, slice);
        assert_eq!(of("10.0.0.1", Some("n1"), Some("a"), Some(4)), 9);
        assert_eq!(of("fd00::1", None, None, None), 7);
        assert_eq!(of("10.0.0.2", Some("n1"), Some("a"), Some(4)), 4);
        assert_eq!(of("10.0.0.2", Some("n1"), Some("a"), None), 3);
        assert_eq!(of("10.0.0.2", Some("n2"), Some("a"), None), 2);
        assert_eq!(of("10.0.0.2", Some("n2"), None, None), 5);
        assert_eq!(
            Weights::default().of([10, 0, 0, 2].into(), None, None, None),
            1
        );
    }

    #[test]
    fn what_is_not_allowed_is_named() {
        for (bad, named) in [
            ("3", "\"3\""),
            ("", "\"\""),
            ("node/n1=0", "\"0\""),
            ("node/n1=65536", "\"65536\""),
            ("node/n1=-1", "\"-1\""),
            ("n1=2", "\"n1\""),
            ("10.0.0.01=2", "\"10.0.0.01\""),
            ("zone/a=1,zone/a=2", "\"zone/a\""),
            ("*=1,", "\"\""),
        ] {
            let error = parse(bad).unwrap_err();
            assert!(
                error.contains(named) && error.contains("allowed are"),
                "{bad}: {error}"
            );
        }
    }
}
