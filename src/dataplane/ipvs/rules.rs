//! The constant netfilter rules. They ask sets, so no Service is named in them and a change of
//! Services never rewrites them. Pure.
//!
//! Hooks and priorities (`linux/netfilter_ipv4.h`, `ip_vs_core.c`): raw −300, conntrack −200,
//! mangle −150, IPVS at LOCAL_OUT −98, filter 0, IPVS at LOCAL_IN 99, nat POSTROUTING 100.

use super::step::Step;
use super::target::TargetBase;
use crate::dataplane::policy::rules::{Words, accept_established, chain, mark, marked, unmark};
use crate::dataplane::policy::sets::SetKind;
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
    let words = Words {
        settings: &base.settings.policy,
        network: &base.network,
        family,
    };
    [
        routing(base, &words),
        choosing(base, &words),
        masquerading(&words),
        filtering(base, &words),
    ]
    .concat()
}

/// Carries a mark of clients on this node.
fn is_near(base: &TargetBase, negated: bool) -> Match {
    Match::Mark {
        value: 0,
        mask: base.settings.near_marks,
        negated: !negated,
    }
}

fn mark_near(words: &Words<'_>) -> Target {
    Target::MarkFrom(SetKind::Near.name(words.family))
}

/// Who may come, and what comes to IPVS. In raw and not in mangle: a network plugin that keeps its
/// rules first there and accepts what is established (Calico) would leave all but the first packet
/// of a connection unmarked.
fn routing(base: &TargetBase, words: &Words<'_>) -> Vec<Chain> {
    let sources = || words.ask_source("IPVS-AGENT-SOURCES");
    vec![
        chain(
            Table::Raw,
            "IPVS-AGENT-ROUTE",
            Some("PREROUTING"),
            [
                sources(),
                Rule::new([words.to(SetKind::Live)], mark(base.settings.route_mark)),
            ],
        ),
        chain(Table::Raw, "IPVS-AGENT-OUTPUT", Some("OUTPUT"), [sources()]),
        words.source_chain("IPVS-AGENT-SOURCES"),
    ]
}

/// Which virtual server a packet is led to, and whether its connection is masqueraded.
fn choosing(base: &TargetBase, words: &Words<'_>) -> Vec<Chain> {
    let settings = &base.settings;
    let (route, masquerade, near) = (
        settings.route_mark,
        settings.policy.masquerade_mark,
        settings.near_marks,
    );
    let to_choice = || {
        Rule::new(
            [Match::FirstPacket, words.to(SetKind::Owned)],
            Target::Jump("IPVS-AGENT-CHOOSE"),
        )
    };
    // Under a `Local` policy: clients of the node itself and of other nodes see the endpoint's
    // answers come back the way that their packets went, so only what IPVS leads elsewhere on behalf
    // of this node is masqueraded (`IPVS-AGENT-NEAR`).
    let mut choose = vec![
        Rule::new([words.to(SetKind::External)], mark(masquerade)),
        Rule::new([words.to(SetKind::Near)], Target::Return),
    ];
    choose.extend(words.masquerade_cluster());
    vec![
        // The bit goes before IPVS runs: with it, the routing of the packet after NAT would
        // find the VIPs' table again.
        chain(
            Table::Mangle,
            "IPVS-AGENT-INPUT",
            Some("INPUT"),
            [
                Rule::new([marked(route)], unmark(route)),
                Rule::new(
                    [words.to(SetKind::Near), words.pod_of_this_node()],
                    mark_near(words),
                ),
                Rule::new(
                    [words.to(SetKind::Near), words.pod_of_this_node()],
                    Target::Return,
                ),
                to_choice(),
            ],
        ),
        chain(
            Table::Mangle,
            "IPVS-AGENT-OUTPUT",
            Some("OUTPUT"),
            [
                Rule::new(
                    [Match::Ipvs, is_near(base, false)],
                    Target::Jump("IPVS-AGENT-NEAR"),
                ),
                Rule::new([Match::Ipvs, marked(route)], unmark(route)),
                // A packet that changes its mark here is routed anew: to the VIPs' table, over `lo`.
                // Where IPVS leads it to a process of this very node it goes on along the route that
                // it has, which must not lead out of the node (`ip_vs_nat_send_or_cont`).
                Rule::new([words.to(SetKind::Live)], mark(route)),
                Rule::new([words.to(SetKind::Near)], mark_near(words)),
                Rule::new([words.to(SetKind::Near)], Target::Return),
                to_choice(),
            ],
        ),
        // IPVS is done with the mark.
        chain(
            Table::Mangle,
            "IPVS-AGENT-NEAR",
            None,
            [
                Rule::new(
                    [Match::FromThisNode],
                    Target::Mark {
                        value: masquerade,
                        mask: near | route | masquerade,
                    },
                ),
                Rule::new([], unmark(near | route)),
            ],
        ),
        chain(Table::Mangle, "IPVS-AGENT-CHOOSE", None, choose),
    ]
}

fn masquerading(words: &Words<'_>) -> Vec<Chain> {
    vec![
        chain(
            Table::Nat,
            "IPVS-AGENT-SNAT",
            Some("POSTROUTING"),
            [
                Rule::new(
                    [marked(words.settings.masquerade_mark), Match::Ipvs],
                    Target::Jump("IPVS-AGENT-MASQ"),
                ),
                words.masquerade_hairpin(Match::Ipvs),
            ],
        ),
        words.masquerade_chain("IPVS-AGENT-MASQ"),
    ]
}

fn filtering(base: &TargetBase, words: &Words<'_>) -> Vec<Chain> {
    let refuse = || words.refuse("IPVS-AGENT-REFUSE");
    // IPVS has forgotten the connection with its real server, and conntrack with IPVS. The kernel itself
    // sends no reset from an address that no interface has, and the client would wait for minutes.
    let end_lost = Rule::new(
        [
            Match::TcpMidStream,
            words.to(SetKind::Owned),
            Match::State("NEW"),
        ],
        Target::Reject("tcp-reset"),
    );
    let mut drop_from_elsewhere = words.drop();
    drop_from_elsewhere.matches.push(is_near(base, true));
    vec![
        // A node whose policy is DROP must still let its cluster IPs through, which are no part of
        // the node as its firewall knows it. NodePorts and external addresses are, and stay what
        // the firewall makes of them.
        chain(
            Table::Filter,
            "IPVS-AGENT-INPUT",
            Some("INPUT"),
            [
                refuse(),
                drop_from_elsewhere,
                words.hold(),
                words.accept_health_checks(),
                end_lost,
                Rule::new(
                    [
                        words.to(SetKind::Owned),
                        words.not_to(SetKind::External),
                        words.not_to(SetKind::Near),
                    ],
                    Target::Accept,
                ),
            ],
        ),
        chain(
            Table::Filter,
            "IPVS-AGENT-OUTPUT",
            Some("OUTPUT"),
            [refuse(), words.drop()],
        ),
        chain(
            Table::Filter,
            "IPVS-AGENT-FORWARD",
            Some("FORWARD"),
            [refuse(), words.drop(), accept_established()],
        ),
        words.refuse_chain("IPVS-AGENT-REFUSE"),
    ]
}
