//! One act upon the kernel, and its place in the order.

use std::collections::BTreeSet;
use std::fmt;

use ipnet::IpNet;
use ipvs_sys::{Command, Service};

use super::convert;
use super::sets::{Member, SetKind};
use crate::model::{Family, HostPort, RealServerKey, VipPort};
use crate::netfilter::ObservedRules;
use crate::routing::PolicyRule;

/// One act. `Display` gives the command that a person would type for it.
#[derive(Debug, Clone)]
pub enum Step {
    SetSysctl {
        name: &'static str,
        value: &'static str,
        reason: &'static str,
    },
    CreateSet {
        set: SetKind,
        family: Family,
    },
    DestroySet {
        set: SetKind,
        family: Family,
    },
    /// `text` for `iptables-restore --noflush`; `after` is what will then be there.
    WriteRules {
        family: Family,
        text: String,
        after: ObservedRules,
    },
    AddPolicyRule {
        family: Family,
        rule: PolicyRule,
    },
    DelPolicyRule {
        family: Family,
        rule: PolicyRule,
    },
    /// A route of an earlier run in another table than today's.
    DelStrayRoute {
        table: u32,
        net: IpNet,
    },
    AddMember(Member),
    DelMember(Member),
    AddRoute(IpNet),
    DelRoute(IpNet),
    AddVirtualServer(VipPort, Service),
    SetVirtualServer(VipPort, Service),
    DelVirtualServer(VipPort),
    AddRealServer(VipPort, RealServerKey, u32),
    SetRealServer(VipPort, RealServerKey, u32),
    /// Weight 0: keeps its connections, takes no new ones. `listed`: its endpoint still exists.
    DrainRealServer {
        vip: VipPort,
        real_server: RealServerKey,
        listed: bool,
    },
    DelRealServer(VipPort, RealServerKey),
    /// Deletes UDP conntrack entries of `vip` that do not lead to one of `keep`.
    ForgetFlows {
        vip: VipPort,
        keep: BTreeSet<HostPort>,
    },
}

/// Places in the order. Make before break: what serves is whole before a VIP goes live, a VIP is
/// out of service before what serves it goes, and ownership is written first and removed last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Base,
    Prepare,
    Claim,
    Serve,
    Route,
    Refuse,
    GoLive,
    Withdraw,
    Retire,
    /// May be slow, and nobody waits for it.
    Change,
    Flows,
    Unroute,
    Release,
    Dismantle,
    DestroySets,
}

impl Step {
    /// Where in the order the step stands.
    pub fn phase(&self) -> Phase {
        match self {
            Self::SetSysctl { .. } | Self::CreateSet { .. } | Self::AddPolicyRule { .. } => {
                Phase::Base
            }
            Self::WriteRules { after, .. } => {
                if after.is_empty() {
                    Phase::Dismantle
                } else {
                    Phase::Prepare
                }
            }
            Self::AddMember(member) => match member.set {
                SetKind::Live => Phase::GoLive,
                SetKind::Refused => Phase::Refuse,
                _ => Phase::Prepare,
            },
            Self::AddVirtualServer(..) => Phase::Claim,
            Self::AddRealServer(..) | Self::SetRealServer(..) => Phase::Serve,
            Self::SetVirtualServer(..) => Phase::Change,
            Self::AddRoute(_) => Phase::Route,
            Self::DelMember(member) => match member.set {
                SetKind::Live => Phase::Withdraw,
                SetKind::Refused => Phase::Refuse,
                _ => Phase::Release,
            },
            Self::DrainRealServer { .. } | Self::DelRealServer(..) | Self::DelVirtualServer(_) => {
                Phase::Retire
            }
            Self::ForgetFlows { .. } => Phase::Flows,
            Self::DelRoute(_) => Phase::Unroute,
            Self::DelPolicyRule { .. } | Self::DelStrayRoute { .. } => Phase::Dismantle,
            Self::DestroySet { .. } => Phase::DestroySets,
        }
    }

    /// The tuple that a later step depends on this one for.
    pub fn vip(&self) -> Option<VipPort> {
        match self {
            Self::AddMember(member) | Self::DelMember(member) => member.vip(),
            Self::AddVirtualServer(vip, _)
            | Self::SetVirtualServer(vip, _)
            | Self::DelVirtualServer(vip)
            | Self::AddRealServer(vip, ..)
            | Self::SetRealServer(vip, ..)
            | Self::DrainRealServer { vip, .. }
            | Self::DelRealServer(vip, _)
            | Self::ForgetFlows { vip, .. } => Some(*vip),
            _ => None,
        }
    }

    /// The IPVS command of a step that is one.
    pub fn ipvs_command(&self) -> Option<Command> {
        Some(match self {
            Self::AddVirtualServer(_, service) => Command::NewService(service.clone()),
            Self::SetVirtualServer(_, service) => Command::SetService(service.clone()),
            Self::DelVirtualServer(vip) => Command::DelService(convert::service_key(*vip)),
            Self::AddRealServer(vip, key, weight) => Command::NewDest(
                convert::service_key(*vip),
                convert::destination(*key, *weight),
            ),
            Self::SetRealServer(vip, key, weight) => Command::SetDest(
                convert::service_key(*vip),
                convert::destination(*key, *weight),
            ),
            Self::DrainRealServer {
                vip, real_server, ..
            } => Command::SetDest(
                convert::service_key(*vip),
                convert::destination(*real_server, 0),
            ),
            Self::DelRealServer(vip, key) => {
                Command::DelDest(convert::service_key(*vip), convert::destination_key(*key))
            }
            _ => return None,
        })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(command) = self.ipvs_command() {
            return write!(f, "ipvsadm {command}");
        }
        let ip = |family: &Family| if *family == Family::V6 { "ip -6" } else { "ip" };
        match self {
            Self::SetSysctl { name, value, .. } => write!(f, "sysctl -w {name}={value}"),
            Self::CreateSet { set, family } => write!(f, "ipset create {}", set.name(*family)),
            Self::DestroySet { set, family } => write!(f, "ipset destroy {}", set.name(*family)),
            Self::WriteRules { family, text, .. } => {
                let tool = if *family == Family::V6 {
                    "ip6tables"
                } else {
                    "iptables"
                };
                write!(
                    f,
                    "{tool}-restore --noflush ({} lines)",
                    text.lines().count()
                )
            }
            Self::AddPolicyRule { family, rule } => write!(f, "{} rule add {rule}", ip(family)),
            Self::DelPolicyRule { family, rule } => write!(f, "{} rule del {rule}", ip(family)),
            Self::DelStrayRoute { table, net } => {
                write!(f, "ip route del local {net} dev lo table {table}")
            }
            Self::AddMember(member) => write!(f, "ipset add {member}"),
            Self::DelMember(member) => write!(f, "ipset del {member}"),
            Self::AddRoute(net) => write!(f, "ip route add local {net} dev lo"),
            Self::DelRoute(net) => write!(f, "ip route del local {net} dev lo"),
            Self::ForgetFlows { vip, keep } => {
                write!(
                    f,
                    "conntrack -D -p udp --orig-dst {vip} (all but {} real servers)",
                    keep.len()
                )
            }
            _ => Ok(()),
        }
    }
}
