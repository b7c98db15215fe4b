//! The numbers of the kernel's interface, under the names that its headers give them.
//!
//! Everything here is stable user-space ABI: `linux/ip_vs.h` for IPVS itself and
//! `linux/genetlink.h` for the controller that turns the family's name into a number.
//! Nothing else in the crate spells a number of the interface.

use netlink_packet_core::{NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN};

/// `IPVS_GENL_NAME`: the name of the generic netlink family (`linux/ip_vs.h`).
pub const IPVS_GENL_NAME: &str = "IPVS";
/// `IPVS_GENL_VERSION`: the version of the family (`linux/ip_vs.h`).
pub const IPVS_GENL_VERSION: u8 = 1;

macro_rules! numbers {
    ($($(#[$meta:meta])* $name:ident: $type:ty = $value:expr;)*) => {
        $($(#[$meta])* #[doc = concat!("`", stringify!($name), "` of `linux/ip_vs.h`.")]
        pub const $name: $type = $value;)*
    };
}

/// Commands of the family: the `cmd` byte of `struct genlmsghdr` (`linux/genetlink.h`).
pub mod cmd {
    numbers! {
        IPVS_CMD_NEW_SERVICE: u8 = 1;
        IPVS_CMD_SET_SERVICE: u8 = 2;
        IPVS_CMD_DEL_SERVICE: u8 = 3;
        IPVS_CMD_GET_SERVICE: u8 = 4;
        IPVS_CMD_NEW_DEST: u8 = 5;
        IPVS_CMD_SET_DEST: u8 = 6;
        IPVS_CMD_DEL_DEST: u8 = 7;
        IPVS_CMD_GET_DEST: u8 = 8;
        IPVS_CMD_NEW_DAEMON: u8 = 9;
        IPVS_CMD_DEL_DAEMON: u8 = 10;
        IPVS_CMD_GET_DAEMON: u8 = 11;
        IPVS_CMD_SET_CONFIG: u8 = 12;
        IPVS_CMD_GET_CONFIG: u8 = 13;
        IPVS_CMD_SET_INFO: u8 = 14;
        IPVS_CMD_GET_INFO: u8 = 15;
        IPVS_CMD_ZERO: u8 = 16;
        IPVS_CMD_FLUSH: u8 = 17;
    }
}

/// Attributes, one module a nest.
pub mod attr {
    /// The first level of every message.
    pub mod command {
        numbers! {
            IPVS_CMD_ATTR_SERVICE: u16 = 1;
            IPVS_CMD_ATTR_DEST: u16 = 2;
            IPVS_CMD_ATTR_DAEMON: u16 = 3;
            /// Seconds, `u32`.
            IPVS_CMD_ATTR_TIMEOUT_TCP: u16 = 4;
            /// Seconds, `u32`.
            IPVS_CMD_ATTR_TIMEOUT_TCP_FIN: u16 = 5;
            /// Seconds, `u32`.
            IPVS_CMD_ATTR_TIMEOUT_UDP: u16 = 6;
        }
    }

    /// The first level of the reply to `IPVS_CMD_GET_INFO`, a number space of its own.
    pub mod info {
        numbers! {
            IPVS_INFO_ATTR_VERSION: u16 = 1;
            IPVS_INFO_ATTR_CONN_TAB_SIZE: u16 = 2;
        }
    }

    /// Inside `IPVS_CMD_ATTR_SERVICE`.
    pub mod service {
        numbers! {
            IPVS_SVC_ATTR_AF: u16 = 1;
            IPVS_SVC_ATTR_PROTOCOL: u16 = 2;
            IPVS_SVC_ATTR_ADDR: u16 = 3;
            /// Network byte order.
            IPVS_SVC_ATTR_PORT: u16 = 4;
            IPVS_SVC_ATTR_FWMARK: u16 = 5;
            IPVS_SVC_ATTR_SCHED_NAME: u16 = 6;
            IPVS_SVC_ATTR_FLAGS: u16 = 7;
            /// Seconds.
            IPVS_SVC_ATTR_TIMEOUT: u16 = 8;
            /// A network-order mask for IPv4, a prefix length in bits for IPv6.
            IPVS_SVC_ATTR_NETMASK: u16 = 9;
            IPVS_SVC_ATTR_STATS: u16 = 10;
            IPVS_SVC_ATTR_PE_NAME: u16 = 11;
            IPVS_SVC_ATTR_STATS64: u16 = 12;
        }
    }

    /// Inside `IPVS_CMD_ATTR_DEST`.
    pub mod dest {
        numbers! {
            IPVS_DEST_ATTR_ADDR: u16 = 1;
            /// Network byte order.
            IPVS_DEST_ATTR_PORT: u16 = 2;
            IPVS_DEST_ATTR_FWD_METHOD: u16 = 3;
            IPVS_DEST_ATTR_WEIGHT: u16 = 4;
            IPVS_DEST_ATTR_U_THRESH: u16 = 5;
            IPVS_DEST_ATTR_L_THRESH: u16 = 6;
            IPVS_DEST_ATTR_ACTIVE_CONNS: u16 = 7;
            IPVS_DEST_ATTR_INACT_CONNS: u16 = 8;
            IPVS_DEST_ATTR_PERSIST_CONNS: u16 = 9;
            IPVS_DEST_ATTR_STATS: u16 = 10;
            IPVS_DEST_ATTR_ADDR_FAMILY: u16 = 11;
            IPVS_DEST_ATTR_STATS64: u16 = 12;
            IPVS_DEST_ATTR_TUN_TYPE: u16 = 13;
            /// Network byte order.
            IPVS_DEST_ATTR_TUN_PORT: u16 = 14;
            IPVS_DEST_ATTR_TUN_FLAGS: u16 = 15;
        }
    }

    /// Inside `IPVS_CMD_ATTR_DAEMON`.
    pub mod daemon {
        numbers! {
            IPVS_DAEMON_ATTR_STATE: u16 = 1;
            IPVS_DAEMON_ATTR_MCAST_IFN: u16 = 2;
            IPVS_DAEMON_ATTR_SYNC_ID: u16 = 3;
            /// Bytes.
            IPVS_DAEMON_ATTR_SYNC_MAXLEN: u16 = 4;
            IPVS_DAEMON_ATTR_MCAST_GROUP: u16 = 5;
            IPVS_DAEMON_ATTR_MCAST_GROUP6: u16 = 6;
            /// Host byte order, unlike the other ports of the interface.
            IPVS_DAEMON_ATTR_MCAST_PORT: u16 = 7;
            IPVS_DAEMON_ATTR_MCAST_TTL: u16 = 8;
        }
    }

    /// Inside the `STATS` and `STATS64` nests of services and destinations.
    pub mod stats {
        numbers! {
            IPVS_STATS_ATTR_CONNS: u16 = 1;
            IPVS_STATS_ATTR_INPKTS: u16 = 2;
            IPVS_STATS_ATTR_OUTPKTS: u16 = 3;
            IPVS_STATS_ATTR_INBYTES: u16 = 4;
            IPVS_STATS_ATTR_OUTBYTES: u16 = 5;
            IPVS_STATS_ATTR_CPS: u16 = 6;
            IPVS_STATS_ATTR_INPPS: u16 = 7;
            IPVS_STATS_ATTR_OUTPPS: u16 = 8;
            IPVS_STATS_ATTR_INBPS: u16 = 9;
            IPVS_STATS_ATTR_OUTBPS: u16 = 10;
            /// Aligns the 64-bit values on some architectures; carries nothing.
            IPVS_STATS_ATTR_PAD: u16 = 11;
        }
    }
}

/// The low three bits of `IPVS_DEST_ATTR_FWD_METHOD`.
pub mod forward {
    numbers! {
        IP_VS_CONN_F_FWD_MASK: u32 = 7;
        IP_VS_CONN_F_MASQ: u32 = 0;
        IP_VS_CONN_F_LOCALNODE: u32 = 1;
        IP_VS_CONN_F_TUNNEL: u32 = 2;
        IP_VS_CONN_F_DROUTE: u32 = 3;
        IP_VS_CONN_F_BYPASS: u32 = 4;
    }
}

/// Values of `IPVS_DEST_ATTR_TUN_TYPE`.
pub mod tunnel {
    numbers! {
        IP_VS_CONN_F_TUNNEL_TYPE_IPIP: u8 = 0;
        IP_VS_CONN_F_TUNNEL_TYPE_GUE: u8 = 1;
        IP_VS_CONN_F_TUNNEL_TYPE_GRE: u8 = 2;
    }
}

/// Values of `IPVS_DAEMON_ATTR_STATE`.
pub mod daemon_state {
    numbers! {
        IP_VS_STATE_MASTER: u32 = 1;
        IP_VS_STATE_BACKUP: u32 = 2;
    }
}

/// The generic netlink controller, which resolves the name of a family (`linux/genetlink.h`).
pub mod ctrl {
    /// `GENL_ID_CTRL`: the controller's own message type.
    pub const GENL_ID_CTRL: u16 = 16;
    /// `CTRL_CMD_NEWFAMILY`: the reply to a look-up.
    pub const CTRL_CMD_NEWFAMILY: u8 = 1;
    /// `CTRL_CMD_GETFAMILY`: look a family up by name; the kernel loads the module that has it.
    pub const CTRL_CMD_GETFAMILY: u8 = 3;
    /// `CTRL_ATTR_FAMILY_ID`, `u16`.
    pub const CTRL_ATTR_FAMILY_ID: u16 = 1;
    /// `CTRL_ATTR_FAMILY_NAME`, a string that ends in NUL.
    pub const CTRL_ATTR_FAMILY_NAME: u16 = 2;
    /// `GENL_HDRLEN`: bytes of `struct genlmsghdr`.
    pub const GENL_HDRLEN: usize = 4;
}

/// Attributes behind an `NLMSG_ERROR` (`enum nlmsgerr_attrs` of `linux/netlink.h`).
pub mod nlmsgerr {
    /// `NLMSGERR_ATTR_MSG`: the kernel's own words.
    pub const NLMSGERR_ATTR_MSG: u16 = 1;
    /// `NLM_F_CAPPED`: the payload of the request was not echoed.
    pub const NLM_F_CAPPED: u16 = 0x100;
    /// `NLM_F_ACK_TLVS`: attributes follow the echoed request.
    pub const NLM_F_ACK_TLVS: u16 = 0x200;
}

/// Message types below `NLMSG_MIN_TYPE` (`linux/netlink.h`), as `netlink-packet-core` has them.
pub mod nlmsg {
    /// `NLMSG_NOOP`.
    pub const NOOP: u16 = super::NLMSG_NOOP;
    /// `NLMSG_ERROR`.
    pub const ERROR: u16 = super::NLMSG_ERROR;
    /// `NLMSG_DONE`.
    pub const DONE: u16 = super::NLMSG_DONE;
    /// `NLMSG_OVERRUN`.
    pub const OVERRUN: u16 = super::NLMSG_OVERRUN;
}

/// `AF_INET` (`bits/socket.h`).
pub const AF_INET: u16 = 2;
/// `AF_INET6` (`bits/socket.h`).
pub const AF_INET6: u16 = 10;
/// Longest scheduler name in bytes: `IP_VS_SCHEDNAME_MAXLEN` (16) less the NUL.
pub const SCHED_NAME_MAX: usize = 15;
/// Longest persistence engine name in bytes: `IP_VS_PENAME_MAXLEN` of `linux/ip_vs.h`.
pub const PE_NAME_MAX: usize = 16;
/// Longest interface name in bytes: `IP_VS_IFNAME_MAXLEN` (16) less the NUL.
pub const IFNAME_MAX: usize = 15;
