//! The readers of `/proc` against files of Linux 6.1 (User-Mode Linux, 100 ticks a second), saved
//! after `ipvsadm` had made one service of every kind and clients had used them.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::net::SocketAddr;
use std::num::NonZeroU32;

use ipvs_sys::procfs::{self, ProcForward, ProcKey, ProcService};
use ipvs_sys::{Family, Protocol, ServiceKey};
use proptest::prelude::*;

const SERVICES: &str = include_str!("captures/proc-ip_vs.txt");
const CONNECTIONS: &str = include_str!("captures/proc-ip_vs_conn.txt");

fn find(key: ServiceKey) -> ProcService {
    let services = procfs::services(SERVICES).unwrap();
    services
        .into_iter()
        .find(|service| service.key.matches(&key))
        .unwrap()
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn all_services_and_destinations_are_read() {
    let services = procfs::services(SERVICES).unwrap();
    // `grep -c '^[TUSF]'` and `grep -c '> [0-9[]'` count them.
    assert_eq!(services.len(), 14);
    let destinations: usize = services.iter().map(|s| s.destinations.len()).sum();
    assert_eq!(destinations, 16);
}

#[test]
fn a_plain_service() {
    let service = find(ServiceKey::tcp(addr("10.96.0.1:443")));
    assert_eq!(service.scheduler, "rr");
    assert_eq!(service.one_packet, Some(false));
    assert_eq!(service.persistence, None);
    let [first, second] = service.destinations.as_slice() else {
        panic!("two destinations");
    };
    assert_eq!(first.key, addr("10.3.0.2:6443").into());
    assert_eq!(first.forward, ProcForward::Masquerade);
    assert_eq!((first.weight, first.active, first.inactive), (2, 1, 1));
    assert_eq!(second.key, addr("10.2.0.2:6443").into());
}

#[test]
fn persistence_one_packet_and_marks() {
    let dns = find(ServiceKey::udp(addr("10.96.0.10:53")));
    assert_eq!(dns.one_packet, Some(true));

    let masked = find(ServiceKey::tcp(addr("192.168.200.5:80")));
    let persistence = masked.persistence.unwrap();
    assert_eq!(persistence.timeout_ticks, 36_000);
    assert_eq!(persistence.prefix(Family::Inet), Some(24));
    assert_eq!(masked.destinations[0].weight, 65_535);
    assert_eq!(masked.destinations[0].forward, ProcForward::Tunnel);
    assert_eq!(masked.destinations[2].forward, ProcForward::DirectRoute);

    let six = find(ServiceKey::tcp(addr("[fd00:96::2]:80")));
    assert_eq!(six.one_packet, None);
    #[cfg(target_endian = "little")]
    assert_eq!(six.persistence.unwrap().prefix(Family::Inet6), Some(64));

    let marks: Vec<_> = procfs::services(SERVICES)
        .unwrap()
        .into_iter()
        .filter_map(|service| match service.key {
            ProcKey::Mark(mark) => Some(mark.get()),
            ProcKey::Address { .. } => None,
        })
        .collect();
    assert_eq!(marks, [3_000_000_000, 100, 200]);
    assert!(
        ProcKey::Mark(NonZeroU32::new(200).unwrap()).matches(&ServiceKey::Mark {
            family: Family::Inet6,
            mark: NonZeroU32::new(200).unwrap(),
        })
    );
}

#[test]
fn connections_are_read() {
    let connections: Vec<_> = procfs::connections(CONNECTIONS.as_bytes())
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(connections.len(), 14);

    let six = &connections[0];
    assert_eq!(six.protocol, Protocol::Tcp);
    assert_eq!(six.client, addr("[fd00:1::2]:40031"));
    assert_eq!(six.virtual_addr, addr("[fd00:96::2]:80"));
    assert_eq!(six.destination, addr("[fd00:3::2]:8080"));
    assert_eq!(six.state, "TIME_WAIT");
    assert_eq!(six.expires, 113);
    assert_eq!(six.engine, None);

    let call = connections.iter().find(|c| c.engine.is_some()).unwrap();
    assert_eq!(call.protocol, Protocol::Udp);
    assert_eq!(call.client, addr("10.1.0.2:0"));
    assert_eq!(call.state, "ASSURED");
    assert_eq!(
        call.engine,
        Some(("sip".to_owned(), "abc123@10.1.0.2".to_owned()))
    );
}

#[test]
fn what_the_kernel_does_not_write_is_an_error() {
    for text in [
        "TCP  0A600001 rr\n",
        "TCP  0A600001:0050 rr persistent\n",
        "TCP  0A600001:0050 rr sometimes\n",
        "  -> 0A020002:0050      Masq    1      0          0         \n",
        "ABC  0A600001:0050 rr\n",
        "FWM  00000000 rr\n",
    ] {
        assert!(procfs::services(text).is_err(), "{text}");
    }
    assert!(procfs::parse_connection("TCP 0A010002 9C68").is_err());
}

proptest! {
    #[test]
    fn no_text_makes_the_readers_panic(text in "[ -~\n\u{80}-\u{ff}]{0,200}") {
        let _ = procfs::services(&text);
        let _ = procfs::connections(text.as_bytes()).take(100).count();
    }

    /// Lines that are nearly right reach deeper than random ones.
    #[test]
    fn no_damaged_line_makes_the_readers_panic(at in 0..SERVICES.len(), with in any::<u8>()) {
        let mut bytes = SERVICES.as_bytes().to_vec();
        bytes[at] = with;
        let _ = procfs::services(&String::from_utf8_lossy(&bytes));
        let mut bytes = CONNECTIONS.as_bytes().to_vec();
        let at = at % bytes.len();
        bytes[at] = with;
        let _ = procfs::connections(bytes.as_slice()).take(100).count();
    }
}
