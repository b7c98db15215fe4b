//! Deletion of conntrack entries (`linux/netfilter/nfnetlink_conntrack.h`).

use std::collections::BTreeMap;
use std::net::IpAddr;

use netlink_packet_core::NLA_F_NESTED;
use rustix::io::Errno;

use super::nfnetlink::{Attributes, Counters, NfnlSocket, Outcome, Request, WireError};
use crate::model::{Family, Protocol};

/// One direction of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub src_port: u16,
    pub dst_port: u16,
}

/// A flow, as its first packet went and as answers come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    pub original: Tuple,
    pub reply: Tuple,
}

/// A conntrack request that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {act}")]
    Wire {
        act: &'static str,
        #[source]
        source: WireError,
    },
    /// A number of `errno.h`.
    #[error("cannot delete a conntrack entry: {}", std::io::Error::from_raw_os_error(*.0))]
    Delete(i32),
    #[error("the kernel threw answers away: not known whether conntrack entries were deleted")]
    Unknown,
}

/// A connection to the kernel's conntrack table in the network namespace where it was opened.
pub struct ConntrackClient {
    socket: NfnlSocket,
    deleted: BTreeMap<Family, u64>,
}

impl ConntrackClient {
    pub fn open() -> Result<Self, Error> {
        let socket = NfnlSocket::open();
        let socket = socket.map_err(|source| Error::Wire {
            act: "open a socket",
            source,
        })?;
        let deleted = BTreeMap::new();
        Ok(Self { socket, deleted })
    }

    pub fn counters(&self) -> Counters {
        self.socket.counters()
    }

    /// Flows deleted since it was opened.
    pub fn deleted(&self) -> &BTreeMap<Family, u64> {
        &self.deleted
    }

    /// Deletes the flows of a protocol that `stale` picks, and tells how many. One that ends
    /// meanwhile is no error. Costs one dump of the family's table, then one request for each.
    pub fn delete_where(
        &mut self,
        family: Family,
        protocol: Protocol,
        stale: &mut dyn FnMut(&Flow) -> bool,
    ) -> Result<usize, Error> {
        let mut requests = Vec::new();
        self.socket
            .dump(
                SUBSYSTEM,
                CMD_GET,
                Some(family),
                |_| {},
                |answer| {
                    let picked = flow(answer, protocol).is_some_and(|flow| stale(&flow));
                    if picked {
                        requests.push(deletion(family, answer));
                    }
                },
            )
            .map_err(|source| Error::Wire {
                act: "read the conntrack table",
                source,
            })?;
        let outcomes = self.socket.batch(&requests).map_err(|source| Error::Wire {
            act: "delete conntrack entries",
            source,
        })?;
        let applied = |outcome: &&Outcome| **outcome == Outcome::Applied;
        let deleted = outcomes.iter().filter(applied).count();
        *self.deleted.entry(family).or_default() += deleted as u64;
        for outcome in outcomes {
            match outcome {
                Outcome::Failed(code) if code != Errno::NOENT.raw_os_error() => {
                    return Err(Error::Delete(code));
                }
                Outcome::Unknown => return Err(Error::Unknown),
                _ => {}
            }
        }
        Ok(deleted)
    }
}

/// Gives the kernel back what names the flow: its original tuple, id and zone, byte for byte.
fn deletion(family: Family, answer: &[u8]) -> Request {
    let mut request = Request::new(SUBSYSTEM, CMD_DELETE, Some(family), 0);
    for attribute in Attributes(answer) {
        match attribute.kind {
            CTA_TUPLE_ORIG => {
                request.raw(CTA_TUPLE_ORIG | NLA_F_NESTED, attribute.value);
            }
            CTA_ID | CTA_ZONE => {
                request.raw(attribute.kind, attribute.value);
            }
            _ => {}
        }
    }
    request
}

/// The flow in an answer, if it is of `protocol`.
fn flow(answer: &[u8], protocol: Protocol) -> Option<Flow> {
    let attributes = Attributes(answer);
    let original = tuple(attributes.find(CTA_TUPLE_ORIG)?.nested(), protocol)?;
    let reply = tuple(attributes.find(CTA_TUPLE_REPLY)?.nested(), protocol)?;
    Some(Flow { original, reply })
}

fn tuple(attributes: Attributes<'_>, protocol: Protocol) -> Option<Tuple> {
    let ports = attributes.find(CTA_TUPLE_PROTO)?.nested();
    if ports.find(CTA_PROTO_NUM)?.u8()? != protocol.number() {
        return None;
    }
    let addresses = attributes.find(CTA_TUPLE_IP)?.nested();
    let either = |v4, v6| addresses.find(v4).or_else(|| addresses.find(v6))?.address();
    Some(Tuple {
        src: either(CTA_IP_V4_SRC, CTA_IP_V6_SRC)?,
        dst: either(CTA_IP_V4_DST, CTA_IP_V6_DST)?,
        src_port: ports.find(CTA_PROTO_SRC_PORT)?.u16_be()?,
        dst_port: ports.find(CTA_PROTO_DST_PORT)?.u16_be()?,
    })
}

/// `NFNL_SUBSYS_CTNETLINK`
const SUBSYSTEM: u8 = 1;
const CMD_GET: u8 = 1;
const CMD_DELETE: u8 = 2;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
