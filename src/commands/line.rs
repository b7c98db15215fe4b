//! Command lines of ipvsadm, with the names of hosts and ports that this machine knows.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, ToSocketAddrs};

use crate::inspect::rules::{Invocation, Mistake, Names, ServicePorts, Word, parse};

/// What a command line asks for, names looked up on this machine.
pub fn understand(words: &[Word<'_>]) -> Result<Invocation, Mistake> {
    with_names(|names| parse(words, names))
}

/// Hands over who knows names on this machine. Each is looked up once.
pub fn with_names<T>(work: impl FnOnce(Names<'_>) -> T) -> T {
    let ports = std::fs::read_to_string("/etc/services").unwrap_or_default();
    let ports = ServicePorts::parse(&ports);
    let known = RefCell::new(BTreeMap::new());
    let host = |name: &str| -> Option<IpAddr> {
        let mut known = known.borrow_mut();
        *known
            .entry(name.to_owned())
            .or_insert_with(|| look_up(name))
    };
    work(Names {
        ports: &ports,
        host: &host,
    })
}

/// IPv4 if it has both, as ipvsadm.
fn look_up(name: &str) -> Option<IpAddr> {
    let found: Vec<IpAddr> = (name, 0)
        .to_socket_addrs()
        .ok()?
        .map(|addr| addr.ip())
        .collect();
    let v4 = found.iter().find(|addr| addr.is_ipv4());
    v4.or_else(|| found.first()).copied()
}
