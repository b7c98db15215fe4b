//! What `explain` says of a cell, asked of the agent at the node at which its packets entered, beside what
//! the packets showed: who answered, whom they saw, a refusal, silence.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use super::stage::{addresses, addresses_of_node, target};
use super::{Showed, Trial};
use crate::conformance::cell::{Cell, Client, Entry, Family};
use crate::guest::agent::socket_of;
use crate::guest::http::get_at;
use crate::guest::probe::Transport;

/// Asks about every cell that gave what it must, and gives their number. One where `explain` says
/// something else has a complaint afterwards. Several ask at once: the agent answers between two turns of
/// its loop, and all that wait together.
pub fn check<'t>(trials: impl Iterator<Item = &'t mut Trial>, entry: Entry) -> Result<usize> {
    let socket = socket_of(entry.node());
    let mut asked: Vec<&mut Trial> = trials.filter(|trial| trial.complaint.is_none()).collect();
    let share = asked.len().div_ceil(AT_ONCE).max(1);
    std::thread::scope(|scope| {
        let threads: Vec<_> = asked
            .chunks_mut(share)
            .map(|chunk| {
                let socket = &socket;
                scope.spawn(move || {
                    chunk
                        .iter_mut()
                        .try_for_each(|trial| check_one(trial, socket))
                })
            })
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| anyhow!("a question panicked"))?)
    })?;
    Ok(asked.len())
}

fn check_one(trial: &mut Trial, socket: &str) -> Result<()> {
    let showed = trial.showed.as_ref().unwrap_or(&Showed::Silence);
    let said = explain(socket, &trial.cell)?;
    if let Err(text) = agrees(&trial.cell, showed, &said) {
        let text = format!("explain says otherwise: {text}; its packets showed {showed:?}");
        trial.complaint = Some(text);
    }
    Ok(())
}

fn explain(socket: &str, cell: &Cell) -> Result<Value> {
    let to = target(cell)?;
    // A process of the node that is asked, by the word; others by their address.
    let from = match cell.client {
        Client::AddressedNode => String::new(),
        _ => format!("from={}&", address(cell.asker(), cell.family)),
    };
    let protocol = match cell.transport {
        Transport::Tcp => "TCP",
        Transport::Udp => "UDP",
        Transport::Sctp => "SCTP",
    };
    let (ip, port) = (to.ip(), to.port());
    let path = format!("/v1/explain/packet?{from}to={ip}&port={port}&protocol={protocol}");
    let page = get_at(socket, &path)?;
    ensure!(page.status == 200, "{path}: {} {}", page.status, page.body);
    serde_json::from_str(&page.body).with_context(|| format!("{path}: {}", page.body))
}

/// Nothing, or what is said and was not shown.
fn agrees(cell: &Cell, showed: &Showed, said: &Value) -> Result<(), String> {
    let verdict = &said["verdict"];
    let outcome = verdict["outcome"].as_str().unwrap_or_default();
    let refusal = match cell.transport {
        Transport::Tcp => "tcp-reset",
        Transport::Udp | Transport::Sctp => "icmp-port-unreachable",
    };
    match showed {
        Showed::Answers(seen) if outcome == "balanced" => of_answers(cell, seen, verdict),
        Showed::Refusal if outcome == "refused" && verdict["by"] == refusal => Ok(()),
        Showed::Silence if outcome == "dropped" => Ok(()),
        _ => Err(verdict.to_string()),
    }
}

/// The same endpoints, and each sees whom it saw.
fn of_answers(cell: &Cell, seen: &BTreeMap<String, IpAddr>, verdict: &Value) -> Result<(), String> {
    let endpoints = verdict["endpoints"].as_array().cloned().unwrap_or_default();
    let said: BTreeMap<String, &str> = endpoints
        .iter()
        .map(|led| {
            let text = |key: &str| led[key].as_str().unwrap_or_default();
            (text("address").to_owned(), text("clientSeen"))
        })
        .collect();
    let answered: BTreeSet<String> = seen.keys().map(|name| address(name, cell.family)).collect();
    if said.keys().collect::<BTreeSet<_>>() != answered.iter().collect() {
        return Err(format!("endpoints {said:?}"));
    }
    for (name, client) in seen {
        let kept = own_addresses(cell).contains(client);
        let masqueraded = of_node(cell.entry.node(), cell.family).contains(client);
        let right = match said[&address(name, cell.family)] {
            "kept" => kept,
            "masqueraded" => masqueraded,
            _ => false,
        };
        if !right {
            return Err(format!("{name} sees {said:?}"));
        }
    }
    Ok(())
}

/// The client's own: a process uses any of its node's.
fn own_addresses(cell: &Cell) -> BTreeSet<IpAddr> {
    match cell.client {
        Client::AddressedNode | Client::OtherNode => of_node(cell.asker(), cell.family),
        _ => parsed([address(cell.asker(), cell.family)]),
    }
}

fn of_node(node: &str, family: Family) -> BTreeSet<IpAddr> {
    parsed(addresses_of_node(node, family))
}

fn parsed(texts: impl IntoIterator<Item = String>) -> BTreeSet<IpAddr> {
    texts
        .into_iter()
        .filter_map(|text| text.parse().ok())
        .collect()
}

fn address(namespace: &str, family: Family) -> String {
    let [v4, v6] = addresses(namespace);
    match family {
        Family::V4 => v4,
        Family::V6 => v6,
    }
}

/// Fewer than the agent lets wait.
const AT_ONCE: usize = 8;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::conformance::cell::all;

    fn said(address: &str, seen: &str) -> Value {
        let led = json!({ "address": address, "clientSeen": seen });
        json!({ "verdict": { "outcome": "balanced", "endpoints": [led] } })
    }

    #[test]
    fn a_wrong_word_of_explain_is_noticed() {
        let cell = all()
            .into_iter()
            .find(|cell| cell.client == Client::Outside && cell.transport == Transport::Tcp);
        let cell = cell.unwrap();
        let answer =
            |client: &str| Showed::Answers([("p11".to_owned(), client.parse().unwrap())].into());
        let node = addresses_of_node("n1", Family::V4).remove(0);
        let right = said("10.244.1.2", "masqueraded");
        assert!(agrees(&cell, &answer(&node), &right).is_ok());
        assert!(agrees(&cell, &answer(&node), &said("10.244.1.2", "kept")).is_err());
        assert!(agrees(&cell, &answer("192.168.50.100"), &right).is_err());
        assert!(agrees(&cell, &answer(&node), &said("10.244.2.2", "masqueraded")).is_err());
        assert!(agrees(&cell, &Showed::Refusal, &right).is_err());
        assert!(agrees(&cell, &Showed::Silence, &right).is_err());
        let reset = json!({ "verdict": { "outcome": "refused", "by": "tcp-reset" } });
        assert!(agrees(&cell, &Showed::Refusal, &reset).is_ok());
        let icmp = json!({ "verdict": { "outcome": "refused", "by": "icmp-port-unreachable" } });
        assert!(agrees(&cell, &Showed::Refusal, &icmp).is_err());
        let dropped = json!({ "verdict": { "outcome": "dropped" } });
        assert!(agrees(&cell, &Showed::Silence, &dropped).is_ok());
        assert!(agrees(&cell, &Showed::Refusal, &dropped).is_err());
    }
}
