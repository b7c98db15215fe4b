//! Model ↔ `ipvs_sys`. Nothing else in the agent builds a kernel record.

use std::net::IpAddr;

use ipvs_sys::{
    Destination, DestinationKey, ForwardMethod, SchedulerName, Service, ServiceFlags, ServiceKey,
};

use crate::model::{HostPort, Protocol, RealServerKey, Scheduler, VipPort, VirtualServer};

/// The kernel's key of a tuple.
pub fn service_key(vip: VipPort) -> ServiceKey {
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

/// The tuple of a kernel key; `None` for firewall marks and protocols that Services do not have.
pub fn vip_port(key: &ServiceKey) -> Option<VipPort> {
    let ServiceKey::Address {
        protocol,
        addr,
        port,
    } = *key
    else {
        return None;
    };
    let protocol = match protocol {
        ipvs_sys::Protocol::Tcp => Protocol::Tcp,
        ipvs_sys::Protocol::Udp => Protocol::Udp,
        ipvs_sys::Protocol::Sctp => Protocol::Sctp,
        _ => return None,
    };
    Some(VipPort {
        addr,
        protocol,
        port,
    })
}

/// The kernel's record of a virtual server.
pub fn service(vip: VipPort, server: &VirtualServer) -> Service {
    let mut service = Service::new(service_key(vip), scheduler_name(&server.scheduler));
    service.flags = scheduler_flags(&server.scheduler);
    if let Some(persistence) = server.persistence {
        service.flags |= ServiceFlags::PERSISTENT;
        service.timeout = persistence.timeout_seconds;
    }
    service.netmask = match vip.addr {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    };
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
pub fn destination(key: RealServerKey, weight: u32) -> Destination {
    Destination {
        key: destination_key(key),
        forward: ForwardMethod::Masquerade,
        weight,
        upper_threshold: 0,
        lower_threshold: 0,
    }
}
