//! Counters that were read twice → rates.
//!
//! The kernel's counters stand still for two seconds at a time ([`REFRESH`]): its estimator then adds up
//! what the processors have counted. Two readings one second apart so see two seconds of traffic or
//! none, and their plain difference would flicker between double and nothing. A [`Meter`] divides by the
//! time that a difference stands for, and keeps a rate until the next refresh should have come.
//!
//! Counters may go back: a virtual server is zeroed, or deleted and made anew, or its counters have 32
//! bits (before Linux 4.1) and wrap.

use std::collections::BTreeMap;
use std::iter::Sum;
use std::ops::Add;
use std::time::Duration;

use ipvs_sys::Stats;

/// Per second.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rates {
    pub conns: f64,
    pub in_packets: f64,
    pub out_packets: f64,
    pub in_bytes: f64,
    pub out_bytes: f64,
}

impl Add for Rates {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            conns: self.conns + other.conns,
            in_packets: self.in_packets + other.in_packets,
            out_packets: self.out_packets + other.out_packets,
            in_bytes: self.in_bytes + other.in_bytes,
            out_bytes: self.out_bytes + other.out_bytes,
        }
    }
}

impl Sum for Rates {
    fn sum<I: Iterator<Item = Self>>(rates: I) -> Self {
        rates.fold(Self::default(), Add::add)
    }
}

/// The rates of things that are read again and again.
#[derive(Debug)]
pub struct Meter<K> {
    tracks: BTreeMap<K, Track>,
}

impl<K> Default for Meter<K> {
    fn default() -> Self {
        Self {
            tracks: BTreeMap::new(),
        }
    }
}

#[derive(Debug)]
struct Track {
    counters: Counters,
    /// Of the last reading.
    read: Duration,
    /// Up to when traffic has been counted: a reading that saw other counters, or none for so long that
    /// there was nothing.
    counted: Duration,
    rates: Option<Rates>,
    conns: u64,
}

impl<K: Ord + Copy> Meter<K> {
    /// Takes a reading at a moment of the caller's clock. What is not in it is forgotten.
    pub fn update<'a>(&mut self, at: Duration, reading: impl IntoIterator<Item = (K, &'a Stats)>) {
        let mut tracks = BTreeMap::new();
        for (key, stats) in reading {
            let counters = Counters::from(stats);
            let track = match self.tracks.remove(&key) {
                Some(track) => track.read_again(at, counters),
                None => Track::new(at, counters),
            };
            tracks.insert(key, track);
        }
        self.tracks = tracks;
    }

    /// Nothing before the second reading, or the second refresh where readings are closer.
    pub fn rates(&self, key: &K) -> Option<Rates> {
        self.tracks.get(key)?.rates
    }

    /// Connections scheduled since the first reading.
    pub fn conns(&self, key: &K) -> u64 {
        self.tracks.get(key).map_or(0, |track| track.conns)
    }
}

impl Track {
    const fn new(at: Duration, counters: Counters) -> Self {
        Self {
            counters,
            read: at,
            counted: at,
            rates: None,
            conns: 0,
        }
    }

    fn read_again(self, at: Duration, now: Counters) -> Self {
        let elapsed = at.saturating_sub(self.read);
        let since_counted = at.saturating_sub(self.counted);
        let difference = now.since(&self.counters);
        let (rates, counted) = if difference == Counters::default() {
            if since_counted > REFRESH + LATE {
                (Some(Rates::default()), at)
            } else {
                (self.rates, self.counted)
            }
        } else {
            // Closer readings than refreshes see at most one.
            let stands_for = if elapsed < REFRESH {
                REFRESH
            } else {
                since_counted
            };
            (Some(difference.per(stands_for)), at)
        };
        Self {
            counters: now,
            read: at,
            counted,
            rates,
            conns: self.conns + difference.0[0],
        }
    }
}

/// Connections, packets in and out, bytes in and out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Counters([u64; 5]);

impl From<&Stats> for Counters {
    fn from(stats: &Stats) -> Self {
        Self([
            stats.conns,
            stats.in_packets,
            stats.out_packets,
            stats.in_bytes,
            stats.out_bytes,
        ])
    }
}

impl Counters {
    /// What was counted in between. If any counter has begun again, all have, and what they show now is
    /// what was counted since.
    fn since(&self, before: &Self) -> Self {
        let mut difference = Self::default();
        for ((to, now), before) in difference.0.iter_mut().zip(self.0).zip(before.0) {
            match counted(before, now) {
                Some(counted) => *to = counted,
                None => return *self,
            }
        }
        difference
    }

    fn per(&self, time: Duration) -> Rates {
        let [conns, in_packets, out_packets, in_bytes, out_bytes] =
            self.0.map(|count| count as f64 / time.as_secs_f64());
        Rates {
            conns,
            in_packets,
            out_packets,
            in_bytes,
            out_bytes,
        }
    }
}

/// The difference, over a wrap of 32 bits if that is less than half of the way round; nothing where the
/// counter has begun again.
fn counted(before: u64, now: u64) -> Option<u64> {
    if now >= before {
        return Some(now - before);
    }
    let before = u32::try_from(before).ok()?;
    let wrapped = u32::try_from(now).ok()?.wrapping_sub(before);
    (wrapped < 1 << 31).then_some(u64::from(wrapped))
}

/// How often the kernel refreshes its counters (`ip_vs_est.c`).
pub const REFRESH: Duration = Duration::from_secs(2);
/// What a refresh may be late by, and a reading.
const LATE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(conns: u64, in_packets: u64, in_bytes: u64) -> Stats {
        Stats {
            conns,
            in_packets,
            in_bytes,
            ..Stats::default()
        }
    }

    /// Conns per second after each reading of `(milliseconds, conns)`.
    fn rates(readings: &[(u64, u64)]) -> Vec<Option<f64>> {
        let mut meter = Meter::default();
        let each = readings.iter().map(|(at, conns)| {
            meter.update(Duration::from_millis(*at), [((), &stats(*conns, 0, 0))]);
            meter.rates(&()).map(|rates| rates.conns)
        });
        each.collect()
    }

    #[test]
    fn all_five_are_differences_by_time() {
        let before = Stats {
            conns: 10,
            in_packets: 100,
            out_packets: 90,
            in_bytes: 5_000,
            out_bytes: 70_000,
            ..Stats::default()
        };
        let after = Stats {
            conns: 18,
            in_packets: 140,
            out_packets: 110,
            in_bytes: 7_000,
            out_bytes: 470_000,
            ..Stats::default()
        };
        let mut meter = Meter::default();
        meter.update(Duration::from_secs(100), [(7, &before)]);
        assert_eq!(meter.rates(&7), None);
        meter.update(Duration::from_secs(104), [(7, &after)]);
        let wanted = Rates {
            conns: 2.0,
            in_packets: 10.0,
            out_packets: 5.0,
            in_bytes: 500.0,
            out_bytes: 100_000.0,
        };
        assert_eq!(meter.rates(&7), Some(wanted));
        assert_eq!(meter.conns(&7), 8);
        assert_eq!(
            [wanted, wanted].into_iter().sum::<Rates>().out_bytes,
            200_000.0
        );
    }

    #[test]
    fn a_second_apart_they_do_not_flicker() {
        // 10 a second, refreshed at 0.9 s, 2.9 s and so on; the traffic ends at 5 s.
        let read = rates(&[
            (0, 0),
            (1000, 9),
            (2000, 9),
            (3000, 29),
            (4000, 29),
            (5000, 49),
            (6000, 49),
            (7000, 50),
            (8000, 50),
            (9000, 50),
            (10000, 50),
        ]);
        let wanted = [
            None,
            Some(4.5),
            Some(4.5),
            Some(10.0),
            Some(10.0),
            Some(10.0),
            Some(10.0),
            Some(0.5),
            Some(0.5),
            Some(0.5),
            Some(0.0),
        ];
        assert_eq!(read, wanted);
    }

    #[test]
    fn a_refresh_that_comes_late_or_early_changes_nothing() {
        // Seen at 1 s, then a second late, then a second early.
        let read = rates(&[
            (0, 0),
            (1000, 20),
            (2000, 20),
            (3000, 20),
            (4000, 40),
            (5000, 60),
            (6000, 60),
        ]);
        assert_eq!(read[1..], [Some(10.0); 6]);
        // As far apart as refreshes, and one reading sees none, the next one two.
        let read = rates(&[(0, 0), (2000, 20), (4000, 20), (6000, 60), (8000, 80)]);
        assert_eq!(read[1..], [Some(10.0); 4]);
        // Four a second.
        let read = rates(&[(0, 0), (250, 20), (500, 20), (2250, 40), (2500, 40)]);
        assert_eq!(read[1..], [Some(10.0); 4]);
    }

    #[test]
    fn nothing_is_nought_once_a_refresh_should_have_come() {
        let read = rates(&[(0, 5), (1000, 5), (2000, 5), (3000, 5)]);
        assert_eq!(read, [None, None, None, Some(0.0)]);
        // And at once where readings are far apart.
        assert_eq!(
            rates(&[(0, 5), (5000, 55), (10000, 55)])[1..],
            [Some(10.0), Some(0.0)]
        );
        // After a rest, a difference stands for one refresh.
        let read = rates(&[(0, 5), (1000, 5), (2000, 5), (3000, 5), (4000, 9)]);
        assert_eq!(read[4], Some(2.0));
    }

    #[test]
    fn what_begins_again_counts_from_nought() {
        // Zeroed: 6 since then, in 2 s.
        assert_eq!(rates(&[(0, 100), (2000, 6)])[1], Some(3.0));
        // Beyond 32 bits no wrap is thought of.
        assert_eq!(rates(&[(0, (1 << 32) + 5), (2000, 6)])[1], Some(3.0));
        // Bytes alone could be a wrap; connections say that it is none.
        let mut meter = Meter::default();
        let large = u64::from(u32::MAX) - 10;
        meter.update(Duration::ZERO, [(1, &stats(100, 500, large))]);
        meter.update(REFRESH, [(1, &stats(2, 8, 400))]);
        assert_eq!(meter.rates(&1).map(|r| r.in_bytes), Some(200.0));
        assert_eq!(meter.conns(&1), 2);
    }

    #[test]
    fn a_counter_of_32_bits_wraps() {
        let mut meter = Meter::default();
        let before = u64::from(u32::MAX) - 99;
        meter.update(Duration::ZERO, [(1, &stats(100, 500, before))]);
        meter.update(REFRESH, [(1, &stats(101, 510, 300))]);
        let rates = meter.rates(&1).unwrap_or_default();
        assert_eq!(
            [rates.conns, rates.in_packets, rates.in_bytes],
            [0.5, 5.0, 200.0]
        );
    }

    #[test]
    fn what_vanishes_is_forgotten() {
        let mut meter = Meter::default();
        let (one, other) = (stats(10, 0, 0), stats(20, 0, 0));
        meter.update(Duration::ZERO, [(1, &one), (2, &other)]);
        meter.update(REFRESH, [(2, &other)]);
        // Made again, with counters that would look like traffic.
        meter.update(2 * REFRESH, [(1, &other), (2, &other)]);
        assert_eq!((meter.rates(&1), meter.conns(&1)), (None, 0));
        assert_eq!(meter.rates(&2), Some(Rates::default()));
    }
}
