//! Captured bytes against the codec: what the kernel sent is understood, what it understood is what
//! the crate sends. The captures are in `tests/captures`, each with the command that made it.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::num::NonZeroU32;

use ipvs_sys::codec::{
    Body, Envelope, Reply, decode_command, decode_family_id, encode_command, frames,
};
use ipvs_sys::{
    Command, Daemon, DaemonState, Destination, DestinationEntry, Family, ForwardMethod, Service,
    ServiceEntry, ServiceFlags, ServiceKey, Timeouts, Tunnel, TunnelFlags,
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

fn replies(bytes: &[u8]) -> Vec<Reply> {
    frames(bytes)
        .map(|frame| match frame.unwrap().body {
            Body::Payload(payload) => Reply::decode(payload, Family::Inet).unwrap(),
            other => panic!("a message of the family: {other:?}"),
        })
        .collect()
}

fn mark(family: Family, mark: u32) -> ServiceKey {
    let mark = NonZeroU32::new(mark).unwrap();
    ServiceKey::Mark { family, mark }
}

#[test]
fn services_of_every_kind_are_what_ipvsadm_was_told() {
    let new = |key, scheduler: &str| Service::new(key, scheduler.parse().unwrap());
    let mut expected = vec![
        new(ServiceKey::tcp(addr("192.168.200.5:80")), "sh")
            .with_flags(ServiceFlags::SH_PORT | ServiceFlags::SH_FALLBACK)
            .with_persistence(360)
            .with_netmask(24),
        new(mark(Family::Inet, 3_000_000_000), "wlc"),
        new(mark(Family::Inet6, 200), "mh").with_flags(ServiceFlags::MH_PORT),
        new(ServiceKey::udp(addr("10.96.0.50:5060")), "rr")
            .with_persistence(60)
            .with_pe_name("sip".parse().unwrap()),
        new(ServiceKey::udp(addr("10.96.0.10:53")), "rr").with_flags(ServiceFlags::ONE_PACKET),
        new(ServiceKey::tcp(addr("[fd00:96::2]:80")), "wrr")
            .with_persistence(600)
            .with_netmask(64),
    ];
    let mut found: Vec<_> = replies(&captured!("dump-services"))
        .into_iter()
        .map(|reply| match reply {
            Reply::Service(entry) if entry.unknown.is_empty() => entry.service,
            other => panic!("a service: {other:?}"),
        })
        .collect();
    expected.sort_by_key(|service| service.key);
    found.sort_by_key(|service| service.key);
    assert_eq!(found, expected);
}

#[test]
fn destinations_of_every_kind_are_what_ipvsadm_was_told() {
    let new = |text, forward| Destination::new(addr(text).into(), forward);
    let gue = Tunnel::Gue {
        port: 5555,
        flags: TunnelFlags::CHECKSUM,
    };
    let gre = Tunnel::Gre {
        flags: TunnelFlags::empty(),
    };
    // The newest comes first.
    let expected = [
        new("[fd00:3::2]:80", ForwardMethod::Tunnel(Tunnel::default())).with_thresholds(100, 50),
        new("192.168.7.7:80", ForwardMethod::Tunnel(gre)).with_weight(65_535),
        new("10.3.0.2:80", ForwardMethod::Tunnel(gue)).with_weight(100),
        new("10.2.0.2:80", ForwardMethod::DirectRoute),
    ];
    let expected =
        expected.map(|destination| Reply::Destination(DestinationEntry::new(destination)));
    assert_eq!(replies(&captured!("dump-tunnels")), expected);
}

#[test]
fn daemons_are_what_ipvsadm_was_told() {
    let new = |state, sync_id| Daemon::new(state, "dummy0".parse().unwrap(), sync_id);
    let expected = [
        Daemon {
            max_len: Some(1400),
            group: Some("224.0.1.1".parse().unwrap()),
            port: Some(8849),
            ttl: Some(3),
            ..new(DaemonState::Master, 7)
        },
        Daemon {
            max_len: Some(1401),
            group: Some("ff02::1:1".parse().unwrap()),
            port: Some(8850),
            ttl: Some(4),
            ..new(DaemonState::Backup, 8)
        },
    ];
    let found: Vec<_> = replies(&captured!("dump-daemons"))
        .into_iter()
        .map(|reply| match reply {
            Reply::Daemon(entry) if entry.unknown.is_empty() => entry.daemon,
            other => panic!("a daemon: {other:?}"),
        })
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn the_controller_tells_the_number_of_the_family() {
    let (_, payload) = only_payload(&captured!("get-family"));
    // The same boot's messages have it for their type.
    let dump = captured!("dump-services");
    let kind = frames(&dump).next().unwrap().unwrap().kind;
    assert_eq!(decode_family_id(&payload), Ok(kind));
}
