//! What the kernel's netfilter has: set types, and tables of nftables.
//!
//! To ask for a type of set loads its module, as to make such a set does.

use std::collections::{BTreeMap, BTreeSet};

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

// linux/netfilter/nfnetlink.h, ipset/ip_set.h, nf_tables.h
const SUBSYS_IPSET: u8 = 6;
const CMD_TYPE: u8 = 13;
const ATTR_PROTOCOL: u16 = 1;
const ATTR_TYPENAME: u16 = 3;
const ATTR_FAMILY: u16 = 5;
const PROTOCOL: u8 = 6;
const INET: u8 = 2;
const SUBSYS_NFTABLES: u8 = 10;
const MSG_GETTABLE: u8 = 1;
const TABLE_NAME: u16 = 1;
const EPERM: i32 = rustix::io::Errno::PERM.raw_os_error();
const EINVAL: i32 = rustix::io::Errno::INVAL.raw_os_error();
const EOPNOTSUPP: i32 = rustix::io::Errno::OPNOTSUPP.raw_os_error();
