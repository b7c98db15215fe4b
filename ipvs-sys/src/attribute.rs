//! Attributes that this version of the crate does not understand, kept as they came.

/// Where in a message an attribute stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Nest {
    /// The first level.
    Command,
    /// In `IPVS_CMD_ATTR_SERVICE`.
    Service,
    /// In `IPVS_CMD_ATTR_DEST`.
    Destination,
    /// In `IPVS_CMD_ATTR_DAEMON`.
    Daemon,
    /// In a `STATS` nest of 32-bit values.
    Stats,
    /// In a `STATS64` nest.
    Stats64,
}

/// An attribute as it came from the kernel (`struct nlattr` of `linux/netlink.h`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attribute {
    /// Where it stood.
    pub nest: Nest,
    /// Its number, with the flag bits `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER` if it had them.
    pub kind: u16,
    /// Its bytes without header and padding.
    pub value: Vec<u8>,
}
