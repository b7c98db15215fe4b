//! What the client sees: how long a connection takes to come about, and who answers it.

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use socket2::SockRef;

use super::node::CLIENT;
use crate::guest::namespace::inside;

/// Of the times that many connections took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latency {
    pub median: Duration,
    pub p99: Duration,
    /// Connections that did not come about; the times have them as `PATIENCE`.
    pub lost: usize,
}

impl Latency {
    /// Nothing for no times.
    fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        let at = |percent: usize| times.get(times.len() * percent / 100).copied();
        Some(Self {
            median: at(50)?,
            p99: at(99)?,
            lost: times.iter().filter(|time| **time >= PATIENCE).count(),
        })
    }
}

/// Connects to each of these over and over, in turns, so that what else the machine does meets all of
/// them alike. The first packet's way is nearly all of such a time: this machine's own veth carries it.
pub fn latency<const N: usize>(servers: [SocketAddr; N]) -> Result<[Latency; N]> {
    let times = inside(CLIENT, move || -> std::io::Result<_> {
        let mut times = [const { Vec::new() }; N];
        for round in 0..WARMING_UP + ROUNDS {
            for (server, times) in servers.iter().zip(&mut times) {
                for _ in 0..IN_A_ROW {
                    let begun = Instant::now();
                    let time = match TcpStream::connect_timeout(server, PATIENCE) {
                        Ok(stream) => {
                            let time = begun.elapsed();
                            abort(&stream)?;
                            time
                        }
                        Err(error) if error.kind() == ErrorKind::TimedOut => {
                            println!("no connection to {server} in round {round}");
                            PATIENCE
                        }
                        Err(error) => return Err(error),
                    };
                    if round >= WARMING_UP {
                        times.push(time);
                    }
                }
            }
        }
        Ok(times)
    })?
    .context("a connection was not made")?;
    let latencies: Option<Vec<Latency>> = times.into_iter().map(Latency::of).collect();
    latencies
        .and_then(|all| all.try_into().ok())
        .context("no connection was timed")
}

/// Waits until all of these have answered, one after the other.
pub fn all_answer(vips: &[Ipv4Addr], deadline: Instant) -> Result<bool> {
    wait(deadline, vips.len(), POLL, |n| {
        asked(service(vips[n])).is_ok()
    })
}

/// Waits until a new connection is answered by this endpoint.
pub fn answered_by(vip: Ipv4Addr, wanted: Ipv4Addr, deadline: Instant) -> Result<bool> {
    wait(deadline, 1, SHORT_POLL, |_| {
        asked(service(vip)).is_ok_and(|who| who == wanted)
    })
}

/// Until `holds` of each of so many, one after the other. Whether it came to that in time.
fn wait(
    deadline: Instant,
    of: usize,
    poll: Duration,
    holds: impl Fn(usize) -> bool + Send,
) -> Result<bool> {
    inside(CLIENT, move || {
        let mut done = 0;
        while done < of {
            if holds(done) {
                done += 1;
                continue;
            }
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(poll);
        }
        true
    })
}

/// Who answers there.
fn asked(server: SocketAddr) -> std::io::Result<Ipv4Addr> {
    let mut stream = TcpStream::connect_timeout(&server, IMPATIENCE)?;
    stream.set_read_timeout(Some(IMPATIENCE))?;
    let mut address = [0; 4];
    stream.read_exact(&mut address)?;
    abort(&stream)?;
    Ok(address.into())
}

/// Ends it by a reset, which leaves no port in use.
fn abort(stream: &TcpStream) -> std::io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

/// The port that all Services have.
pub fn service(vip: Ipv4Addr) -> SocketAddr {
    (vip, 80).into()
}

/// A first packet that is lost is sent again after a second, and that is what it took.
const PATIENCE: Duration = Duration::from_secs(2);
/// Who only wants to know asks anew instead.
const IMPATIENCE: Duration = Duration::from_millis(100);
const POLL: Duration = Duration::from_millis(20);
/// One of ten answers is the new endpoint's.
const SHORT_POLL: Duration = Duration::from_micros(300);
/// With `IN_A_ROW`, 2,000 connections.
const ROUNDS: usize = 100;
const IN_A_ROW: usize = 20;
/// Rounds before them.
const WARMING_UP: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_the_99th_percentile_are_of_the_sorted_times() {
        let times: Vec<Duration> = (0..200).rev().map(Duration::from_micros).collect();
        let [median, p99] = [100, 198].map(Duration::from_micros);
        let lost = 0;
        assert_eq!(Latency::of(times), Some(Latency { median, p99, lost }));
        let lost = Latency::of(vec![PATIENCE, Duration::ZERO]).map(|of| of.lost);
        assert_eq!(lost, Some(1));
        assert_eq!(Latency::of(Vec::new()), None);
    }
}
