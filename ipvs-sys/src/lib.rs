//! A client for IPVS, the load balancer in the Linux kernel, over generic netlink.
//!
//! No C is linked: *sys* means the kernel's interface (`linux/ip_vs.h`). Names are the kernel's:
//! a [`Service`] is a virtual service, a [`Destination`] a real server.
//!
//! * Values: [`ServiceKey`], [`Service`], [`Destination`], [`Daemon`], [`Command`]; each prints as
//!   `ipvsadm` would write it.
//! * [`codec`]: pure functions between values and bytes.
//! * [`Client`]: a synchronous client with single commands, batches and dumps, over a [`Transport`].
//! * [`procfs`]: fast readers of `/proc/net/ip_vs` and `/proc/net/ip_vs_conn`.
//!
//! ```no_run
//! use ipvs_sys::{Client, Command, Destination, ForwardMethod, Service, ServiceKey};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut client = Client::open()?;
//! let key = ServiceKey::tcp("10.96.0.1:443".parse()?);
//! let backend: std::net::SocketAddr = "10.2.0.2:6443".parse()?;
//! let outcomes = client.batch(&[
//!     Command::NewService(Service::new(key, "rr".parse()?)),
//!     Command::NewDest(key, Destination::new(backend.into(), ForwardMethod::Masquerade)),
//! ])?;
//! assert_eq!(outcomes.len(), 2);
//! # Ok(())
//! # }
//! ```
//!
//! The caller needs `CAP_NET_ADMIN` in the initial user namespace, for reading too.
#![deny(missing_docs)]
#![warn(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::panic
)]

pub mod abi;
mod attribute;
mod client;
pub mod codec;
mod command;
mod daemon;
mod destination;
mod error;
mod key;
mod name;
pub mod procfs;
mod service;
mod stats;
mod transport;
mod validate;

pub use attribute::{Attribute, Nest};
pub use client::{Client, Counters, Outcome};
pub use command::{Command, Query};
pub use daemon::{Daemon, DaemonEntry, DaemonState, Info, Timeouts};
pub use destination::{Destination, DestinationEntry, ForwardMethod, Tunnel, TunnelFlags};
pub use error::{Error, Request};
pub use key::{DestinationKey, Family, Protocol, ServiceKey};
pub use name::{InterfaceName, NameError, PeName, SchedulerName};
pub use service::{Service, ServiceEntry, ServiceFlags};
pub use stats::Stats;
pub use transport::{NetlinkSocket, Transport, Wait};
pub use validate::{Invalid, MAX_PERSISTENCE, MAX_THRESHOLD, MAX_WEIGHT};

/// The code in README.md compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
