//! The constant netfilter rules. They ask sets, so no Service is named in them and a change of
//! Services never rewrites them. Pure.
//!
//! Hooks and priorities (`linux/netfilter_ipv4.h`, `ip_vs_core.c`): raw −300, conntrack −200,
//! mangle −150, IPVS at LOCAL_OUT −98, filter 0, IPVS at LOCAL_IN 99, nat POSTROUTING 100.

use super::sets::SetKind;
use super::settings::{ClusterMasquerade, DetectLocal};
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
    let words = Words { base, family };
    [
        routing(&words),
        choosing(&words),
        masquerading(&words),
        filtering(&words),
    ]
    .concat()
}

/// What rules are made of.
struct Words<'a> {
    base: &'a TargetBase,
    family: Family,
}

impl Words<'_> {
    fn set(&self, kind: SetKind, direction: &'static str, negated: bool) -> Match {
        Match::Set {
            name: kind.name(self.family),
            direction,
            negated,
        }
    }

    /// The packet's destination is in a set of tuples.
    fn to(&self, kind: SetKind) -> Match {
        self.set(kind, "dst,dst", false)
    }

    fn not_to(&self, kind: SetKind) -> Match {
        self.set(kind, "dst,dst", true)
    }

    fn pod_of_this_node(&self) -> Match {
        self.pod(SetKind::NodePods, false)
    }

    /// What the node itself sends came in by no interface.
    fn no_pod(&self) -> Match {
        self.pod(SetKind::Pods, true)
    }

    fn pod(&self, sources: SetKind, negated: bool) -> Match {
        match &self.base.settings.detect_local {
            DetectLocal::Sources => self.set(sources, "src", negated),
            DetectLocal::Interface(name) => Match::InInterface {
                name: name.clone(),
                negated,
            },
        }
    }

    /// Carries a mark of clients on this node.
    fn is_near(&self, negated: bool) -> Match {
        Match::Mark {
            value: 0,
            mask: self.base.settings.near_marks,
            negated: !negated,
        }
    }

    fn mark_near(&self) -> Target {
        Target::MarkFrom(SetKind::Near.name(self.family))
    }
}

fn marked(bit: u32) -> Match {
    Match::Mark {
        value: bit,
        mask: bit,
        negated: false,
    }
}

fn mark(bit: u32) -> Target {
    Target::Mark {
        value: bit,
        mask: bit,
    }
}

fn unmark(bits: u32) -> Target {
    Target::Mark {
        value: 0,
        mask: bits,
    }
}

fn chain(
    table: Table,
    name: &'static str,
    hook: Option<&'static str>,
    rules: impl Into<Vec<Rule>>,
) -> Chain {
    Chain {
        table,
        name,
        hook,
        rules: rules.into(),
    }
}

/// Who may come, and what comes to IPVS. In raw and not in mangle: a network plugin that keeps its
/// rules first there and accepts what is established (Calico) would leave all but the first packet
/// of a connection unmarked.
fn routing(words: &Words<'_>) -> Vec<Chain> {
    let sources = || {
        Rule::new(
            [words.to(SetKind::Ranged)],
            Target::Jump("IPVS-AGENT-SOURCES"),
        )
    };
    let permitted = words.set(SetKind::Sources, "dst,dst,src", false);
    vec![
        chain(
            Table::Raw,
            "IPVS-AGENT-ROUTE",
            Some("PREROUTING"),
            [
                sources(),
                Rule::new(
                    [words.to(SetKind::Live)],
                    mark(words.base.settings.route_mark),
                ),
            ],
        ),
        chain(Table::Raw, "IPVS-AGENT-OUTPUT", Some("OUTPUT"), [sources()]),
        chain(
            Table::Raw,
            "IPVS-AGENT-SOURCES",
            None,
            [
                Rule::new([permitted], Target::Return),
                Rule::new([], Target::Drop),
            ],
        ),
    ]
}

/// Which virtual server a packet is led to, and whether its connection is masqueraded.
fn choosing(words: &Words<'_>) -> Vec<Chain> {
    let settings = &words.base.settings;
    let (route, masquerade, near) = (
        settings.route_mark,
        settings.masquerade_mark,
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
    match settings.cluster_masquerade(&words.base.network, words.family) {
        ClusterMasquerade::Never => {}
        ClusterMasquerade::All => choose.push(Rule::new([], mark(masquerade))),
        ClusterMasquerade::UnlessFromPod => {
            choose.push(Rule::new([words.no_pod()], mark(masquerade)));
        }
    }
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
                    words.mark_near(),
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
                    [Match::Ipvs, words.is_near(false)],
                    Target::Jump("IPVS-AGENT-NEAR"),
                ),
                Rule::new([Match::Ipvs, marked(route)], unmark(route)),
                // A packet that changes its mark here is routed anew: to the VIPs' table, over `lo`.
                // Where IPVS leads it to a process of this very node it goes on along the route that
                // it has, which must not lead out of the node (`ip_vs_nat_send_or_cont`).
                Rule::new([words.to(SetKind::Live)], mark(route)),
                Rule::new([words.to(SetKind::Near)], words.mark_near()),
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
    let masquerade = words.base.settings.masquerade_mark;
    vec![
        chain(
            Table::Nat,
            "IPVS-AGENT-SNAT",
            Some("POSTROUTING"),
            [
                Rule::new(
                    [marked(masquerade), Match::Ipvs],
                    Target::Jump("IPVS-AGENT-MASQ"),
                ),
                Rule::new(
                    [
                        Match::Ipvs,
                        words.set(SetKind::Hairpin, "dst,dst,src", false),
                    ],
                    Target::Masquerade,
                ),
            ],
        ),
        // A tunnel would carry the bit on to the packet around this one.
        chain(
            Table::Nat,
            "IPVS-AGENT-MASQ",
            None,
            [
                Rule::new([], unmark(masquerade)),
                Rule::new([], Target::Masquerade),
            ],
        ),
    ]
}

fn filtering(words: &Words<'_>) -> Vec<Chain> {
    let refuse = || {
        Rule::new(
            [words.to(SetKind::Refused), Match::State("NEW")],
            Target::Jump("IPVS-AGENT-REFUSE"),
        )
    };
    let dropped = || [words.to(SetKind::Dropped), Match::State("NEW")];
    let drop = || Rule::new(dropped(), Target::Drop);
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
    let mut drop_from_elsewhere = Rule::new(dropped(), Target::Drop);
    drop_from_elsewhere.matches.push(words.is_near(true));
    let unreachable = match words.family {
        Family::V4 => "icmp-port-unreachable",
        Family::V6 => "icmp6-port-unreachable",
    };
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
                // As kube-proxy does: a balancer that hears nothing takes the node for broken.
                Rule::new(
                    [Match::Tcp, words.set(SetKind::HealthPorts, "dst", false)],
                    Target::Accept,
                ),
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
            [refuse(), drop()],
        ),
        chain(
            Table::Filter,
            "IPVS-AGENT-FORWARD",
            Some("FORWARD"),
            [
                refuse(),
                drop(),
                Rule::new([Match::State("RELATED,ESTABLISHED")], Target::Accept),
            ],
        ),
        // A reset ends a TCP client's attempt at once; an ICMP error leaves it waiting a second.
        chain(
            Table::Filter,
            "IPVS-AGENT-REFUSE",
            None,
            [
                Rule::new([Match::Tcp], Target::Reject("tcp-reset")),
                Rule::new([], Target::Reject(unreachable)),
            ],
        ),
    ]
}
