//! One act upon the kernel, and its place in the order.

use std::collections::BTreeSet;
use std::fmt;

use ipnet::IpNet;
use ipvs_sys::{Command, Service, Timeouts};

use super::convert;
use super::key::ServerKey;
use super::members::OfServer;
use super::share::Share;
use crate::dataplane::policy::kernel::{SetAct, SetId};
use crate::dataplane::policy::sets::{Element, Member, SetKind};
use crate::dataplane::policy::sysctl::Wanted;
use crate::model::{Family, HostPort, RealServerKey, VipPort};
use crate::netfilter::ObservedRules;
use crate::routing::PolicyRule;

/// One act. `Display` gives the command that a person would type for it.
#[derive(Debug, Clone)]
pub enum Step {
    SetSysctl(Wanted),
    SetTimeouts(Timeouts),
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
    AddVirtualServer(ServerKey, Service),
    SetVirtualServer(ServerKey, Service),
    /// Around a change of scheduler: while the kernel waits for the readers of the old one there is none
    /// (`ip_vs_edit_service`), and it refuses new clients of an address that it has. They get no answer, and ask
    /// again a second later. Clients that are led by a mark are not held, nor is UDP: who sends one way alone is new
    /// for ever, and needs no scheduler.
    HoldClients(VipPort),
    LetClientsIn(VipPort),
    DelVirtualServer(ServerKey),
    AddRealServer(ServerKey, RealServerKey, Share),
    SetRealServer(ServerKey, RealServerKey, Share),
    /// Weight 0: keeps its connections, takes no new ones. `listed`: its endpoint still exists,
    /// `unready`: and is not ready.
    DrainRealServer {
        server: ServerKey,
        real_server: RealServerKey,
        listed: bool,
        unready: bool,
    },
    DelRealServer(ServerKey, RealServerKey),
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
            Self::SetSysctl(_)
            | Self::SetTimeouts(_)
            | Self::CreateSet { .. }
            | Self::AddPolicyRule { .. } => Phase::Base,
            Self::WriteRules { after, .. } => {
                if after.is_empty() {
                    Phase::Dismantle
                } else {
                    Phase::Prepare
                }
            }
            Self::AddMember(member) => match member.set {
                SetKind::Live | SetKind::Near => Phase::GoLive,
                SetKind::Refused | SetKind::Dropped | SetKind::Ranged => Phase::Refuse,
                _ => Phase::Prepare,
            },
            Self::AddVirtualServer(..) => Phase::Claim,
            Self::AddRealServer(..) | Self::SetRealServer(..) => Phase::Serve,
            Self::SetVirtualServer(..) | Self::HoldClients(_) | Self::LetClientsIn(_) => {
                Phase::Change
            }
            Self::AddRoute(_) => Phase::Route,
            Self::DelMember(member) => match member.set {
                SetKind::Live | SetKind::Near => Phase::Withdraw,
                SetKind::Refused | SetKind::Dropped => Phase::Refuse,
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

    /// What the step is, for metrics; one of [`KINDS`].
    pub fn kind(&self) -> &'static str {
        match self {
            Self::SetSysctl(_) => "set_sysctl",
            Self::SetTimeouts(_) => "set_timeouts",
            Self::CreateSet { .. } => "create_set",
            Self::DestroySet { .. } => "destroy_set",
            Self::WriteRules { .. } => "write_rules",
            Self::AddPolicyRule { .. } => "add_policy_rule",
            Self::DelPolicyRule { .. } => "delete_policy_rule",
            Self::DelStrayRoute { .. } => "delete_stray_route",
            Self::AddMember(_) => "add_member",
            Self::DelMember(_) => "delete_member",
            Self::AddRoute(_) => "add_route",
            Self::DelRoute(_) => "delete_route",
            Self::AddVirtualServer(..) => "add_virtual_server",
            Self::SetVirtualServer(..) => "set_virtual_server",
            Self::HoldClients(_) => "hold_clients",
            Self::LetClientsIn(_) => "let_clients_in",
            Self::DelVirtualServer(_) => "delete_virtual_server",
            Self::AddRealServer(..) => "add_real_server",
            Self::SetRealServer(..) => "set_real_server",
            Self::DrainRealServer { .. } => "drain_real_server",
            Self::DelRealServer(..) => "delete_real_server",
            Self::ForgetFlows { .. } => "forget_flows",
        }
    }

    /// The family that a step is about; none for both.
    pub fn family(&self) -> Option<Family> {
        Some(match self {
            Self::SetTimeouts(_) => return None,
            Self::SetSysctl(wanted) => return wanted.family,
            Self::CreateSet { family, .. }
            | Self::DestroySet { family, .. }
            | Self::WriteRules { family, .. }
            | Self::AddPolicyRule { family, .. }
            | Self::DelPolicyRule { family, .. } => *family,
            Self::DelStrayRoute { net, .. } | Self::AddRoute(net) | Self::DelRoute(net) => {
                Family::of(net.addr())
            }
            Self::AddMember(member) | Self::DelMember(member) => member.element.family(),
            Self::HoldClients(vip) | Self::LetClientsIn(vip) | Self::ForgetFlows { vip, .. } => {
                vip.family()
            }
            Self::AddVirtualServer(server, _)
            | Self::SetVirtualServer(server, _)
            | Self::DelVirtualServer(server)
            | Self::AddRealServer(server, ..)
            | Self::SetRealServer(server, ..)
            | Self::DrainRealServer { server, .. }
            | Self::DelRealServer(server, _) => server.family(),
        })
    }

    /// The virtual server that a later step depends on this one for.
    pub fn server(&self) -> Option<ServerKey> {
        match self {
            Self::AddMember(member) | Self::DelMember(member) => member.server(),
            Self::AddVirtualServer(server, _)
            | Self::SetVirtualServer(server, _)
            | Self::DelVirtualServer(server)
            | Self::AddRealServer(server, ..)
            | Self::SetRealServer(server, ..)
            | Self::DrainRealServer { server, .. }
            | Self::DelRealServer(server, _) => Some(*server),
            Self::ForgetFlows { vip, .. } => Some((*vip).into()),
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

    /// The change of a set that a step is.
    pub fn set_act(&self) -> Option<SetAct> {
        Some(match self {
            Self::CreateSet { set, family } => SetAct::Create(SetId::Kind(*set, *family)),
            Self::DestroySet { set, family } => SetAct::Destroy(SetId::Kind(*set, *family)),
            Self::AddMember(member) => SetAct::Add(*member),
            Self::DelMember(member) => SetAct::Delete(*member),
            Self::HoldClients(vip) => SetAct::Add(held(*vip)),
            Self::LetClientsIn(vip) => SetAct::Delete(held(*vip)),
            _ => return None,
        })
    }

    /// The IPVS command of a step that is one.
    pub fn ipvs_command(&self) -> Option<Command> {
        let key = convert::service_key;
        Some(match self {
            Self::SetTimeouts(timeouts) => Command::SetTimeouts(*timeouts),
            Self::AddVirtualServer(_, service) => Command::NewService(service.clone()),
            Self::SetVirtualServer(_, service) => Command::SetService(service.clone()),
            Self::DelVirtualServer(server) => Command::DelService(key(*server)),
            Self::AddRealServer(server, real, share) => {
                Command::NewDest(key(*server), convert::destination(*real, *share))
            }
            Self::SetRealServer(server, real, share) => {
                Command::SetDest(key(*server), convert::destination(*real, *share))
            }
            Self::DrainRealServer {
                server,
                real_server,
                ..
            } => Command::SetDest(
                key(*server),
                convert::destination(*real_server, Share::NONE),
            ),
            Self::DelRealServer(server, real) => {
                Command::DelDest(key(*server), convert::destination_key(*real))
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
            Self::SetSysctl(wanted) => wanted.fmt(f),
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
            Self::HoldClients(vip) => write!(f, "ipset add {}", held(*vip)),
            Self::LetClientsIn(vip) => write!(f, "ipset del {}", held(*vip)),
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

/// What keeps new clients of a tuple without an answer.
fn held(vip: VipPort) -> Member {
    Member {
        set: SetKind::Held,
        element: Element::VipPort(vip),
    }
}

/// The kinds of steps.
pub const KINDS: &[&str] = &[
    "set_sysctl",
    "set_timeouts",
    "create_set",
    "destroy_set",
    "write_rules",
    "add_policy_rule",
    "delete_policy_rule",
    "delete_stray_route",
    "add_member",
    "delete_member",
    "add_route",
    "delete_route",
    "add_virtual_server",
    "set_virtual_server",
    "hold_clients",
    "let_clients_in",
    "delete_virtual_server",
    "add_real_server",
    "set_real_server",
    "drain_real_server",
    "delete_real_server",
    "forget_flows",
];
