//! Commands as text, against lines that `ipvsadm -Sn` printed for the same things; and what is
//! refused before it is sent, against what kernels 6.1 and 6.12 accept or refuse without a word.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

use ipvs_sys::{
    Command, Daemon, DaemonState, Destination, Family, ForwardMethod, Invalid, Protocol, Service,
    ServiceFlags, ServiceKey, Tunnel, TunnelFlags,
};

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn tcp(text: &str) -> ServiceKey {
    ServiceKey::tcp(addr(text))
}

fn mark(family: Family, mark: u32) -> ServiceKey {
    let mark = NonZeroU32::new(mark).unwrap();
    ServiceKey::Mark { family, mark }
}

fn service(key: ServiceKey, scheduler: &str) -> Service {
    Service::new(key, scheduler.parse().unwrap())
}

fn to(text: &str, forward: ForwardMethod) -> Destination {
    Destination::new(addr(text).into(), forward)
}

#[test]
fn services_read_as_ipvsadm_saves_them() {
    let sh = service(tcp("192.168.200.5:80"), "sh")
        .with_flags(ServiceFlags::SH_FALLBACK | ServiceFlags::SH_PORT)
        .with_persistence(360)
        .with_netmask(24);
    let dns = ServiceKey::udp(addr("10.96.0.10:53"));
    let sip = ServiceKey::udp(addr("10.96.0.50:5060"));
    for (service, line) in [
        (
            sh,
            "-A -t 192.168.200.5:80 -s sh -p 360 -M 255.255.255.0 -b sh-fallback,sh-port",
        ),
        (
            service(tcp("10.96.0.1:443"), "rr"),
            "-A -t 10.96.0.1:443 -s rr",
        ),
        (
            service(dns, "rr").with_flags(ServiceFlags::ONE_PACKET),
            "-A -u 10.96.0.10:53 -s rr -o",
        ),
        (
            service(sip, "rr")
                .with_persistence(60)
                .with_pe_name("sip".parse().unwrap()),
            "-A -u 10.96.0.50:5060 -s rr -p 60 --pe sip",
        ),
        (
            service(ServiceKey::sctp(addr("10.96.0.20:9899")), "lc"),
            "-A --sctp-service 10.96.0.20:9899 -s lc",
        ),
        (
            service(tcp("[fd00:96::2]:80"), "wrr")
                .with_persistence(600)
                .with_netmask(64),
            "-A -t [fd00:96::2]:80 -s wrr -p 600 -M 64",
        ),
        (
            service(mark(Family::Inet, 100), "mh").with_flags(ServiceFlags::MH_PORT),
            "-A -f 100 -s mh -b mh-port",
        ),
        (
            service(mark(Family::Inet6, 200), "rr"),
            "-A -f 200 -6 -s rr",
        ),
    ] {
        assert_eq!(Command::NewService(service).to_string(), line);
    }
}

#[test]
fn destinations_read_as_ipvsadm_saves_them() {
    let gre = Tunnel::Gre {
        flags: TunnelFlags::empty(),
    };
    let gue = Tunnel::Gue {
        port: 5555,
        flags: TunnelFlags::CHECKSUM,
    };
    for (key, destination, line) in [
        (
            tcp("192.168.200.5:80"),
            to("192.168.7.7:80", ForwardMethod::Tunnel(gre)).with_weight(65_535),
            "-a -t 192.168.200.5:80 -r 192.168.7.7:80 -i -w 65535 --tun-type gre --tun-nocsum",
        ),
        (
            tcp("192.168.200.5:80"),
            to("10.3.0.2:80", ForwardMethod::Tunnel(gue)).with_weight(100),
            "-a -t 192.168.200.5:80 -r 10.3.0.2:80 -i -w 100 --tun-type gue --tun-port 5555 \
             --tun-csum",
        ),
        (
            tcp("10.96.0.30:80"),
            to("[fd00:3::2]:80", ForwardMethod::Tunnel(Tunnel::default())),
            "-a -t 10.96.0.30:80 -r [fd00:3::2]:80 -i -w 1 --tun-type ipip",
        ),
        (
            mark(Family::Inet, 100),
            to("10.2.0.2:0", ForwardMethod::DirectRoute),
            "-a -f 100 -r 10.2.0.2:0 -g -w 1",
        ),
        (
            tcp("10.96.0.10:53"),
            to("10.3.0.2:53", ForwardMethod::Masquerade).with_weight(0),
            "-a -t 10.96.0.10:53 -r 10.3.0.2:53 -m -w 0",
        ),
    ] {
        assert_eq!(Command::NewDest(key, destination).to_string(), line);
    }
}

#[track_caller]
fn assert_refused(command: &Command, why: &Invalid) {
    assert_eq!(command.validate().as_ref(), Err(why), "{command}");
}

#[test]
fn services_that_cannot_work_are_refused() {
    let good = service(tcp("10.96.0.1:80"), "rr");
    let with_key = |key| service(key, "rr");
    for (service, why) in [
        (
            with_key(ServiceKey::address(
                Protocol::Other(50),
                addr("10.96.0.1:80"),
            )),
            Invalid::Protocol(50),
        ),
        (
            with_key(tcp("0.0.0.0:80")),
            Invalid::ServiceAddress(ip("0.0.0.0")),
        ),
        (
            with_key(tcp("224.0.0.1:80")),
            Invalid::ServiceAddress(ip("224.0.0.1")),
        ),
        (
            with_key(tcp("[ff02::1]:80")),
            Invalid::ServiceAddress(ip("ff02::1")),
        ),
        (with_key(tcp("10.96.0.1:0")), Invalid::PortZero),
        (
            good.clone().with_flags(ServiceFlags::ONE_PACKET),
            Invalid::OnePacket,
        ),
        (good.clone().with_persistence(0), Invalid::Persistence(0)),
        (
            good.clone().with_persistence(u32::MAX),
            Invalid::Persistence(u32::MAX),
        ),
        (
            good.clone().with_netmask(0),
            Invalid::Netmask { bits: 0, max: 32 },
        ),
        (
            good.clone().with_netmask(33),
            Invalid::Netmask { bits: 33, max: 32 },
        ),
        (
            with_key(tcp("[fd00::1]:80")).with_netmask(129),
            Invalid::Netmask {
                bits: 129,
                max: 128,
            },
        ),
    ] {
        assert_refused(&Command::NewService(service.clone()), &why);
        assert_refused(&Command::SetService(service.clone()), &why);
        // What somebody else made must still be removable.
        assert_eq!(Command::DelService(service.key).validate(), Ok(()));
    }
    assert_eq!(Command::NewService(good).validate(), Ok(()));
    let every_port = with_key(tcp("10.96.0.1:0")).with_persistence(2_678_400);
    assert_eq!(Command::NewService(every_port).validate(), Ok(()));
}

#[test]
fn destinations_that_cannot_work_are_refused() {
    let masquerade = |text| to(text, ForwardMethod::Masquerade);
    let gue = |port| Tunnel::Gue {
        port,
        flags: TunnelFlags::empty(),
    };
    let strange = Tunnel::Other {
        kind: 9,
        port: 0,
        flags: TunnelFlags::empty(),
    };
    for (destination, why) in [
        (
            masquerade("0.0.0.0:80"),
            Invalid::DestinationAddress(ip("0.0.0.0")),
        ),
        (
            masquerade("224.0.0.1:80"),
            Invalid::DestinationAddress(ip("224.0.0.1")),
        ),
        (
            masquerade("255.255.255.255:80"),
            Invalid::DestinationAddress(ip("255.255.255.255")),
        ),
        (
            masquerade("[fe80::1]:80"),
            Invalid::DestinationAddress(ip("fe80::1")),
        ),
        (masquerade("[fd00::1]:80"), Invalid::MixedFamily),
        (
            to("10.2.0.2:8080", ForwardMethod::DirectRoute),
            Invalid::Port {
                service: 80,
                destination: 8080,
            },
        ),
        (
            to("10.2.0.2:8080", ForwardMethod::Tunnel(gue(5555))),
            Invalid::Port {
                service: 80,
                destination: 8080,
            },
        ),
        (
            to("10.2.0.2:80", ForwardMethod::Tunnel(gue(0))),
            Invalid::TunnelPort,
        ),
        (
            to("10.2.0.2:80", ForwardMethod::Tunnel(strange)),
            Invalid::Tunnel(9),
        ),
        (
            to("10.2.0.2:80", ForwardMethod::Other(5)),
            Invalid::Forward(5),
        ),
        (
            masquerade("10.2.0.2:80").with_weight(1 << 31),
            Invalid::Weight(1 << 31),
        ),
        (
            masquerade("10.2.0.2:80").with_thresholds(0, 5),
            Invalid::Thresholds { upper: 0, lower: 5 },
        ),
        (
            masquerade("10.2.0.2:80").with_thresholds(1 << 31, 0),
            Invalid::Thresholds {
                upper: 1 << 31,
                lower: 0,
            },
        ),
    ] {
        let key = tcp("10.96.0.1:80");
        assert_refused(&Command::NewDest(key, destination), &why);
        assert_refused(&Command::SetDest(key, destination), &why);
        assert_eq!(Command::DelDest(key, destination.key).validate(), Ok(()));
    }
    // One family in the other goes through a tunnel.
    let tunnelled = to("[fd00::1]:80", ForwardMethod::Tunnel(Tunnel::default()));
    assert_eq!(
        Command::NewDest(tcp("10.96.0.1:80"), tunnelled).validate(),
        Ok(())
    );
    // A mark has no port that a destination could differ from, and weights go as far as an `int`.
    let mark = ServiceKey::Mark {
        family: Family::Inet,
        mark: NonZeroU32::MIN,
    };
    let routed = to("10.2.0.2:80", ForwardMethod::DirectRoute).with_weight((1 << 31) - 1);
    assert_eq!(Command::NewDest(mark, routed).validate(), Ok(()));
}

#[test]
fn daemons_that_cannot_work_are_refused() {
    let mut daemon = Daemon::new(DaemonState::Master, "eth0".parse().unwrap(), 256);
    assert_refused(&Command::NewDaemon(daemon.clone()), &Invalid::SyncId(256));
    daemon.sync_id = 255;
    daemon.group = Some(ip("10.0.0.1"));
    assert_refused(
        &Command::NewDaemon(daemon.clone()),
        &Invalid::Group(ip("10.0.0.1")),
    );
    daemon.group = Some(ip("224.0.0.81"));
    assert_eq!(Command::NewDaemon(daemon).validate(), Ok(()));
}
