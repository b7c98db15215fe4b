//! What a Service's policy means to netfilter, whatever balances: source ranges, masquerade, refusal,
//! health check ports. Both dataplanes are built on it.
//!
//! * `settings` what an operator may choose about it
//! * `sets` the netfilter sets by name and type; `members` what a virtual server is in
//! * `flows` which conntrack entries lead astray
//! * `affinity`, `digest` sets of clients, and the short names of what has long ones
//! * `rules` the constant rules that ask them
//! * `drift` what a step changes, in the words of other tools
//! * `sysctl` settings of the kernel that forwarding needs
//! * `kernel` the shell: sets read and changed

pub mod affinity;
pub mod digest;
pub mod drift;
pub mod flows;
pub mod kernel;
pub mod members;
pub mod rules;
pub mod sets;
pub mod settings;
pub mod sysctl;

pub use settings::PolicySettings;
