//! The tree of chains by which the first packet of a connection finds its Service.
//!
//! One rule for each Service would cost a packet all of them. Here a chain has at most sixteen
//! branches, mostly: one for each value of the next four bits of the address, then of the protocol, then
//! of the port. What all tuples below a chain have in common is skipped. Where sixteen tuples or fewer are
//! left they are listed.
//!
//! Pure: the tree follows from the tuples alone, and a chain's name from its place in it, so that a
//! tuple more or less changes the chains on its way and none else.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::{Bound, RangeInclusive};

use ipnet::IpNet;

use super::chain::{ChainKey, ChainKind};
use crate::dataplane::policy::digest::Digest;
use crate::model::{Family, Protocol, VipPort};
use crate::netfilter::ruleset::Match;

/// Tuples that a chain lists before it branches.
const LISTED: usize = 16;

/// The tuples that are balanced. The chains follow from them.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    tuples: BTreeSet<VipPort>,
}

/// All tuples that begin alike: the same first digits. A digit is four bits of the address, the
/// protocol, or four bits of the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    /// The first tuple that begins so.
    first: VipPort,
    digits: usize,
}

/// The chains between the root and a tuple, and those that they branch to.
#[derive(Debug, Default)]
struct Way {
    along: BTreeSet<Prefix>,
    beside: BTreeSet<Prefix>,
}

/// What a chain leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Branch {
    Chain(Prefix),
    Tuple(VipPort),
}

impl Tree {
    /// Takes a tuple in or out, and gives the chains that may have changed by it.
    pub fn set(&mut self, vip: VipPort, balanced: bool) -> BTreeSet<Prefix> {
        if self.tuples.contains(&vip) == balanced {
            return BTreeSet::new();
        }
        let before = self.way(vip);
        if balanced {
            self.tuples.insert(vip);
        } else {
            self.tuples.remove(&vip);
        }
        let after = self.way(vip);
        // A branch of a chain on the way that was or will be a chain of its own, and one that is on the
        // way: the others lead where they led.
        let beside = before.beside.symmetric_difference(&after.beside);
        let changed = beside.chain(&before.along).chain(&after.along);
        changed.copied().collect()
    }

    fn way(&self, vip: VipPort) -> Way {
        let mut way = Way::default();
        let mut next = Some(Prefix::root(vip.family()));
        while let Some(prefix) = next.take() {
            way.along.insert(prefix);
            for branch in self.branches(prefix) {
                if let Branch::Chain(below) = branch {
                    way.beside.insert(below);
                    if below.range().contains(&vip) {
                        next = Some(below);
                    }
                }
            }
        }
        way
    }

    /// The chain that lists a tuple, if one does.
    pub fn listing(&self, vip: VipPort) -> Option<Prefix> {
        let way = self.way(vip).along.into_iter();
        way.rev()
            .find(|prefix| self.branches(*prefix).contains(&Branch::Tuple(vip)))
    }

    pub fn len(&self) -> usize {
        self.tuples.len()
    }

    pub fn is_empty(&self) -> bool {
        self.tuples.is_empty()
    }

    /// Whether the tree has such a chain. The root is always there.
    pub fn has(&self, prefix: Prefix) -> bool {
        if prefix.digits == 0 {
            return true;
        }
        let Some(first) = self.tuples.range(prefix.range()).next() else {
            return false;
        };
        self.way(*first).along.contains(&prefix)
    }

    /// Where a chain leads to. Costs its branches.
    pub fn branches(&self, prefix: Prefix) -> Vec<Branch> {
        let mut below = self.tuples.range(prefix.range());
        let (Some(first), last) = (below.next(), below.next_back()) else {
            return Vec::new();
        };
        let last = last.unwrap_or(first);
        let few: Vec<Branch> = self
            .tuples
            .range(prefix.range())
            .take(LISTED + 1)
            .map(|vip| Branch::Tuple(*vip))
            .collect();
        if few.len() <= LISTED {
            return few;
        }
        let digits = digits(first.family());
        let common = (0..digits).take_while(|at| digit(first, *at) == digit(last, *at));
        let common = common.count();
        let mut branches = Vec::new();
        let mut at = *first;
        loop {
            let below = Prefix::of(at, common + 1);
            let mut within = self.tuples.range(below.range());
            branches.push(match (within.next(), within.next()) {
                (Some(only), None) => Branch::Tuple(*only),
                _ => Branch::Chain(below),
            });
            let (_, end) = below.range().into_inner();
            let mut beyond = self.tuples.range((Bound::Excluded(end), Bound::Unbounded));
            match beyond.next().filter(|next| *next <= last) {
                Some(next) => at = *next,
                None => return branches,
            }
        }
    }

    /// All chains. Costs the whole tree.
    pub fn chains(&self, family: Family) -> BTreeSet<Prefix> {
        let mut chains = BTreeSet::new();
        let mut todo = vec![Prefix::root(family)];
        while let Some(prefix) = todo.pop() {
            chains.insert(prefix);
            let below = self.branches(prefix).into_iter();
            todo.extend(below.filter_map(|branch| match branch {
                Branch::Chain(below) => Some(below),
                Branch::Tuple(_) => None,
            }));
        }
        chains
    }
}

impl Prefix {
    /// Of all tuples of a family.
    pub fn root(family: Family) -> Self {
        let addr = match family {
            Family::V4 => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            Family::V6 => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        Self {
            first: VipPort {
                addr,
                protocol: PROTOCOLS[0],
                port: 0,
            },
            digits: 0,
        }
    }

    fn of(vip: VipPort, digits: usize) -> Self {
        let (first, _) = bounds(vip, digits);
        Self { first, digits }
    }

    fn range(&self) -> RangeInclusive<VipPort> {
        let (first, last) = bounds(self.first, self.digits);
        first..=last
    }

    pub fn family(&self) -> Family {
        self.first.family()
    }

    /// The chain's name.
    pub fn key(&self) -> ChainKey {
        let place = format!("{} {}", self.first, self.digits);
        ChainKey {
            family: self.family(),
            kind: ChainKind::Branch,
            digest: Digest::of(&[&place]),
        }
    }

    /// What packets to tuples that begin so have in common.
    pub fn matches(&self) -> Vec<Match> {
        let cuts = address_cuts(self.family());
        let length = fixed(cuts, self.digits);
        let mut matches = vec![Match::Destination(IpNet::new_assert(
            self.first.addr,
            length,
        ))];
        let protocol = self.first.protocol;
        if self.digits == cuts.len() + 1 {
            matches.push(Match::Protocol(protocol));
        } else if self.digits > cuts.len() {
            let (first, last) = bounds(self.first, self.digits);
            matches.push(Match::Ports {
                protocol,
                first: first.port,
                last: last.port,
            });
        }
        matches
    }
}

/// What packets to one tuple have in common.
pub fn matches(vip: VipPort) -> Vec<Match> {
    Prefix::of(vip, digits(vip.family())).matches()
}

/// Where the digits of an address end. Most are of four bits, for chains of sixteen rules. nf_tables
/// follows no more than fifteen jumps one after the other (`NFT_JUMP_STACK_SIZE`), and others have
/// their share: so there are few digits where addresses of a cluster are alike, which costs nothing
/// there, since what is alike is skipped.
const fn address_cuts(family: Family) -> &'static [u8] {
    match family {
        Family::V4 => &[8, 12, 16, 20, 24, 28, 32],
        Family::V6 => &[64, 112, 116, 120, 124, 128],
    }
}

/// The same of ports.
const PORT_CUTS: &[u8] = &[8, 12, 16];

/// Bits that so many digits fix.
fn fixed(cuts: &[u8], digits: usize) -> u8 {
    let last = digits.min(cuts.len()).checked_sub(1);
    last.and_then(|last| cuts.get(last)).copied().unwrap_or(0)
}

/// The value of one digit of a number of so many bits.
fn digit_of(bits: u128, length: u8, cuts: &[u8], at: usize) -> u128 {
    let (begin, end) = (fixed(cuts, at), fixed(cuts, at + 1));
    let width = u32::from(end - begin);
    let mask = 1_u128.checked_shl(width).map_or(u128::MAX, |bit| bit - 1);
    bits >> (length - end) & mask
}

/// The first and the last tuple whose first digits are those of `vip`.
fn bounds(vip: VipPort, digits: usize) -> (VipPort, VipPort) {
    let cuts = address_cuts(vip.family());
    let free = vip.family().host_prefix() - fixed(cuts, digits);
    let ones = 1_u128
        .checked_shl(free.into())
        .map_or(u128::MAX, |bit| bit - 1);
    let (low, high) = match vip.addr {
        IpAddr::V4(addr) => {
            let ones = u32::try_from(ones).unwrap_or(u32::MAX);
            let bits = addr.to_bits();
            let [low, high] = [bits & !ones, bits | ones].map(Ipv4Addr::from_bits);
            (IpAddr::from(low), IpAddr::from(high))
        }
        IpAddr::V6(addr) => {
            let bits = addr.to_bits();
            let [low, high] = [bits & !ones, bits | ones].map(Ipv6Addr::from_bits);
            (low.into(), high.into())
        }
    };
    let (first_protocol, last_protocol) = if digits > cuts.len() {
        (vip.protocol, vip.protocol)
    } else {
        (PROTOCOLS[0], PROTOCOLS[2])
    };
    let of_port = digits.saturating_sub(cuts.len() + 1);
    let ones = u16::MAX.checked_shr(fixed(PORT_CUTS, of_port).into());
    let ones = ones.unwrap_or(0);
    let tuple = |addr, protocol, port| VipPort {
        addr,
        protocol,
        port,
    };
    (
        tuple(low, first_protocol, vip.port & !ones),
        tuple(high, last_protocol, vip.port | ones),
    )
}

fn digit(vip: &VipPort, at: usize) -> u128 {
    let cuts = address_cuts(vip.family());
    match at.checked_sub(cuts.len()) {
        None => {
            let bits = match vip.addr {
                IpAddr::V4(addr) => u128::from(addr.to_bits()),
                IpAddr::V6(addr) => addr.to_bits(),
            };
            digit_of(bits, vip.family().host_prefix(), cuts, at)
        }
        Some(0) => vip.protocol as u128,
        Some(beyond) => digit_of(vip.port.into(), 16, PORT_CUTS, beyond - 1),
    }
}

fn digits(family: Family) -> usize {
    address_cuts(family).len() + 1 + PORT_CUTS.len()
}

/// In the order in which tuples are sorted.
const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// All chains, with what each leads to.
    fn picture(tree: &Tree) -> BTreeMap<Prefix, Vec<Branch>> {
        let chains = Family::ALL
            .into_iter()
            .flat_map(|family| tree.chains(family));
        chains
            .map(|prefix| (prefix, tree.branches(prefix)))
            .collect()
    }

    /// Whether a packet to `vip` matches, by the words of the rule alone.
    fn holds(condition: &Match, vip: VipPort) -> bool {
        match condition {
            Match::Destination(net) => net.contains(&vip.addr),
            Match::Protocol(protocol) => *protocol == vip.protocol,
            Match::Ports {
                protocol,
                first,
                last,
            } => *protocol == vip.protocol && (*first..=*last).contains(&vip.port),
            other => panic!("{other:?} in the tree"),
        }
    }

    /// Where a packet ends, and how many rules it met.
    fn walk(tree: &Tree, vip: VipPort) -> (Option<VipPort>, usize) {
        let (mut at, mut rules) = (Prefix::root(vip.family()), 0);
        loop {
            let branches = tree.branches(at);
            let met = branches.into_iter().find(|branch| {
                rules += 1;
                let matches = match branch {
                    Branch::Chain(below) => below.matches(),
                    Branch::Tuple(tuple) => matches(*tuple),
                };
                matches.iter().all(|condition| holds(condition, vip))
            });
            match met {
                None => return (None, rules),
                Some(Branch::Tuple(tuple)) => return (Some(tuple), rules),
                Some(Branch::Chain(below)) => at = below,
            }
        }
    }

    /// How many chains lead to a tuple below this one, itself with them.
    fn depth(tree: &Tree, prefix: Prefix) -> usize {
        let (first, _) = bounds(prefix.first, prefix.digits);
        let met = tree.tuples.range(prefix.range()).next().copied();
        tree.way(met.unwrap_or(first)).along.len()
    }

    /// nf_tables goes fifteen jumps deep, of which others than branches need three.
    #[test]
    fn no_tuples_make_the_tree_too_deep() {
        for family in Family::ALL {
            // Each differs from the first tuple in one digit, sixteen of them beside it at each.
            let one: VipPort = match family {
                Family::V4 => "10.96.16.17:80/TCP",
                Family::V6 => "[fd00:96::1111]:80/TCP",
            }
            .parse()
            .unwrap();
            let mut tree = Tree::default();
            for port in 80..100 {
                tree.set(VipPort { port, ..one }, true);
            }
            for bit in 0..16 {
                let port = one.port ^ (1 << bit);
                tree.set(VipPort { port, ..one }, true);
            }
            for protocol in PROTOCOLS {
                tree.set(VipPort { protocol, ..one }, true);
            }
            for bit in 0..u32::from(family.host_prefix()) {
                let addr = match one.addr {
                    IpAddr::V4(addr) => {
                        IpAddr::from(Ipv4Addr::from_bits(addr.to_bits() ^ 1 << bit))
                    }
                    IpAddr::V6(addr) => {
                        IpAddr::from(Ipv6Addr::from_bits(addr.to_bits() ^ 1 << bit))
                    }
                };
                tree.set(VipPort { addr, ..one }, true);
            }
            let deepest = tree.way(one).along.len();
            assert!((6..=11).contains(&deepest), "{family}: {deepest}");
        }
    }

    /// Tuples that crowd in places: few addresses with many ports, and many addresses with one.
    fn tuple() -> impl Strategy<Value = VipPort> {
        let v4 = prop_oneof![
            (0..4_u32).prop_map(|n| 0xc000_0200 + n),
            (0..2000_u32).prop_map(|n| 0x0a60_0000 + n * 37),
            any::<u32>(),
        ];
        let v6 = prop_oneof![
            (0..3_u128).prop_map(|n| (0xfd << 120) + n),
            (0..500_u128).prop_map(|n| (0xfd << 120) + (n << 8)),
        ];
        let addr = prop_oneof![
            3 => v4.prop_map(|bits| IpAddr::from(Ipv4Addr::from_bits(bits))),
            1 => v6.prop_map(|bits| IpAddr::from(Ipv6Addr::from_bits(bits))),
        ];
        let port = prop_oneof![Just(80_u16), Just(443), 30000..30200_u16, any::<u16>()];
        let protocol = prop::sample::select(PROTOCOLS.to_vec());
        (addr, protocol, port).prop_map(|(addr, protocol, port)| VipPort {
            addr,
            protocol,
            port,
        })
    }

    proptest! {
        // Each looks at whole trees many times.
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn a_change_names_every_chain_that_it_changes(
            tuples in prop::collection::vec(tuple(), 1..120),
            order in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 1..60),
        ) {
            let mut tree = Tree::default();
            for vip in &tuples {
                tree.set(*vip, true);
            }
            for (which, balanced) in order {
                let before = picture(&tree);
                let touched = tree.set(*which.get(&tuples), balanced);
                let after = picture(&tree);
                let differ = before.keys().chain(after.keys())
                    .filter(|prefix| before.get(prefix) != after.get(prefix));
                for prefix in differ {
                    prop_assert!(touched.contains(prefix), "{prefix:?}");
                }
                for prefix in before.keys().chain(after.keys()) {
                    prop_assert_eq!(tree.has(*prefix), after.contains_key(prefix));
                }
            }
        }

        #[test]
        fn a_packet_finds_its_tuple_and_no_other(
            tuples in prop::collection::btree_set(tuple(), 0..200),
            strangers in prop::collection::vec(tuple(), 1..20),
        ) {
            let mut tree = Tree::default();
            for vip in &tuples {
                tree.set(*vip, true);
            }
            for vip in tuples.iter().chain(&strangers) {
                let wanted = tuples.contains(vip).then_some(*vip);
                prop_assert_eq!(walk(&tree, *vip).0, wanted);
                prop_assert_eq!(tree.listing(*vip).is_some(), wanted.is_some());
            }
            for (prefix, branches) in picture(&tree) {
                prop_assert!(branches.len() <= 256, "{prefix:?}");
                prop_assert!(depth(&tree, prefix) <= 11, "{prefix:?}");
            }
        }
    }

    #[test]
    fn the_way_grows_with_the_logarithm_of_the_tuples() {
        let longest = |count: u32| {
            let mut tree = Tree::default();
            let tuples: Vec<VipPort> = (0..count)
                .map(|n| format!("{}:80/TCP", Ipv4Addr::from_bits(0x0a60_0000 + n * 13)))
                .map(|tuple| tuple.parse().unwrap())
                .collect();
            for vip in &tuples {
                tree.set(*vip, true);
            }
            tuples.iter().map(|vip| walk(&tree, *vip).1).max().unwrap()
        };
        // Sixteen rules for each digit in which 10,000 tuples differ, against all 10,000.
        assert!(longest(100) <= 2 * 16);
        assert!(longest(10_000) <= 5 * 16);
    }
}
