//! Counters and rates of services and destinations.

/// `struct ip_vs_stats_user` of `linux/ip_vs.h`, in 64 bits.
///
/// Taken from `STATS64` where the kernel sends it (Linux 4.1 and later); older kernels' 32-bit
/// counters, which wrap, are widened. Counters start at the creation or at the last `zero`;
/// the kernel refreshes all of them every two seconds, and never while `run_estimation` is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Stats {
    /// Connections scheduled.
    pub conns: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets to clients; only masquerading sees them.
    pub out_packets: u64,
    /// Bytes from clients.
    pub in_bytes: u64,
    /// Bytes to clients; only masquerading sees them.
    pub out_bytes: u64,
    /// New connections per second.
    pub cps: u64,
    /// Packets from clients per second.
    pub in_pps: u64,
    /// Packets to clients per second.
    pub out_pps: u64,
    /// Bytes (not bits) from clients per second.
    pub in_bps: u64,
    /// Bytes (not bits) to clients per second.
    pub out_bps: u64,
}
