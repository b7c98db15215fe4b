//! The constant netfilter rules. They ask sets, so no Service is named in them and a change of
//! Services never rewrites them. Pure.
//!
//! Hooks and priorities (`linux/netfilter_ipv4.h`, `ip_vs_core.c`): raw −300, conntrack −200,
//! mangle −150, IPVS at LOCAL_OUT −98, filter 0, IPVS at LOCAL_IN 99, nat POSTROUTING 100.

use super::sets::SetKind;
use super::settings::ClusterMasquerade;
use super::step::Step;
use super::target::TargetBase;
use crate::model::Family;
use crate::netfilter::ObservedRules;
use crate::netfilter::render;
use crate::netfilter::ruleset::{Chain, Match, Rule, Table, Target};

/// The step that writes the rules, if they are not as they should be. No `wanted`: none should be.
pub fn plan(wanted: Option<&TargetBase>, family: Family, observed: &ObservedRules) -> Option<Step> {
    let chains = wanted.map(|base| chains(base, family)).unwrap_or_default();
    let text = render::plan(&chains, observed)?;
    Some(Step::WriteRules {
        family,
        text,
        after: render::expected(&chains),
    })
}

/// All chains of a family.
pub fn chains(base: &TargetBase, family: Family) -> Vec<Chain> {
    let route = base.settings.route_mark;
    let masquerade = base.settings.masquerade_mark;
    let set = |kind: SetKind, direction| Match::Set {
        name: kind.name(family),
        direction,
        negated: false,
    };
    let marked = |bit| Match::Mark {
        value: bit,
        mask: bit,
    };
    let mark = |bit| Target::Mark {
        value: bit,
        mask: bit,
    };
    let unmark = |bit| Target::Mark {
        value: 0,
        mask: bit,
    };
    let own = || set(SetKind::Owned, "dst,dst");
    let not_external = Match::Set {
        name: SetKind::External.name(family),
        direction: "dst,dst",
        negated: true,
    };

    let mut choose = vec![Rule::new(
        [set(SetKind::External, "dst,dst")],
        mark(masquerade),
    )];
    match base.settings.cluster_masquerade(&base.network, family) {
        ClusterMasquerade::Never => {}
        ClusterMasquerade::All => choose.push(Rule::new([], mark(masquerade))),
        ClusterMasquerade::UnlessFromPod => {
            let foreign = Match::Set {
                name: SetKind::Pods.name(family),
                direction: "src",
                negated: true,
            };
            choose.push(Rule::new([foreign], mark(masquerade)));
        }
    }
    let to_choice = || {
        Rule::new(
            [Match::FirstPacket, own()],
            Target::Jump("IPVS-AGENT-CHOOSE"),
        )
    };
    let refuse = || {
        Rule::new(
            [set(SetKind::Refused, "dst,dst"), Match::State("NEW")],
            Target::Jump("IPVS-AGENT-REFUSE"),
        )
    };
    let unreachable = match family {
        Family::V4 => "icmp-port-unreachable",
        Family::V6 => "icmp6-port-unreachable",
    };
    let chain = |table, name, hook, rules| Chain {
        table,
        name,
        hook,
        rules,
    };
    vec![
        // Not in mangle: a network plugin that keeps its rules first there and accepts what is
        // established (Calico) would leave all but the first packet of a connection unmarked.
        chain(
            Table::Raw,
            "IPVS-AGENT-ROUTE",
            Some("PREROUTING"),
            vec![Rule::new([set(SetKind::Live, "dst,dst")], mark(route))],
        ),
        // The bit goes before IPVS runs: with it, the routing of the packet after NAT would
        // find the VIPs' table again.
        chain(
            Table::Mangle,
            "IPVS-AGENT-INPUT",
            Some("INPUT"),
            vec![Rule::new([marked(route)], unmark(route)), to_choice()],
        ),
        chain(
            Table::Mangle,
            "IPVS-AGENT-OUTPUT",
            Some("OUTPUT"),
            vec![to_choice()],
        ),
        chain(Table::Mangle, "IPVS-AGENT-CHOOSE", None, choose),
        chain(
            Table::Nat,
            "IPVS-AGENT-SNAT",
            Some("POSTROUTING"),
            vec![
                Rule::new(
                    [marked(masquerade), Match::Ipvs],
                    Target::Jump("IPVS-AGENT-MASQ"),
                ),
                Rule::new(
                    [Match::Ipvs, set(SetKind::Hairpin, "dst,dst,src")],
                    Target::Masquerade,
                ),
            ],
        ),
        // A tunnel would carry the bit on to the packet around this one.
        chain(
            Table::Nat,
            "IPVS-AGENT-MASQ",
            None,
            vec![
                Rule::new([], unmark(masquerade)),
                Rule::new([], Target::Masquerade),
            ],
        ),
        // A node whose policy is DROP must still let its cluster IPs through, which are no part of
        // the node as its firewall knows it. NodePorts and external addresses are, and stay what
        // the firewall makes of them.
        chain(
            Table::Filter,
            "IPVS-AGENT-INPUT",
            Some("INPUT"),
            vec![refuse(), Rule::new([own(), not_external], Target::Accept)],
        ),
        chain(
            Table::Filter,
            "IPVS-AGENT-OUTPUT",
            Some("OUTPUT"),
            vec![refuse()],
        ),
        chain(
            Table::Filter,
            "IPVS-AGENT-FORWARD",
            Some("FORWARD"),
            vec![
                refuse(),
                Rule::new([Match::State("RELATED,ESTABLISHED")], Target::Accept),
            ],
        ),
        // A reset ends a TCP client's attempt at once; an ICMP error leaves it waiting a second.
        chain(
            Table::Filter,
            "IPVS-AGENT-REFUSE",
            None,
            vec![
                Rule::new([Match::Tcp], Target::Reject("tcp-reset")),
                Rule::new([], Target::Reject(unreachable)),
            ],
        ),
    ]
}
