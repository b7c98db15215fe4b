//! The connections of one backend, picked out of all connections of the node.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use ipvs_sys::procfs::ProcConnection;
use ipvs_sys::{DestinationKey, ServiceKey};

/// One connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Connection {
    pub client: SocketAddr,
    pub server: SocketAddr,
    pub state: String,
    /// Seconds until it is forgotten, if nothing comes.
    pub expires: u32,
}

/// Those of a backend.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Connections {
    /// The established ones first, by client; the first [`MOST`] that the kernel told.
    pub shown: Vec<Connection>,
    pub all: usize,
    /// Clients that persistence ties to the backend.
    pub tied: usize,
}

impl Connections {
    /// Keeps what goes by one of these virtual servers to the backend.
    pub fn of(
        backend: DestinationKey,
        servers: &BTreeSet<ServiceKey>,
        table: impl Iterator<Item = ProcConnection>,
    ) -> Self {
        // The table does not tell by what mark a connection came, only where the client sent it.
        let by_mark = servers
            .iter()
            .any(|key| matches!(key, ServiceKey::Mark { .. }));
        let mut found = Self::default();
        for entry in table {
            let server = ServiceKey::address(entry.protocol, entry.virtual_addr);
            if DestinationKey::from(entry.destination) != backend
                || !(by_mark || servers.contains(&server) || servers.contains(&any_port(server)))
            {
                continue;
            }
            if entry.client.port() == 0 {
                found.tied += 1;
                continue;
            }
            found.all += 1;
            if found.shown.len() < MOST {
                found.shown.push(Connection {
                    client: entry.client,
                    server: entry.virtual_addr,
                    state: entry.state.into_owned(),
                    expires: entry.expires,
                });
            }
        }
        // What is open first, in an order that stays.
        found.shown.sort_by(|a, b| {
            let over = |connection: &Connection| connection.state != "ESTABLISHED";
            over(a).cmp(&over(b)).then_with(|| a.cmp(b))
        });
        found
    }
}

/// A persistent virtual server may serve every port.
fn any_port(key: ServiceKey) -> ServiceKey {
    match key {
        ServiceKey::Address { protocol, addr, .. } => ServiceKey::Address {
            protocol,
            addr,
            port: 0,
        },
        ServiceKey::Mark { .. } => key,
    }
}

/// More than anybody reads.
pub const MOST: usize = 2000;

#[cfg(test)]
mod tests {
    use super::*;
    use ipvs_sys::procfs::connections;

    /// Lines of a capture of Linux 6.1.
    const TABLE: &str = "\
Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
TCP fd00:0001:0000:0000:0000:0000:0000:0002 9C5F fd00:0096:0000:0000:0000:0000:0000:0002 0050 fd00:0003:0000:0000:0000:0000:0000:0002 1F90 TIME_WAIT       113
TCP 0A010002 9C43 0A600001 01BB 0A030002 192B TIME_WAIT       113
TCP 0A010002 9C41 0A60000A 0035 0A020002 0035 TIME_WAIT       113
TCP 0A010002 0000 0A60000A 0035 0A020002 0035 ASSURED       10793
UDP 0A010002 9C4C 0A60000A 0035 0A020002 0035 UDP             293
TCP 0A010002 9C4A 0A60000A 0035 0A020002 0035 ESTABLISHED     893
";

    fn of(backend: &str, servers: &[ServiceKey]) -> Connections {
        let backend: SocketAddr = backend.parse().unwrap();
        let table = connections(TABLE.as_bytes()).map(Result::unwrap);
        Connections::of(backend.into(), &servers.iter().copied().collect(), table)
    }

    #[test]
    fn a_backends_connections_are_picked_out() {
        let dns = ServiceKey::tcp("10.96.0.10:53".parse().unwrap());
        let found = of("10.2.0.2:53", &[dns]);
        let lines: Vec<_> = found
            .shown
            .iter()
            .map(|c| (c.client.to_string(), c.state.as_str(), c.expires))
            .collect();
        assert_eq!(
            lines,
            [
                ("10.1.0.2:40010".to_owned(), "ESTABLISHED", 893),
                ("10.1.0.2:40001".to_owned(), "TIME_WAIT", 113)
            ]
        );
        assert_eq!((found.all, found.tied), (2, 1));
        assert_eq!(of("10.3.0.2:53", &[dns]), Connections::default());
    }

    #[test]
    fn of_a_mark_and_of_all_ports() {
        let mark = ServiceKey::Mark {
            family: ipvs_sys::Family::Inet,
            mark: 7.try_into().unwrap(),
        };
        assert_eq!(of("10.2.0.2:53", &[mark]).all, 3);
        let all_ports = ServiceKey::udp("10.96.0.10:0".parse().unwrap());
        assert_eq!(of("10.2.0.2:53", &[all_ports]).all, 1);
    }
}
