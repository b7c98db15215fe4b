//! What becomes of a Service, and of a packet, on this node; each with the reason.

pub mod packet;
pub mod service;

use crate::model::ObjectName;

/// What may be asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// What one Service means here, for names that end in that domain. Costs that Service, and all
    /// names where there is none such.
    Service { name: ObjectName, domain: String },
    /// What becomes of a packet. Costs all virtual servers where it is for none.
    Packet(Packet),
}

/// What is said of it.
#[derive(Debug)]
pub enum Explained {
    Service(Box<ExplainedService>),
    Packet(Trace),
    /// There is no such Service; the text says which there are.
    NoSuch(String),
}

pub use packet::{ClientKind, ClientSeen, Led, Packet, Refusal, Step, Trace, Verdict};
pub use service::{
    DnsRecord, ExplainedAddress, ExplainedEndpoint, ExplainedPort, ExplainedProblem,
    ExplainedService, Leading, Variable,
};
