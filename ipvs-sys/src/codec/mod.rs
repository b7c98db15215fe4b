//! Bytes to values and back: pure functions over slices, no socket, no clock.
//!
//! Requests are appended to a buffer, so that many make one datagram. A received datagram is walked
//! with [`frames`]; what a frame carries is read with [`Reply::decode`]. No input makes this module
//! panic: whatever does not fit is a [`DecodeError`], whatever is unknown is an
//! [`Attribute`](crate::Attribute) of the value it came with.

mod decode;
mod encode;
mod read;
mod write;

pub use decode::{Reply, decode_command, decode_family_id};
pub use encode::{encode_command, encode_family_lookup, encode_query};
pub use read::{Body, Frame, Frames, frames};

/// What the caller decides about a request: the numbers in its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    /// Number of the family, from the controller; it changes whenever the module is loaded.
    pub family_id: u16,
    /// Comes back in the answer.
    pub sequence: u32,
    /// Whether success is to be confirmed too (`NLM_F_ACK`); failure always is.
    pub acknowledge: bool,
}

/// Why bytes are no message of this interface.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end within a header, or a length points past their end.
    #[error("{what} is cut off or has an impossible length")]
    Malformed {
        /// What was being read.
        what: &'static str,
    },
    /// An attribute that the message needs is not there.
    #[error("{attribute} is missing")]
    Missing {
        /// Its name in the kernel's header.
        attribute: &'static str,
    },
    /// An attribute has a length that its type does not have.
    #[error("{attribute} has {length} bytes")]
    Length {
        /// Its name in the kernel's header.
        attribute: &'static str,
        /// Bytes of its value.
        length: usize,
    },
    /// An attribute has a value that cannot be.
    #[error("{attribute} has a value that cannot be: {value}")]
    Value {
        /// Its name in the kernel's header.
        attribute: &'static str,
        /// The value as text.
        value: String,
    },
    /// A message that nobody asked for.
    #[error("generic netlink command {command} is not expected here")]
    Command {
        /// The `cmd` byte of `struct genlmsghdr`.
        command: u8,
    },
}
