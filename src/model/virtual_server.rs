//! What the kernel is asked to balance at one address and port.

use std::collections::BTreeMap;
use std::fmt;

use super::real_server::{RealServer, RealServerKey};
use super::service::ServicePortName;

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

/// The desired state of one virtual server. One without real servers refuses its clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualServer {
    pub owner: ServicePortName,
    pub kind: VipKind,
    pub scheduler: Scheduler,
    pub persistence: Option<Persistence>,
    pub real_servers: BTreeMap<RealServerKey, RealServer>,
}
