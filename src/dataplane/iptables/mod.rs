//! Services on rules of iptables, where the kernel has no IPVS.
//!
//! The first packet of a connection whose (destination, protocol, port) is in the set `BALANCED` goes
//! down a tree of chains to the chain of its Service, which picks an endpoint and translates the
//! address; conntrack does the same for the rest of the connection. A change rewrites the chains that
//! it is about, in one restore. `docs/design.md` tells what was measured.
//!
//! * `chain` names of the chains that follow from Services
//! * `tree` pure: which chains lead from an address to its Service
//! * `balance` pure: the rules that pick an endpoint
//! * `rules` the constant rules
//! * `target` desired objects with their reference counts; `observed` the mirror of the kernel
//! * `step`, `plan` pure: what to do, in which order
//! * `drift` pure: what a step changes, in the words of other tools
//! * `kernel` the shell: observe and apply

pub mod balance;
pub mod chain;
mod drift;
mod kernel;
pub mod observed;
pub mod plan;
pub mod rules;
pub mod step;
pub mod target;
pub mod tree;

#[cfg(test)]
mod tests;

pub use kernel::IptablesDataplane;
pub use observed::Observed;
pub use step::Step;
pub use target::{Scope, Target};
