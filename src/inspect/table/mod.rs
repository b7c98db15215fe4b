//! The kernel's table of virtual servers, as people look at it.
//!
//! * `read` from the kernel, by the fastest way that tells what is asked for
//! * `order` `ipvsadm`'s order
//! * `text` `ipvsadm -Ln` and its variants, byte for byte
//! * `wide` with the names that an agent knows
//! * `document` JSON and YAML
//! * `names` what an agent knows of a table: Services, states, nodes
//! * `filter` which part is shown
//! * `watch` what changed

pub mod document;
pub mod filter;
pub mod names;
pub mod order;
pub mod read;
pub mod text;
pub mod watch;
pub mod wide;

use ipvs_sys::{DestinationEntry, ServiceEntry};

/// A table, in the order in which the kernel told it or in `ipvsadm`'s.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    /// Of IPVS, such as 1.2.1.
    pub version: (u8, u8, u8),
    /// Buckets of the table of connections.
    pub connection_table_size: u32,
    /// Virtual servers.
    pub rows: Vec<Row>,
}

/// A virtual server with its real servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The virtual server.
    pub service: ServiceEntry,
    /// Its real servers.
    pub destinations: Vec<DestinationEntry>,
}
