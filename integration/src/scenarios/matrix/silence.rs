//! Cells that must meet silence: dropped on their way, and not lost on the way back.
//!
//! Silence takes its time, so many are asked at once. A client whose packet reaches an endpoint, but whose
//! answer gets lost, hears nothing either (that is how kube-proxy's IPVS mode fails), nor does one whose
//! packet nobody serves. So what arrives at endpoints and what gets out of the nodes is counted, and a
//! batch during which something did is split until the cell is found.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use anyhow::{Result, anyhow};

use super::Trial;
use super::stage::{target, unserved};
use crate::guest::namespace::inside;
use crate::guest::probe::{Answer, Transport, probe};
use crate::guest::wait::eventually;
use crate::scenarios::expect::icmp_errors;

/// Asks for every cell once.
pub fn round(trials: &mut [&mut Trial]) -> Result<()> {
    let mut chunks = trials.chunks_mut(AT_ONCE);
    chunks.try_for_each(|chunk| sift(chunk, &watched))
}

/// Asks a batch, which gives what it moved, and splits it until each cell that moved something though it
/// met silence is alone.
fn sift(
    trials: &mut [&mut Trial],
    ask: &impl Fn(&mut [&mut Trial]) -> Result<Vec<String>>,
) -> Result<()> {
    let moved = ask(trials)?;
    if moved.is_empty() {
        return Ok(());
    }
    let all = trials.len();
    let mut silent: Vec<&mut Trial> = trials
        .iter_mut()
        .filter(|trial| trial.complaint.is_none())
        .map(|trial| &mut **trial)
        .collect();
    match silent.len() {
        0 => Ok(()),
        1 if all == 1 => {
            silent[0].complaint = Some(format!("silence, after something moved: {moved:?}"));
            Ok(())
        }
        // The others explain what moved, or not.
        number if number < all => sift(&mut silent, ask),
        number => {
            let (first, second) = silent.split_at_mut(number / 2);
            sift(first, ask)?;
            sift(second, ask)
        }
    }
}

/// Asks for cells side by side, and gives the counters that this moved.
fn watched(trials: &mut [&mut Trial]) -> Result<Vec<String>> {
    let before = settled_counters(trials)?;
    ask_at_once(trials)?;
    let after = counters(trials)?.into_iter();
    let moved = after.filter(|(name, count)| before.get(name) != Some(count));
    Ok(moved.map(|(name, _)| name).collect())
}

fn ask_at_once(trials: &mut [&mut Trial]) -> Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = trials
            .iter_mut()
            .map(|trial| scope.spawn(|| ask(trial)))
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| anyhow!("a client panicked"))?)
    })
}

fn ask(trial: &mut Trial) -> Result<()> {
    let cell = &trial.cell;
    let answer = probe(cell.asker(), cell.transport, target(cell)?)?;
    trial.complaint = match answer {
        Answer::Timeout => None,
        // A rule that drops what a process sends tells the process, by an error of `send`. One that
        // rejects does the same and sends an ICMP error, which is counted.
        Answer::Refused if cell.transport == Transport::Udp => None,
        other => Some(other.to_string()),
    };
    Ok(())
}

/// What must not move while silence is due: packets that endpoints received, ICMP errors that clients did.
fn counters(trials: &[&mut Trial]) -> Result<BTreeMap<String, u64>> {
    let mut counters = BTreeMap::new();
    for endpoint in ENDPOINTS {
        counters.insert(format!("packets to {endpoint}"), arrivals(endpoint)?);
    }
    counters.insert("packets that no node served".to_owned(), unserved()?);
    let askers: BTreeSet<&str> = trials.iter().map(|trial| trial.cell.asker()).collect();
    for asker in askers {
        counters.insert(format!("ICMP errors to {asker}"), icmp_errors(asker)?);
    }
    Ok(counters)
}

/// The same once the last of what was asked before has arrived.
fn settled_counters(trials: &[&mut Trial]) -> Result<BTreeMap<String, u64>> {
    let mut last = counters(trials)?;
    eventually("what was asked before has arrived", || {
        std::thread::sleep(Duration::from_millis(200));
        let now = counters(trials)?;
        let same = now == last;
        last = now;
        Ok(if same {
            Ok(())
        } else {
            Err("packets still come".to_owned())
        })
    })?;
    counters(trials)
}

/// Packets of the three transports that a namespace's sockets received. A node's TCP does not count: its
/// agent talks to the API server.
fn arrivals(namespace: &str) -> Result<u64> {
    let read = |path| fs::read_to_string(format!("/proc/thread-self/net/{path}"));
    let [snmp, snmp6, sctp] = inside(namespace, || {
        [read("snmp"), read("snmp6"), read("sctp/snmp")]
    })?;
    // A kernel without SCTP has no such file, and no packet of it arrives at a socket.
    let (snmp, snmp6, sctp) = (snmp?, snmp6?, sctp.unwrap_or_default());
    let mut count = columns(&snmp, "Udp:", "InDatagrams").unwrap_or_default()
        + value(&snmp6, "Udp6InDatagrams").unwrap_or_default()
        + value(&sctp, "SctpInSCTPPacks").unwrap_or_default();
    if namespace.starts_with('p') {
        count += columns(&snmp, "Tcp:", "InSegs").unwrap_or_default();
    }
    Ok(count)
}

/// From a line of names and a line of numbers.
fn columns(text: &str, prefix: &str, name: &str) -> Option<u64> {
    let mut rows = text.lines().filter(|line| line.starts_with(prefix));
    let place = rows.next()?.split(' ').position(|column| column == name)?;
    rows.next()?.split(' ').nth(place)?.parse().ok()
}

/// From lines of a name and a number.
fn value(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_whitespace);
    lines.find_map(|mut words| (words.next() == Some(name)).then(|| words.next()?.parse().ok())?)
}

/// Where endpoints of the matrix run.
const ENDPOINTS: [&str; 3] = ["p11", "p21", "n1"];
/// More at once only slow each other down.
const AT_ONCE: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::cell::{Destination, Family, all};
    use crate::conformance::law::judge;

    /// To a cluster IP comes an answer; over IPv6 packets of UDP arrive, and their answers get lost.
    fn network(trials: &mut [&mut Trial]) -> Result<Vec<String>> {
        let mut moved = Vec::new();
        for trial in trials {
            let heard = trial.cell.destination == Destination::ClusterIp;
            trial.complaint = heard.then(|| "an answer".to_owned());
            if heard || is_lost(trial) {
                moved.push("packets to p11".to_owned());
            }
        }
        Ok(moved)
    }

    fn is_lost(trial: &Trial) -> bool {
        (trial.cell.transport, trial.cell.family) == (Transport::Udp, Family::V6)
    }

    #[test]
    fn an_answer_that_gets_lost_is_told_from_a_packet_that_was_dropped() {
        let mut trials: Vec<Trial> = all()
            .into_iter()
            .map(|cell| Trial {
                cell,
                judgement: judge(&cell),
                complaint: None,
                showed: None,
            })
            .filter(Trial::is_silent)
            .collect();
        let mut batch: Vec<&mut Trial> = trials.iter_mut().collect();
        sift(&mut batch, &network).unwrap();
        for trial in &trials {
            let right = trial.cell.destination != Destination::ClusterIp && !is_lost(trial);
            assert_eq!(trial.complaint.is_none(), right, "{:?}", trial.cell);
        }
        assert!(trials.iter().any(|trial| trial.complaint.is_none()));
    }
}
