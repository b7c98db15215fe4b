//! The rest of the interface: connection synchronisation, timeouts, general information.

use std::fmt;
use std::net::IpAddr;

use crate::abi;
use crate::attribute::Attribute;
use crate::name::InterfaceName;

/// Which of the two synchronisation daemons (`IP_VS_STATE_*` of `linux/ip_vs.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DaemonState {
    /// Sends connections; `ipvsadm --start-daemon master`.
    Master,
    /// Receives connections; `ipvsadm --start-daemon backup`.
    Backup,
}

impl DaemonState {
    /// The kernel's number.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Master => abi::daemon_state::IP_VS_STATE_MASTER,
            Self::Backup => abi::daemon_state::IP_VS_STATE_BACKUP,
        }
    }

    /// The state with the kernel's number.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            abi::daemon_state::IP_VS_STATE_MASTER => Some(Self::Master),
            abi::daemon_state::IP_VS_STATE_BACKUP => Some(Self::Backup),
            _ => None,
        }
    }
}

impl fmt::Display for DaemonState {
    /// `master` or `backup`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Master => "master",
            Self::Backup => "backup",
        })
    }
}

/// A synchronisation daemon. What is `None` the kernel chooses.
///
/// Equivalent to the arguments of `ipvsadm --start-daemon`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daemon {
    /// Sender or receiver.
    pub state: DaemonState,
    /// Interface of the multicast; `--mcast-interface`.
    pub interface: InterfaceName,
    /// Group of directors, 0–255; 0 takes all; `--syncid`.
    pub sync_id: u32,
    /// Longest message in bytes; `--sync-maxlen`. Linux ≥ 4.3, as the rest.
    pub max_len: Option<u16>,
    /// Multicast group; `--mcast-group`.
    pub group: Option<IpAddr>,
    /// UDP port, in host order on the wire too; `--mcast-port`.
    pub port: Option<u16>,
    /// Time to live in hops; `--mcast-ttl`.
    pub ttl: Option<u8>,
}

impl Daemon {
    /// A daemon for which the kernel chooses group, port, length and time to live.
    #[must_use]
    pub const fn new(state: DaemonState, interface: InterfaceName, sync_id: u32) -> Self {
        Self {
            state,
            interface,
            sync_id,
            max_len: None,
            group: None,
            port: None,
            ttl: None,
        }
    }
}

impl fmt::Display for Daemon {
    /// The arguments of `ipvsadm --start-daemon`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (state, interface) = (self.state, &self.interface);
        write!(
            f,
            "{state} --mcast-interface {interface} --syncid {}",
            self.sync_id
        )?;
        if let Some(max_len) = self.max_len {
            write!(f, " --sync-maxlen {max_len}")?;
        }
        if let Some(group) = self.group {
            write!(f, " --mcast-group {group}")?;
        }
        if let Some(port) = self.port {
            write!(f, " --mcast-port {port}")?;
        }
        if let Some(ttl) = self.ttl {
            write!(f, " --mcast-ttl {ttl}")?;
        }
        Ok(())
    }
}

/// A synchronisation daemon as the kernel reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DaemonEntry {
    /// Its configuration.
    pub daemon: Daemon,
    /// What this version of the crate does not understand, as it came.
    pub unknown: Vec<Attribute>,
}

/// Lives of connections by protocol, in seconds; 0 leaves a value as it is.
///
/// Equivalent to `ipvsadm --set TCP TCPFIN UDP`; the kernel starts with 900, 120, 300.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timeouts {
    /// Established TCP connections, seconds.
    pub tcp: u32,
    /// TCP connections after a FIN, seconds.
    pub tcp_fin: u32,
    /// UDP, seconds.
    pub udp: u32,
}

impl fmt::Display for Timeouts {
    /// The arguments of `ipvsadm --set`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.tcp, self.tcp_fin, self.udp)
    }
}

/// What `IPVS_CMD_GET_INFO` tells (`struct ip_vs_getinfo` of `linux/ip_vs.h`).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Info {
    /// Version of IPVS, `(1, 2, 1)` on every kernel since 2008.
    pub version: (u8, u8, u8),
    /// Buckets of the connection table; from Linux 7.1 on its present size, 0 without services.
    pub connection_table_size: u32,
    /// What this version of the crate does not understand, as it came.
    pub unknown: Vec<Attribute>,
}
