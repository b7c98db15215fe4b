//! What the kernel is asked to balance at one address and port.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use ipnet::IpNet;

use super::addr::VipPort;
use super::real_server::RealServers;
use super::service::{ServicePortName, TrafficPolicy};

/// Name of a kernel scheduler and its flags.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scheduler {
    /// `rr`, `wlc`, `mh` …: the name in `ip_vs_<name>`, 1 to 15 of `a-z0-9_-`.
    pub name: String,
    /// `sh` and `mh`: pass over a real server of weight 0 instead of refusing its share.
    pub fallback: bool,
    /// `sh` and `mh`: hash the source port too.
    pub port: bool,
}

impl Scheduler {
    /// What takes the place of one that a kernel lacks.
    pub const NEAREST: &str = "rr";

    /// The scheduler with the flags that it always needs: without its fallback flag a hashing
    /// scheduler refuses the clients of a draining real server (35 of 60 seen on Linux 6.1).
    pub fn named(name: &str) -> Self {
        let hashing = matches!(name, "sh" | "mh");
        Self {
            name: name.to_owned(),
            fallback: hashing,
            port: false,
        }
    }
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        for (set, flag) in [(self.fallback, "fallback"), (self.port, "port")] {
            if set {
                write!(f, " {}-{flag}", self.name)?;
            }
        }
        Ok(())
    }
}

/// Session affinity: one client stays with one real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Persistence {
    /// Seconds since the client's last connection; 1 to 86,400 from Kubernetes.
    pub timeout_seconds: u32,
}

/// Where a Service's address comes from; it decides masquerading and who may reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VipKind {
    ClusterIp,
    ExternalIp,
    LoadBalancer,
    NodePort,
}

impl VipKind {
    /// Meant for clients outside the cluster: everything but the cluster IP.
    pub fn is_external(self) -> bool {
        self != Self::ClusterIp
    }
}

impl fmt::Display for VipKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClusterIp => "ClusterIP",
            Self::ExternalIp => "ExternalIP",
            Self::LoadBalancer => "LoadBalancer",
            Self::NodePort => "NodePort",
        })
    }
}

/// How many connections a real server may have: at `upper` it gets no more until it has fewer than
/// `lower`. 0: no limit, and three quarters of the upper one (`ip_vs_dest_totalconns`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Thresholds {
    pub upper: u32,
    pub lower: u32,
}

/// How real servers take connections, beyond the scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tuning {
    /// Each datagram is balanced anew; only over UDP.
    pub one_packet: bool,
    pub thresholds: Thresholds,
    /// How long the weight of a real server that joins others grows.
    pub slow_start: Option<Duration>,
}

/// What becomes of new clients that no real server may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unserved {
    /// There is no endpoint anywhere: they are told so.
    Refuse,
    /// There are endpoints, but the traffic policy permits none: silence.
    Drop,
}

/// Whose a tuple is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub vip: VipPort,
    /// `None`: nobody's any more.
    pub owner: Option<ServicePortName>,
    /// The mark by which clients on this node are led.
    pub mark: Option<u32>,
}

/// The desired state of one virtual server. One without real servers turns its clients away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualServer {
    pub owner: ServicePortName,
    pub kind: VipKind,
    pub scheduler: Scheduler,
    pub persistence: Option<Persistence>,
    pub tuning: Tuning,
    /// What chose `real_servers`: where it is the same for two addresses of a Service port, so are they.
    pub policy: TrafficPolicy,
    /// For clients from anywhere; from elsewhere only, where there are `near` ones.
    pub real_servers: RealServers,
    /// Under `externalTrafficPolicy: Local`: for clients on this node, who may reach every endpoint.
    pub near: Option<RealServers>,
    pub unserved: Unserved,
    /// The port at which load balancers ask for the Service's health on this node; 0: none.
    pub health_check_node_port: u16,
    /// Clients outside these get no answer (`loadBalancerSourceRanges`); empty: there is no such
    /// limit.
    pub source_ranges: BTreeSet<IpNet>,
}
