//! The values of a command that changes something, from the options of its line.

use std::net::IpAddr;

use ipvs_sys::{
    Daemon, Destination, DestinationKey, Family, ForwardMethod, PeName, Protocol, SchedulerName,
    Service, ServiceFlags, ServiceKey, Tunnel, TunnelFlags,
};

use super::super::value;
use super::super::{Names, Word};
use super::{Line, Mistake, Opt, Problem};

impl Line<'_> {
    /// `-t`, `-u`, `--sctp-service`, `-f`.
    pub(super) fn service(&self, names: Names<'_>) -> Result<Option<ServiceKey>, Mistake> {
        for (option, protocol) in [
            (Opt::Tcp, Protocol::Tcp),
            (Opt::Udp, Protocol::Udp),
            (Opt::Sctp, Protocol::Sctp),
        ] {
            if let Some(word) = self.word(option) {
                let (addr, port) = value::host_port(word.text, protocol, names)
                    .map_err(|allowed| self.wrong(option.written(), word, allowed))?;
                let port = port.unwrap_or(0);
                return Ok(Some(ServiceKey::Address {
                    protocol,
                    addr,
                    port,
                }));
            }
        }
        let family = if self.has(Opt::Ipv6) {
            Family::Inet6
        } else {
            Family::Inet
        };
        self.parsed(Opt::Mark, value::mark)
            .map(|mark| mark.map(|mark| ServiceKey::Mark { family, mark }))
    }

    pub(super) fn new_service(&self, key: Option<ServiceKey>) -> Result<Service, Mistake> {
        let key = self.needed(key)?;
        let scheduler = self.parsed(Opt::Scheduler, |text| {
            SchedulerName::new(text).map_err(|error| error.to_string())
        })?;
        let scheduler = match scheduler {
            Some(scheduler) => scheduler,
            None => self.default_scheduler()?,
        };
        let name = scheduler.as_str().to_owned();
        let mut service = Service::new(key, scheduler);
        if self.has(Opt::Persistent) {
            let seconds = self.parsed(Opt::Persistent, |text| {
                value::number(
                    text,
                    1..=ipvs_sys::MAX_PERSISTENCE,
                    "it is a number of seconds",
                )
            })?;
            service = service.with_persistence(seconds.unwrap_or(DEFAULT_PERSISTENCE));
        }
        if let Some(bits) = self.parsed(Opt::Netmask, |text| value::netmask(text, key.family()))? {
            service = service.with_netmask(bits);
        }
        let flags = |text: &str| value::scheduler_flags(text, &name);
        service.flags |= self.parsed(Opt::SchedulerFlags, flags)?.unwrap_or_default();
        if self.has(Opt::OnePacket) {
            service.flags |= ServiceFlags::ONE_PACKET;
        }
        service.pe_name = self.parsed(Opt::Engine, |text| {
            PeName::new(text).map_err(|error| error.to_string())
        })?;
        Ok(service)
    }

    fn default_scheduler(&self) -> Result<SchedulerName, Mistake> {
        SchedulerName::new(DEFAULT_SCHEDULER).map_err(|_| self.missing("a scheduler: -s"))
    }

    pub(super) fn real_server(
        &self,
        service: &ServiceKey,
        names: Names<'_>,
    ) -> Result<DestinationKey, Mistake> {
        let word = self
            .word(Opt::RealServer)
            .ok_or_else(|| self.missing("a real server: -r"))?;
        let protocol = match service {
            ServiceKey::Address { protocol, .. } => *protocol,
            ServiceKey::Mark { .. } => Protocol::Tcp,
        };
        let (addr, port) = value::host_port(word.text, protocol, names)
            .map_err(|allowed| self.wrong(Opt::RealServer.written(), word, allowed))?;
        Ok(DestinationKey::new(addr, port.unwrap_or(service.port())))
    }

    pub(super) fn new_destination(
        &self,
        service: Option<ServiceKey>,
        names: Names<'_>,
    ) -> Result<(ServiceKey, Destination), Mistake> {
        let service = self.needed(service)?;
        let mut key = self.real_server(&service, names)?;
        let forward = if self.has(Opt::Masquerading) {
            ForwardMethod::Masquerade
        } else if self.has(Opt::Ipip) {
            ForwardMethod::Tunnel(self.tunnel()?)
        } else {
            ForwardMethod::DirectRoute
        };
        self.no_tunnel_options_without_tunnel(&forward)?;
        // These packets keep their port, so ipvsadm sets it whatever was given.
        if forward != ForwardMethod::Masquerade && matches!(service, ServiceKey::Address { .. }) {
            key.port = service.port();
        }
        let number =
            |option, max, what| self.parsed(option, |text| value::number(text, 0..=max, what));
        let weight = number(Opt::Weight, ipvs_sys::MAX_WEIGHT, "a weight is a number")?;
        let threshold = "a threshold is a number of connections";
        let upper = number(Opt::UpperThreshold, ipvs_sys::MAX_THRESHOLD, threshold)?;
        let lower = number(Opt::LowerThreshold, ipvs_sys::MAX_THRESHOLD, threshold)?;
        let destination = Destination::new(key, forward)
            .with_weight(weight.unwrap_or(1))
            .with_thresholds(upper.unwrap_or(0), lower.unwrap_or(0));
        Ok((service, destination))
    }

    fn tunnel(&self) -> Result<Tunnel, Mistake> {
        let flags = if self.has(Opt::TunnelChecksum) {
            TunnelFlags::CHECKSUM
        } else if self.has(Opt::TunnelRemoteChecksum) {
            TunnelFlags::REMOTE_CHECKSUM
        } else {
            TunnelFlags::empty()
        };
        let port = self.parsed(Opt::TunnelPort, |text| {
            value::number(text, 1..=65_535, "a tunnel's port is a number")
        })?;
        let port = port.map(|port| u16::try_from(port).unwrap_or(u16::MAX));
        let kind = self.parsed(Opt::TunnelType, |text| match text {
            "ipip" | "gue" | "gre" => Ok(text.to_owned()),
            _ => Err("a tunnel is ipip, gue or gre".to_owned()),
        })?;
        let conflict = |option: Opt, why| {
            let column = self
                .options
                .get(&option)
                .map_or(self.start, |(column, _)| *column);
            self.mistake(column, Problem::Conflict(why))
        };
        if kind.as_deref() != Some("gue") {
            for option in [Opt::TunnelPort, Opt::TunnelRemoteChecksum] {
                if self.has(option) {
                    return Err(conflict(option, "only --tun-type gue has this"));
                }
            }
        }
        match (kind.as_deref(), port) {
            (Some("gue"), Some(port)) => Ok(Tunnel::Gue { port, flags }),
            (Some("gue"), None) => Err(self.missing("--tun-port for --tun-type gue")),
            (Some("gre"), _) => Ok(Tunnel::Gre { flags }),
            _ if self.has(Opt::TunnelChecksum) => Err(conflict(
                Opt::TunnelChecksum,
                "only --tun-type gue and gre have this",
            )),
            _ => Ok(Tunnel::Ipip { flags }),
        }
    }

    fn no_tunnel_options_without_tunnel(&self, forward: &ForwardMethod) -> Result<(), Mistake> {
        if matches!(forward, ForwardMethod::Tunnel(_)) {
            return Ok(());
        }
        let tunnel = [
            Opt::TunnelType,
            Opt::TunnelPort,
            Opt::TunnelNoChecksum,
            Opt::TunnelChecksum,
            Opt::TunnelRemoteChecksum,
        ];
        match tunnel.iter().find_map(|option| self.options.get(option)) {
            Some((column, _)) => {
                Err(self.mistake(*column, Problem::Conflict("only a tunnel (-i) has this")))
            }
            None => Ok(()),
        }
    }

    pub(super) fn daemon(&self, names: Names<'_>) -> Result<Daemon, Mistake> {
        let state = self.daemon_state()?;
        let interface = self.parsed(Opt::Interface, |text| {
            ipvs_sys::InterfaceName::new(text).map_err(|error| error.to_string())
        })?;
        let interface = match interface {
            Some(interface) => interface,
            None => return Err(self.missing("the interface of its multicast: --mcast-interface")),
        };
        let number =
            |option, range, what| self.parsed(option, |text| value::number(text, range, what));
        let sync_id = number(Opt::SyncId, 0..=255, "a synchronisation id is a number")?;
        let max_len = number(Opt::SyncMaxLen, 1..=65_507, "a length is a number of bytes")?;
        let port = number(Opt::Port, 1..=65_535, "a port is a number")?;
        let ttl = number(Opt::Ttl, 1..=255, "a time to live is a number")?;
        let mut daemon = Daemon::new(state, interface, sync_id.unwrap_or(0));
        daemon.max_len = max_len.and_then(|length| u16::try_from(length).ok());
        daemon.port = port.and_then(|port| u16::try_from(port).ok());
        daemon.ttl = ttl.and_then(|ttl| u8::try_from(ttl).ok());
        daemon.group = self.parsed(Opt::Group, |text| multicast(text, names))?;
        Ok(daemon)
    }

    /// The value of an option, understood.
    fn parsed<T>(
        &self,
        option: Opt,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Mistake> {
        let wrong = |word: Word<'_>, allowed| self.wrong(option.written(), word, allowed);
        self.word(option)
            .map(|word| read(word.text).map_err(|allowed| wrong(word, allowed)))
            .transpose()
    }
}

fn multicast(text: &str, names: Names<'_>) -> Result<IpAddr, String> {
    let allowed = || "a group is a multicast address such as 224.0.0.81 or ff02::1".to_owned();
    match value::host_port(text, Protocol::Udp, names) {
        Ok((addr, None)) if addr.is_multicast() => Ok(addr),
        _ => Err(allowed()),
    }
}

/// `ipvsadm -A` without `-s`.
const DEFAULT_SCHEDULER: &str = "wlc";
/// `ipvsadm -p` without a number, in seconds.
const DEFAULT_PERSISTENCE: u32 = 300;
