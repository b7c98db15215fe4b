//! Messages over byte slices: `nlmsghdr`, `nfgenmsg`, attributes. Pure.

use std::net::IpAddr;

/// `NLA_F_NESTED`, `NLA_F_NET_BYTEORDER` and the mask of an attribute's kind (`linux/netlink.h`).
use netlink_packet_core::{NLA_F_NESTED, NLA_F_NET_BYTEORDER, NLA_TYPE_MASK};

use crate::model::Family;

pub(super) const NLMSG_HEADER: usize = 16;
/// `struct nfgenmsg`: family, version, resource id.
pub(super) const NFGEN_HEADER: usize = 4;

/// One request under construction: `nlmsghdr`, `nfgenmsg`, attributes.
#[derive(Debug, Clone)]
pub struct Request {
    bytes: Vec<u8>,
}

impl Request {
    /// A request of `command` of a subsystem (`NFNL_SUBSYS_*`) with `NLM_F_*` flags beside
    /// `NLM_F_REQUEST`.
    pub fn new(subsystem: u8, command: u8, family: Option<Family>, flags: u16) -> Self {
        let mut bytes = vec![0; NLMSG_HEADER + NFGEN_HEADER];
        bytes[4] = command;
        bytes[5] = subsystem;
        bytes[6..8].copy_from_slice(&(flags | netlink_packet_core::NLM_F_REQUEST).to_ne_bytes());
        bytes[NLMSG_HEADER] = family.map_or(0, number);
        Self { bytes }
    }

    /// `nfgenmsg.res_id`: of a batch, the subsystem that it is for.
    pub fn resource(&mut self, id: u16) -> &mut Self {
        let at = NLMSG_HEADER + NFGEN_HEADER - 2;
        self.bytes[at..at + 2].copy_from_slice(&id.to_be_bytes());
        self
    }

    /// Adds an attribute as it stands.
    pub fn raw(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    pub fn u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.raw(kind, &[value])
    }

    /// A number in network order, flagged as such.
    pub fn u16_be(&mut self, kind: u16, value: u16) -> &mut Self {
        self.raw(kind | NLA_F_NET_BYTEORDER, &value.to_be_bytes())
    }

    /// A number in network order, flagged as such.
    pub fn u32_be(&mut self, kind: u16, value: u32) -> &mut Self {
        self.raw(kind | NLA_F_NET_BYTEORDER, &value.to_be_bytes())
    }

    /// A text with its end.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.raw(kind, &bytes)
    }

    /// An attribute that holds what `fill` adds.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.raw(kind | NLA_F_NESTED, &[]);
        fill(self);
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }

    /// The finished message with its sequence number.
    pub(in crate::netfilter) fn finish(&self, sequence: u32) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        bytes
    }
}

/// The number of an address family in `nfgenmsg` (`NFPROTO_IPV4`, `NFPROTO_IPV6`).
fn number(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

/// One attribute of a message that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Without its flags.
    pub kind: u16,
    pub value: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// The attributes inside.
    pub fn nested(&self) -> Attributes<'a> {
        Attributes(self.value)
    }

    pub fn u8(&self) -> Option<u8> {
        self.value.first().copied()
    }

    pub fn u16_be(&self) -> Option<u16> {
        Some(u16::from_be_bytes(self.value.try_into().ok()?))
    }

    pub fn u32_be(&self) -> Option<u32> {
        Some(u32::from_be_bytes(self.value.try_into().ok()?))
    }

    pub fn u64_be(&self) -> Option<u64> {
        Some(u64::from_be_bytes(self.value.try_into().ok()?))
    }

    /// A text up to its end.
    pub fn text(&self) -> Option<&'a str> {
        let end = self
            .value
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(self.value.len());
        std::str::from_utf8(&self.value[..end]).ok()
    }

    /// An address in network order: 4 or 16 bytes.
    pub fn address(&self) -> Option<IpAddr> {
        match self.value.len() {
            4 => Some(IpAddr::from(<[u8; 4]>::try_from(self.value).ok()?)),
            16 => Some(IpAddr::from(<[u8; 16]>::try_from(self.value).ok()?)),
            _ => None,
        }
    }
}

/// The attributes in a byte slice; what is cut off ends them.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Attributes<'a> {
    /// The first attribute of a kind.
    pub fn find(mut self, kind: u16) -> Option<Attribute<'a>> {
        Iterator::find(&mut self, |attribute| attribute.kind == kind)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let (header, _) = self.0.split_at_checked(4)?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & NLA_TYPE_MASK;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Attribute { kind, value })
    }
}

/// One netlink message that was received.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reply<'a> {
    pub kind: u16,
    pub sequence: u32,
    pub payload: &'a [u8],
}

/// The messages of one datagram; a malformed length ends them with an error.
pub(super) fn replies(mut datagram: &[u8]) -> impl Iterator<Item = Option<Reply<'_>>> {
    std::iter::from_fn(move || {
        if datagram.is_empty() {
            return None;
        }
        let reply = first_reply(datagram);
        datagram = match &reply {
            Some((_, length)) => datagram
                .get(length.next_multiple_of(4)..)
                .unwrap_or_default(),
            None => &[],
        };
        Some(reply.map(|(reply, _)| reply))
    })
}

fn first_reply(datagram: &[u8]) -> Option<(Reply<'_>, usize)> {
    let header = datagram.get(..NLMSG_HEADER)?;
    let length = u32::from_ne_bytes(header[0..4].try_into().ok()?) as usize;
    let payload = datagram.get(NLMSG_HEADER..length)?;
    let kind = u16::from_ne_bytes([header[4], header[5]]);
    let sequence = u32::from_ne_bytes(header[8..12].try_into().ok()?);
    Some((
        Reply {
            kind,
            sequence,
            payload,
        },
        length,
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_has_the_layout_of_the_headers() {
        let mut request = Request::new(6, 9, Some(Family::V4), 4);
        request.u8(1, 6).text(2, "A").nest(7, |data| {
            data.u16_be(4, 80);
        });
        // linux/netlink.h: length, type, flags, sequence, port; nfnetlink.h: family, version, id;
        // each attribute: length, kind, value, padding to 4.
        let expected = [
            &48_u32.to_ne_bytes()[..],
            &0x0609_u16.to_ne_bytes(),
            &5_u16.to_ne_bytes(),
            &7_u32.to_ne_bytes(),
            &[0; 4],
            &[2, 0, 0, 0],
            &5_u16.to_ne_bytes(),
            &1_u16.to_ne_bytes(),
            &[6, 0, 0, 0],
            &6_u16.to_ne_bytes(),
            &2_u16.to_ne_bytes(),
            &[b'A', 0, 0, 0],
            &12_u16.to_ne_bytes(),
            &0x8007_u16.to_ne_bytes(),
            &6_u16.to_ne_bytes(),
            &0x4004_u16.to_ne_bytes(),
            &[0, 80, 0, 0],
        ]
        .concat();
        assert_eq!(request.finish(7), expected);
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes: Vec<u8>) {
            for attribute in Attributes(&bytes) {
                let _ = (attribute.text(), attribute.address(), attribute.nested().count());
            }
            prop_assert!(replies(&bytes).count() <= bytes.len());
        }
    }
}
