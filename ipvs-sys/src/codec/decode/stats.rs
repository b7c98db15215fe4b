//! The nests of counters.

use super::keep;
use crate::abi::attr::stats;
use crate::attribute::{Attribute, Nest};
use crate::codec::DecodeError;
use crate::codec::read::{Attr, attributes};
use crate::stats::Stats;

/// Both nests of counters; the one of 64 bits wins.
#[derive(Default)]
pub(super) struct Counters {
    narrow: Option<Stats>,
    wide: Option<Stats>,
}

impl Counters {
    pub(super) fn read_32(
        &mut self,
        nest: &Attr<'_>,
        unknown: &mut Vec<Attribute>,
    ) -> Result<(), DecodeError> {
        self.narrow = Some(read_stats(nest.value, Nest::Stats, unknown)?);
        Ok(())
    }

    pub(super) fn read_64(
        &mut self,
        nest: &Attr<'_>,
        unknown: &mut Vec<Attribute>,
    ) -> Result<(), DecodeError> {
        self.wide = Some(read_stats(nest.value, Nest::Stats64, unknown)?);
        Ok(())
    }

    pub(super) fn finish(&self) -> Stats {
        self.wide.or(self.narrow).unwrap_or_default()
    }
}

/// Reads either nest: byte counters have 64 bits in both, the rest 32 or 64.
fn read_stats(
    nest: &[u8],
    place: Nest,
    unknown: &mut Vec<Attribute>,
) -> Result<Stats, DecodeError> {
    let mut read = Stats::default();
    for attribute in attributes(nest) {
        let a = attribute?;
        let value = || match a.value.len() {
            4 => a.u32("IPVS_STATS_ATTR").map(u64::from),
            _ => a.u64("IPVS_STATS_ATTR"),
        };
        match a.kind {
            stats::IPVS_STATS_ATTR_CONNS => read.conns = value()?,
            stats::IPVS_STATS_ATTR_INPKTS => read.in_packets = value()?,
            stats::IPVS_STATS_ATTR_OUTPKTS => read.out_packets = value()?,
            stats::IPVS_STATS_ATTR_INBYTES => read.in_bytes = value()?,
            stats::IPVS_STATS_ATTR_OUTBYTES => read.out_bytes = value()?,
            stats::IPVS_STATS_ATTR_CPS => read.cps = value()?,
            stats::IPVS_STATS_ATTR_INPPS => read.in_pps = value()?,
            stats::IPVS_STATS_ATTR_OUTPPS => read.out_pps = value()?,
            stats::IPVS_STATS_ATTR_INBPS => read.in_bps = value()?,
            stats::IPVS_STATS_ATTR_OUTBPS => read.out_bps = value()?,
            stats::IPVS_STATS_ATTR_PAD => {}
            _ => unknown.push(keep(place, &a)),
        }
    }
    Ok(read)
}
