//! Typed netfilter rules. Pure values; `render` makes text of them.
//!
//! A rule holds no free text, so nothing that comes from the API can reach a rule unparsed.

use std::fmt;

use ipnet::IpNet;

use crate::model::{Family, HostPort, Protocol};

/// A table of iptables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    Raw,
    Mangle,
    Nat,
    Filter,
}

impl Table {
    pub const ALL: [Self; 4] = [Self::Raw, Self::Mangle, Self::Nat, Self::Filter];
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw",
            Self::Mangle => "mangle",
            Self::Nat => "nat",
            Self::Filter => "filter",
        })
    }
}

/// One of our own chains. All names begin with `CHAIN_PREFIX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    pub table: Table,
    pub name: &'static str,
    /// The base chain that jumps to it; `None` if only our own chains do.
    pub hook: Option<&'static str>,
    pub rules: Vec<Rule>,
}

/// Every chain of the agent, and none other, is named with this.
pub const CHAIN_PREFIX: &str = "IPVS-AGENT-";

/// One rule: all matches must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub matches: Vec<Match>,
    pub target: Target,
}

impl Rule {
    pub fn new(matches: impl Into<Vec<Match>>, target: Target) -> Self {
        Self {
            matches: matches.into(),
            target,
        }
    }
}

/// A condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// `-d NET`
    Destination(IpNet),
    /// `-s BITS/MASK`: the source, as far as the mask says.
    SourceBits {
        family: Family,
        bits: u32,
        mask: u32,
    },
    /// `-p NAME`
    Protocol(Protocol),
    /// `-p NAME -m NAME --dport FIRST:LAST`
    Ports {
        protocol: Protocol,
        first: u16,
        last: u16,
    },
    /// `-m statistic --mode random`: so many of 2³¹ packets.
    Random(u32),
    /// `-p tcp`
    Tcp,
    /// `-p tcp ! --syn`: not the beginning of a connection. Must be a rule's first match.
    TcpMidStream,
    /// `-m set --match-set NAME FLAGS`
    Set {
        name: String,
        direction: &'static str,
        negated: bool,
    },
    /// `-m mark --mark VALUE/MASK`
    Mark {
        value: u32,
        mask: u32,
        negated: bool,
    },
    /// `-i NAME`; a name that ends in `+` stands for all that begin so.
    InInterface { name: String, negated: bool },
    /// `-m addrtype --src-type LOCAL`: from an address of this node.
    FromThisNode,
    /// `-m conntrack --ctstate …`
    State(&'static str),
    /// `-m conntrack ! --ctstatus CONFIRMED`: the first packet of a flow, and no other.
    FirstPacket,
    /// `-m ipvs --ipvs`: IPVS handled the packet.
    Ipvs,
}

/// What happens to a packet that matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Accept,
    Return,
    /// To one of our own chains.
    Jump(&'static str),
    /// To one of our own chains, not to come back.
    Goto(String),
    /// `-j DNAT --to-destination ADDRESS:PORT`
    Dnat(HostPort),
    /// The source enters a set, for so many seconds from now on:
    /// `-j SET --add-set NAME src --exist --timeout SECONDS`
    Remember {
        set: String,
        seconds: u32,
    },
    /// `-j MARK --set-xmark VALUE/MASK`
    Mark {
        value: u32,
        mask: u32,
    },
    /// The whole mark from the set's entry for the packet, if it has one:
    /// `-j SET --map-set NAME dst,dst --map-mark`
    MarkFrom(String),
    Drop,
    /// Source ports chosen at random where the kernel can (`--random-fully`).
    Masquerade,
    /// `-j REJECT --reject-with TYPE`
    Reject(&'static str),
}
