//! Commands → bytes and bytes → entries. Pure.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::NLA_F_NET_BYTEORDER as NET;

use super::entry::{Entry, SetCommand, SetHeader, SetSpec, SetType};
use crate::model::{Family, Protocol, VipPort};
use crate::netfilter::nfnetlink::{Attribute, Attributes, Request};

/// The request of a command.
pub(super) fn request(command: &SetCommand) -> Request {
    match command {
        SetCommand::Create(spec) => create(spec),
        SetCommand::Destroy(name) => about(CMD_DESTROY, None, name.as_str(), 0),
        SetCommand::Add(name, entry) => adt(CMD_ADD, name.as_str(), entry),
        SetCommand::Delete(name, entry) => adt(CMD_DEL, name.as_str(), entry),
    }
}

/// Fills the request of a list: one set with its entries, or the headers of all.
pub(super) fn list(request: &mut Request, set: Option<&str>) {
    request.u8(ATTR_PROTOCOL, PROTOCOL);
    match set {
        Some(name) => request.text(ATTR_SETNAME, name),
        None => request.u32_be(ATTR_FLAGS, FLAG_LIST_HEADER),
    };
}

/// The header in an answer to a list.
pub(super) fn header(answer: &[u8]) -> Option<SetHeader> {
    let attributes = Attributes(answer);
    let data = attributes.find(ATTR_DATA);
    let references = data.and_then(|data| data.nested().find(ATTR_REFERENCES)?.u32_be());
    Some(SetHeader {
        name: attributes.find(ATTR_SETNAME)?.text()?.to_owned(),
        type_name: attributes.find(ATTR_TYPENAME)?.text()?.to_owned(),
        references: references.unwrap_or(0),
    })
}

/// The entries in an answer to a list. One that is of none of our types is left out.
pub(super) fn entries(answer: &[u8]) -> impl Iterator<Item = Entry> + '_ {
    Attributes(answer)
        .find(ATTR_ADT)
        .into_iter()
        .flat_map(|adt| adt.nested())
        .filter(|attribute| attribute.kind == ATTR_DATA)
        .filter_map(entry)
}

fn about(command: u8, family: Option<Family>, name: &str, flags: u16) -> Request {
    let mut request = Request::new(SUBSYSTEM, command, family, flags);
    request.u8(ATTR_PROTOCOL, PROTOCOL).text(ATTR_SETNAME, name);
    request
}

fn create(spec: &SetSpec) -> Request {
    let flags = netlink_packet_core::NLM_F_CREATE;
    let mut request = about(CMD_CREATE, Some(spec.family), spec.name.as_str(), flags);
    request
        .text(ATTR_TYPENAME, &spec.set_type.to_string())
        .u8(
            ATTR_REVISION,
            match spec.set_type {
                SetType::BitmapPort => BITMAP_REVISION,
                SetType::HashIpTimeout => HASH_IP_REVISION,
                _ => REVISION,
            },
        )
        .u8(ATTR_FAMILY, if spec.family == Family::V6 { 10 } else { 2 })
        .nest(ATTR_DATA, |data| {
            if spec.set_type == SetType::BitmapPort {
                data.u16_be(ATTR_PORT, 0).u16_be(ATTR_PORT_TO, u16::MAX);
                return;
            }
            data.u32_be(ATTR_MAXELEM, spec.max_elements);
            if spec.set_type.carries_marks() {
                data.u32_be(ATTR_CADT_FLAGS, FLAG_WITH_SKBINFO);
            }
            match spec.set_type {
                SetType::HashIpTimeout => _ = data.u32_be(ATTR_TIMEOUT, DEFAULT_TIMEOUT),
                SetType::HashIpPortTimeout(seconds) => _ = data.u32_be(ATTR_TIMEOUT, seconds),
                _ => {}
            }
        });
    request
}

fn adt(command: u8, name: &str, entry: &Entry) -> Request {
    let family = match entry {
        Entry::Port(_) => Family::V4,
        Entry::IpPort(vip)
        | Entry::IpPortSkbmark { vip, .. }
        | Entry::IpPortIp { vip, .. }
        | Entry::IpPortNet { vip, .. } => vip.family(),
        Entry::Net(net) => Family::of(net.addr()),
    };
    let mut request = about(command, Some(family), name, 0);
    request.nest(ATTR_DATA, |data| match entry {
        Entry::IpPort(vip) => tuple(data, vip),
        Entry::IpPortIp { vip, source } => {
            tuple(data, vip);
            address(data, ATTR_IP2, *source);
        }
        Entry::IpPortSkbmark { vip, mark } => {
            tuple(data, vip);
            // Mark and mask in one number. To add an entry that is there changes its mark, since
            // NLM_F_EXCL is not set.
            if command == CMD_ADD {
                let [m, mask] = [*mark, u32::MAX].map(u64::from);
                data.raw(ATTR_SKBMARK | NET, &(m << 32 | mask).to_be_bytes());
            }
        }
        Entry::IpPortNet { vip, net } => {
            tuple(data, vip);
            address(data, ATTR_IP2, net.network());
            data.u8(ATTR_CIDR2, net.prefix_len());
        }
        Entry::Port(port) => {
            data.u16_be(ATTR_PORT, *port);
        }
        Entry::Net(net) => {
            address(data, ATTR_IP, net.network());
            data.u8(ATTR_CIDR, net.prefix_len());
        }
    });
    request
}

fn tuple(data: &mut Request, vip: &VipPort) {
    address(data, ATTR_IP, vip.addr);
    data.u16_be(ATTR_PORT, vip.port)
        .u8(ATTR_PROTO, vip.protocol.number());
}

fn address(data: &mut Request, kind: u16, addr: IpAddr) {
    data.nest(kind, |nest| {
        match addr {
            IpAddr::V4(v4) => nest.raw(ATTR_IPADDR_IPV4 | NET, &v4.octets()),
            IpAddr::V6(v6) => nest.raw(ATTR_IPADDR_IPV6 | NET, &v6.octets()),
        };
    });
}

fn entry(data: Attribute<'_>) -> Option<Entry> {
    let attributes = data.nested();
    let address = |kind| {
        attributes
            .find(kind)?
            .nested()
            .find_map(|inner| match inner.kind {
                ATTR_IPADDR_IPV4 | ATTR_IPADDR_IPV6 => inner.address(),
                _ => None,
            })
    };
    let Some(addr) = address(ATTR_IP) else {
        let port = attributes.find(ATTR_PORT)?;
        return Some(Entry::Port(port.u16_be()?));
    };
    let Some(port) = attributes.find(ATTR_PORT) else {
        // The kernel leaves the length of a single address out.
        let length = attributes.find(ATTR_CIDR).and_then(|cidr| cidr.u8());
        let length = length.unwrap_or(Family::of(addr).host_prefix());
        return Some(Entry::Net(IpNet::new(addr, length).ok()?));
    };
    let protocol = match attributes.find(ATTR_PROTO)?.u8()? {
        6 => Protocol::Tcp,
        17 => Protocol::Udp,
        132 => Protocol::Sctp,
        _ => return None,
    };
    let vip = VipPort {
        addr,
        protocol,
        port: port.u16_be()?,
    };
    let length = attributes.find(ATTR_CIDR2).and_then(|cidr| cidr.u8());
    let mark = attributes.find(ATTR_SKBMARK);
    Some(match (address(ATTR_IP2), length, mark) {
        (Some(net), Some(length), _) => Entry::IpPortNet {
            vip,
            net: IpNet::new(net, length).ok()?,
        },
        (Some(source), None, _) => Entry::IpPortIp { vip, source },
        (None, _, Some(mark)) => Entry::IpPortSkbmark {
            vip,
            // The mask is the lower half; all of ours are whole.
            mark: u32::try_from(mark.u64_be()? >> 32).ok()?,
        },
        (None, _, None) => Entry::IpPort(vip),
    })
}

/// `NFNL_SUBSYS_IPSET`.
pub(super) const SUBSYSTEM: u8 = 6;
/// `IPSET_PROTOCOL_MIN`, which every kernel since 2.6.39 speaks.
const PROTOCOL: u8 = 6;
/// A revision of all types in use that every kernel since 4.0 has.
const REVISION: u8 = 5;
/// Of `hash:ip`.
const HASH_IP_REVISION: u8 = 4;
/// Of `bitmap:port`.
const BITMAP_REVISION: u8 = 3;

// enum ipset_cmd
const CMD_CREATE: u8 = 2;
const CMD_DESTROY: u8 = 3;
pub(super) const CMD_LIST: u8 = 7;
const CMD_ADD: u8 = 9;
const CMD_DEL: u8 = 10;

// Attributes at command level
const ATTR_PROTOCOL: u16 = 1;
const ATTR_SETNAME: u16 = 2;
const ATTR_TYPENAME: u16 = 3;
const ATTR_REVISION: u16 = 4;
const ATTR_FAMILY: u16 = 5;
const ATTR_FLAGS: u16 = 6;
const ATTR_DATA: u16 = 7;
const ATTR_ADT: u16 = 8;

// Attributes of data
const ATTR_IP: u16 = 1;
const ATTR_CIDR: u16 = 3;
const ATTR_PORT: u16 = 4;
const ATTR_PORT_TO: u16 = 5;
const ATTR_PROTO: u16 = 7;
const ATTR_TIMEOUT: u16 = 6;
const ATTR_CADT_FLAGS: u16 = 8;
/// Seconds, for entries that nobody gave a time: any but 0 makes the set have times at all.
const DEFAULT_TIMEOUT: u32 = 10_800;
const ATTR_MAXELEM: u16 = 19;
const ATTR_IP2: u16 = 20;
const ATTR_CIDR2: u16 = 21;
const ATTR_REFERENCES: u16 = 25;
const ATTR_SKBMARK: u16 = 27;

// Attributes of an address
const ATTR_IPADDR_IPV4: u16 = 1;
const ATTR_IPADDR_IPV6: u16 = 2;

/// `IPSET_FLAG_LIST_HEADER`
const FLAG_LIST_HEADER: u32 = 1 << 2;
/// `IPSET_FLAG_WITH_SKBINFO`
const FLAG_WITH_SKBINFO: u32 = 1 << 6;

#[cfg(test)]
mod tests;
