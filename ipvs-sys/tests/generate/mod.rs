//! Strategies for every value that may be sent.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

use ipvs_sys::{
    Command, Daemon, DaemonState, Destination, DestinationKey, Family, ForwardMethod, Protocol,
    Service, ServiceFlags, ServiceKey, Timeouts, Tunnel, TunnelFlags,
};
use proptest::option;
use proptest::prelude::*;

fn socket() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(SocketAddr::from)
}

fn key() -> impl Strategy<Value = ServiceKey> {
    prop_oneof![
        (any::<u16>(), socket())
            .prop_map(|(number, addr)| ServiceKey::address(Protocol::from(number), addr)),
        (any::<bool>(), 1_u32..).prop_map(|(six, mark)| ServiceKey::Mark {
            family: if six { Family::Inet6 } else { Family::Inet },
            mark: NonZeroU32::new(mark).unwrap(),
        }),
    ]
}

pub fn service() -> impl Strategy<Value = Service> {
    let names = ("[a-z0-9_-]{1,15}", option::of("[a-z0-9_-]{1,16}"));
    (key(), names, any::<u32>(), any::<u32>(), any::<u8>()).prop_map(
        |(key, (scheduler, engine), flags, timeout, netmask)| {
            let mut service = Service::new(key, scheduler.parse().unwrap())
                .with_flags(ServiceFlags::from_bits_retain(flags) - ServiceFlags::HASHED)
                .with_netmask(match key.family() {
                    Family::Inet => netmask % 33,
                    Family::Inet6 => netmask,
                });
            service.timeout = timeout;
            service.pe_name = engine.map(|name| name.parse().unwrap());
            service
        },
    )
}

fn tunnel() -> impl Strategy<Value = Tunnel> {
    (any::<u8>(), any::<u16>(), any::<u16>()).prop_map(|(kind, port, flags)| {
        let flags = TunnelFlags::from_bits_retain(flags);
        match kind {
            0..100 => Tunnel::Ipip { flags },
            100..150 => Tunnel::Gue { port, flags },
            150..200 => Tunnel::Gre { flags },
            kind => Tunnel::Other { kind, port, flags },
        }
    })
}

fn destination_key() -> impl Strategy<Value = DestinationKey> {
    socket().prop_map(DestinationKey::from)
}

fn destination() -> impl Strategy<Value = Destination> {
    let forward = prop_oneof![
        Just(ForwardMethod::Masquerade),
        Just(ForwardMethod::Local),
        Just(ForwardMethod::DirectRoute),
        Just(ForwardMethod::Bypass),
        (5_u32..).prop_map(ForwardMethod::Other),
        tunnel().prop_map(ForwardMethod::Tunnel),
    ];
    let numbers = (any::<u32>(), any::<u32>(), any::<u32>());
    (destination_key(), forward, numbers).prop_map(|(key, forward, (weight, upper, lower))| {
        Destination::new(key, forward)
            .with_weight(weight)
            .with_thresholds(upper, lower)
    })
}

fn daemon() -> impl Strategy<Value = Daemon> {
    let options = (
        option::of(any::<u16>()),
        option::of(any::<IpAddr>()),
        option::of(any::<u16>()),
        option::of(any::<u8>()),
    );
    (state(), "[a-z0-9.]{1,15}", any::<u32>(), options).prop_map(
        |(state, interface, sync_id, (max_len, group, port, ttl))| {
            let mut daemon = Daemon::new(state, interface.parse().unwrap(), sync_id);
            daemon.max_len = max_len;
            daemon.group = group;
            daemon.port = port;
            daemon.ttl = ttl;
            daemon
        },
    )
}

fn state() -> impl Strategy<Value = DaemonState> {
    prop_oneof![Just(DaemonState::Master), Just(DaemonState::Backup)]
}

pub fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        service().prop_map(Command::NewService),
        service().prop_map(Command::SetService),
        key().prop_map(Command::DelService),
        (key(), destination()).prop_map(|(key, dest)| Command::NewDest(key, dest)),
        (key(), destination()).prop_map(|(key, dest)| Command::SetDest(key, dest)),
        (key(), destination_key()).prop_map(|(key, dest)| Command::DelDest(key, dest)),
        option::of(key()).prop_map(Command::Zero),
        Just(Command::Flush),
        daemon().prop_map(Command::NewDaemon),
        state().prop_map(Command::DelDaemon),
        any::<(u32, u32, u32)>().prop_map(|(tcp, tcp_fin, udp)| {
            Command::SetTimeouts(Timeouts { tcp, tcp_fin, udp })
        }),
    ]
}
