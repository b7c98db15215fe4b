//! One act upon the kernel, and its place in the order.

use std::collections::BTreeSet;
use std::fmt;

use super::chain::ChainKey;
use crate::dataplane::policy::kernel::{SetAct, SetId};
use crate::dataplane::policy::sets::{Member, SetKind};
use crate::dataplane::policy::sysctl::Wanted;
use crate::model::{Family, HostPort, ServicePortName, VipPort};
use crate::netfilter::ObservedRules;

/// One act. `Display` gives the command that a person would type for it.
#[derive(Debug, Clone)]
pub enum Step {
    SetSysctl(Wanted),
    CreateSet(SetId),
    DestroySet(SetId),
    AddMember(Member),
    DelMember(Member),
    /// The constant rules: `text` for `iptables-restore --noflush`; `after` is what will then be there.
    WriteRules {
        family: Family,
        text: String,
        after: ObservedRules,
    },
    /// Makes a chain, or fills it anew.
    PutChain {
        key: ChainKey,
        lines: Vec<String>,
        /// For whom; `None`: a branch of the tree, which is several Services'.
        owner: Option<ServicePortName>,
    },
    DelChain(ChainKey),
    /// Deletes UDP conntrack entries of `vip` that do not lead to one of `keep`.
    ForgetFlows {
        vip: VipPort,
        keep: BTreeSet<HostPort>,
    },
    /// Deletes conntrack entries of `vip` that lead to one of `lost`.
    EndFlows {
        vip: VipPort,
        lost: BTreeSet<HostPort>,
    },
}

/// Places in the order. Make before break: what a packet is led through is whole before it is led
/// there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Base,
    Prepare,
    Unhook,
    Chains,
    Hook,
    Refuse,
    GoLive,
    Withdraw,
    Flows,
    Release,
    DestroySets,
}

impl Step {
    /// What the step is, for metrics; one of [`KINDS`].
    pub fn kind(&self) -> &'static str {
        match self {
            Self::SetSysctl(_) => "set_sysctl",
            Self::CreateSet(_) => "create_set",
            Self::DestroySet(_) => "destroy_set",
            Self::AddMember(_) => "add_member",
            Self::DelMember(_) => "delete_member",
            Self::WriteRules { .. } => "write_rules",
            Self::PutChain { .. } => "put_chain",
            Self::DelChain(_) => "delete_chain",
            Self::ForgetFlows { .. } => "forget_flows",
            Self::EndFlows { .. } => "end_flows",
        }
    }

    /// Where in the order the step stands.
    pub fn phase(&self) -> Phase {
        match self {
            Self::SetSysctl(_) | Self::CreateSet(_) => Phase::Base,
            Self::AddMember(member) => match member.set {
                SetKind::Balanced => Phase::GoLive,
                SetKind::Refused | SetKind::Dropped | SetKind::Ranged => Phase::Refuse,
                _ => Phase::Prepare,
            },
            Self::DelMember(member) => match member.set {
                SetKind::Balanced => Phase::Withdraw,
                SetKind::Refused | SetKind::Dropped => Phase::Refuse,
                _ => Phase::Release,
            },
            Self::WriteRules { after, .. } => {
                if after.is_empty() {
                    Phase::Unhook
                } else {
                    Phase::Hook
                }
            }
            Self::PutChain { .. } | Self::DelChain(_) => Phase::Chains,
            Self::ForgetFlows { .. } | Self::EndFlows { .. } => Phase::Flows,
            Self::DestroySet(_) => Phase::DestroySets,
        }
    }

    /// The family that a step is about; none for both.
    pub fn family(&self) -> Option<Family> {
        Some(match self {
            Self::SetSysctl(wanted) => return wanted.family,
            Self::CreateSet(set) | Self::DestroySet(set) => set.family(),
            Self::AddMember(member) | Self::DelMember(member) => member.element.family(),
            Self::WriteRules { family, .. } => *family,
            Self::PutChain { key, .. } | Self::DelChain(key) => key.family,
            Self::ForgetFlows { vip, .. } | Self::EndFlows { vip, .. } => vip.family(),
        })
    }

    /// The change of a set that a step is.
    pub fn set_act(&self) -> Option<SetAct> {
        Some(match self {
            Self::CreateSet(set) => SetAct::Create(*set),
            Self::DestroySet(set) => SetAct::Destroy(*set),
            Self::AddMember(member) => SetAct::Add(*member),
            Self::DelMember(member) => SetAct::Delete(*member),
            _ => return None,
        })
    }

    /// The chain that a step is about.
    pub fn chain(&self) -> Option<ChainKey> {
        match self {
            Self::PutChain { key, .. } | Self::DelChain(key) => Some(*key),
            _ => None,
        }
    }

    /// The tuple whose connections end, with the real servers that are lost.
    pub fn lost_flows(&self) -> Option<(VipPort, &BTreeSet<HostPort>)> {
        match self {
            Self::EndFlows { vip, lost } => Some((*vip, lost)),
            _ => None,
        }
    }

    /// The tuple whose flows are to be forgotten, with those who serve it.
    pub fn stale_flows(&self) -> Option<(VipPort, &BTreeSet<HostPort>)> {
        match self {
            Self::ForgetFlows { vip, keep } => Some((*vip, keep)),
            _ => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tool = |family: &Family| match family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        match self {
            Self::SetSysctl(wanted) => wanted.fmt(f),
            Self::CreateSet(set) => write!(f, "ipset create {set}"),
            Self::DestroySet(set) => write!(f, "ipset destroy {set}"),
            Self::AddMember(member) => write!(f, "ipset add {member}"),
            Self::DelMember(member) => write!(f, "ipset del {member}"),
            Self::WriteRules { family, text, .. } => {
                let lines = text.lines().count();
                write!(f, "{}-restore --noflush ({lines} lines)", tool(family))
            }
            Self::PutChain { key, lines, owner } => {
                let (tool, rules) = (tool(&key.family), lines.len());
                write!(f, "{tool} -t nat chain {key} ({rules} rules")?;
                match owner {
                    Some(owner) => write!(f, ", {owner})"),
                    None => f.write_str(")"),
                }
            }
            Self::DelChain(key) => write!(f, "{} -t nat -X {key}", tool(&key.family)),
            Self::EndFlows { vip, lost } => {
                let protocol = vip.protocol.to_string().to_lowercase();
                let lost: Vec<String> = lost.iter().map(HostPort::to_string).collect();
                let lost = lost.join(",");
                write!(f, "conntrack -D -p {protocol} --orig-dst {vip} (to {lost})")
            }
            Self::ForgetFlows { vip, keep } => {
                let count = keep.len();
                write!(
                    f,
                    "conntrack -D -p udp --orig-dst {vip} (all but {count} real servers)"
                )
            }
        }
    }
}

/// The kinds of steps.
pub const KINDS: &[&str] = &[
    "set_sysctl",
    "create_set",
    "destroy_set",
    "add_member",
    "delete_member",
    "write_rules",
    "put_chain",
    "delete_chain",
    "forget_flows",
    "end_flows",
];
