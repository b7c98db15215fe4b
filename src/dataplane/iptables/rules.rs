//! The constant rules: who may come, which way the first packet of a connection takes to the tree of
//! Services, who is masqueraded, who is turned away. Pure.

use super::target::TargetBase;
use super::tree::Prefix;
use crate::dataplane::policy::rules::{Words, accept_established, chain, mark, marked};
use crate::dataplane::policy::sets::SetKind;
use crate::model::Family;
use crate::netfilter::ruleset::{Chain, Match, Rule, Table, Target};

/// What rules of one family are made of.
pub fn words(base: &TargetBase, family: Family) -> Words<'_> {
    Words {
        settings: &base.settings,
        network: &base.network,
        family,
    }
}

/// All constant chains of a family.
pub fn chains(base: &TargetBase, family: Family) -> Vec<Chain> {
    let words = words(base, family);
    [
        admitting(&words),
        balancing(&words),
        masquerading(&words),
        filtering(&words),
    ]
    .concat()
}

fn admitting(words: &Words<'_>) -> Vec<Chain> {
    let ask = || [words.ask_source("IPVS-AGENT-IPT-SOURCES")];
    vec![
        chain(Table::Raw, "IPVS-AGENT-IPT-PRE", Some("PREROUTING"), ask()),
        chain(Table::Raw, "IPVS-AGENT-IPT-OUT", Some("OUTPUT"), ask()),
        words.source_chain("IPVS-AGENT-IPT-SOURCES"),
    ]
}

/// The table `nat` sees first packets only: what it decides holds for the connection.
fn balancing(words: &Words<'_>) -> Vec<Chain> {
    let masquerade = words.settings.masquerade_mark;
    let lead = || {
        [Rule::new(
            [words.to(SetKind::Balanced)],
            Target::Jump("IPVS-AGENT-IPT-SERVICES"),
        )]
    };
    let root = || Target::Goto(Prefix::root(words.family).key().to_string());
    // Under `externalTrafficPolicy: Local` pods of this node and clients elsewhere see the answers
    // come back the way that their packets went. A process of the node may be led elsewhere.
    let mut services = vec![
        Rule::new([words.to(SetKind::External)], mark(masquerade)),
        Rule::new(
            [words.to(SetKind::Split), Match::FromThisNode],
            mark(masquerade),
        ),
        Rule::new([words.to(SetKind::Split)], root()),
    ];
    services.extend(words.masquerade_cluster());
    services.push(Rule::new([], root()));
    vec![
        chain(Table::Nat, "IPVS-AGENT-IPT-PRE", Some("PREROUTING"), lead()),
        chain(Table::Nat, "IPVS-AGENT-IPT-OUT", Some("OUTPUT"), lead()),
        chain(Table::Nat, "IPVS-AGENT-IPT-SERVICES", None, services),
    ]
}

fn masquerading(words: &Words<'_>) -> Vec<Chain> {
    let balanced = Match::State("DNAT");
    vec![
        chain(
            Table::Nat,
            "IPVS-AGENT-IPT-SNAT",
            Some("POSTROUTING"),
            [
                Rule::new(
                    [marked(words.settings.masquerade_mark), balanced.clone()],
                    Target::Jump("IPVS-AGENT-IPT-MASQ"),
                ),
                words.masquerade_hairpin(balanced),
            ],
        ),
        words.masquerade_chain("IPVS-AGENT-IPT-MASQ"),
    ]
}

fn filtering(words: &Words<'_>) -> Vec<Chain> {
    let refuse = || words.refuse("IPVS-AGENT-IPT-REFUSE");
    let masqueraded = [marked(words.settings.masquerade_mark), Match::State("DNAT")];
    vec![
        chain(
            Table::Filter,
            "IPVS-AGENT-IPT-INPUT",
            Some("INPUT"),
            [refuse(), words.drop(), words.accept_health_checks()],
        ),
        chain(
            Table::Filter,
            "IPVS-AGENT-IPT-OUTPUT",
            Some("OUTPUT"),
            [refuse(), words.drop()],
        ),
        chain(
            Table::Filter,
            "IPVS-AGENT-IPT-FORWARD",
            Some("FORWARD"),
            [
                refuse(),
                words.drop(),
                // What conntrack cannot place goes on as it is: an endpoint's packet with the endpoint's
                // own address, which makes the client end the connection (kubernetes/kubernetes#74839).
                Rule::new(
                    [
                        words.set(SetKind::Pods, "src", false),
                        Match::State("INVALID"),
                    ],
                    Target::Drop,
                ),
                Rule::new(masqueraded, Target::Accept),
                accept_established(),
            ],
        ),
        words.refuse_chain("IPVS-AGENT-IPT-REFUSE"),
    ]
}
