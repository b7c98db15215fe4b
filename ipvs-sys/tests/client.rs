//! The client against a scripted kernel: what real kernels do seldom or only under load.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod script;

use std::error::Error as _;
use std::net::SocketAddr;

use ipvs_sys::{
    Client, Command, Destination, ForwardMethod, Invalid, Outcome, Service, ServiceKey,
};
use script::{
    Answer, EEXIST, ENOBUFS, ENOENT, ESRCH, Script, Seen, done, dump, error, family, is_lookup,
    seen,
};

const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP_INTR: u16 = 0x10;
const GET_SERVICE: u8 = 4;

fn key(port: u16) -> ServiceKey {
    ServiceKey::tcp(SocketAddr::from(([10, 96, 0, 1], port)))
}

fn new_service(port: u16) -> Command {
    Command::NewService(Service::new(key(port), "rr".parse().unwrap()))
}

fn new_dest(port: u16) -> Command {
    let addr = SocketAddr::from(([10, 2, 0, 2], port));
    Command::NewDest(
        key(80),
        Destination::new(addr.into(), ForwardMethod::Masquerade),
    )
}

/// A client whose look-ups are answered with 34; the closure does the rest.
fn client(mut kernel: impl FnMut(&[Seen]) -> Vec<Answer> + 'static) -> Client<Script> {
    Client::with_transport(Script::new(move |requests| match requests {
        [one] if is_lookup(one) => vec![family(one.sequence, 34)],
        requests => kernel(requests),
    }))
    .unwrap()
}

fn words(outcomes: &[Outcome]) -> Vec<String> {
    outcomes
        .iter()
        .map(|outcome| match outcome {
            Outcome::Applied => "applied".to_owned(),
            Outcome::Unknown => "unknown".to_owned(),
            Outcome::Failed(error) => format!("{:?}", error.raw_os_error()),
        })
        .collect()
}

#[test]
fn a_batch_is_one_datagram_without_acknowledgements_and_errors_find_their_command() {
    let mut client = client(|requests| vec![error(requests[1].sequence, EEXIST)]);
    let commands = [new_service(1), new_service(2), new_service(3)];
    let outcomes = client.batch(&commands).unwrap();
    assert_eq!(words(&outcomes), ["applied", "Some(17)", "applied"]);
    let failure = outcomes[1].error().unwrap();
    assert!(failure.is_exists());
    assert_eq!(failure.command(), Some(&commands[1]));

    let sent = &client.transport().datagrams[1..];
    assert_eq!(sent.len(), 1);
    assert!(seen(&sent[0]).iter().all(|r| r.flags & NLM_F_ACK == 0));
    let counters = client.counters();
    assert_eq!((counters.messages, counters.sends), (4, 2));
}

#[test]
fn large_batches_are_cut_at_64_kilobytes_and_errors_still_find_their_command() {
    // Every service of a port that ends in 7 exists.
    let mut client = client(|requests| {
        let exists = requests.iter().filter(|request| {
            let service = ipvs_sys::codec::decode_command(&request.payload).unwrap();
            service.service_key().unwrap().port() % 10 == 7
        });
        exists.map(|r| error(r.sequence, EEXIST)).collect()
    });
    let commands: Vec<_> = (1..=2000).map(new_service).collect();
    let outcomes = client.batch(&commands).unwrap();
    for (port, outcome) in (1..).zip(&outcomes) {
        assert_eq!(outcome.is_applied(), port % 10 != 7, "port {port}");
    }
    let sent = &client.transport().datagrams[1..];
    // 104 bytes each: 630 fit 64 kB.
    assert_eq!(sent.len(), 4);
    assert!(sent.iter().all(|datagram| datagram.len() <= 64 << 10));
    let messages: usize = sent.iter().map(|datagram| seen(datagram).len()).sum();
    assert_eq!(messages, 2000);
}

#[test]
fn a_small_receive_queue_makes_small_batches() {
    let script = Script::new(|requests| match requests {
        [one] if is_lookup(one) => vec![family(one.sequence, 34)],
        _ => Vec::new(),
    });
    let mut client = Client::with_transport(script.with_queue(212_992)).unwrap();
    let commands: Vec<_> = (1..=1000).map(new_service).collect();
    assert!(
        client
            .batch(&commands)
            .unwrap()
            .iter()
            .all(Outcome::is_applied)
    );
    let sent = &client.transport().datagrams[1..];
    assert!(sent.iter().all(|datagram| seen(datagram).len() <= 208));
    assert_eq!(sent.len(), 5);
}

#[test]
fn an_overflow_makes_the_rest_of_its_datagram_unknown_and_no_other() {
    let mut first = true;
    let mut client = client(move |requests| {
        if std::mem::take(&mut first) {
            vec![
                error(requests[0].sequence, EEXIST),
                Answer::Errno(ENOBUFS),
                error(requests[1].sequence, EEXIST),
            ]
        } else {
            Vec::new()
        }
    });
    let commands: Vec<_> = (1..=700).map(new_service).collect();
    let outcomes = words(&client.batch(&commands).unwrap());
    assert_eq!(outcomes[0], "Some(17)");
    assert_eq!(outcomes[1], "Some(17)");
    assert!(outcomes[2..630].iter().all(|word| word == "unknown"));
    assert!(outcomes[630..].iter().all(|word| word == "applied"));
}

#[test]
fn what_cannot_work_is_not_sent_and_does_not_stop_the_others() {
    let mut client = client(|_| Vec::new());
    let outcomes = client
        .batch(&[new_service(1), new_service(0), new_dest(0), new_service(2)])
        .unwrap();
    assert_eq!(words(&outcomes), ["applied", "None", "applied", "applied"]);
    let refused = outcomes[1].error().unwrap();
    assert_eq!(refused.invalid(), Some(&Invalid::PortZero));
    assert_eq!(
        refused.to_string(),
        "ipvsadm -A -t 10.96.0.1:0 -s rr: refused before it was sent"
    );
    assert_eq!(
        refused.source().unwrap().to_string(),
        "port 0 needs a persistent service"
    );
    assert_eq!(seen(&client.transport().datagrams[1]).len(), 3);
    assert!(
        client
            .execute(&new_service(0))
            .unwrap_err()
            .invalid()
            .is_some()
    );
    assert_eq!(client.counters().sends, 2);
}

#[test]
fn an_empty_batch_sends_nothing() {
    let mut client = client(|_| Vec::new());
    assert!(client.batch(&[]).unwrap().is_empty());
    assert_eq!(client.counters().sends, 1);
}

/// A kernel whose family has number `ids[n]` at look-up n, and knows only the last one.
fn reloaded(ids: &'static [u16]) -> Client<Script> {
    let mut lookups = ids.iter();
    let last = *ids.last().unwrap();
    Client::with_transport(Script::new(move |requests| match requests {
        [one] if is_lookup(one) => match lookups.next() {
            Some(id) => vec![family(one.sequence, *id)],
            None => vec![error(one.sequence, ENOENT)],
        },
        requests => requests
            .iter()
            .filter_map(|request| {
                if request.family != last {
                    Some(error(request.sequence, ENOENT))
                } else if request.flags & NLM_F_ACK != 0 {
                    Some(error(request.sequence, 0))
                } else {
                    None
                }
            })
            .collect(),
    }))
    .unwrap()
}

#[test]
fn a_reloaded_module_is_looked_up_once_and_the_commands_are_repeated() {
    let mut client = reloaded(&[28, 34]);
    client.execute(&new_service(1)).unwrap();
    assert_eq!(client.counters().lookups, 2);

    let mut client = reloaded(&[28, 34]);
    let outcomes = client.batch(&[new_service(1), new_service(2)]).unwrap();
    assert_eq!(words(&outcomes), ["applied", "applied"]);
    assert_eq!(client.counters().lookups, 2);

    // The family changes again before the repetition: it is not repeated for ever.
    let mut client = reloaded(&[28, 30, 34]);
    let error = client.execute(&new_service(1)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(ENOENT));
    assert_eq!(client.counters().lookups, 2);
}

#[test]
fn a_missing_thing_is_no_missing_module() {
    let mut client =
        client(|requests| requests.iter().map(|r| error(r.sequence, ENOENT)).collect());
    let error = client.execute(&new_service(1)).unwrap_err();
    assert!(error.is_not_found() && !error.is_no_module());
    assert_eq!(
        error.to_string(),
        "ipvsadm -A -t 10.96.0.1:1 -s rr: no such scheduler or persistence engine (ENOENT)"
    );
    let outcomes = client.batch(&[new_service(1), new_service(2)]).unwrap();
    assert_eq!(words(&outcomes), ["Some(2)", "Some(2)"]);
}

#[test]
fn without_the_module_nothing_opens_and_nothing_goes_on() {
    let script = Script::new(|requests| vec![error(requests[0].sequence, ENOENT)]);
    let error = Client::with_transport(script).err().unwrap();
    assert!(error.is_no_module() && !error.is_not_found());

    // The family was there when the client was made, and is there no more.
    let mut client = Client::with_transport({
        let mut there = true;
        Script::new(move |requests| match requests {
            [one] if std::mem::take(&mut there) => vec![family(one.sequence, 34)],
            requests => requests
                .iter()
                .map(|r| script::error(r.sequence, ENOENT))
                .collect(),
        })
    })
    .unwrap();
    assert!(client.execute(&new_service(1)).unwrap_err().is_no_module());
    assert!(client.batch(&[new_service(1)]).unwrap_err().is_no_module());
    assert!(client.services().unwrap_err().is_no_module());
}

#[test]
fn a_late_answer_is_not_taken_for_that_of_the_next_request() {
    let mut late = None;
    let mut client = client(move |requests| {
        let sequence = requests[0].sequence;
        match late.replace(sequence) {
            None => Vec::new(),
            Some(before) => vec![error(before, EEXIST), error(sequence, 0)],
        }
    });
    let error = client.execute(&new_service(1)).unwrap_err();
    assert!(error.is_timeout());
    assert_eq!(error.command(), Some(&new_service(1)));
    client.execute(&new_service(2)).unwrap();
}

#[test]
fn a_datagram_that_was_cut_off_is_an_error() {
    let mut client = client(|requests| {
        let things: Vec<_> = (1..=400).map(new_service).collect();
        vec![
            dump(requests[0].sequence, 0, &things),
            done(requests[0].sequence),
        ]
    });
    let error = client.services().unwrap_err();
    assert_eq!(
        error.to_string(),
        "ipvsadm -Ln: an answer of 41600 bytes was cut off"
    );
}

/// A kernel that gives the passes of a dump in turn, the last one for ever; each pass is a list of
/// datagrams, each a list of ports.
fn passes(passes: &'static [&'static [&'static [u16]]]) -> Client<Script> {
    let mut at = 0;
    client(move |requests| {
        let sequence = requests[0].sequence;
        let pass = passes[at.min(passes.len() - 1)];
        at += 1;
        let datagrams = pass.iter().map(|ports| {
            let things: Vec<_> = ports.iter().copied().map(new_service).collect();
            dump(sequence, 0, &things)
        });
        datagrams.chain([done(sequence)]).collect()
    })
}

fn ports(client: &mut Client<Script>) -> Result<Vec<u16>, ipvs_sys::Error> {
    let services = client.services()?;
    Ok(services
        .iter()
        .map(|entry| entry.service.key.port())
        .collect())
}

#[test]
fn a_dump_of_one_datagram_is_a_snapshot() {
    let mut client = passes(&[&[&[1, 2, 3]]]);
    assert_eq!(ports(&mut client).unwrap(), [1, 2, 3]);
    assert_eq!(client.counters().sends, 2);
    assert!(ports(&mut passes(&[&[]])).unwrap().is_empty());
}

#[test]
fn a_longer_dump_is_read_until_two_passes_agree() {
    // A service in the first datagram went while the dump was under way: 3 was skipped.
    let mut client = passes(&[&[&[1, 2], &[4]], &[&[2, 3], &[4]]]);
    assert_eq!(ports(&mut client).unwrap(), [2, 3, 4]);
    assert_eq!(client.counters().sends, 4);
    // One came: 2 was repeated.
    let mut client = passes(&[&[&[1, 2], &[2, 3]], &[&[9, 1], &[2, 3]]]);
    assert_eq!(ports(&mut client).unwrap(), [9, 1, 2, 3]);
}

#[test]
fn a_table_that_never_rests_is_told_apart_and_given_up() {
    let mut at = 1;
    let mut client = client(move |requests| {
        let sequence = requests[0].sequence;
        at += 1;
        vec![
            dump(sequence, 0, &[new_service(1)]),
            dump(sequence, 0, &[new_service(at)]),
            done(sequence),
        ]
    });
    let error = client.services().unwrap_err();
    assert!(error.is_inconsistent());
    assert_eq!(client.counters().sends, 1 + 8);
}

#[test]
fn the_kernels_own_mark_of_an_interrupted_dump_is_believed() {
    let mut flags = NLM_F_DUMP_INTR;
    let mut client = client(move |requests| {
        let sequence = requests[0].sequence;
        let flags = std::mem::take(&mut flags);
        vec![dump(sequence, flags, &[new_service(1)]), done(sequence)]
    });
    assert_eq!(ports(&mut client).unwrap(), [1]);
    assert_eq!(client.counters().sends, 3);
}

#[test]
fn no_destinations_and_no_service_are_told_apart() {
    fn kernel(exists: bool) -> Client<Script> {
        client(move |requests| {
            let request = &requests[0];
            match (request.number(), exists) {
                (GET_SERVICE, false) => vec![error(request.sequence, ESRCH)],
                (GET_SERVICE, true) => vec![dump(request.sequence, 0, &[new_service(80)])],
                _ => vec![done(request.sequence)],
            }
        })
    }
    assert!(kernel(true).destinations(&key(80)).unwrap().is_empty());
    let error = kernel(false).destinations(&key(80)).unwrap_err();
    assert!(error.is_not_found() && error.is_no_service());
    assert_eq!(
        error.to_string(),
        "ipvsadm -Ln -t 10.96.0.1:80: no such service (ESRCH)"
    );
}

#[test]
fn destinations_come_with_their_datagrams() {
    let mut client = client(|requests| {
        let sequence = requests[0].sequence;
        vec![
            dump(sequence, 0, &[new_dest(1), new_dest(2)]),
            dump(sequence, 0, &[new_dest(3)]),
            done(sequence),
        ]
    });
    let ports: Vec<_> = client
        .destinations(&key(80))
        .unwrap()
        .iter()
        .map(|entry| entry.destination.key.port)
        .collect();
    assert_eq!(ports, [1, 2, 3]);
}
