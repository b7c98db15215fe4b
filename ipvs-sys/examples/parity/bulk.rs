//! Many commands at once: all of a large batch applied, failures found in the middle, an overflow
//! told as such, and how long it takes beside `ipvsadm -R`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command as Process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ipvs_sys::{
    Client, Command, Destination, DestinationKey, ForwardMethod, NetlinkSocket, Outcome, Protocol,
    Service, ServiceKey, Transport, Wait, procfs,
};

use crate::{Result, all_applied, ipvsadm};

/// First arguments of a run that measures in a network namespace of its own.
pub const BATCH: &str = "measure-batch";
/// See [`BATCH`].
pub const RESTORE: &str = "measure-ipvsadm";
const SERVICES: u32 = 10_000;
const READINGS: u32 = 10;
const ROUNDS: u32 = 1;

fn key(n: u32) -> ServiceKey {
    ServiceKey::Address {
        protocol: Protocol::Tcp,
        addr: IpAddr::V4(Ipv4Addr::from(0x0a60_0000 + n)),
        port: 80,
    }
}

fn new_service(n: u32) -> Result<Command> {
    Ok(Command::NewService(Service::new(key(n), "rr".parse()?)))
}

fn new_dest(n: u32) -> Command {
    let addr = IpAddr::V4(Ipv4Addr::from(0x0a02_0000 + n));
    let destination = Destination::new(DestinationKey::new(addr, 8080), ForwardMethod::Masquerade);
    Command::NewDest(key(n), destination)
}

fn load(services: u32) -> Result<Vec<Command>> {
    let mut commands = Vec::new();
    for n in 1..=services {
        commands.extend([new_service(n)?, new_dest(n)]);
    }
    Ok(commands)
}

pub fn check(client: &mut Client) -> Result<()> {
    failures_in_the_middle(client)?;
    all_failing(client)?;
    overflow()?;
    race(client)?;
    client.execute(&Command::Flush)?;
    for round in 1..=ROUNDS {
        measure(round)?;
    }
    Ok(())
}

/// Every tenth service is asked for twice, and every tenth destination is of no service.
fn failures_in_the_middle(client: &mut Client) -> Result<()> {
    client.execute(&Command::Flush)?;
    let mut commands = Vec::new();
    let mut expected = Vec::new();
    for n in 1..=3000 {
        commands.push(new_service(n)?);
        expected.push(None);
        if n % 10 == 3 {
            commands.push(new_service(n)?);
            expected.push(Some(17));
        }
        if n % 10 == 7 {
            commands.push(new_dest(100_000 + n));
            expected.push(Some(3));
        }
        commands.push(new_dest(n));
        expected.push(None);
    }
    let outcomes = client.batch(&commands)?;
    for ((command, expected), outcome) in commands.iter().zip(expected).zip(outcomes) {
        let found = match &outcome {
            Outcome::Applied => None,
            Outcome::Failed(error) => error.raw_os_error(),
            Outcome::Unknown => Some(-1),
        };
        if found != expected {
            return Err(format!("{command}: {outcome:?}, expected {expected:?}").into());
        }
    }
    let services = client.services()?.len();
    if services != 3000 {
        return Err(format!("{services} services, expected 3000").into());
    }
    println!(
        "a batch of {} commands, 600 of which fail: each as expected",
        commands.len()
    );
    Ok(())
}

fn all_failing(client: &mut Client) -> Result<()> {
    let commands = (1..=3000).map(new_service).collect::<Result<Vec<_>>>()?;
    let outcomes = client.batch(&commands)?;
    let failed = outcomes
        .iter()
        .filter(|outcome| outcome.error().is_some_and(ipvs_sys::Error::is_exists))
        .count();
    if failed != commands.len() {
        return Err(format!("{failed} of {} commands failed", commands.len()).into());
    }
    println!("a batch of {failed} commands, all of which fail: no answer lost");
    Ok(())
}

/// A socket that claims a larger receive queue than it has.
struct Boaster(NetlinkSocket);

impl Transport for Boaster {
    fn send(&mut self, datagram: &[u8]) -> io::Result<usize> {
        self.0.send(datagram)
    }

    fn receive(&mut self, buffer: &mut [u8], wait: Wait) -> io::Result<usize> {
        self.0.receive(buffer, wait)
    }

    fn receive_queue(&self) -> usize {
        8 << 20
    }
}

fn overflow() -> Result<()> {
    let socket = NetlinkSocket::with_receive_queue(16 << 10)?;
    let mut client = Client::with_transport(Boaster(socket))?;
    let commands = (1..=3000).map(new_service).collect::<Result<Vec<_>>>()?;
    let outcomes = client.batch(&commands)?;
    let count = |wanted: fn(&Outcome) -> bool| outcomes.iter().filter(|o| wanted(o)).count();
    let failed = count(|outcome| outcome.error().is_some());
    let unknown = count(|outcome| matches!(outcome, Outcome::Unknown));
    // All of them fail: none may pass for applied.
    if unknown == 0 || failed + unknown != commands.len() {
        return Err(format!("overflow: {failed} failed, {unknown} unknown").into());
    }
    // The socket is usable afterwards.
    if client.services()?.len() != 3000 {
        return Err("overflow: the table cannot be read afterwards".into());
    }
    println!("a queue that overflows: {failed} failed, {unknown} unknown, none applied");
    Ok(())
}

/// Another client adds and deletes services while this one reads: a reading that succeeds must have
/// every service that nobody touches, once.
fn race(client: &mut Client) -> Result<()> {
    let stop = AtomicBool::new(false);
    let (mut whole, mut given_up, mut bursts) = (0, 0, 0);
    let sends = client.counters().sends;
    std::thread::scope(|scope| -> Result<()> {
        let writer = scope.spawn(|| churn(&stop).map_err(|error| error.to_string()));
        let mut read = || -> Result<()> {
            for _ in 0..READINGS {
                match client.services() {
                    Ok(entries) => {
                        whole += 1;
                        let found: BTreeSet<_> = entries.iter().map(|e| e.service.key).collect();
                        let missing = (1..=3000).filter(|n| !found.contains(&key(*n))).count();
                        if missing != 0 || found.len() != entries.len() {
                            return Err(format!("a reading lacks {missing} services").into());
                        }
                    }
                    Err(error) if error.is_inconsistent() => given_up += 1,
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(())
        };
        let result = read();
        stop.store(true, Ordering::Relaxed);
        bursts = writer.join().map_err(|_| "the writer panicked")??;
        result
    })?;
    println!(
        "{READINGS} readings in {} passes during {bursts} bursts of changes: {whole} whole, \
         {given_up} given up, none wrong",
        client.counters().sends - sends
    );
    if client.services()?.len() == 3000 {
        Ok(())
    } else {
        Err("the table is not as before the race".into())
    }
}

/// Adds and deletes services of its own until told to stop; gives the number of rounds.
fn churn(stop: &AtomicBool) -> Result<u32> {
    let mut client = Client::open()?;
    let own = || 200_000..200_100;
    let mut bursts = 0;
    while !stop.load(Ordering::Relaxed) {
        all_applied(
            &mut client,
            &own().map(new_service).collect::<Result<Vec<_>>>()?,
        )?;
        std::thread::sleep(Duration::from_millis(u64::from(bursts % 40)));
        let gone: Vec<_> = own().map(|n| Command::DelService(key(n))).collect();
        all_applied(&mut client, &gone)?;
        bursts += 1;
    }
    Ok(bursts)
}

/// Each in a fresh network namespace: deleted destinations linger in the old one, and every new
/// one is looked for among them.
fn measure(round: u32) -> Result<()> {
    for how in [BATCH, RESTORE] {
        // Without an interface that is up the kernel takes every IPv4 address for a broadcast.
        let status = Process::new("unshare")
            .args(["-n", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""])
            .arg(std::env::current_exe()?)
            .args([how, &SERVICES.to_string()])
            .status()?;
        if !status.success() {
            return Err(format!("measuring {how}, round {round}: {status}").into());
        }
    }
    Ok(())
}

/// The part that runs in the new namespace.
pub fn child(how: &str, services: u32) -> Result<()> {
    let mut client = Client::open()?;
    let written = if how == BATCH {
        let commands = load(services)?;
        let start = Instant::now();
        all_applied(&mut client, &commands)?;
        start.elapsed()
    } else {
        restore(services)?
    };
    let sends = client.counters().sends;
    let start = Instant::now();
    let dumped = client.services()?.len();
    let dump = start.elapsed();
    let start = Instant::now();
    let listed = procfs::read_services()?;
    let list = start.elapsed();
    let destinations: usize = listed
        .iter()
        .map(|service| service.destinations.len())
        .sum();
    let wanted = services as usize;
    if (dumped, listed.len(), destinations) != (wanted, wanted, wanted) {
        let listed = listed.len();
        return Err(format!("{dumped} dumped, {listed} listed, {destinations} backends").into());
    }
    println!(
        "{services} services x 1 by {how}: {written:?} ({sends} datagrams); \
         read: services twice {dump:?}, /proc {list:?}"
    );
    Ok(())
}

/// `ipvsadm -R` of the same table.
fn restore(services: u32) -> Result<Duration> {
    let mut lines = String::new();
    for command in load(services)? {
        writeln!(lines, "{command}")?;
    }
    let start = Instant::now();
    ipvsadm::restore(&lines)?;
    Ok(start.elapsed())
}
