//! The words that rules are made of, and the rules that hold whatever balances: who may come, who is
//! turned away, who is masqueraded. They ask sets, so no Service is named in them. Pure.

use super::digest::Digest;
use super::sets::SetKind;
use super::settings::{ClusterMasquerade, DetectLocal, PolicySettings};
use crate::dataplane::ClusterNetwork;
use crate::model::Family;
use crate::netfilter::ruleset::{CHAIN_PREFIX, Chain, Match, Rule, Table, Target};

/// Whether a chain of ours is the iptables dataplane's: `IPVS-AGENT-IPT-…`, or `S` or `T` and a digest.
pub fn is_of_iptables(chain: &str) -> bool {
    let rest = chain.strip_prefix(CHAIN_PREFIX);
    rest.is_some_and(|rest| {
        let digest = rest.strip_prefix(['S', 'T']);
        rest.starts_with("IPT-") || digest.is_some_and(|digest| digest.parse::<Digest>().is_ok())
    })
}

/// What rules of one family are made of.
#[derive(Debug, Clone, Copy)]
pub struct Words<'a> {
    pub settings: &'a PolicySettings,
    pub network: &'a ClusterNetwork,
    pub family: Family,
}

impl Words<'_> {
    pub fn set(&self, kind: SetKind, direction: &'static str, negated: bool) -> Match {
        Match::Set {
            name: kind.name(self.family),
            direction,
            negated,
        }
    }

    /// The packet's destination is in a set of tuples.
    pub fn to(&self, kind: SetKind) -> Match {
        self.set(kind, "dst,dst", false)
    }

    pub fn not_to(&self, kind: SetKind) -> Match {
        self.set(kind, "dst,dst", true)
    }

    pub fn pod_of_this_node(&self) -> Match {
        self.pod(SetKind::NodePods, false)
    }

    /// What the node itself sends came in by no interface.
    pub fn no_pod(&self) -> Match {
        self.pod(SetKind::Pods, true)
    }

    fn pod(&self, sources: SetKind, negated: bool) -> Match {
        match &self.settings.detect_local {
            DetectLocal::Sources => self.set(sources, "src", negated),
            DetectLocal::Interface(name) => Match::InInterface {
                name: name.clone(),
                negated,
            },
        }
    }

    /// Packets to a tuple with source ranges go to the chain that asks for their source.
    pub fn ask_source(&self, chain: &'static str) -> Rule {
        Rule::new([self.to(SetKind::Ranged)], Target::Jump(chain))
    }

    /// That chain.
    pub fn source_chain(&self, name: &'static str) -> Chain {
        let permitted = self.set(SetKind::Sources, "dst,dst,src", false);
        chain(
            Table::Raw,
            name,
            None,
            [
                Rule::new([permitted], Target::Return),
                Rule::new([], Target::Drop),
            ],
        )
    }

    /// Traffic to cluster IPs that is masqueraded.
    pub fn masquerade_cluster(&self) -> Option<Rule> {
        let bit = self.settings.masquerade_mark;
        match self.settings.cluster_masquerade(self.network, self.family) {
            ClusterMasquerade::Never => None,
            ClusterMasquerade::All => Some(Rule::new([], mark(bit))),
            ClusterMasquerade::UnlessFromPod => Some(Rule::new([self.no_pod()], mark(bit))),
        }
    }

    /// A pod that was led to itself. `balanced`: the packet is one that we led.
    pub fn masquerade_hairpin(&self, balanced: Match) -> Rule {
        Rule::new(
            [balanced, self.set(SetKind::Hairpin, "dst,dst,src", false)],
            Target::Masquerade,
        )
    }

    /// The chain of what has the masquerade bit. A tunnel would carry the bit on to the packet around
    /// this one.
    pub fn masquerade_chain(&self, name: &'static str) -> Chain {
        chain(
            Table::Nat,
            name,
            None,
            [
                Rule::new([], unmark(self.settings.masquerade_mark)),
                Rule::new([], Target::Masquerade),
            ],
        )
    }

    /// New clients of a tuple without endpoints go to the chain that tells them so.
    pub fn refuse(&self, chain: &'static str) -> Rule {
        Rule::new(
            [self.to(SetKind::Refused), Match::State("NEW")],
            Target::Jump(chain),
        )
    }

    /// That chain. A reset ends a TCP client's attempt at once; an ICMP error leaves it waiting a
    /// second.
    pub fn refuse_chain(&self, name: &'static str) -> Chain {
        let unreachable = match self.family {
            Family::V4 => "icmp-port-unreachable",
            Family::V6 => "icmp6-port-unreachable",
        };
        chain(
            Table::Filter,
            name,
            None,
            [
                Rule::new([Match::Tcp], Target::Reject("tcp-reset")),
                Rule::new([], Target::Reject(unreachable)),
            ],
        )
    }

    /// New clients of a tuple whose policy permits no endpoint get no answer.
    pub fn drop(&self) -> Rule {
        Rule::new(
            [self.to(SetKind::Dropped), Match::State("NEW")],
            Target::Drop,
        )
    }

    /// New clients of a tuple whose virtual server is being changed get no answer, and ask again.
    pub fn hold(&self) -> Rule {
        Rule::new([self.to(SetKind::Held), Match::State("NEW")], Target::Drop)
    }

    /// As kube-proxy does: a balancer that hears nothing takes the node for broken.
    pub fn accept_health_checks(&self) -> Rule {
        Rule::new(
            [Match::Tcp, self.set(SetKind::HealthPorts, "dst", false)],
            Target::Accept,
        )
    }
}

/// What belongs to established connections passes.
pub fn accept_established() -> Rule {
    Rule::new([Match::State("RELATED,ESTABLISHED")], Target::Accept)
}

pub fn marked(bit: u32) -> Match {
    Match::Mark {
        value: bit,
        mask: bit,
        negated: false,
    }
}

pub fn mark(bit: u32) -> Target {
    Target::Mark {
        value: bit,
        mask: bit,
    }
}

pub fn unmark(bits: u32) -> Target {
    Target::Mark {
        value: 0,
        mask: bits,
    }
}

/// One of our own chains.
pub fn chain(
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
