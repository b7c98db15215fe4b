//! Reads interfaces and routing.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::inspect::check::facts::{Link, Read, RoutingRule};
use crate::model::Family;
use crate::routing::{Error, LinkEntry, RouteClient, RuleEntry};

/// What routing says.
pub struct Network {
    pub links: Read<Vec<Link>>,
    pub rules: Read<Vec<RoutingRule>>,
    pub foreign_routes: Read<usize>,
    /// Ranges that an agent on this node has routes for.
    pub service_cidrs: BTreeSet<IpNet>,
}

pub fn survey(table: u32) -> Network {
    let mut client = match RouteClient::open() {
        Ok(client) => client,
        Err(error) => {
            let why = said(error);
            return Network {
                links: Err(why.clone()),
                rules: Err(why.clone()),
                foreign_routes: Err(why),
                service_cidrs: BTreeSet::new(),
            };
        }
    };
    let rules = || -> Result<Vec<RuleEntry>, Error> {
        let mut rules = client.all_rules(Family::V4)?;
        rules.extend(client.all_rules(Family::V6)?);
        Ok(rules)
    };
    let mut rules = rules;
    let rules = rules().map(|rules| rules.iter().map(rule).collect());
    let routes = client.routes().unwrap_or_default();
    let cidrs = routes.into_iter().map(|(_, net)| net);
    Network {
        rules: rules.map_err(said),
        links: client
            .links()
            .map(|links| links.into_iter().map(link).collect())
            .map_err(said),
        foreign_routes: client.foreign_routes(table).map_err(said),
        service_cidrs: cidrs
            .filter(|net| net.prefix_len() < net.max_prefix_len())
            .collect(),
    }
}

fn said(error: Error) -> String {
    format!("{:#}", anyhow::Error::new(error))
}

fn link(entry: LinkEntry) -> Link {
    Link {
        index: entry.index,
        name: entry.name,
        kind: entry.kind,
        bridge: entry.controller,
        hairpin: entry.hairpin,
        promiscuous: entry.promiscuous,
    }
}

fn rule(entry: &RuleEntry) -> RoutingRule {
    RoutingRule {
        priority: entry.priority,
        mark: entry.mark,
        table: entry.table,
        ours: entry.ours,
        selects: entry.selects,
    }
}
