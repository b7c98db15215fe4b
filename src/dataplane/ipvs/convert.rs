//! Model ↔ `ipvs_sys`. Nothing else in the agent builds a kernel record.

use std::num::NonZeroU32;

use ipvs_sys::{
    Destination, DestinationKey, ForwardMethod, SchedulerName, Service, ServiceFlags, ServiceKey,
};

use super::key::ServerKey;
use super::share::Share;
use super::signature::sign;
use crate::model::{Family, HostPort, Protocol, RealServerKey, Scheduler, VipPort, VirtualServer};

/// The kernel's key of a virtual server.
pub fn service_key(key: ServerKey) -> ServiceKey {
    let vip = match key {
        ServerKey::Tuple(vip) => vip,
        ServerKey::Mark { family, mark } => {
            return ServiceKey::Mark {
                family: match family {
                    Family::V4 => ipvs_sys::Family::Inet,
                    Family::V6 => ipvs_sys::Family::Inet6,
                },
                mark: NonZeroU32::new(mark).expect("marks begin at 1"),
            };
        }
    };
    let protocol = match vip.protocol {
        Protocol::Tcp => ipvs_sys::Protocol::Tcp,
        Protocol::Udp => ipvs_sys::Protocol::Udp,
        Protocol::Sctp => ipvs_sys::Protocol::Sctp,
    };
    ServiceKey::Address {
        protocol,
        addr: vip.addr,
        port: vip.port,
    }
}

/// Ours of a kernel key; `None` for protocols that Services do not have.
pub fn server_key(key: &ServiceKey) -> Option<ServerKey> {
    let (protocol, addr, port) = match *key {
        ServiceKey::Address {
            protocol,
            addr,
            port,
        } => (protocol, addr, port),
        ServiceKey::Mark { family, mark } => {
            let family = match family {
                ipvs_sys::Family::Inet => Family::V4,
                ipvs_sys::Family::Inet6 => Family::V6,
            };
            let mark = mark.get();
            return Some(ServerKey::Mark { family, mark });
        }
    };
    let protocol = match protocol {
        ipvs_sys::Protocol::Tcp => Protocol::Tcp,
        ipvs_sys::Protocol::Udp => Protocol::Udp,
        ipvs_sys::Protocol::Sctp => Protocol::Sctp,
        _ => return None,
    };
    Some(ServerKey::Tuple(VipPort {
        addr,
        protocol,
        port,
    }))
}

/// The kernel's record of a virtual server of ours.
pub fn service(key: ServerKey, server: &VirtualServer) -> Service {
    let mut service = Service::new(service_key(key), scheduler_name(&server.scheduler));
    service.flags = scheduler_flags(&server.scheduler);
    service
        .flags
        .set(ServiceFlags::ONE_PACKET, server.tuning.one_packet);
    if let Some(persistence) = server.persistence {
        service.flags |= ServiceFlags::PERSISTENT;
        service.timeout = persistence.timeout_seconds;
    }
    service.netmask = key.family().host_prefix();
    sign(&mut service);
    service
}

fn scheduler_name(scheduler: &Scheduler) -> SchedulerName {
    scheduler
        .name
        .parse()
        .expect("names come from the fixed list of resolve::annotations or a checked flag")
}

fn scheduler_flags(scheduler: &Scheduler) -> ServiceFlags {
    // linux/ip_vs.h: SCHED1 is sh-fallback and mh-fallback, SCHED2 sh-port and mh-port.
    let mut flags = ServiceFlags::empty();
    flags.set(ServiceFlags::SCHED1, scheduler.fallback);
    flags.set(ServiceFlags::SCHED2, scheduler.port);
    flags
}

/// The kernel's key of a real server.
pub fn destination_key(key: RealServerKey) -> DestinationKey {
    DestinationKey {
        addr: key.addr,
        port: key.port,
    }
}

/// The model's key of a real server.
pub fn real_server_key(key: DestinationKey) -> RealServerKey {
    HostPort {
        addr: key.addr,
        port: key.port,
    }
}

/// The kernel's record of a real server, forwarded to by masquerading.
pub fn destination(key: RealServerKey, share: Share) -> Destination {
    Destination {
        key: destination_key(key),
        forward: ForwardMethod::Masquerade,
        weight: share.weight,
        upper_threshold: share.thresholds.upper,
        lower_threshold: share.thresholds.lower,
    }
}
