//! The netlink protocol of netfilter (`linux/netfilter/nfnetlink.h`): framing and the socket.
//!
//! `message` is pure; `socket` is the shell. Requests are packed into one `sendmsg` and ask for
//! no acknowledgement: the kernel works them off before the call returns and answers only those
//! that fail. To wait for a last acknowledgement could wait for ever, since it may be among the
//! answers that a full receive queue has lost.

mod message;
mod socket;

pub use message::{Attribute, Attributes, Request};
pub use socket::{Counters, NfnlSocket, Outcome};

/// What can go wrong on the wire.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("cannot open a netfilter netlink socket")]
    Open(#[source] std::io::Error),
    #[error("cannot send to the kernel")]
    Send(#[source] std::io::Error),
    #[error("cannot receive from the kernel")]
    Receive(#[source] std::io::Error),
    #[error("the kernel's answer was cut off at {length} bytes")]
    Truncated { length: usize },
    #[error("the kernel's answer is malformed")]
    Malformed,
    /// The negative of `nlmsgerr.error`.
    #[error("the kernel refused the request (error {0})")]
    Refused(i32),
}
