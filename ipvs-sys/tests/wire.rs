//! Captured bytes against the codec: what the kernel sent is understood, what it understood is what
//! the crate sends. The captures are in `tests/captures`, each with the command that made it.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::fmt::Write as _;
use std::net::SocketAddr;

use ipvs_sys::codec::{Body, Envelope, Reply, decode_command, encode_command, frames};
use ipvs_sys::{
    Command, Destination, DestinationEntry, Family, ForwardMethod, Service, ServiceEntry,
    ServiceKey, Timeouts,
};

/// The hexadecimal lines of a capture; `#` begins a comment.
fn capture(text: &str) -> Vec<u8> {
    let digits: String = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(str::chars)
        .filter(|c| !c.is_whitespace())
        .collect();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

macro_rules! captured {
    ($name:literal) => {
        capture(include_str!(concat!("captures/", $name, ".hex")))
    };
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn web() -> ServiceKey {
    ServiceKey::tcp(addr("10.96.0.1:80"))
}

fn only_payload(bytes: &[u8]) -> (u32, Vec<u8>) {
    let frames: Vec<_> = frames(bytes).collect::<Result<_, _>>().unwrap();
    let [frame] = frames.as_slice() else {
        panic!("one message: {frames:?}");
    };
    let Body::Payload(payload) = frame.body else {
        panic!("a message of the family: {frame:?}");
    };
    (frame.sequence, payload.to_vec())
}

fn reply(bytes: &[u8]) -> Reply {
    Reply::decode(&only_payload(bytes).1, Family::Inet).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// Encodes with the capture's own numbers and compares every byte.
#[track_caller]
fn assert_sends(bytes: &[u8], family_id: u16, command: &Command) {
    let (sequence, payload) = only_payload(bytes);
    let mut encoded = Vec::new();
    let envelope = Envelope {
        family_id,
        sequence,
        acknowledge: true,
    };
    encode_command(&mut encoded, &envelope, command);
    assert_eq!(hex(&encoded), hex(bytes));
    assert_eq!(decode_command(&payload).as_ref(), Ok(command));
}

#[test]
fn new_service_is_sent_as_the_kernel_took_it() {
    let service = Service::new(web(), "rr".parse().unwrap());
    assert_sends(
        &captured!("new-service"),
        0x22,
        &Command::NewService(service),
    );
}

#[test]
fn new_dest_is_sent_as_the_kernel_took_it() {
    let destination =
        Destination::new(addr("10.2.0.2:8080").into(), ForwardMethod::Masquerade).with_weight(3);
    assert_sends(
        &captured!("new-dest"),
        0x22,
        &Command::NewDest(web(), destination),
    );
}

#[test]
fn acknowledgement_and_error_carry_the_sequence_of_their_request() {
    let bytes = captured!("ack");
    let frame = frames(&bytes).next().unwrap().unwrap();
    assert_eq!(frame.sequence, 7);
    assert_eq!(
        frame.body,
        Body::Ack {
            errno: 0,
            message: None
        }
    );

    let bytes = captured!("error-eexist");
    let frame = frames(&bytes).next().unwrap().unwrap();
    assert_eq!(frame.sequence, 9);
    assert_eq!(
        frame.body,
        Body::Ack {
            errno: 17,
            message: None
        }
    );
}

#[test]
fn get_service_with_and_without_padding_is_the_same_service() {
    let expected = ServiceEntry::new(Service::new(web(), "rr".parse().unwrap()));
    for bytes in [
        captured!("get-service-6.12"),
        captured!("get-service-6.1-uml"),
    ] {
        assert_eq!(reply(&bytes), Reply::Service(expected.clone()));
    }
}

#[test]
fn get_dest_ends_with_done() {
    let first = captured!("get-dest-1");
    let expected = DestinationEntry::new(
        Destination::new(addr("10.2.0.2:8080").into(), ForwardMethod::Masquerade).with_weight(3),
    );
    assert_eq!(reply(&first), Reply::Destination(expected));

    let last = captured!("get-dest-2");
    let frame = frames(&last).next().unwrap().unwrap();
    assert_eq!(frame.body, Body::Done { errno: 0 });
}

#[test]
fn info_and_timeouts() {
    let Reply::Info(info) = reply(&captured!("get-info")) else {
        panic!("information");
    };
    assert_eq!(info.version, (1, 2, 1));
    assert_eq!(info.connection_table_size, 4096);

    let timeouts = Timeouts {
        tcp: 900,
        tcp_fin: 120,
        udp: 300,
    };
    assert_eq!(
        reply(&captured!("get-config")),
        Reply::Timeouts {
            timeouts,
            unknown: Vec::new()
        }
    );
}
