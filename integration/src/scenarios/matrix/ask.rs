//! Cells that get an answer or are refused, side by side where they start from different namespaces.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, anyhow};

use super::stage::{addresses, addresses_of_node, target};
use super::{Showed, Trial};
use crate::conformance::cell::{Cell, Client, Family};
use crate::conformance::law::{Must, Refusal, Source};
use crate::guest::probe::{Answer, Transport, probe, probe_within};
use crate::scenarios::expect::icmp_errors;

/// Asks for every cell once. One after another from one namespace: its kernel counts ICMP errors of all
/// its clients together.
pub fn round(trials: &mut [&mut Trial]) -> Result<()> {
    let mut queues: BTreeMap<&str, Vec<&mut Trial>> = BTreeMap::new();
    for trial in trials {
        queues.entry(trial.cell.asker()).or_default().push(trial);
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = queues
            .into_values()
            .map(|queue| scope.spawn(|| queue.into_iter().try_for_each(ask)))
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| anyhow!("a client panicked"))?)
    })
}

fn ask(trial: &mut Trial) -> Result<()> {
    (trial.complaint, trial.showed) = match &trial.judgement.must {
        Must::Answer { by, source } => answered(&trial.cell, by, *source)?,
        Must::Refuse(Refusal::Reject) => match what_came_of(&trial.cell)? {
            Came::Refused => (None, Some(Showed::Refusal)),
            other => (Some(other.to_string()), None),
        },
        Must::Refuse(Refusal::Drop) => {
            let text = "asked as if it were to be heard";
            (Some(text.to_owned()), None)
        }
    };
    Ok(())
}

/// Exactly these answer, each at least once in a row of requests, and see the right client.
fn answered(
    cell: &Cell,
    by: &BTreeSet<&str>,
    source: Source,
) -> Result<(Option<String>, Option<Showed>)> {
    let sources = permitted_sources(cell, source);
    let mut seen = BTreeMap::new();
    for _ in 0..by.len() * 3 {
        match probe(cell.asker(), cell.transport, target(cell)?)? {
            Answer::From { name, client } if by.contains(name.as_str()) => {
                if !sources.contains(&client) {
                    let text = format!("{name} saw {client}, and not one of {sources:?}");
                    return Ok((Some(text), None));
                }
                seen.insert(name, client);
            }
            other => return Ok((Some(other.to_string()), None)),
        }
    }
    Ok(if seen.len() < by.len() {
        (Some(format!("answers of {:?} only", seen.keys())), None)
    } else {
        (None, Some(Showed::Answers(seen)))
    })
}

/// Whom the server may see. A process uses any address of its node, which is kept either way.
fn permitted_sources(cell: &Cell, source: Source) -> BTreeSet<IpAddr> {
    let texts = match (source, cell.client) {
        (Source::Masqueraded, _) => addresses_of_node(cell.entry.node(), cell.family),
        (Source::Kept, Client::AddressedNode | Client::OtherNode) => {
            addresses_of_node(cell.asker(), cell.family)
        }
        (Source::Kept, _) => {
            let [v4, v6] = addresses(cell.asker());
            vec![if cell.family == Family::V4 { v4 } else { v6 }]
        }
    };
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

/// What came of one request.
pub enum Came {
    Answer(String),
    /// As a refusal is to be: TCP by a reset, UDP and SCTP by an ICMP error.
    Refused,
    Silence,
    Else(String),
}

impl std::fmt::Display for Came {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Answer(text) | Self::Else(text) => text,
            Self::Refused => "a refusal",
            Self::Silence => "silence",
        })
    }
}

fn what_came_of(cell: &Cell) -> Result<Came> {
    what_came(cell.asker(), cell.transport, target(cell)?)
}

/// Sends one request.
pub fn what_came(from: &str, transport: Transport, to: SocketAddr) -> Result<Came> {
    if transport == Transport::Sctp {
        // Most often the ICMP error is there at once, and the client is told only in the end.
        let before = icmp_errors(from)?;
        let answer = probe_within(AT_ONCE, from, transport, to)?;
        if icmp_errors(from)? > before {
            return Ok(classify(transport, answer, true));
        }
    }
    let before = icmp_errors(from)?;
    let answer = probe(from, transport, to)?;
    let by_icmp = icmp_errors(from)? > before;
    Ok(classify(transport, answer, by_icmp))
}

fn classify(transport: Transport, answer: Answer, by_icmp: bool) -> Came {
    match (answer, transport, by_icmp) {
        (answer @ Answer::From { .. }, ..) => Came::Answer(answer.to_string()),
        (Answer::Refused, Transport::Tcp, false) => Came::Refused,
        (Answer::Refused, Transport::Tcp, true) => {
            Came::Else("refused by ICMP and not by a reset".to_owned())
        }
        (Answer::Refused, _, true) => Came::Refused,
        // The kernel tells an SCTP client of it only once it gives up trying.
        (Answer::Timeout, Transport::Sctp, true) => Came::Refused,
        // A rule that drops what a process sends tells the process, by an error of `send`.
        (Answer::Refused, Transport::Udp, false) | (Answer::Timeout, _, false) => Came::Silence,
        (Answer::Refused, Transport::Sctp, false) => {
            Came::Else("refused by an ABORT and not by ICMP".to_owned())
        }
        (Answer::Timeout, _, true) => Came::Else("silence after an ICMP error".to_owned()),
        (Answer::Other(text), ..) => Came::Else(text),
    }
}

const AT_ONCE: Duration = Duration::from_millis(150);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::cell::all;

    #[test]
    fn a_refusal_is_a_reset_for_tcp_and_icmp_for_the_others() {
        use Transport::{Sctp, Tcp, Udp};
        let refused = |transport, by_icmp| {
            matches!(classify(transport, Answer::Refused, by_icmp), Came::Refused)
        };
        assert!(refused(Tcp, false) && refused(Udp, true) && refused(Sctp, true));
        let told_late = classify(Sctp, Answer::Timeout, true);
        assert!(matches!(told_late, Came::Refused));
        assert!(!refused(Tcp, true) && !refused(Udp, false) && !refused(Sctp, false));
    }

    #[test]
    fn a_masqueraded_client_is_the_entry_node_and_never_the_clients_own() {
        for cell in all() {
            let [kept, masqueraded] =
                [Source::Kept, Source::Masqueraded].map(|source| permitted_sources(&cell, source));
            assert!(!kept.is_empty() && !masqueraded.is_empty(), "{cell:?}");
            let own = cell.asker() == cell.entry.node();
            assert_eq!(kept == masqueraded, own, "{cell:?}");
            assert_eq!(kept.is_disjoint(&masqueraded), !own, "{cell:?}");
        }
    }

    #[test]
    fn silence_is_neither_an_icmp_error_nor_another_kind() {
        let unreachable = Answer::Other("no route to host".to_owned());
        for transport in [Transport::Tcp, Transport::Udp] {
            let came = |answer, by_icmp| classify(transport, answer, by_icmp);
            assert!(matches!(came(Answer::Timeout, false), Came::Silence));
            assert!(matches!(came(Answer::Timeout, true), Came::Else(_)));
            assert!(matches!(came(unreachable.clone(), true), Came::Else(_)));
        }
    }
}
