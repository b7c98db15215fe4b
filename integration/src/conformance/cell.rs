//! The cells of the matrix: who asks what, over what, of a Service in which state.
//!
//! A cell is a choice in each of seven dimensions. Endpoints lie at `n1` (and, where there are two, at
//! `n2`); a packet enters the service proxy at `n1` or at `n3`. Where that is:
//!
//! * a VIP asked by a pod or by a process: at its own node
//! * a NodePort: at the node whose address is asked, whoever asks
//! * a VIP asked from outside: at the node that the outside client's route leads to

use crate::guest::cluster::State::{self, NotReady, Ready, Terminating};
use crate::guest::probe::Transport;
use crate::guest::topology::CLIENT;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Client {
    PodBeside,
    PodElsewhere,
    /// A process of the node whose NodePort is asked; for a VIP: of the endpoint's node.
    AddressedNode,
    /// A process of a node that is neither; for a VIP: of a node without the endpoint.
    OtherNode,
    Outside,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Destination {
    ClusterIp,
    NodePort,
    LoadBalancerIp,
    ExternalIp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    V4,
    V6,
}

/// internalTrafficPolicy for cluster IPs, externalTrafficPolicy for the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Policy {
    Cluster,
    Local,
}

/// The Service's endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slices {
    One,
    Two,
    /// A process on the network of its node.
    Host,
    /// The client is the only endpoint.
    Itself,
    Nothing,
    NotReady,
    Terminating,
    TerminatingBesideReady,
}

/// The node at which a packet enters the service proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entry {
    WithEndpoint,
    WithoutEndpoint,
}

/// One case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    pub policy: Policy,
    pub slices: Slices,
    pub entry: Entry,
    pub client: Client,
    pub destination: Destination,
    pub transport: Transport,
    pub family: Family,
}

/// An endpoint: its name is the namespace in which its server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    pub name: &'static str,
    pub node: &'static str,
    pub state: State,
}

impl Endpoint {
    const fn new(name: &'static str, node: &'static str, state: State) -> Self {
        Self { name, node, state }
    }

    /// On the network of its node.
    pub fn is_host(self) -> bool {
        self.name == self.node
    }
}

impl Slices {
    pub const fn endpoints(self) -> &'static [Endpoint] {
        const READY: Endpoint = Endpoint::new("p11", "n1", Ready);
        const SECOND: Endpoint = Endpoint::new("p21", "n2", Ready);
        const LEAVING: Endpoint = Endpoint::new("p11", "n1", Terminating);
        const UNREADY: Endpoint = Endpoint::new("p11", "n1", NotReady);
        const PROCESS: Endpoint = Endpoint::new("n1", "n1", Ready);
        match self {
            Self::One | Self::Itself => &[READY],
            Self::Two => &[READY, SECOND],
            Self::Host => &[PROCESS],
            Self::Nothing => &[],
            Self::NotReady => &[UNREADY],
            Self::Terminating => &[LEAVING],
            Self::TerminatingBesideReady => &[LEAVING, SECOND],
        }
    }
}

impl Entry {
    pub const fn node(self) -> &'static str {
        match self {
            Self::WithEndpoint => "n1",
            Self::WithoutEndpoint => "n3",
        }
    }
}

impl Cell {
    /// The namespace of who asks.
    pub fn asker(&self) -> &'static str {
        match (self.client, self.destination) {
            (Client::PodBeside, _) if self.slices == Slices::Itself => "p11",
            (Client::PodBeside, _) => "p12",
            (Client::PodElsewhere, _) => "p32",
            (Client::AddressedNode, _) => self.entry.node(),
            (Client::OtherNode, Destination::NodePort) => "n2",
            (Client::OtherNode, _) => self.entry.node(),
            (Client::Outside, _) => CLIENT,
        }
    }

    /// The node of who asks, if it has one.
    pub fn asker_node(&self) -> Option<&'static str> {
        match self.asker() {
            "p11" | "p12" | "n1" => Some("n1"),
            "n2" => Some("n2"),
            "p32" | "n3" => Some("n3"),
            _ => None,
        }
    }

    /// Why no such case is demanded; nothing for one that is.
    pub fn left_out(&self) -> Option<&'static str> {
        let at_home = match self.client {
            Client::PodBeside | Client::AddressedNode => self.entry == Entry::WithEndpoint,
            Client::PodElsewhere | Client::OtherNode => self.entry == Entry::WithoutEndpoint,
            Client::Outside => true,
        };
        if self.destination != Destination::NodePort && !at_home {
            return Some(LEFT_OUT[0]);
        }
        if self.slices == Slices::Itself && self.client != Client::PodBeside {
            return Some(LEFT_OUT[1]);
        }
        None
    }
}

/// The rules by which cases are left out.
pub const LEFT_OUT: [&str; 2] = [
    "a VIP that a pod or a process asks is served by its own node, so no other entry is possible",
    "only a pod beside the endpoint can be the endpoint; an outside client cannot, and a process is its own endpoint in the cells of the host network",
];

/// All cases that are demanded, in a fixed order.
pub fn all() -> Vec<Cell> {
    let mut cells = vec![Cell {
        policy: Policy::Cluster,
        slices: Slices::One,
        entry: Entry::WithEndpoint,
        client: Client::PodBeside,
        destination: Destination::ClusterIp,
        transport: Transport::Tcp,
        family: Family::V4,
    }];
    cells = vary(cells, &POLICIES, |cell, policy| cell.policy = policy);
    cells = vary(cells, &SLICES, |cell, slices| cell.slices = slices);
    cells = vary(cells, &ENTRIES, |cell, entry| cell.entry = entry);
    cells = vary(cells, &CLIENTS, |cell, client| cell.client = client);
    cells = vary(cells, &DESTINATIONS, |cell, to| cell.destination = to);
    cells = vary(cells, &TRANSPORTS, |cell, over| cell.transport = over);
    cells = vary(cells, &FAMILIES, |cell, family| cell.family = family);
    cells.retain(|cell| cell.left_out().is_none());
    cells
}

/// Each cell with each value.
fn vary<T: Copy>(cells: Vec<Cell>, values: &[T], set: impl Fn(&mut Cell, T)) -> Vec<Cell> {
    let with = |cell: Cell, value: T| {
        let mut cell = cell;
        set(&mut cell, value);
        cell
    };
    let each = cells
        .into_iter()
        .flat_map(|cell| values.iter().map(move |value| (cell, *value)));
    each.map(|(cell, value)| with(cell, value)).collect()
}

pub const POLICIES: [Policy; 2] = [Policy::Cluster, Policy::Local];
pub const SLICES: [Slices; 8] = [
    Slices::One,
    Slices::Two,
    Slices::Host,
    Slices::Itself,
    Slices::Nothing,
    Slices::NotReady,
    Slices::Terminating,
    Slices::TerminatingBesideReady,
];
pub const ENTRIES: [Entry; 2] = [Entry::WithEndpoint, Entry::WithoutEndpoint];
pub const CLIENTS: [Client; 5] = [
    Client::PodBeside,
    Client::PodElsewhere,
    Client::AddressedNode,
    Client::OtherNode,
    Client::Outside,
];
pub const DESTINATIONS: [Destination; 4] = [
    Destination::ClusterIp,
    Destination::NodePort,
    Destination::LoadBalancerIp,
    Destination::ExternalIp,
];
pub const TRANSPORTS: [Transport; 3] = [Transport::Tcp, Transport::Udp, Transport::Sctp];
pub const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_of_every_dimension_is_in_some_cell() {
        let cells = all();
        let has = |test: &dyn Fn(&Cell) -> bool| assert!(cells.iter().any(test));
        SLICES.iter().for_each(|x| has(&|cell| cell.slices == *x));
        ENTRIES.iter().for_each(|x| has(&|cell| cell.entry == *x));
        CLIENTS.iter().for_each(|x| has(&|cell| cell.client == *x));
        for (client, destination) in CLIENTS.iter().flat_map(|c| DESTINATIONS.map(|d| (c, d))) {
            for policy in POLICIES {
                has(&|cell| {
                    (cell.client, cell.destination, cell.policy) == (*client, destination, policy)
                });
            }
        }
    }

    #[test]
    fn no_cell_is_there_twice_and_a_vip_is_entered_at_home() {
        let cells = all();
        let mut once = cells.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), cells.len());
        for cell in cells {
            if cell.destination != Destination::NodePort && cell.client != Client::Outside {
                assert_eq!(cell.asker_node(), Some(cell.entry.node()), "{cell:?}");
            }
        }
    }
}
