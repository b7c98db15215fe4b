//! Virtual services: what is written (`Service`) and what is read back (`ServiceEntry`).

use std::fmt;

use bitflags::bitflags;

use crate::attribute::Attribute;
use crate::key::{Family, ServiceKey};
use crate::name::{PeName, SchedulerName};
use crate::stats::Stats;

bitflags! {
    /// `IP_VS_SVC_F_*` of `linux/ip_vs.h`. Bits without a name are sent, kept and given back.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
    pub struct ServiceFlags: u32 {
        /// `IP_VS_SVC_F_PERSISTENT`: a client stays with its destination; `ipvsadm -p`.
        const PERSISTENT = 0x01;
        /// `IP_VS_SVC_F_HASHED`: set by the kernel alone, and taken off what is read.
        const HASHED = 0x02;
        /// `IP_VS_SVC_F_ONEPACKET`: every packet is scheduled anew, UDP only; `ipvsadm -o`.
        const ONE_PACKET = 0x04;
        /// `IP_VS_SVC_F_SCHED1`: the first flag of the scheduler.
        const SCHED1 = 0x08;
        /// `IP_VS_SVC_F_SCHED2`: the second flag of the scheduler.
        const SCHED2 = 0x10;
        /// `IP_VS_SVC_F_SCHED3`: the third flag of the scheduler.
        const SCHED3 = 0x20;
        /// Whatever a kernel may add.
        const _ = !0;
    }
}

impl ServiceFlags {
    /// `IP_VS_SVC_F_SCHED_SH_FALLBACK`: clients of a destination of weight 0 go to another one;
    /// `ipvsadm -b sh-fallback`.
    pub const SH_FALLBACK: Self = Self::SCHED1;
    /// `IP_VS_SVC_F_SCHED_SH_PORT`: the source port is hashed too; `ipvsadm -b sh-port`.
    pub const SH_PORT: Self = Self::SCHED2;
    /// `IP_VS_SVC_F_SCHED_MH_FALLBACK`: as [`Self::SH_FALLBACK`]; `ipvsadm -b mh-fallback`.
    pub const MH_FALLBACK: Self = Self::SCHED1;
    /// `IP_VS_SVC_F_SCHED_MH_PORT`: as [`Self::SH_PORT`]; `ipvsadm -b mh-port`.
    pub const MH_PORT: Self = Self::SCHED2;
}

/// The configuration of a virtual service. Two are equal when the kernel would treat them alike.
///
/// Equivalent to the arguments of `ipvsadm -A`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// What the kernel finds it by.
    pub key: ServiceKey,
    /// Who picks a destination for a new connection; `ipvsadm -s`.
    pub scheduler: SchedulerName,
    /// Persistence, one-packet scheduling, scheduler flags. `HASHED` is never sent.
    pub flags: ServiceFlags,
    /// Seconds for which a client without connections stays with its destination; `ipvsadm -p`.
    pub timeout: u32,
    /// Bits of the client's address that persistence looks at, 1–32 or 1–128; `ipvsadm -M`.
    pub netmask: u8,
    /// The persistence engine; `ipvsadm --pe`. A change without it removes it.
    pub pe_name: Option<PeName>,
}

impl Service {
    /// A service that is not persistent; equivalent to `ipvsadm -A KEY -s SCHEDULER`.
    #[must_use]
    pub const fn new(key: ServiceKey, scheduler: SchedulerName) -> Self {
        Self {
            key,
            scheduler,
            flags: ServiceFlags::empty(),
            timeout: 0,
            netmask: key.family().bits(),
            pe_name: None,
        }
    }

    /// Replaces the flags.
    #[must_use]
    pub const fn with_flags(mut self, flags: ServiceFlags) -> Self {
        self.flags = flags;
        self
    }

    /// Makes it persistent for `seconds`; `ipvsadm -p SECONDS`.
    #[must_use]
    pub const fn with_persistence(mut self, seconds: u32) -> Self {
        self.flags = self.flags.union(ServiceFlags::PERSISTENT);
        self.timeout = seconds;
        self
    }

    /// Groups clients by the first `bits` of their address; `ipvsadm -M`.
    #[must_use]
    pub const fn with_netmask(mut self, bits: u8) -> Self {
        self.netmask = bits;
        self
    }

    /// Sets the persistence engine; `ipvsadm --pe NAME`.
    #[must_use]
    pub fn with_pe_name(mut self, name: PeName) -> Self {
        self.pe_name = Some(name);
        self
    }
}

impl fmt::Display for Service {
    /// As `ipvsadm -S` writes it: `-t 10.96.0.10:53 -s wrr -p 10800`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -s {}", self.key, self.scheduler)?;
        if self.flags.contains(ServiceFlags::PERSISTENT) {
            write!(f, " -p {}", self.timeout)?;
            match self.key.family() {
                family if self.netmask == family.bits() => {}
                Family::Inet => write!(f, " -M {}", v4_mask(self.netmask))?,
                Family::Inet6 => write!(f, " -M {}", self.netmask)?,
            }
        }
        if let Some(name) = &self.pe_name {
            write!(f, " --pe {name}")?;
        }
        if self.flags.contains(ServiceFlags::ONE_PACKET) {
            f.write_str(" -o")?;
        }
        self.fmt_scheduler_flags(f)
    }
}

impl Service {
    /// `-b sh-fallback,sh-port`, or `flag-1` to `flag-3` for schedulers whose flags have no names.
    fn fmt_scheduler_flags(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = match self.scheduler.as_str() {
            "sh" => ["sh-fallback", "sh-port", "flag-3"],
            "mh" => ["mh-fallback", "mh-port", "flag-3"],
            _ => ["flag-1", "flag-2", "flag-3"],
        };
        let flags = [
            ServiceFlags::SCHED1,
            ServiceFlags::SCHED2,
            ServiceFlags::SCHED3,
        ];
        let mut before = " -b ";
        for (flag, name) in flags.into_iter().zip(names) {
            if self.flags.contains(flag) {
                write!(f, "{before}{name}")?;
                before = ",";
            }
        }
        Ok(())
    }
}

/// The mask of so many leading bits, at most 32.
pub(crate) fn v4_mask(bits: u8) -> std::net::Ipv4Addr {
    let ones = u32::from(bits).min(32);
    std::net::Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - ones).unwrap_or(0))
}

/// A virtual service as the kernel reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceEntry {
    /// Its configuration, `HASHED` taken off the flags.
    pub service: Service,
    /// Its counters and rates; refreshed by the kernel every two seconds.
    pub stats: Stats,
    /// What this version of the crate does not understand, as it came. An IPv4 netmask with holes
    /// is here too, since [`Service::netmask`] can only count its leading ones.
    pub unknown: Vec<Attribute>,
}

impl ServiceEntry {
    /// An entry without counters, for tests and fakes.
    #[must_use]
    pub fn new(service: Service) -> Self {
        Self {
            service,
            stats: Stats::default(),
            unknown: Vec::new(),
        }
    }
}
