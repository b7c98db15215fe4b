//! The kernels that stories run on, and with which dataplane: a column of the conformance table each.

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::dataplane::Dataplane;

/// The kernels that scenarios run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kernel {
    /// User-Mode Linux 6.1 of Debian 12, with iptables-legacy
    Uml,
    /// Linux 6.12 in QEMU, emulated, with iptables-nft
    Qemu,
    /// The same with iptables-legacy
    QemuLegacy,
    /// This machine's own kernel, in namespaces, with iptables-legacy
    NativeLegacy,
    /// The same with iptables-nft
    NativeNft,
}

impl Kernel {
    pub const fn is_native(self) -> bool {
        matches!(self, Self::NativeLegacy | Self::NativeNft)
    }

    /// Whether every instruction of it is.
    pub const fn is_emulated(self) -> bool {
        matches!(self, Self::Qemu | Self::QemuLegacy)
    }

    /// The variant of iptables that nodes have.
    pub const fn iptables(self) -> &'static str {
        match self {
            Self::Uml | Self::QemuLegacy | Self::NativeLegacy => "legacy",
            Self::Qemu | Self::NativeNft => "nft",
        }
    }

    /// How many guests share stories unless somebody asks for another number.
    pub fn guests(self) -> usize {
        match self {
            // An emulated one keeps more than a processor busy, and boots for long.
            Self::Qemu | Self::QemuLegacy => 1,
            // One processor each, and half of the time it waits.
            Self::Uml | Self::NativeLegacy | Self::NativeNft => {
                1 + std::thread::available_parallelism().map_or(1, usize::from)
            }
        }
    }

    /// What the kernel is there for.
    const fn dataplane(self) -> Dataplane {
        if self.is_native() {
            Dataplane::Iptables
        } else {
            Dataplane::Ipvs
        }
    }

    /// As people know it.
    const fn title(self) -> &'static str {
        match self {
            Self::Uml => "Linux 6.1, User-Mode Linux",
            Self::Qemu | Self::QemuLegacy => "Linux 6.12, QEMU",
            Self::NativeLegacy | Self::NativeNft => "the machine's own Linux",
        }
    }
}

/// A kernel and the dataplane of the agents on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Platform {
    pub kernel: Kernel,
    pub dataplane: Dataplane,
}

impl Platform {
    /// The columns of the conformance table.
    pub const COLUMNS: [Self; 4] = [
        Self {
            kernel: Kernel::Uml,
            dataplane: Dataplane::Ipvs,
        },
        Self {
            kernel: Kernel::Qemu,
            dataplane: Dataplane::Ipvs,
        },
        Self {
            kernel: Kernel::NativeLegacy,
            dataplane: Dataplane::Iptables,
        },
        Self {
            kernel: Kernel::NativeNft,
            dataplane: Dataplane::Iptables,
        },
    ];

    /// With the dataplane that the kernel is there for, unless another one is wanted.
    pub fn new(kernel: Kernel, dataplane: Option<Dataplane>) -> Self {
        Self {
            kernel,
            dataplane: dataplane.unwrap_or(kernel.dataplane()),
        }
    }

    /// What its record is called.
    pub fn name(self) -> Result<String> {
        let kernel = self.kernel.to_possible_value().context("a hidden kernel")?;
        let kernel = kernel.get_name();
        Ok(if self.dataplane == self.kernel.dataplane() {
            kernel.to_owned()
        } else {
            format!("{kernel}-{}", self.dataplane.name())
        })
    }

    /// The head of its column.
    pub fn title(self) -> String {
        let by = match self.dataplane {
            Dataplane::Ipvs => "IPVS".to_owned(),
            Dataplane::Iptables => format!("iptables-{}", self.kernel.iptables()),
        };
        format!("{by}, {}", self.kernel.title())
    }

    /// Whether its kernel has sockets of SCTP. A guest has: one that had not would fail what asks over it.
    pub fn has_sctp(self) -> bool {
        !self.kernel.is_native() || super::native::has_sctp()
    }
}
