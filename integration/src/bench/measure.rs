//! One peer at one number of Services, from its start on a bare node.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::cpu;
use super::load::{self, ENDPOINTS, NOBODYS, PORT, endpoint, vip};
use super::node::{NODE, Node};
use super::packets::{self, Latency, latency, service};
use super::peer::{Peer, Programs, Running};
use crate::guest::cluster::Cluster;
use crate::guest::sh_in;

/// What something took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Until the kernel had it.
    pub wall: Duration,
    /// Of the process and its children, until it rested again.
    pub cpu: Duration,
}

/// Of connections made in turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connect {
    /// To the first and to the last Service of the table.
    pub service: [Latency; 2],
    /// To an address that answers as endpoints do.
    pub straight: Latency,
}

/// What came of it. Nothing where it took longer than its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Measured {
    pub first_sync: Option<Cost>,
    pub connect: Option<Connect>,
    /// Median, and mean processor time.
    pub change: Option<Cost>,
}

/// Measures it all.
pub fn measure(
    peer: Peer,
    programs: &Programs,
    cluster: &mut Cluster,
    services: usize,
) -> Result<Measured> {
    let _node = Node::new()?;
    let mut measured = Measured::default();
    let begun = Instant::now();
    let mut running = peer.start(programs)?;
    if !synced(&mut running, services, begun + SYNC_LIMIT)? {
        return Ok(measured);
    }
    let wall = begun.elapsed();
    let cpu = cpu::at_rest(running.pid(), Instant::now() + REST_LIMIT)?;
    measured.first_sync = Some(Cost { wall, cpu });
    // A packet that asked for a Service before it was there is remembered as one that nobody leads
    // elsewhere; a connection from its port would go the same way (seen: 1 of 2,000).
    sh_in(NODE, "conntrack -F")?;
    let ends = ends(&running.order()?, services).context("a Service has no rule")?;
    let [first, last] = ends.map(service);
    let [first, last, straight] = latency([first, last, (NOBODYS, PORT).into()])?;
    measured.connect = Some(Connect {
        service: [first, last],
        straight,
    });
    measured.change = changes(&mut running, cluster, services / 2)?;
    running.demand_alive()?;
    Ok(measured)
}

/// Waits until a sample of the Services answers.
fn synced(running: &mut Running, services: usize, deadline: Instant) -> Result<bool> {
    let sample: Vec<Ipv4Addr> = (0..services)
        .step_by(services.div_ceil(SAMPLE))
        .chain([services - 1])
        .map(vip)
        .collect();
    while Instant::now() < deadline {
        running.demand_alive()?;
        if packets::all_answer(&sample, deadline.min(Instant::now() + GLANCE))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The first and the last Service that a packet meets; by number where it is led to each directly.
fn ends(order: &[Ipv4Addr], services: usize) -> Option<[Ipv4Addr; 2]> {
    if order.is_empty() {
        return Some([vip(0), vip(services - 1)]);
    }
    let ours: Vec<Ipv4Addr> = (0..services).map(vip).collect();
    let mut met = order.iter().filter(|addr| ours.contains(addr));
    Some([*met.next()?, *met.next_back()?])
}

/// Endpoints of one Service are replaced, one at a time and apart, so that nobody's least period
/// between two syncs is part of it.
fn changes(running: &mut Running, cluster: &mut Cluster, n: usize) -> Result<Option<Cost>> {
    let before = cpu::used(running.pid())?;
    let mut times = Vec::new();
    for new in (ENDPOINTS + 1..).take(CHANGES) {
        std::thread::sleep(APART);
        let begun = Instant::now();
        load::replace(cluster, n, (1..ENDPOINTS).chain([new]))?;
        if !packets::answered_by(vip(n), endpoint(n, new), begun + CHANGE_LIMIT)? {
            running.demand_alive()?;
            load::replace(cluster, n, 1..=ENDPOINTS)?;
            return Ok(None);
        }
        times.push(begun.elapsed());
    }
    let cpu = cpu::at_rest(running.pid(), Instant::now() + REST_LIMIT)?.saturating_sub(before);
    load::replace(cluster, n, 1..=ENDPOINTS)?;
    times.sort_unstable();
    Ok(Some(Cost {
        wall: times[CHANGES / 2],
        cpu: cpu / u32::try_from(CHANGES)?,
    }))
}

/// For a first sync.
pub const SYNC_LIMIT: Duration = Duration::from_secs(90);
/// For one change.
pub const CHANGE_LIMIT: Duration = Duration::from_secs(30);
/// How many are made.
pub const CHANGES: usize = 5;
const REST_LIMIT: Duration = Duration::from_secs(30);
const APART: Duration = Duration::from_millis(1500);
const GLANCE: Duration = Duration::from_secs(2);
/// How many Services are asked whether they are there.
const SAMPLE: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_are_those_of_the_order_that_a_packet_meets() {
        let foreign = Ipv4Addr::new(10, 96, 0, 1);
        let order = [foreign, vip(2), vip(0), vip(1), foreign];
        assert_eq!(ends(&order, 3), Some([vip(2), vip(1)]));
        assert_eq!(ends(&[], 3), Some([vip(0), vip(2)]));
        assert_eq!(ends(&[foreign], 3), None);
    }
}
