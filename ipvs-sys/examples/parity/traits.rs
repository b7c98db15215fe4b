//! What a table does not show: the number of each error, daemons, timeouts, methods that `ipvsadm`
//! cannot write, and a module that is loaded anew under a client.

use std::net::SocketAddr;
use std::process::Command as Process;

use ipvs_sys::{
    Client, Command, Daemon, DaemonState, Destination, DestinationKey, Error, ForwardMethod,
    Service, ServiceKey, Timeouts, procfs,
};

use ipvs_sys::procfs::ProcForward;

use crate::{Result, ipvsadm};

const ENOENT: i32 = 2;
const ESRCH: i32 = 3;
const EEXIST: i32 = 17;
const ENODEV: i32 = 19;

fn key() -> ServiceKey {
    ServiceKey::tcp(SocketAddr::from(([10, 96, 0, 1], 80)))
}

fn missing() -> ServiceKey {
    ServiceKey::tcp(SocketAddr::from(([10, 96, 0, 2], 80)))
}

fn backend(last: u8) -> DestinationKey {
    SocketAddr::from(([10, 2, 0, last], 8080)).into()
}

fn masquerade(last: u8) -> Destination {
    Destination::new(backend(last), ForwardMethod::Masquerade)
}

pub fn check(client: &mut Client) -> Result<()> {
    errors(client)?;
    other_methods(client)?;
    timeouts(client)?;
    daemons(client)?;
    client.execute(&Command::Flush)?;
    println!("errors, methods, timeouts, daemons: as expected");
    Ok(())
}

fn expect<T>(what: &str, result: std::result::Result<T, Error>, errno: i32) -> Result<Error> {
    match result {
        Ok(_) => Err(format!("{what}: no error").into()),
        Err(error) if error.raw_os_error() == Some(errno) => Ok(error),
        Err(error) => Err(format!("{what}: {error}, expected errno {errno}").into()),
    }
}

fn errors(client: &mut Client) -> Result<()> {
    let rr = || "rr".parse::<ipvs_sys::SchedulerName>();
    let there = Service::new(key(), rr()?);
    let not_there = Service::new(missing(), rr()?);
    client.execute(&Command::NewService(there.clone()))?;
    client.execute(&Command::NewDest(key(), masquerade(2)))?;
    let no_scheduler = Service::new(missing(), "nosuch".parse()?);
    let no_engine = not_there.clone().with_pe_name("nosuch".parse()?);
    let daemon = Daemon::new(DaemonState::Master, "nosuch0".parse()?, 1);
    let cases = [
        (Command::NewService(there), EEXIST),
        (Command::NewDest(key(), masquerade(2)), EEXIST),
        (Command::SetService(not_there), ESRCH),
        (Command::DelService(missing()), ESRCH),
        (Command::NewDest(missing(), masquerade(2)), ESRCH),
        (Command::SetDest(missing(), masquerade(2)), ESRCH),
        (Command::DelDest(missing(), backend(2)), ESRCH),
        (Command::SetDest(key(), masquerade(3)), ENOENT),
        (Command::DelDest(key(), backend(3)), ENOENT),
        (Command::NewService(no_scheduler), ENOENT),
        (Command::NewService(no_engine), ENOENT),
        (Command::Zero(Some(missing())), ESRCH),
        (Command::DelDaemon(DaemonState::Master), ESRCH),
        (Command::NewDaemon(daemon), ENODEV),
    ];
    for (command, errno) in cases {
        let error = expect(&command.to_string(), client.execute(&command), errno)?;
        if error.is_exists() != (errno == EEXIST)
            || error.is_not_found() != (errno == ESRCH || errno == ENOENT)
            || error.is_no_module()
        {
            return Err(format!("{error}: told apart wrongly").into());
        }
        println!("  {error}");
    }
    expect("GET_SERVICE", client.service(&missing()), ESRCH)?;
    expect("GET_DEST", client.destinations(&missing()), ESRCH)?;
    if client.destinations(&key())?.len() != 1 {
        return Err("one destination expected".into());
    }
    client.execute(&Command::Zero(Some(key())))?;
    client.execute(&Command::Zero(None))?;
    Ok(())
}

/// Methods that the kernel has and `ipvsadm` cannot write.
fn other_methods(client: &mut Client) -> Result<()> {
    // The file has no word for bypass.
    for (last, forward, wanted) in [
        (20, ForwardMethod::Local, ProcForward::Local),
        (21, ForwardMethod::Bypass, ProcForward::Masquerade),
    ] {
        let destination = Destination::new(backend(last), forward);
        client.execute(&Command::NewDest(key(), destination))?;
        let entries = client.destinations(&key())?;
        if !entries.iter().any(|entry| entry.destination == destination) {
            return Err(format!("{destination}: not read back from {entries:?}").into());
        }
        let services = procfs::read_services()?;
        let mut lines = services.iter().flat_map(|service| &service.destinations);
        if !lines.any(|line| line.key == destination.key && line.forward == wanted) {
            return Err(format!("{destination}: not in /proc/net/ip_vs").into());
        }
    }
    Ok(())
}

fn timeouts(client: &mut Client) -> Result<()> {
    let before = client.timeouts()?;
    let wanted = Timeouts {
        tcp: 901,
        tcp_fin: 121,
        udp: 301,
    };
    client.execute(&Command::SetTimeouts(wanted))?;
    let printed = ipvsadm::run(&["-L", "--timeout"])?;
    if !printed.contains("901 121 301") {
        return Err(format!("ipvsadm prints {printed}").into());
    }
    ipvsadm::run(&["--set", "902", "0", "0"])?;
    let found = client.timeouts()?;
    if found != (Timeouts { tcp: 902, ..wanted }) {
        return Err(format!("ipvsadm --set 902 0 0 made {found}").into());
    }
    client.execute(&Command::SetTimeouts(before))?;
    Ok(())
}

fn daemons(client: &mut Client) -> Result<()> {
    let mut master = Daemon::new(DaemonState::Master, "dummy0".parse()?, 7);
    master.max_len = Some(1400);
    master.group = Some([224, 0, 1, 1].into());
    master.port = Some(8849);
    master.ttl = Some(3);
    let backup = Daemon {
        state: DaemonState::Backup,
        group: Some("ff02::1:1".parse()?),
        ..master.clone()
    };
    client.execute(&Command::NewDaemon(master.clone()))?;
    client.execute(&Command::NewDaemon(backup.clone()))?;
    let found: Vec<_> = client
        .daemons()?
        .into_iter()
        .map(|entry| entry.daemon)
        .collect();
    if found != [master, backup] {
        return Err(format!("daemons: {found:?}").into());
    }
    let printed = ipvsadm::run(&["-L", "--daemon"])?;
    for part in [
        "master sync daemon (mcast=dummy0, syncid=7, maxlen=1400, group=224.0.1.1, port=8849, ttl=3)",
        "backup sync daemon (mcast=dummy0, syncid=7, maxlen=1400, group=ff02::1:1, port=8849, ttl=3)",
    ] {
        if !printed.contains(part) {
            return Err(format!("ipvsadm prints {printed}").into());
        }
    }
    client.execute(&Command::DelDaemon(DaemonState::Backup))?;
    client.execute(&Command::DelDaemon(DaemonState::Master))?;
    if client.daemons()?.is_empty() {
        Ok(())
    } else {
        Err("daemons are still there".into())
    }
}

/// Unloads `ip_vs` with all that needs it: the next request loads it again, under another number.
pub fn check_reload(client: &mut Client) -> Result<()> {
    client.execute(&Command::Flush)?;
    let lookups = client.counters().lookups;
    let modules = std::fs::read_to_string("/proc/modules")?;
    let names = modules.lines().filter_map(|line| line.split(' ').next());
    let mut names: Vec<_> = names.filter(|name| name.starts_with("ip_vs")).collect();
    // The module itself comes last.
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    for name in names {
        let status = Process::new("rmmod").arg(name).status()?;
        if !status.success() {
            return Err(format!("rmmod {name}: {status}").into());
        }
    }
    client.execute(&Command::NewService(Service::new(key(), "rr".parse()?)))?;
    if client.services()?.len() != 1 || client.counters().lookups != lookups + 1 {
        return Err("the module was not met again after its reload".into());
    }
    client.execute(&Command::Flush)?;
    println!("module reloaded under an open client: met again");
    Ok(())
}
