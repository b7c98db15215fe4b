//! The netfilter layer on the kernel of this machine, against the tools that others use: `ipset`,
//! `iptables-save`, `iptables-restore` and `conntrack` say what is so.
//!
//! Every test works in network namespaces of its own and needs root; one that cannot run fails.
//!
//! * `namespace` the namespace and the tools in it
//! * `sets`, `set_errors` the set client
//! * `rules`, `repair` the rules, with both variants of iptables
//! * `dataplane` the iptables dataplane, where the kernel refuses a part
//! * `probe` what the kernel has
//! * `flow_table`, `flows` deletion of conntrack entries
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod dataplane;
mod flow_table;
mod flows;
mod namespace;
mod probe;
mod repair;
mod rules;
mod set_errors;
mod sets;
