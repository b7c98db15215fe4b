//! Requests to bytes. Attributes stand in the order in which the kernel itself sends them.

use std::net::IpAddr;

use super::Envelope;
use super::write::{Attributes, Head, message};
use crate::abi::attr::{command, daemon, dest, service};
use crate::abi::{self, cmd, ctrl};
use crate::command::{Command, Query};
use crate::daemon::{Daemon, DaemonState};
use crate::destination::{Destination, ForwardMethod};
use crate::key::{DestinationKey, Family, ServiceKey};
use crate::service::{Service, ServiceFlags, v4_mask};

/// Appends a change to `buffer`. Nothing is checked: see [`Command::validate`].
pub fn encode_command(buffer: &mut Vec<u8>, envelope: &Envelope, change: &Command) {
    let head = head(envelope, number(change), false);
    message(buffer, &head, |m| match change {
        Command::NewService(service) | Command::SetService(service) => put_service(m, service),
        Command::DelService(key) | Command::Zero(Some(key)) => put_service_key(m, key),
        Command::NewDest(key, destination) | Command::SetDest(key, destination) => {
            put_service_key(m, key);
            put_destination(m, destination);
        }
        Command::DelDest(key, destination) => {
            put_service_key(m, key);
            m.nest(command::IPVS_CMD_ATTR_DEST, |n| {
                destination_key(n, destination);
                address_family(n, destination);
            });
        }
        Command::Zero(None) | Command::Flush => {}
        Command::NewDaemon(daemon) => put_daemon(m, daemon),
        Command::DelDaemon(state) => put_daemon_state(m, *state),
        Command::SetTimeouts(timeouts) => {
            m.u32(command::IPVS_CMD_ATTR_TIMEOUT_TCP, timeouts.tcp);
            m.u32(command::IPVS_CMD_ATTR_TIMEOUT_TCP_FIN, timeouts.tcp_fin);
            m.u32(command::IPVS_CMD_ATTR_TIMEOUT_UDP, timeouts.udp);
        }
    });
}

/// Appends a question to `buffer`.
pub fn encode_query(buffer: &mut Vec<u8>, envelope: &Envelope, query: &Query) {
    let number = match query {
        Query::Services | Query::Service(_) => cmd::IPVS_CMD_GET_SERVICE,
        Query::Destinations(_) => cmd::IPVS_CMD_GET_DEST,
        Query::Daemons => cmd::IPVS_CMD_GET_DAEMON,
        Query::Timeouts => cmd::IPVS_CMD_GET_CONFIG,
        Query::Info => cmd::IPVS_CMD_GET_INFO,
    };
    let head = head(envelope, number, query.is_dump());
    message(buffer, &head, |m| match query {
        Query::Service(key) | Query::Destinations(key) => put_service_key(m, key),
        Query::Services | Query::Daemons | Query::Timeouts | Query::Info => {}
    });
}

/// Appends the look-up of the family `IPVS` to `buffer`. It makes the kernel load `ip_vs`.
pub fn encode_family_lookup(buffer: &mut Vec<u8>, sequence: u32) {
    let head = Head {
        kind: ctrl::GENL_ID_CTRL,
        command: ctrl::CTRL_CMD_GETFAMILY,
        version: 1,
        sequence,
        acknowledge: false,
        dump: false,
    };
    message(buffer, &head, |m| {
        m.string(ctrl::CTRL_ATTR_FAMILY_NAME, abi::IPVS_GENL_NAME);
    });
}

fn head(envelope: &Envelope, command: u8, dump: bool) -> Head {
    Head {
        kind: envelope.family_id,
        command,
        version: abi::IPVS_GENL_VERSION,
        sequence: envelope.sequence,
        // A dump that asks for an acknowledgement would get two ends.
        acknowledge: envelope.acknowledge && !dump,
        dump,
    }
}

const fn number(change: &Command) -> u8 {
    match change {
        Command::NewService(_) => cmd::IPVS_CMD_NEW_SERVICE,
        Command::SetService(_) => cmd::IPVS_CMD_SET_SERVICE,
        Command::DelService(_) => cmd::IPVS_CMD_DEL_SERVICE,
        Command::NewDest(..) => cmd::IPVS_CMD_NEW_DEST,
        Command::SetDest(..) => cmd::IPVS_CMD_SET_DEST,
        Command::DelDest(..) => cmd::IPVS_CMD_DEL_DEST,
        Command::Zero(_) => cmd::IPVS_CMD_ZERO,
        Command::Flush => cmd::IPVS_CMD_FLUSH,
        Command::NewDaemon(_) => cmd::IPVS_CMD_NEW_DAEMON,
        Command::DelDaemon(_) => cmd::IPVS_CMD_DEL_DAEMON,
        Command::SetTimeouts(_) => cmd::IPVS_CMD_SET_CONFIG,
    }
}

fn put_service_key(m: &mut Attributes<'_>, key: &ServiceKey) {
    m.nest(command::IPVS_CMD_ATTR_SERVICE, |n| service_key(n, key));
}

fn put_service(m: &mut Attributes<'_>, wanted: &Service) {
    m.nest(command::IPVS_CMD_ATTR_SERVICE, |n| {
        service_key(n, &wanted.key);
        n.string(service::IPVS_SVC_ATTR_SCHED_NAME, wanted.scheduler.as_str());
        if let Some(name) = &wanted.pe_name {
            n.string(service::IPVS_SVC_ATTR_PE_NAME, name.as_str());
        }
        n.bytes(service::IPVS_SVC_ATTR_FLAGS, &flags_and_mask(wanted.flags));
        n.u32(service::IPVS_SVC_ATTR_TIMEOUT, wanted.timeout);
        match wanted.key.family() {
            Family::Inet => n.bytes(
                service::IPVS_SVC_ATTR_NETMASK,
                &v4_mask(wanted.netmask).octets(),
            ),
            Family::Inet6 => n.u32(service::IPVS_SVC_ATTR_NETMASK, wanted.netmask.into()),
        }
    });
}

/// `struct ip_vs_flags` of `linux/ip_vs.h`, every bit of which is meant.
fn flags_and_mask(flags: ServiceFlags) -> [u8; 8] {
    let flags = (flags - ServiceFlags::HASHED).bits().to_ne_bytes();
    let mut both = [0xff; 8];
    for (to, from) in both.iter_mut().zip(flags) {
        *to = from;
    }
    both
}

fn service_key(n: &mut Attributes<'_>, key: &ServiceKey) {
    n.u16(service::IPVS_SVC_ATTR_AF, key.family().number());
    match key {
        ServiceKey::Address {
            protocol,
            addr,
            port,
        } => {
            n.u16(service::IPVS_SVC_ATTR_PROTOCOL, protocol.number());
            n.bytes(service::IPVS_SVC_ATTR_ADDR, &padded(*addr));
            n.be16(service::IPVS_SVC_ATTR_PORT, *port);
        }
        ServiceKey::Mark { mark, .. } => n.u32(service::IPVS_SVC_ATTR_FWMARK, mark.get()),
    }
}

fn destination_key(n: &mut Attributes<'_>, key: &DestinationKey) {
    n.bytes(dest::IPVS_DEST_ATTR_ADDR, &padded(key.addr));
    n.be16(dest::IPVS_DEST_ATTR_PORT, key.port);
}

/// Without it the kernel takes the family of the service.
fn address_family(n: &mut Attributes<'_>, key: &DestinationKey) {
    n.u16(
        dest::IPVS_DEST_ATTR_ADDR_FAMILY,
        Family::of(key.addr).number(),
    );
}

fn put_destination(m: &mut Attributes<'_>, wanted: &Destination) {
    m.nest(command::IPVS_CMD_ATTR_DEST, |n| {
        destination_key(n, &wanted.key);
        n.u32(dest::IPVS_DEST_ATTR_FWD_METHOD, wanted.forward.number());
        n.u32(dest::IPVS_DEST_ATTR_WEIGHT, wanted.weight);
        n.u32(dest::IPVS_DEST_ATTR_U_THRESH, wanted.upper_threshold);
        n.u32(dest::IPVS_DEST_ATTR_L_THRESH, wanted.lower_threshold);
        address_family(n, &wanted.key);
        if let ForwardMethod::Tunnel(tunnel) = &wanted.forward {
            n.u8(dest::IPVS_DEST_ATTR_TUN_TYPE, tunnel.kind());
            n.be16(dest::IPVS_DEST_ATTR_TUN_PORT, tunnel.port());
            n.u16(dest::IPVS_DEST_ATTR_TUN_FLAGS, tunnel.flags().bits());
        }
    });
}

fn put_daemon_state(m: &mut Attributes<'_>, state: DaemonState) {
    m.nest(command::IPVS_CMD_ATTR_DAEMON, |n| {
        n.u32(daemon::IPVS_DAEMON_ATTR_STATE, state.number());
    });
}

fn put_daemon(m: &mut Attributes<'_>, wanted: &Daemon) {
    m.nest(command::IPVS_CMD_ATTR_DAEMON, |n| {
        n.u32(daemon::IPVS_DAEMON_ATTR_STATE, wanted.state.number());
        n.string(
            daemon::IPVS_DAEMON_ATTR_MCAST_IFN,
            wanted.interface.as_str(),
        );
        n.u32(daemon::IPVS_DAEMON_ATTR_SYNC_ID, wanted.sync_id);
        if let Some(max_len) = wanted.max_len {
            n.u16(daemon::IPVS_DAEMON_ATTR_SYNC_MAXLEN, max_len);
        }
        match wanted.group {
            Some(IpAddr::V4(group)) => {
                n.bytes(daemon::IPVS_DAEMON_ATTR_MCAST_GROUP, &group.octets());
            }
            Some(IpAddr::V6(group)) => {
                n.bytes(daemon::IPVS_DAEMON_ATTR_MCAST_GROUP6, &group.octets());
            }
            None => {}
        }
        if let Some(port) = wanted.port {
            n.u16(daemon::IPVS_DAEMON_ATTR_MCAST_PORT, port);
        }
        if let Some(ttl) = wanted.ttl {
            n.u8(daemon::IPVS_DAEMON_ATTR_MCAST_TTL, ttl);
        }
    });
}

/// `union nf_inet_addr`: IPv4 takes the first four of sixteen bytes.
fn padded(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V4(addr) => {
            let mut bytes = [0; 16];
            for (to, from) in bytes.iter_mut().zip(addr.octets()) {
                *to = from;
            }
            bytes
        }
        IpAddr::V6(addr) => addr.octets(),
    }
}
