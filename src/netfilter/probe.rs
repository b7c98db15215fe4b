//! What the kernel's netfilter has: set types, and tables of nftables.
//!
//! To ask for a type of set loads its module, as to make such a set does.

use std::collections::{BTreeMap, BTreeSet};

use netlink_packet_core::NLM_F_CREATE;

use super::nfnetlink::{Attributes, NfnlSocket, Outcome, Request, WireError};
use crate::model::Family;

/// Whether the kernel has each of the types, by the names that `ipset` gives them.
pub fn set_types(names: BTreeSet<String>) -> Result<BTreeMap<String, bool>, WireError> {
    let mut socket = NfnlSocket::open()?;
    let mut found = BTreeMap::new();
    for name in names {
        let mut request = Request::new(SUBSYS_IPSET, CMD_TYPE, Some(Family::V4), 0);
        request
            .u8(ATTR_PROTOCOL, PROTOCOL)
            .text(ATTR_TYPENAME, &name)
            .u8(ATTR_FAMILY, INET);
        let outcomes = socket.batch(&[request])?;
        match outcomes.first() {
            Some(Outcome::Failed(EPERM)) => return Err(WireError::Refused(EPERM)),
            outcome => found.insert(name, outcome == Some(&Outcome::Applied)),
        };
    }
    Ok(found)
}

/// The names of all tables of nftables in this network namespace; none in a kernel without it.
pub fn nft_tables() -> Result<BTreeSet<String>, WireError> {
    let mut names = BTreeSet::new();
    let dump = NfnlSocket::open()?.dump(
        SUBSYS_NFTABLES,
        MSG_GETTABLE,
        None,
        |_| {},
        |answer| {
            let name = Attributes(answer).find(TABLE_NAME);
            names.extend(name.and_then(|name| name.text().map(str::to_owned)));
        },
    );
    match dump {
        Ok(()) | Err(WireError::Refused(EINVAL | EOPNOTSUPP)) => Ok(names),
        Err(error) => Err(error),
    }
}

/// Whether nftables takes tables of a family, as a kernel that was built with little of it does not. Nothing is made:
/// it is asked by a batch without an end, which the kernel looks at and takes back (as for `nft --check`).
pub fn takes_nft_tables(family: Family) -> Result<bool, WireError> {
    let mut begin = Request::new(NO_SUBSYS, MSG_BATCH_BEGIN, None, 0);
    begin.resource(u16::from(SUBSYS_NFTABLES));
    let mut table = Request::new(SUBSYS_NFTABLES, MSG_NEWTABLE, Some(family), NLM_F_CREATE);
    table.text(TABLE_NAME, "ipvs-agent-probe");
    let outcomes = NfnlSocket::open()?.batch(&[begin, table])?;
    let refused = outcomes.iter().find_map(|outcome| match outcome {
        Outcome::Failed(error) => Some(*error),
        Outcome::Applied | Outcome::Unknown => None,
    });
    match refused {
        None => Ok(true),
        Some(EINVAL | EOPNOTSUPP | EAFNOSUPPORT) => Ok(false),
        Some(error) => Err(WireError::Refused(error)),
    }
}

// linux/netfilter/nfnetlink.h, ipset/ip_set.h, nf_tables.h
const SUBSYS_IPSET: u8 = 6;
const CMD_TYPE: u8 = 13;
const ATTR_PROTOCOL: u16 = 1;
const ATTR_TYPENAME: u16 = 3;
const ATTR_FAMILY: u16 = 5;
const PROTOCOL: u8 = 6;
const INET: u8 = 2;
const SUBSYS_NFTABLES: u8 = 10;
const NO_SUBSYS: u8 = 0;
const MSG_BATCH_BEGIN: u8 = 0x10;
const MSG_NEWTABLE: u8 = 0;
const MSG_GETTABLE: u8 = 1;
const TABLE_NAME: u16 = 1;
const EPERM: i32 = rustix::io::Errno::PERM.raw_os_error();
const EAFNOSUPPORT: i32 = rustix::io::Errno::AFNOSUPPORT.raw_os_error();
const EINVAL: i32 = rustix::io::Errno::INVAL.raw_os_error();
const EOPNOTSUPP: i32 = rustix::io::Errno::OPNOTSUPP.raw_os_error();
