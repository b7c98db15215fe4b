//! What a person must fix on a Service, as values: told in the log, and as Events where the
//! source is Kubernetes.

use std::fmt;

use super::service::ObjectName;

/// Something of a Service that is not served as asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    pub reason: Reason,
    /// Names the key and the value, and says what is allowed.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The kind of a problem; prints as the fixed word that Events have as their reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    InvalidAnnotation,
    /// A field of the spec is not taken as it stands.
    InvalidField,
    RefusedExternalIp,
    /// An address that a load balancer was given belongs to somebody else.
    RefusedLoadBalancerIp,
    RefusedEndpoint,
    /// An older Service holds the address and port.
    AddressConflict,
    /// Somebody else's virtual server stands at the address and port.
    ForeignVirtualServer,
    /// The kernel lacks IPVS, or one of its schedulers.
    IpvsUnavailable,
    /// The kernel goes on refusing what the node should do.
    FailedToProgram,
    /// kube-proxy's word for a health check port that cannot be opened.
    FailedToStartServiceHealthcheck,
}

impl Reason {
    /// Those that a Service itself can give.
    pub const OF_MEANING: [Self; 6] = [
        Self::InvalidAnnotation,
        Self::InvalidField,
        Self::RefusedExternalIp,
        Self::RefusedLoadBalancerIp,
        Self::RefusedEndpoint,
        Self::AddressConflict,
    ];

    /// Whether each node has this problem for itself. The others are the same on all nodes.
    pub fn is_of_one_node(self) -> bool {
        matches!(
            self,
            Self::ForeignVirtualServer
                | Self::FailedToStartServiceHealthcheck
                | Self::IpvsUnavailable
                | Self::FailedToProgram
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidAnnotation => "InvalidAnnotation",
            Self::InvalidField => "InvalidField",
            Self::RefusedExternalIp => "RefusedExternalIP",
            Self::RefusedLoadBalancerIp => "RefusedLoadBalancerIP",
            Self::RefusedEndpoint => "RefusedEndpoint",
            Self::AddressConflict => "AddressConflict",
            Self::ForeignVirtualServer => "ForeignVirtualServer",
            Self::IpvsUnavailable => "IPVSUnavailable",
            Self::FailedToProgram => "FailedToProgram",
            Self::FailedToStartServiceHealthcheck => "FailedToStartServiceHealthcheck",
        })
    }
}

/// Who tells of a Service. Each tells the whole of what it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// What the Service says.
    Meaning,
    /// What stands in the kernel where the Service would be.
    Kernel,
    /// Its health check.
    HealthCheck,
    /// By what the node serves; of the Node, whose name stands without a namespace.
    Dataplane,
    /// Whether that can be written; of the Node too.
    Programming,
}

/// All that is wrong with a Service, or with the Node, now, in one respect; nothing once it is in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub service: ObjectName,
    /// `metadata.uid`: a Service made anew is another one.
    pub uid: Box<str>,
    pub topic: Topic,
    pub problems: Vec<Problem>,
}

impl Notice {
    /// What is wrong with a node itself. It is known by its name alone.
    pub fn of_node(node: &str, topic: Topic, problems: Vec<Problem>) -> Self {
        Self {
            service: ObjectName::new("", node),
            uid: node.into(),
            topic,
            problems,
        }
    }
}
