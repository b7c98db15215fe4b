//! Generated tables that use every feature that `ipvsadm` has too. A seed gives the same table
//! everywhere.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

use ipvs_sys::{
    Command, Destination, DestinationKey, Family, ForwardMethod, Protocol, Service, ServiceFlags,
    ServiceKey, Tunnel, TunnelFlags,
};

use crate::Result;

/// Services in the order of their keys.
pub type Table = BTreeMap<ServiceKey, Value>;

/// A service and its destinations.
pub type Value = (Service, BTreeMap<DestinationKey, Destination>);

/// `xorshift64*`: good enough to vary tables, and without a dependency.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        u32::try_from(high).unwrap_or(u32::MAX)
    }

    /// 0 to `n` − 1.
    pub fn below(&mut self, n: u32) -> u32 {
        self.next() % n
    }

    /// Once in `n`.
    pub fn once_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }

    fn port(&mut self) -> u16 {
        u16::try_from(1 + self.below(65_535)).unwrap_or(1)
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        let at = self.below(u32::try_from(from.len()).unwrap_or(1));
        from[at as usize].clone()
    }
}

/// Of the schedulers that the kernel has.
pub fn generate(dice: &mut Dice, schedulers: &[String], services: u32) -> Result<Table> {
    let mut table = Table::new();
    while table.len() < services as usize {
        let service = service(dice, schedulers)?;
        let mut destinations = BTreeMap::new();
        for _ in 0..dice.below(6) {
            let destination = destination(dice, &service.key);
            destinations.insert(destination.key, destination);
        }
        table.insert(service.key, (service, destinations));
    }
    Ok(table)
}

/// The commands that make a table from nothing.
pub fn creation(table: &Table) -> Vec<Command> {
    let mut commands = Vec::new();
    for (key, (service, destinations)) in table {
        commands.push(Command::NewService(service.clone()));
        let new = |destination: &Destination| Command::NewDest(*key, *destination);
        commands.extend(destinations.values().map(new));
    }
    commands
}

/// Changes a table at random, and gives the commands that change the kernel likewise.
pub fn mutate(dice: &mut Dice, schedulers: &[String], table: &mut Table) -> Result<Vec<Command>> {
    let mut commands = Vec::new();
    let keys: Vec<_> = table.keys().copied().collect();
    for key in keys {
        if dice.once_in(8) {
            table.remove(&key);
            commands.push(Command::DelService(key));
            continue;
        }
        let Some((service, destinations)) = table.get_mut(&key) else {
            continue;
        };
        if dice.once_in(2) {
            *service = configure(dice, schedulers, key)?;
            commands.push(Command::SetService(service.clone()));
        }
        for backend in destinations.keys().copied().collect::<Vec<_>>() {
            if dice.once_in(3) {
                destinations.remove(&backend);
                commands.push(Command::DelDest(key, backend));
            } else if dice.once_in(2) {
                let mut changed = destination(dice, &key);
                changed.key = backend;
                let mixed = Family::of(backend.addr) != key.family();
                let keeps_port = matches!(
                    changed.forward,
                    ForwardMethod::DirectRoute | ForwardMethod::Tunnel(_)
                );
                if mixed || (keeps_port && backend.port != key.port()) {
                    continue;
                }
                destinations.insert(backend, changed);
                commands.push(Command::SetDest(key, changed));
            }
        }
        if dice.once_in(4) {
            continue;
        }
        let added = destination(dice, &key);
        if let Entry::Vacant(slot) = destinations.entry(added.key) {
            slot.insert(added);
            commands.push(Command::NewDest(key, added));
        }
    }
    for _ in 0..2 {
        let added = service(dice, schedulers)?;
        if let Entry::Vacant(slot) = table.entry(added.key) {
            slot.insert((added.clone(), BTreeMap::new()));
            commands.push(Command::NewService(added));
        }
    }
    Ok(commands)
}

fn service(dice: &mut Dice, schedulers: &[String]) -> Result<Service> {
    let family = dice.pick(&[Family::Inet, Family::Inet6]);
    let key = if dice.once_in(4) {
        // Above i32::MAX too, where ipvsadm prints a negative number.
        let mark = NonZeroU32::new(dice.next()).unwrap_or(NonZeroU32::MIN);
        ServiceKey::Mark { family, mark }
    } else {
        ServiceKey::Address {
            protocol: dice.pick(&[Protocol::Tcp, Protocol::Udp, Protocol::Sctp]),
            addr: virtual_addr(dice, family),
            port: if dice.once_in(8) { 0 } else { dice.port() },
        }
    };
    configure(dice, schedulers, key)
}

fn configure(dice: &mut Dice, schedulers: &[String], key: ServiceKey) -> Result<Service> {
    let scheduler = dice.pick(schedulers);
    let mut service = Service::new(key, scheduler.parse()?);
    // `ipvsadm` has no word for the third flag of these; flags of other schedulers are only stored.
    let (flags, odds) = if matches!(scheduler.as_str(), "sh" | "mh") {
        (ServiceFlags::SCHED1 | ServiceFlags::SCHED2, 2)
    } else {
        let all = ServiceFlags::SCHED1 | ServiceFlags::SCHED2 | ServiceFlags::SCHED3;
        (all, 8)
    };
    for flag in flags.iter() {
        if dice.once_in(odds) {
            service.flags |= flag;
        }
    }
    let every_port = key.port() == 0 && matches!(key, ServiceKey::Address { .. });
    let udp = matches!(
        key,
        ServiceKey::Address {
            protocol: Protocol::Udp,
            ..
        }
    );
    if every_port || dice.once_in(2) {
        service = service.with_persistence(1 + dice.below(2_678_400));
        if dice.once_in(2) {
            let bits = 1 + dice.below(u32::from(key.family().bits()));
            service = service.with_netmask(u8::try_from(bits).unwrap_or(1));
        }
        if udp && dice.once_in(2) {
            service = service.with_pe_name("sip".parse()?);
        }
    }
    if udp && dice.once_in(2) {
        service.flags |= ServiceFlags::ONE_PACKET;
    }
    Ok(service)
}

fn destination(dice: &mut Dice, service: &ServiceKey) -> Destination {
    let tunnel = match dice.below(6) {
        0 => Some(Tunnel::default()),
        1 => Some(Tunnel::Gue {
            port: dice.port(),
            flags: dice.pick(&[
                TunnelFlags::empty(),
                TunnelFlags::CHECKSUM,
                TunnelFlags::REMOTE_CHECKSUM,
            ]),
        }),
        2 => Some(Tunnel::Gre {
            flags: dice.pick(&[TunnelFlags::empty(), TunnelFlags::CHECKSUM]),
        }),
        _ => None,
    };
    let (forward, port, family) = match tunnel {
        // Only a tunnel carries one family in the other.
        Some(tunnel) => (
            ForwardMethod::Tunnel(tunnel),
            service.port(),
            dice.pick(&[Family::Inet, Family::Inet6]),
        ),
        None if dice.once_in(3) => (ForwardMethod::DirectRoute, service.port(), service.family()),
        None => (ForwardMethod::Masquerade, dice.port(), service.family()),
    };
    let addr = match family {
        Family::Inet => Ipv4Addr::from(0x0a02_0000 + dice.below(0x1_0000)).into(),
        Family::Inet6 => Ipv6Addr::from((0xfd00_0002_u128 << 96) + u128::from(dice.next())).into(),
    };
    let upper = if dice.once_in(2) {
        dice.below(65_536)
    } else {
        0
    };
    let lower = if dice.once_in(2) {
        dice.below(upper + 1)
    } else {
        0
    };
    Destination::new(DestinationKey::new(addr, port), forward)
        .with_weight(if dice.once_in(8) {
            0
        } else {
            dice.below(65_536)
        })
        .with_thresholds(upper, lower)
}

pub const fn family_name(family: Family) -> &'static str {
    match family {
        Family::Inet => "IPv4",
        Family::Inet6 => "IPv6",
    }
}

fn virtual_addr(dice: &mut Dice, family: Family) -> IpAddr {
    match family {
        Family::Inet => Ipv4Addr::from(0x0a60_0001 + dice.below(0xffff)).into(),
        Family::Inet6 => {
            Ipv6Addr::from((0xfd00_0096_u128 << 96) + u128::from(dice.next()) + 1).into()
        }
    }
}
