//! Netfilter sets over netlink (`linux/netfilter/ipset/ip_set.h`): no process is started.
//!
//! `entry` the values, `message` the codec, both pure; `client` the shell. Adding what is there
//! and deleting what is gone succeed, since no `NLM_F_EXCL` is sent.

mod client;
mod entry;
mod error;
mod message;

pub use client::{IpsetClient, Outcome};
pub use entry::{Entry, SetCommand, SetHeader, SetName, SetSpec, SetType};
pub use error::Error;
