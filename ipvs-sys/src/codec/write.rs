//! Appends netlink messages and attributes to a buffer. Headers are written by netlink-packet-core.

use netlink_packet_core::{
    Emitable, NLA_ALIGNTO, NLA_HEADER_SIZE, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer,
    NetlinkHeader, NlaBuffer,
};

/// Bytes of `struct nlmsghdr` (`linux/netlink.h`).
const NLMSG_HDRLEN: usize = 16;

/// The kind of a message, besides the caller's wishes.
pub(super) struct Head {
    pub(super) kind: u16,
    pub(super) command: u8,
    pub(super) version: u8,
    pub(super) sequence: u32,
    pub(super) acknowledge: bool,
    pub(super) dump: bool,
}

/// Appends one message, whose attributes `body` writes.
pub(super) fn message(buffer: &mut Vec<u8>, head: &Head, body: impl FnOnce(&mut Attributes<'_>)) {
    let start = buffer.len();
    let mut header = NetlinkHeader::default();
    header.message_type = head.kind;
    header.sequence_number = head.sequence;
    header.flags = NLM_F_REQUEST
        | if head.acknowledge { NLM_F_ACK } else { 0 }
        | if head.dump { NLM_F_DUMP } else { 0 };
    buffer.resize(start + NLMSG_HDRLEN, 0);
    if let Some(space) = buffer.get_mut(start..) {
        header.emit(space);
    }
    buffer.extend_from_slice(&[head.command, head.version, 0, 0]);
    body(&mut Attributes { buffer });
    let length = u32::try_from(buffer.len() - start).unwrap_or(u32::MAX);
    if let Some(space) = buffer.get_mut(start..) {
        NetlinkBuffer::new(space).set_length(length);
    }
}

/// Appends attributes, each aligned to four bytes.
pub(super) struct Attributes<'a> {
    buffer: &'a mut Vec<u8>,
}

impl Attributes<'_> {
    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.open(kind, false, |attributes| {
            attributes.buffer.extend_from_slice(value);
        });
    }

    pub(super) fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Attributes<'_>)) {
        self.open(kind, true, body);
    }

    fn open(&mut self, kind: u16, nested: bool, body: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.buffer.len();
        self.buffer.resize(start + NLA_HEADER_SIZE, 0);
        body(&mut Attributes {
            buffer: self.buffer,
        });
        // No attribute of this interface comes near 64 kB: the longest string has 17 bytes.
        let length = u16::try_from(self.buffer.len() - start).unwrap_or(u16::MAX);
        if let Some(space) = self.buffer.get_mut(start..) {
            let mut attribute = NlaBuffer::new(space);
            attribute.set_kind(kind);
            if nested {
                attribute.set_nested_flag();
            }
            attribute.set_length(length);
        }
        let end = self.buffer.len().next_multiple_of(NLA_ALIGNTO);
        self.buffer.resize(end, 0);
    }

    pub(super) fn u8(&mut self, kind: u16, value: u8) {
        self.bytes(kind, &[value]);
    }

    pub(super) fn u16(&mut self, kind: u16, value: u16) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    /// In network byte order.
    pub(super) fn be16(&mut self, kind: u16, value: u16) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub(super) fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    /// A string and its NUL.
    pub(super) fn string(&mut self, kind: u16, value: &str) {
        self.open(kind, false, |attributes| {
            attributes.buffer.extend_from_slice(value.as_bytes());
            attributes.buffer.push(0);
        });
    }
}
