//! Destinations (real servers) and how packets get to them.

use std::fmt;

use bitflags::bitflags;

use crate::abi;
use crate::attribute::Attribute;
use crate::key::DestinationKey;
use crate::stats::Stats;

bitflags! {
    /// `IP_VS_TUNNEL_ENCAP_FLAG_*` of `linux/ip_vs.h`, `u16` in host order on the wire.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
    pub struct TunnelFlags: u16 {
        /// `IP_VS_TUNNEL_ENCAP_FLAG_CSUM`: the outer header carries a checksum; `--tun-csum`.
        const CHECKSUM = 1;
        /// `IP_VS_TUNNEL_ENCAP_FLAG_REMCSUM`: remote checksum offload, GUE only; `--tun-remcsum`.
        const REMOTE_CHECKSUM = 2;
        /// Whatever a kernel may add.
        const _ = !0;
    }
}

/// The encapsulation of a tunnel (`IP_VS_CONN_F_TUNNEL_TYPE_*` of `linux/ip_vs.h`), Linux ≥ 5.3;
/// older kernels ignore it and use IP in IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tunnel {
    /// IP in IP; `--tun-type ipip`.
    Ipip {
        /// Has no meaning here; kept as it is read.
        flags: TunnelFlags,
    },
    /// Generic UDP encapsulation; `--tun-type gue`.
    Gue {
        /// UDP port at the real server, not 0; `--tun-port`.
        port: u16,
        /// Checksums.
        flags: TunnelFlags,
    },
    /// Generic routing encapsulation; `--tun-type gre`.
    Gre {
        /// Checksums.
        flags: TunnelFlags,
    },
    /// A type that this crate does not know. Sending is refused, since old kernels take any.
    Other {
        /// The kernel's number.
        kind: u8,
        /// As it came, in host order here.
        port: u16,
        /// As they came.
        flags: TunnelFlags,
    },
}

impl Default for Tunnel {
    /// IP in IP.
    fn default() -> Self {
        Self::Ipip {
            flags: TunnelFlags::empty(),
        }
    }
}

impl Tunnel {
    /// The kernel's number.
    #[must_use]
    pub const fn kind(&self) -> u8 {
        match self {
            Self::Ipip { .. } => abi::tunnel::IP_VS_CONN_F_TUNNEL_TYPE_IPIP,
            Self::Gue { .. } => abi::tunnel::IP_VS_CONN_F_TUNNEL_TYPE_GUE,
            Self::Gre { .. } => abi::tunnel::IP_VS_CONN_F_TUNNEL_TYPE_GRE,
            Self::Other { kind, .. } => *kind,
        }
    }

    /// The UDP port of GUE; 0 without one.
    #[must_use]
    pub const fn port(&self) -> u16 {
        match self {
            Self::Ipip { .. } | Self::Gre { .. } => 0,
            Self::Gue { port, .. } | Self::Other { port, .. } => *port,
        }
    }

    /// The checksum flags.
    #[must_use]
    pub const fn flags(&self) -> TunnelFlags {
        match self {
            Self::Ipip { flags }
            | Self::Gue { flags, .. }
            | Self::Gre { flags }
            | Self::Other { flags, .. } => *flags,
        }
    }
}

impl fmt::Display for Tunnel {
    /// As `ipvsadm -S` writes it: `--tun-type gue --tun-port 5555 --tun-csum`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipip { .. } => return f.write_str("--tun-type ipip"),
            Self::Gue { port, .. } => write!(f, "--tun-type gue --tun-port {port}")?,
            Self::Gre { .. } => f.write_str("--tun-type gre")?,
            Self::Other { kind, .. } => write!(f, "--tun-type {kind}")?,
        }
        if self.flags().contains(TunnelFlags::CHECKSUM) {
            f.write_str(" --tun-csum")
        } else if self.flags().contains(TunnelFlags::REMOTE_CHECKSUM) {
            f.write_str(" --tun-remcsum")
        } else {
            f.write_str(" --tun-nocsum")
        }
    }
}

/// How packets get to a destination: the low three bits of `IPVS_DEST_ATTR_FWD_METHOD`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ForwardMethod {
    /// Address translation; `ipvsadm -m`.
    Masquerade,
    /// The node itself (`IP_VS_CONN_F_LOCALNODE`); `ipvsadm` has no option for it.
    Local,
    /// Encapsulation; `ipvsadm -i`. The real server holds the virtual address.
    Tunnel(Tunnel),
    /// Only the link-layer address changes; `ipvsadm -g`. The real server holds the virtual address.
    DirectRoute,
    /// Straight to the packet's destination (`IP_VS_CONN_F_BYPASS`); `ipvsadm` has no option for it.
    Bypass,
    /// A number that this crate does not know. Sending is refused, since the kernel takes any.
    Other(u32),
}

impl ForwardMethod {
    /// The kernel's number.
    #[must_use]
    pub const fn number(&self) -> u32 {
        match self {
            Self::Masquerade => abi::forward::IP_VS_CONN_F_MASQ,
            Self::Local => abi::forward::IP_VS_CONN_F_LOCALNODE,
            Self::Tunnel(_) => abi::forward::IP_VS_CONN_F_TUNNEL,
            Self::DirectRoute => abi::forward::IP_VS_CONN_F_DROUTE,
            Self::Bypass => abi::forward::IP_VS_CONN_F_BYPASS,
            Self::Other(number) => *number,
        }
    }
}

impl fmt::Display for ForwardMethod {
    /// The option of `ipvsadm`: `-m`, `-i`, `-g`; a word in brackets where it has none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Masquerade => f.write_str("-m"),
            Self::Tunnel(_) => f.write_str("-i"),
            Self::DirectRoute => f.write_str("-g"),
            Self::Local => f.write_str("(local)"),
            Self::Bypass => f.write_str("(bypass)"),
            Self::Other(number) => write!(f, "(method {number})"),
        }
    }
}

/// The configuration of a destination.
///
/// Equivalent to the arguments of `ipvsadm -a`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Destination {
    /// What the kernel finds it by within its service.
    pub key: DestinationKey,
    /// How packets get there.
    pub forward: ForwardMethod,
    /// Share of new connections, up to [`MAX_WEIGHT`](crate::MAX_WEIGHT); 0 gets none; `ipvsadm -w`.
    pub weight: u32,
    /// Connections at which no more are given to it; 0 is no limit; `ipvsadm -x`.
    pub upper_threshold: u32,
    /// Connections below which it gets new ones again; 0 is three quarters of the upper threshold;
    /// `ipvsadm -y`.
    pub lower_threshold: u32,
}

impl Destination {
    /// A destination of weight 1 without thresholds; equivalent to `ipvsadm -a … -r KEY`.
    #[must_use]
    pub const fn new(key: DestinationKey, forward: ForwardMethod) -> Self {
        Self {
            key,
            forward,
            weight: 1,
            upper_threshold: 0,
            lower_threshold: 0,
        }
    }

    /// Sets the weight; `ipvsadm -w`.
    #[must_use]
    pub const fn with_weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// Sets both thresholds, in connections; `ipvsadm -x UPPER -y LOWER`.
    #[must_use]
    pub const fn with_thresholds(mut self, upper: u32, lower: u32) -> Self {
        self.upper_threshold = upper;
        self.lower_threshold = lower;
        self
    }
}

impl fmt::Display for Destination {
    /// As `ipvsadm -S` writes it, and the thresholds, which that forgets:
    /// `-r 10.2.0.2:80 -m -w 1 -x 100 -y 50`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "-r {} {} -w {}", self.key, self.forward, self.weight)?;
        if let ForwardMethod::Tunnel(tunnel) = &self.forward {
            write!(f, " {tunnel}")?;
        }
        if self.upper_threshold != 0 {
            write!(f, " -x {}", self.upper_threshold)?;
        }
        if self.lower_threshold != 0 {
            write!(f, " -y {}", self.lower_threshold)?;
        }
        Ok(())
    }
}

/// A destination as the kernel reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DestinationEntry {
    /// Its configuration.
    pub destination: Destination,
    /// Connections that are established.
    pub active: u32,
    /// Connections in any other state.
    pub inactive: u32,
    /// Clients that persistence ties to it.
    pub persistent: u32,
    /// Its counters and rates; refreshed by the kernel every two seconds.
    pub stats: Stats,
    /// What this version of the crate does not understand, as it came.
    pub unknown: Vec<Attribute>,
}

impl DestinationEntry {
    /// An entry without connections and counters, for tests and fakes.
    #[must_use]
    pub fn new(destination: Destination) -> Self {
        Self {
            destination,
            active: 0,
            inactive: 0,
            persistent: 0,
            stats: Stats::default(),
            unknown: Vec::new(),
        }
    }
}
