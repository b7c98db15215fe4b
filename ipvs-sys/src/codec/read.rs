//! Walks datagrams and attributes. Headers are read by netlink-packet-core, after its checks.

use netlink_packet_core::{
    NLA_F_NESTED, NLA_F_NET_BYTEORDER, NLMSG_ALIGNTO, NetlinkBuffer, NlaBuffer, NlasIterator,
};

use super::DecodeError;
use crate::abi::{nlmsg, nlmsgerr};

/// One netlink message of a datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame<'a> {
    /// `nlmsg_type`: the family's number, or a number below 16.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// `nlmsg_seq`: that of the request.
    pub sequence: u32,
    /// What it carries.
    pub body: Body<'a>,
}

/// What a message carries.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Body<'a> {
    /// `NLMSG_NOOP`.
    Noop,
    /// `NLMSG_OVERRUN`.
    Overrun,
    /// `NLMSG_DONE`: the end of a dump.
    Done {
        /// 0, or the number of the error that ended it.
        errno: i32,
    },
    /// `NLMSG_ERROR`.
    Ack {
        /// 0 confirms; otherwise the number of the error, positive.
        errno: i32,
        /// The kernel's own words, if it has any (`NLMSGERR_ATTR_MSG`).
        message: Option<String>,
    },
    /// A message of a family: `struct genlmsghdr` and attributes.
    Payload(&'a [u8]),
}

/// Walks the messages of a datagram. After an error there are no more.
#[must_use]
pub const fn frames(datagram: &[u8]) -> Frames<'_> {
    Frames { rest: datagram }
}

/// See [`frames`].
#[derive(Debug, Clone)]
pub struct Frames<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.rest);
        Some(frame(rest).map(|(frame, length)| {
            let next = length.next_multiple_of(usize::from(NLMSG_ALIGNTO));
            self.rest = rest.get(next..).unwrap_or_default();
            frame
        }))
    }
}

fn frame(bytes: &[u8]) -> Result<(Frame<'_>, usize), DecodeError> {
    let malformed = DecodeError::Malformed {
        what: "a netlink message",
    };
    let Ok(message) = NetlinkBuffer::new_checked(bytes) else {
        return Err(malformed);
    };
    let length = usize::try_from(message.length()).unwrap_or(usize::MAX);
    let payload = bytes.get(NLMSG_HDRLEN..length).ok_or(malformed)?;
    let (kind, flags) = (message.message_type(), message.flags());
    let body = match kind {
        nlmsg::NOOP => Body::Noop,
        nlmsg::OVERRUN => Body::Overrun,
        nlmsg::DONE => Body::Done {
            errno: errno(payload),
        },
        nlmsg::ERROR => Body::Ack {
            errno: errno(payload),
            message: kernel_message(payload, flags),
        },
        _ => Body::Payload(payload),
    };
    let frame = Frame {
        kind,
        flags,
        sequence: message.sequence_number(),
        body,
    };
    Ok((frame, length))
}

/// The kernel sends it negative. Where it is missing there was no error.
fn errno(payload: &[u8]) -> i32 {
    payload
        .first_chunk()
        .map_or(0, |bytes| i32::from_ne_bytes(*bytes).saturating_neg())
}

fn kernel_message(payload: &[u8], flags: u16) -> Option<String> {
    if flags & nlmsgerr::NLM_F_ACK_TLVS == 0 {
        return None;
    }
    // errno, then the header of the request, then (unless capped) its payload.
    let request = payload.get(4..)?;
    let echoed = if flags & nlmsgerr::NLM_F_CAPPED == 0 {
        let length = u32::from_ne_bytes(*request.first_chunk()?);
        usize::try_from(length)
            .ok()?
            .max(NLMSG_HDRLEN)
            .checked_next_multiple_of(usize::from(NLMSG_ALIGNTO))?
    } else {
        NLMSG_HDRLEN
    };
    attributes(request.get(echoed..)?)
        .filter_map(Result::ok)
        .find(|attribute| attribute.kind == nlmsgerr::NLMSGERR_ATTR_MSG)
        .map(|attribute| String::from_utf8_lossy(until_nul(attribute.value)).into_owned())
}

/// An attribute within a datagram.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attr<'a> {
    /// Without flag bits.
    pub(super) kind: u16,
    /// With flag bits.
    pub(super) raw_kind: u16,
    pub(super) value: &'a [u8],
}

/// Walks attributes. After an error there are no more.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = Result<Attr<'_>, DecodeError>> {
    let mut position = 0;
    NlasIterator::new(bytes).map(move |attribute| {
        let attribute = attribute.map_err(|_| MALFORMED_ATTRIBUTE)?;
        let length = usize::from(attribute.length());
        // The value is cut from the slice itself, which outlives the iterator's view of it.
        let value = bytes
            .get(position + NLA_HDRLEN..position + length)
            .ok_or(MALFORMED_ATTRIBUTE)?;
        position += length.next_multiple_of(4);
        Ok(Attr {
            kind: attribute.kind(),
            raw_kind: attribute.kind() | flag_bits(&attribute),
            value,
        })
    })
}

fn flag_bits(attribute: &NlaBuffer<&[u8]>) -> u16 {
    let mut bits = 0;
    if attribute.nested_flag() {
        bits |= NLA_F_NESTED;
    }
    if attribute.network_byte_order_flag() {
        bits |= NLA_F_NET_BYTEORDER;
    }
    bits
}

/// What comes before the first NUL.
pub(super) fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

impl<'a> Attr<'a> {
    fn array<const N: usize>(&self, name: &'static str) -> Result<[u8; N], DecodeError> {
        <[u8; N]>::try_from(self.value).map_err(|_| DecodeError::Length {
            attribute: name,
            length: self.value.len(),
        })
    }

    pub(super) fn u8(&self, name: &'static str) -> Result<u8, DecodeError> {
        self.array(name).map(u8::from_ne_bytes)
    }

    pub(super) fn u16(&self, name: &'static str) -> Result<u16, DecodeError> {
        self.array(name).map(u16::from_ne_bytes)
    }

    pub(super) fn be16(&self, name: &'static str) -> Result<u16, DecodeError> {
        self.array(name).map(u16::from_be_bytes)
    }

    pub(super) fn u32(&self, name: &'static str) -> Result<u32, DecodeError> {
        self.array(name).map(u32::from_ne_bytes)
    }

    pub(super) fn be32(&self, name: &'static str) -> Result<u32, DecodeError> {
        self.array(name).map(u32::from_be_bytes)
    }

    pub(super) fn u64(&self, name: &'static str) -> Result<u64, DecodeError> {
        self.array(name).map(u64::from_ne_bytes)
    }

    pub(super) fn u128(&self, name: &'static str) -> Result<[u8; 16], DecodeError> {
        self.array(name)
    }

    pub(super) fn pair(&self, name: &'static str) -> Result<(u32, u32), DecodeError> {
        let both: [u8; 8] = self.array(name)?;
        let [a, b, c, d, e, f, g, h] = both;
        Ok((
            u32::from_ne_bytes([a, b, c, d]),
            u32::from_ne_bytes([e, f, g, h]),
        ))
    }

    pub(super) fn text(&self, name: &'static str) -> Result<&'a str, DecodeError> {
        let bytes = until_nul(self.value);
        std::str::from_utf8(bytes).map_err(|_| DecodeError::Value {
            attribute: name,
            value: bytes.escape_ascii().to_string(),
        })
    }
}

const MALFORMED_ATTRIBUTE: DecodeError = DecodeError::Malformed {
    what: "a netlink attribute",
};
/// Bytes of `struct nlmsghdr`.
const NLMSG_HDRLEN: usize = 16;
/// Bytes of `struct nlattr`.
const NLA_HDRLEN: usize = 4;
