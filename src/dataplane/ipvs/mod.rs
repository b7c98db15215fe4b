//! Services on the kernel's IPVS.
//!
//! A VIP lives on no interface. A packet whose (destination, protocol, port) is in the set `LIVE`
//! gets a mark bit before routing; a policy rule sends marked packets to a table of `local`
//! routes, so that IPVS meets them at LOCAL_IN; the bit is taken off before IPVS runs. The
//! node's own packets meet IPVS at LOCAL_OUT. `docs/design.md` tells why.
//!
//! * `settings` what an operator may choose: mark bits, table, masquerade
//! * `key`, `marks` by what a virtual server is found; marks for clients on this node
//! * `signature` by what one of ours is told from somebody else's
//! * `members` what the netfilter sets say of IPVS, beside what `policy` has
//! * `rules` the constant netfilter rules
//! * `target` desired objects with their reference counts; `observed` the mirror of the kernel
//! * `step`, `plan`, `drain`, `ramp` pure: what to do, in which order, when a real server goes, and
//!   how one comes
//! * `drift` pure: what a step changes, in the words of other tools
//! * `sysctl`, `timeouts` pure: settings of the kernel that forwarding needs
//! * `convert` model ↔ `ipvs_sys`
//! * `kernel` the shell: observe and apply over sockets

pub mod convert;
pub mod drain;
pub mod drift;
pub mod kernel;
pub mod key;
pub mod marks;
pub mod members;
pub mod observed;
pub mod plan;
pub mod ramp;
pub mod rules;
pub mod settings;
pub mod share;
pub mod signature;
pub mod step;
pub mod sysctl;
pub mod target;
pub mod timeouts;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use kernel::IpvsDataplane;
pub use key::ServerKey;
pub use observed::Observed;
pub use settings::Settings;
pub use step::Step;
pub use target::{Scope, Target};
