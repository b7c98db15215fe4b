//! What a Service must do for whom, written from its specification and not from the agent's code.
//!
//! `MATRIX` is the decision matrix, line by line:
//!
//! | destination | client | Cluster policy | Local policy |
//! |---|---|---|---|
//! | ClusterIP | local pod | Cluster set / no / REJECT | Local set / no / DROP |
//! | ClusterIP | node process, off-cluster | Cluster set / yes / REJECT | Local set / yes / DROP |
//! | NodePort, LB, externalIP | local pod | Cluster set / yes / REJECT | Cluster set / no / REJECT |
//! | same | node process | Cluster set / yes / REJECT | Cluster set / yes / REJECT |
//! | same | anyone else | Cluster set / yes / REJECT | Local set / no / DROP |
//!
//! An entry reads: endpoints / source rewritten / when that set is empty. Where no endpoint is ready or
//! serving anywhere, every entry is REJECT. The rest is in [`Reason`].

use std::collections::BTreeSet;
use std::fmt;

use super::cell::{Cell, Client, Destination, Endpoint, Policy};
use crate::guest::cluster::State::{Ready, Terminating};

/// Of the endpoints: all, or those of the node at which the packet enters. In each the ready ones; if
/// there is none, those that terminate and still serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Set {
    Cluster,
    Local,
}

/// Whom the server sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The client's own address.
    Kept,
    /// An address of the node at which the packet entered.
    Masqueraded,
}

/// How a packet is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// TCP by a reset, UDP and SCTP by ICMP.
    Reject,
    /// By silence.
    Drop,
}

/// An entry of the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub set: Set,
    pub source: Source,
    pub when_empty: Refusal,
}

/// A line of the matrix.
#[derive(Debug)]
pub struct Row {
    pub destination: &'static str,
    pub client: &'static str,
    pub cluster: Rule,
    pub local: Rule,
}

impl Row {
    pub fn rule(&self, policy: Policy) -> Rule {
        match policy {
            Policy::Cluster => self.cluster,
            Policy::Local => self.local,
        }
    }
}

pub const MATRIX: [Row; 5] = {
    use Refusal::{Drop, Reject};
    use Set::{Cluster, Local};
    use Source::{Kept, Masqueraded};
    [
        Row {
            destination: "ClusterIP",
            client: "local pod",
            cluster: rule(Cluster, Kept, Reject),
            local: rule(Local, Kept, Drop),
        },
        Row {
            destination: "ClusterIP",
            client: "node process, off-cluster",
            cluster: rule(Cluster, Masqueraded, Reject),
            local: rule(Local, Masqueraded, Drop),
        },
        Row {
            destination: "NodePort, LB, externalIP",
            client: "local pod",
            cluster: rule(Cluster, Masqueraded, Reject),
            local: rule(Cluster, Kept, Reject),
        },
        Row {
            destination: "NodePort, LB, externalIP",
            client: "node process",
            cluster: rule(Cluster, Masqueraded, Reject),
            local: rule(Cluster, Masqueraded, Reject),
        },
        Row {
            destination: "NodePort, LB, externalIP",
            client: "anyone else",
            cluster: rule(Cluster, Masqueraded, Reject),
            local: rule(Local, Kept, Drop),
        },
    ]
};

const fn rule(set: Set, source: Source, when_empty: Refusal) -> Rule {
    Rule {
        set,
        source,
        when_empty,
    }
}

/// By what a cell's entry of the matrix gives what it gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Ready endpoints of the set serve.
    Served,
    /// None of the set is ready: those that terminate and still serve do.
    Terminating,
    /// The endpoint is the client: always masqueraded.
    Hairpin,
    /// The endpoint is a process of the node at which the packet entered: it is handed over there, and
    /// what does not leave a node is not masqueraded on leaving it.
    OnTheNode,
    /// The set is empty while endpoints exist.
    EmptySet,
    /// No endpoint is ready or serving anywhere.
    NoEndpoint,
}

/// What came must be this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Must {
    Answer {
        by: BTreeSet<&'static str>,
        source: Source,
    },
    Refuse(Refusal),
}

/// A cell's sentence, and where it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    pub article: Article,
    pub must: Must,
}

/// A line of the matrix, one of its two policies, and the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Article {
    /// From 1.
    pub row: usize,
    pub policy: Policy,
    pub reason: Reason,
}

impl Article {
    /// As the guest tells of it.
    pub fn key(self) -> String {
        let Self {
            row,
            policy,
            reason,
        } = self;
        format!("{row} {policy:?} {reason:?}")
    }
}

/// What a cell must give.
pub fn judge(cell: &Cell) -> Judgement {
    let row = row_of(cell);
    let rule = MATRIX[row - 1].rule(cell.policy);
    let endpoints = cell.slices.endpoints();
    let (reason, must) = decide(cell, rule, endpoints);
    let article = Article {
        row,
        policy: cell.policy,
        reason,
    };
    Judgement { article, must }
}

/// A pod and a process are a node's own only there: to another node, whose NodePort they ask, they are
/// anyone. A cluster IP tells pods, wherever they are, from all others.
fn row_of(cell: &Cell) -> usize {
    let at_home = cell.asker_node() == Some(cell.entry.node());
    match (cell.destination, cell.client) {
        (Destination::ClusterIp, Client::PodBeside | Client::PodElsewhere) => 1,
        (Destination::ClusterIp, _) => 2,
        (_, Client::PodBeside | Client::PodElsewhere) if at_home => 3,
        (_, Client::AddressedNode | Client::OtherNode) if at_home => 4,
        _ => 5,
    }
}

fn decide(cell: &Cell, rule: Rule, endpoints: &[Endpoint]) -> (Reason, Must) {
    let entry = cell.entry.node();
    let here: Vec<Endpoint> = of_node(endpoints, entry);
    let all = usable(endpoints);
    if all.is_empty() {
        return (Reason::NoEndpoint, Must::Refuse(Refusal::Reject));
    }
    let chosen = match rule.set {
        Set::Cluster => all,
        Set::Local => usable(&here),
    };
    let Some(first) = chosen.first() else {
        return (Reason::EmptySet, Must::Refuse(rule.when_empty));
    };
    let (reason, source) = if first.name == cell.asker() && !first.is_host() {
        (Reason::Hairpin, Source::Masqueraded)
    } else if first.is_host() && first.node == entry {
        (Reason::OnTheNode, Source::Kept)
    } else if first.state == Terminating {
        (Reason::Terminating, rule.source)
    } else {
        (Reason::Served, rule.source)
    };
    let by = chosen.iter().map(|endpoint| endpoint.name).collect();
    (reason, Must::Answer { by, source })
}

fn of_node(endpoints: &[Endpoint], node: &str) -> Vec<Endpoint> {
    let here = endpoints.iter().filter(|endpoint| endpoint.node == node);
    here.copied().collect()
}

/// The ready ones; if there is none, those that terminate and still serve.
fn usable(endpoints: &[Endpoint]) -> Vec<Endpoint> {
    let of = |state| move |endpoint: &&Endpoint| endpoint.state == state;
    let ready: Vec<Endpoint> = endpoints.iter().filter(of(Ready)).copied().collect();
    if ready.is_empty() {
        endpoints.iter().filter(of(Terminating)).copied().collect()
    } else {
        ready
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            set,
            source,
            when_empty,
        } = self;
        let masqueraded = match source {
            Source::Kept => "no",
            Source::Masqueraded => "yes",
        };
        write!(f, "{set:?} set / {masqueraded} / {when_empty}")
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reject => "REJECT",
            Self::Drop => "DROP",
        })
    }
}

impl fmt::Display for Must {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer { by, source } => write!(f, "an answer of {by:?}, source {source:?}"),
            Self::Refuse(refusal) => refusal.fmt(f),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Served => "served by ready endpoints of the set",
            Self::Terminating => "no ready one in the set: served by terminating ones",
            Self::Hairpin => "the endpoint is the client: masqueraded",
            Self::OnTheNode => "the endpoint is a process of the entry node: source kept",
            Self::EmptySet => "the set is empty, endpoints exist elsewhere",
            Self::NoEndpoint => "no endpoint anywhere: REJECT",
        })
    }
}

impl fmt::Display for Article {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            row,
            policy,
            reason,
        } = self;
        write!(f, "row {row}, {policy:?}: {reason}")
    }
}

#[cfg(test)]
mod tests;
