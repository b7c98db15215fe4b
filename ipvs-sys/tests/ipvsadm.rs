//! What `ipvsadm` says to the kernel beside what the crate says for the same thing, attribute by
//! attribute; and what the kernel tells of services that were used, beside what `ipvsadm` printed.
//! The captures are made by `tests/captures/record.sh`.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::Range;

use ipvs_sys::codec::{Body, Envelope, Reply, decode_command, encode_command, frames};
use ipvs_sys::{
    Command, Daemon, DaemonState, Destination, DestinationKey, Family, ForwardMethod, Service,
    ServiceFlags, ServiceKey, Stats, Timeouts, Tunnel, TunnelFlags,
};

const REQUESTS: &str = include_str!("captures/ipvsadm-requests.txt");
const COMMANDS: &str = include_str!("captures/ipvsadm-requests.commands");
const STATISTICS: [&str; 2] = [
    include_str!("captures/statistics-6.1-uml.txt"),
    include_str!("captures/statistics-6.12.txt"),
];

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits
        .map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap())
        .collect()
}

/// Arguments of `ipvsadm`, and the datagram that it sent.
fn requests() -> Vec<(&'static str, Vec<u8>)> {
    let lines: Vec<_> = REQUESTS
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    lines
        .chunks(2)
        .map(|pair| match pair {
            [command, sent] => (
                command.strip_prefix("$ ipvsadm ").unwrap(),
                bytes(sent.strip_prefix("> ").unwrap()),
            ),
            other => panic!("a command and what it sent: {other:?}"),
        })
        .collect()
}

fn payload(datagram: &[u8]) -> Vec<u8> {
    let frames: Vec<_> = frames(datagram).collect::<Result<_, _>>().unwrap();
    match frames.as_slice() {
        [frame] => match frame.body {
            Body::Payload(payload) => payload.to_vec(),
            _ => panic!("a message of the family: {frame:?}"),
        },
        other => panic!("one message: {other:?}"),
    }
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn tcp(text: &str) -> ServiceKey {
    ServiceKey::tcp(addr(text))
}

fn udp(text: &str) -> ServiceKey {
    ServiceKey::udp(addr(text))
}

fn sctp(text: &str) -> ServiceKey {
    ServiceKey::sctp(addr(text))
}

fn mark(mark: u32) -> ServiceKey {
    let mark = NonZeroU32::new(mark).unwrap();
    ServiceKey::Mark {
        family: Family::Inet,
        mark,
    }
}

fn mark6(mark: u32) -> ServiceKey {
    let mark = NonZeroU32::new(mark).unwrap();
    ServiceKey::Mark {
        family: Family::Inet6,
        mark,
    }
}

fn service(key: ServiceKey, scheduler: &str) -> Service {
    Service::new(key, scheduler.parse().unwrap())
}

fn sip(seconds: u32) -> Service {
    service(udp("10.96.0.50:5060"), "rr")
        .with_persistence(seconds)
        .with_pe_name("sip".parse().unwrap())
}

fn backend(text: &str) -> DestinationKey {
    addr(text).into()
}

fn masq(text: &str, weight: u32) -> Destination {
    Destination::new(backend(text), ForwardMethod::Masquerade).with_weight(weight)
}

fn direct(text: &str) -> Destination {
    Destination::new(backend(text), ForwardMethod::DirectRoute)
}

fn tunnel(text: &str, tunnel: Tunnel) -> Destination {
    Destination::new(backend(text), ForwardMethod::Tunnel(tunnel))
}

const IPIP: Tunnel = Tunnel::Ipip {
    flags: TunnelFlags::empty(),
};

const fn gue(port: u16, flags: TunnelFlags) -> Tunnel {
    Tunnel::Gue { port, flags }
}

const fn gre(flags: TunnelFlags) -> Tunnel {
    Tunnel::Gre { flags }
}

/// What the lines of `ipvsadm-requests.commands` mean, in their order.
#[rustfmt::skip] // One line a command, as there.
fn meanings() -> Vec<(&'static str, Command)> {
    use Command::*;
    let timeouts = |tcp, tcp_fin, udp| SetTimeouts(Timeouts { tcp, tcp_fin, udp });
    let daemon = |state, sync_id| Daemon::new(state, "dummy0".parse().unwrap(), sync_id);
    let none = TunnelFlags::empty();
    let (csum, remcsum) = (TunnelFlags::CHECKSUM, TunnelFlags::REMOTE_CHECKSUM);
    let web = tcp("10.96.0.1:80");
    let web6 = tcp("[fd00:96::1]:443");
    let stream = sctp("10.96.0.20:9899");
    let stream6 = sctp("[fd00:96::20]:9899");
    let high = mark(3_000_000_000);
    let high6 = mark6(3_000_000_000);
    let master = Daemon {
        max_len: Some(1400),
        group: Some("224.0.1.1".parse().unwrap()),
        port: Some(8849),
        ttl: Some(3),
        ..daemon(DaemonState::Master, 7)
    };
    let backup = Daemon {
        max_len: Some(1401),
        group: Some("ff02::1:1".parse().unwrap()),
        port: Some(8850),
        ttl: Some(4),
        ..daemon(DaemonState::Backup, 255)
    };
    vec![
        ("--set 901 121 301", timeouts(901, 121, 301)),
        ("--set 0 0 302", timeouts(0, 0, 302)),
        ("--start-daemon master --mcast-interface dummy0", NewDaemon(daemon(DaemonState::Master, 0))),
        ("--stop-daemon master", DelDaemon(DaemonState::Master)),
        ("--start-daemon master --mcast-interface dummy0 --syncid 7 --sync-maxlen 1400 --mcast-group 224.0.1.1 --mcast-port 8849 --mcast-ttl 3", NewDaemon(master)),
        ("--start-daemon backup --mcast-interface dummy0 --syncid 255 --sync-maxlen 1401 --mcast-group ff02::1:1 --mcast-port 8850 --mcast-ttl 4", NewDaemon(backup)),
        ("--stop-daemon backup", DelDaemon(DaemonState::Backup)),
        ("--stop-daemon master", DelDaemon(DaemonState::Master)),
        ("-A -t 10.96.0.1:80 -s rr", NewService(service(web, "rr"))),
        ("-A -t [fd00:96::1]:443 -s wlc", NewService(service(web6, "wlc"))),
        ("-A -u 10.96.0.10:53 -s rr -o", NewService(service(udp("10.96.0.10:53"), "rr").with_flags(ServiceFlags::ONE_PACKET))),
        ("-A -u [fd00:96::10]:53 -s wrr -o", NewService(service(udp("[fd00:96::10]:53"), "wrr").with_flags(ServiceFlags::ONE_PACKET))),
        ("-A --sctp-service 10.96.0.20:9899 -s lc", NewService(service(stream, "lc"))),
        ("-A --sctp-service [fd00:96::20]:9899 -s sed", NewService(service(stream6, "sed"))),
        ("-A -t 10.96.0.30:80 -s sh -b sh-fallback,sh-port", NewService(service(tcp("10.96.0.30:80"), "sh").with_flags(ServiceFlags::SH_FALLBACK | ServiceFlags::SH_PORT))),
        ("-A -t [fd00:96::30]:80 -s mh -b mh-port", NewService(service(tcp("[fd00:96::30]:80"), "mh").with_flags(ServiceFlags::MH_PORT))),
        ("-A -t 10.96.0.31:80 -s mh -b mh-fallback", NewService(service(tcp("10.96.0.31:80"), "mh").with_flags(ServiceFlags::MH_FALLBACK))),
        ("-A -t 10.96.0.32:80 -s rr -b flag-3", NewService(service(tcp("10.96.0.32:80"), "rr").with_flags(ServiceFlags::SCHED3))),
        ("-A -t 10.96.0.40:0 -s rr -p 300", NewService(service(tcp("10.96.0.40:0"), "rr").with_persistence(300))),
        ("-A -t 10.96.0.41:80 -s wrr -p 10800 -M 255.255.240.0", NewService(service(tcp("10.96.0.41:80"), "wrr").with_persistence(10_800).with_netmask(20))),
        ("-A -t [fd00:96::41]:80 -s wrr -p 2678400 -M 64", NewService(service(tcp("[fd00:96::41]:80"), "wrr").with_persistence(2_678_400).with_netmask(64))),
        ("-A -u 10.96.0.50:5060 -s rr -p 60 --pe sip", NewService(sip(60))),
        ("-A -f 100 -s wlc", NewService(service(mark(100), "wlc"))),
        ("-A -f 100 -6 -s lblcr", NewService(service(mark6(100), "lblcr"))),
        ("-A -f 3000000000 -s fo -p 600 -M 255.255.255.0", NewService(service(high, "fo").with_persistence(600).with_netmask(24))),
        ("-A -f 3000000000 -6 -s ovf -p 600 -M 48", NewService(service(high6, "ovf").with_persistence(600).with_netmask(48))),
        ("-E -t 10.96.0.1:80 -s wrr -p 600 -M 255.255.255.0", SetService(service(web, "wrr").with_persistence(600).with_netmask(24))),
        ("-E -t 10.96.0.1:80 -s wlc", SetService(service(web, "wlc"))),
        ("-E -t [fd00:96::1]:443 -s sh -b sh-port", SetService(service(web6, "sh").with_flags(ServiceFlags::SH_PORT))),
        ("-E -u 10.96.0.50:5060 -s rr -p 61 --pe sip", SetService(sip(61))),
        ("-E -u 10.96.0.50:5060 -s rr -p 60", SetService(service(udp("10.96.0.50:5060"), "rr").with_persistence(60))),
        ("-E --sctp-service 10.96.0.20:9899 -s nq", SetService(service(stream, "nq"))),
        ("-E -f 100 -s dh", SetService(service(mark(100), "dh"))),
        ("-E -f 100 -6 -s mh -b mh-fallback,mh-port -p 360 -M 56", SetService(service(mark6(100), "mh").with_flags(ServiceFlags::MH_FALLBACK | ServiceFlags::MH_PORT).with_persistence(360).with_netmask(56))),
        ("-a -t 10.96.0.1:80 -r 10.2.0.2:8080 -m -w 3", NewDest(web, masq("10.2.0.2:8080", 3))),
        ("-a -t 10.96.0.1:80 -r 10.2.0.3:8080 -m -w 0", NewDest(web, masq("10.2.0.3:8080", 0))),
        ("-a -t 10.96.0.1:80 -r 10.2.0.4:8080 -m -w 65535 -x 100 -y 50", NewDest(web, masq("10.2.0.4:8080", 65_535).with_thresholds(100, 50))),
        ("-a -t 10.96.0.1:80 -r 10.2.0.5:8080 -m -x 7", NewDest(web, masq("10.2.0.5:8080", 1).with_thresholds(7, 0))),
        ("-a -t 10.96.0.1:80 -r 10.2.0.6:80 -g -w 1", NewDest(web, direct("10.2.0.6:80"))),
        ("-a -t 10.96.0.1:80 -r 10.2.0.7:80 -i -w 1", NewDest(web, tunnel("10.2.0.7:80", IPIP))),
        ("-a -t 10.96.0.1:80 -r 10.2.0.8:80 -i -w 1 --tun-type ipip", NewDest(web, tunnel("10.2.0.8:80", IPIP))),
        ("-a -t 10.96.0.1:80 -r 10.2.0.9:80 -i -w 1 --tun-type gue --tun-port 5555", NewDest(web, tunnel("10.2.0.9:80", gue(5555, none)))),
        ("-a -t 10.96.0.1:80 -r 10.2.0.10:80 -i -w 1 --tun-type gue --tun-port 5556 --tun-nocsum", NewDest(web, tunnel("10.2.0.10:80", gue(5556, none)))),
        ("-a -t 10.96.0.1:80 -r 10.2.0.11:80 -i -w 1 --tun-type gue --tun-port 5557 --tun-csum", NewDest(web, tunnel("10.2.0.11:80", gue(5557, csum)))),
        ("-a -t 10.96.0.1:80 -r 10.2.0.12:80 -i -w 1 --tun-type gue --tun-port 65535 --tun-remcsum", NewDest(web, tunnel("10.2.0.12:80", gue(65_535, remcsum)))),
        ("-a -t 10.96.0.1:80 -r 10.2.0.13:80 -i -w 1 --tun-type gre", NewDest(web, tunnel("10.2.0.13:80", gre(none)))),
        ("-a -t 10.96.0.1:80 -r 10.2.0.14:80 -i -w 1 --tun-type gre --tun-nocsum", NewDest(web, tunnel("10.2.0.14:80", gre(none)))),
        ("-a -t 10.96.0.1:80 -r 10.2.0.15:80 -i -w 1 --tun-type gre --tun-csum", NewDest(web, tunnel("10.2.0.15:80", gre(csum)))),
        ("-a -t 10.96.0.1:80 -r [fd00:2::2]:80 -i -w 1", NewDest(web, tunnel("[fd00:2::2]:80", IPIP))),
        ("-a -t [fd00:96::1]:443 -r [fd00:2::2]:6443 -m -w 1", NewDest(web6, masq("[fd00:2::2]:6443", 1))),
        ("-a -t [fd00:96::1]:443 -r 10.2.0.2:443 -i -w 2 --tun-type gue --tun-port 5555 --tun-remcsum", NewDest(web6, tunnel("10.2.0.2:443", gue(5555, remcsum)).with_weight(2))),
        ("-a -u 10.96.0.10:53 -r 10.2.0.2:5353 -m -w 1", NewDest(udp("10.96.0.10:53"), masq("10.2.0.2:5353", 1))),
        ("-a --sctp-service 10.96.0.20:9899 -r 10.2.0.2:9899 -m -w 1", NewDest(stream, masq("10.2.0.2:9899", 1))),
        ("-a --sctp-service [fd00:96::20]:9899 -r [fd00:2::2]:9899 -g -w 1", NewDest(stream6, direct("[fd00:2::2]:9899"))),
        ("-a -f 100 -r 10.2.0.2 -g -w 1", NewDest(mark(100), direct("10.2.0.2:0"))),
        ("-a -f 100 -6 -r [fd00:2::2]:0 -i -w 1 --tun-type gre --tun-csum", NewDest(mark6(100), tunnel("[fd00:2::2]:0", gre(csum)))),
        ("-e -t 10.96.0.1:80 -r 10.2.0.2:8080 -m -w 0", SetDest(web, masq("10.2.0.2:8080", 0))),
        ("-e -t 10.96.0.1:80 -r 10.2.0.4:8080 -m -w 5 -x 200 -y 20", SetDest(web, masq("10.2.0.4:8080", 5).with_thresholds(200, 20))),
        ("-e -t 10.96.0.1:80 -r 10.2.0.4:8080 -m -w 5", SetDest(web, masq("10.2.0.4:8080", 5))),
        ("-e -t 10.96.0.1:80 -r 10.2.0.6:80 -i -w 1 --tun-type gre --tun-csum", SetDest(web, tunnel("10.2.0.6:80", gre(csum)))),
        ("-e -t 10.96.0.1:80 -r 10.2.0.11:80 -i -w 2 --tun-type gue --tun-port 5558 --tun-remcsum", SetDest(web, tunnel("10.2.0.11:80", gue(5558, remcsum)).with_weight(2))),
        ("-e -t 10.96.0.1:80 -r 10.2.0.12:80 -i -w 2", SetDest(web, tunnel("10.2.0.12:80", IPIP).with_weight(2))),
        ("-e -t 10.96.0.1:80 -r [fd00:2::2]:80 -i -w 2", SetDest(web, tunnel("[fd00:2::2]:80", IPIP).with_weight(2))),
        ("-e -t [fd00:96::1]:443 -r [fd00:2::2]:6443 -m -w 9", SetDest(web6, masq("[fd00:2::2]:6443", 9))),
        ("-e -f 100 -r 10.2.0.2 -m -w 2", SetDest(mark(100), masq("10.2.0.2:0", 2))),
        ("-Z -t 10.96.0.1:80", Zero(Some(web))),
        ("-Z -t [fd00:96::1]:443", Zero(Some(web6))),
        ("-Z -u 10.96.0.10:53", Zero(Some(udp("10.96.0.10:53")))),
        ("-Z --sctp-service 10.96.0.20:9899", Zero(Some(stream))),
        ("-Z -f 100", Zero(Some(mark(100)))),
        ("-Z -f 100 -6", Zero(Some(mark6(100)))),
        ("-Z", Zero(None)),
        ("-d -t 10.96.0.1:80 -r 10.2.0.2:8080", DelDest(web, backend("10.2.0.2:8080"))),
        ("-d -t 10.96.0.1:80 -r [fd00:2::2]:80", DelDest(web, backend("[fd00:2::2]:80"))),
        ("-d -t [fd00:96::1]:443 -r [fd00:2::2]:6443", DelDest(web6, backend("[fd00:2::2]:6443"))),
        ("-d -t [fd00:96::1]:443 -r 10.2.0.2:443", DelDest(web6, backend("10.2.0.2:443"))),
        ("-d --sctp-service 10.96.0.20:9899 -r 10.2.0.2:9899", DelDest(stream, backend("10.2.0.2:9899"))),
        ("-d -f 100 -r 10.2.0.2", DelDest(mark(100), backend("10.2.0.2:0"))),
        ("-d -f 100 -6 -r [fd00:2::2]:0", DelDest(mark6(100), backend("[fd00:2::2]:0"))),
        ("-D -t 10.96.0.1:80", DelService(web)),
        ("-D -t [fd00:96::1]:443", DelService(web6)),
        ("-D -u 10.96.0.10:53", DelService(udp("10.96.0.10:53"))),
        ("-D --sctp-service [fd00:96::20]:9899", DelService(stream6)),
        ("-D -f 100", DelService(mark(100))),
        ("-D -f 3000000000 -6", DelService(high6)),
        ("-C", Flush),
    ]
}

/// A place: the numbers of the nest (0 for none) and of the attribute.
type Place = (u16, u16);

const SERVICE: u16 = 1;
const DEST: u16 = 2;
const DAEMON: u16 = 3;
const STATS: u16 = 10;
const STATS64: u16 = 12;
/// `struct nlmsghdr` and `struct genlmsghdr`.
const HEADERS: usize = 20;

/// The attributes in a part of a message, `struct nlattr` and value, aligned to four bytes: numbers
/// without flags, and where the values are.
fn walk(message: &[u8], within: Range<usize>) -> Vec<(u16, Range<usize>)> {
    let mut found = Vec::new();
    let mut at = within.start;
    while at < within.end {
        let number = |at: usize| u16::from_le_bytes([message[at], message[at + 1]]);
        let length = usize::from(number(at));
        found.push((number(at + 2) & 0x3fff, at + 4..at + length));
        at += length.next_multiple_of(4);
    }
    assert_eq!(at, within.end);
    found
}

/// Every attribute by its place; none stands twice.
fn attributes(message: &[u8]) -> BTreeMap<Place, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut insert = |place: Place, value: Range<usize>| {
        let value = message[value].to_vec();
        assert_eq!(found.insert(place, value), None, "{place:?}");
    };
    for (kind, value) in walk(message, HEADERS..message.len()) {
        if let SERVICE | DEST | DAEMON = kind {
            for (inner, value) in walk(message, value) {
                insert((kind, inner), value);
            }
        } else {
            insert((0, kind), value);
        }
    }
    found
}

/// What `ipvsadm` sends for a command though the kernel does not read it, and the crate leaves out.
fn needless(command: &Command) -> BTreeMap<Place, Vec<u8>> {
    let mut found = BTreeMap::new();
    if let (Some(key), false) = (
        command.service_key(),
        matches!(command, Command::NewService(_) | Command::SetService(_)),
    ) {
        // A whole service where its key would do: scheduler, flags, timeout, netmask.
        let netmask = match key.family() {
            Family::Inet => [255; 4],
            Family::Inet6 => [128, 0, 0, 0],
        };
        found.insert((SERVICE, 6), vec![0]);
        found.insert((SERVICE, 7), vec![0, 0, 0, 0, 255, 255, 255, 255]);
        found.insert((SERVICE, 8), vec![0; 4]);
        found.insert((SERVICE, 9), netmask.to_vec());
    }
    if let Command::DelDest(..) = command {
        // Likewise: method, weight, thresholds.
        found.insert((DEST, 3), vec![3, 0, 0, 0]);
        found.insert((DEST, 4), vec![1, 0, 0, 0]);
        found.insert((DEST, 5), vec![0; 4]);
        found.insert((DEST, 6), vec![0; 4]);
    }
    let tunnel = match command {
        Command::NewDest(_, wanted) | Command::SetDest(_, wanted) => {
            matches!(wanted.forward, ForwardMethod::Tunnel(_))
        }
        _ => command.destination_key().is_none(),
    };
    if !tunnel {
        found.insert((DEST, 13), vec![0]);
        found.insert((DEST, 14), vec![0; 2]);
        found.insert((DEST, 15), vec![0; 2]);
    }
    if let Command::DelDaemon(_) = command {
        found.insert((DAEMON, 2), vec![0]);
        found.insert((DAEMON, 3), vec![0; 4]);
    }
    found
}

/// `ipvsadm` leaves what it finds behind the four bytes of an IPv4 destination; the kernel does not
/// look there.
fn without_tail(
    mut attributes: BTreeMap<Place, Vec<u8>>,
    command: &Command,
) -> BTreeMap<Place, Vec<u8>> {
    if let Some(value) = attributes.get_mut(&(DEST, 1))
        && command
            .destination_key()
            .is_some_and(|key| key.addr.is_ipv4())
    {
        assert_eq!(value.len(), 16);
        value.truncate(4);
    }
    attributes
}

#[test]
fn every_captured_request_has_a_meaning() {
    let commands: Vec<_> = COMMANDS
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    let captured: Vec<_> = requests().into_iter().map(|(line, _)| line).collect();
    let meant: Vec<_> = meanings().into_iter().map(|(line, _)| line).collect();
    assert_eq!(captured, commands);
    assert_eq!(meant, commands);
}

#[test]
fn the_crate_sends_what_ipvsadm_sends() {
    for ((line, request), (_, command)) in requests().iter().zip(meanings()) {
        let envelope = Envelope {
            family_id: u16::from_le_bytes([request[4], request[5]]),
            sequence: 0,
            acknowledge: true,
        };
        let mut encoded = Vec::new();
        encode_command(&mut encoded, &envelope, &command);
        // All of both headers but the length.
        assert_eq!(encoded[4..HEADERS], request[4..HEADERS], "{line}");
        let mut expected = without_tail(attributes(request), &command);
        for (place, value) in needless(&command) {
            assert_eq!(expected.remove(&place), Some(value), "{line}: {place:?}");
        }
        let found = without_tail(attributes(&encoded), &command);
        assert_eq!(found, expected, "{line}");
        assert_eq!(command.validate(), Ok(()), "{line}");
    }
}

#[test]
fn what_ipvsadm_sends_is_understood() {
    for ((line, request), (_, command)) in requests().iter().zip(meanings()) {
        assert_eq!(decode_command(&payload(request)), Ok(command), "{line}");
    }
}

/// Numbers as `ipvsadm` printed them, by what it printed them for.
type Printed = BTreeMap<String, [u64; 5]>;

/// The parts of a capture: for `--stats` and `--rate`, the datagrams and the numbers.
fn statistics(text: &str) -> Vec<(&str, Vec<Vec<u8>>, Printed)> {
    let mut parts = Vec::new();
    for part in text.split("$ ipvsadm -Ln ").skip(1) {
        let (how, rest) = part.split_once(" --exact\n").unwrap();
        let received = rest.lines().filter_map(|line| line.strip_prefix("< "));
        let printed = rest
            .lines()
            .filter_map(|line| line.strip_prefix("| "))
            .skip(3);
        let rows = printed.map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            let [kind, addr, numbers @ ..] = words.as_slice() else {
                panic!("a row: {line}");
            };
            let numbers: Vec<u64> = numbers.iter().map(|word| word.parse().unwrap()).collect();
            (format!("{kind} {addr}"), numbers.try_into().unwrap())
        });
        parts.push((how, received.map(bytes).collect(), rows.collect()));
    }
    parts
}

fn messages(datagram: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = datagram;
    let mut found = Vec::new();
    while let [a, b, c, d, ..] = *rest {
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        found.push(rest[..length].to_vec());
        rest = &rest[length.next_multiple_of(4)..];
    }
    found
}

/// What `ipvsadm` would print a message for, and its counters.
fn decoded(message: &[u8]) -> (String, Stats) {
    match Reply::decode(&payload(message), Family::Inet).unwrap() {
        Reply::Service(entry) => {
            assert_eq!(entry.unknown, []);
            let ServiceKey::Address {
                protocol,
                addr,
                port,
            } = entry.service.key
            else {
                panic!("a service of an address: {entry:?}");
            };
            let addr = SocketAddr::new(addr, port);
            (format!("{protocol} {addr}"), entry.stats)
        }
        Reply::Destination(entry) => {
            assert_eq!(entry.unknown, []);
            (format!("-> {}", entry.destination.key), entry.stats)
        }
        other => panic!("a service or a destination: {other:?}"),
    }
}

/// In the order of the kernel's numbers: counters, then rates.
fn numbers(stats: &Stats) -> [u64; 10] {
    [
        stats.conns,
        stats.in_packets,
        stats.out_packets,
        stats.in_bytes,
        stats.out_bytes,
        stats.cps,
        stats.in_pps,
        stats.out_pps,
        stats.in_bps,
        stats.out_bps,
    ]
}

#[test]
fn counters_and_rates_are_what_ipvsadm_printed() {
    for text in STATISTICS {
        let parts = statistics(text);
        assert_eq!(
            parts.iter().map(|part| part.0).collect::<Vec<_>>(),
            ["--stats", "--rate"]
        );
        for (how, datagrams, printed) in parts {
            let shown = if how == "--stats" { 0..5 } else { 5..10 };
            let found: Printed = datagrams
                .iter()
                .flat_map(|datagram| messages(datagram))
                .map(|message| {
                    let (name, stats) = decoded(&message);
                    (name, numbers(&stats)[shown.clone()].try_into().unwrap())
                })
                .collect();
            assert_eq!(found, printed, "{how}");
            assert_eq!(printed.len(), 7);
            assert!(how == "--rate" || printed.values().flatten().all(|number| *number != 0));
        }
    }
}

/// No capture can have counted to 2^32: the bytes of the wide counters are set to more.
#[test]
fn wide_counters_are_read_with_all_their_bits() {
    for text in STATISTICS {
        for (_, datagrams, _) in statistics(text) {
            for mut message in datagrams.iter().flat_map(|datagram| messages(datagram)) {
                let [(_, entry)] =
                    <[_; 1]>::try_from(walk(&message, HEADERS..message.len())).unwrap();
                let nests = walk(&message, entry);
                assert!(nests.iter().any(|(nest, _)| *nest == STATS));
                let (_, nest) = nests
                    .into_iter()
                    .find(|(nest, _)| *nest == STATS64)
                    .unwrap();
                let mut expected = [0; 10];
                for (kind, value) in walk(&message, nest) {
                    let Some(slot) = expected.get_mut(usize::from(kind) - 1) else {
                        assert_eq!((kind, value.len()), (11, 0), "padding");
                        continue;
                    };
                    *slot = u64::MAX - u64::from(kind);
                    message[value].copy_from_slice(&slot.to_le_bytes());
                }
                assert_eq!(numbers(&decoded(&message).1), expected);
            }
        }
    }
}
