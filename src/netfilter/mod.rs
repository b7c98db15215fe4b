//! Clients of the kernel's netfilter. They know nothing of Services.
//!
//! * `nfnetlink` the wire that sets and conntrack share: messages, attributes, batches, dumps
//! * `ipset` sets, changed without starting a process
//! * `conntrack` deletion of flows; `probe` what the kernel has
//! * `ruleset`, `render`, `parse` typed rules and `iptables` text, pure
//! * `exec` the only place that starts processes: `iptables-save`, `iptables-restore`

pub mod conntrack;
pub mod exec;
pub mod ipset;
pub mod nfnetlink;
pub mod parse;
pub mod probe;
pub mod render;
pub mod ruleset;

pub use parse::{Jump, ObservedRules};
