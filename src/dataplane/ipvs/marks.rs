//! Marks for the virtual servers of clients on this node: one for each Service port.
//!
//! A mark follows from the port's name, so that a restart finds the virtual servers that an earlier
//! run made. Only where two names meet at one mark does the order of their arrival count.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher;

use fnv::FnvHasher;

use crate::model::ServicePortName;

/// Marks in use, each with the number of tuples that share it.
#[derive(Debug, Clone)]
pub struct Marks {
    /// The bits that a mark may have. Others stay free for others: IPVS compares whole marks, and
    /// between there and here the mark is the packet's only one.
    mask: u32,
    /// Bits that every mark has.
    always: u32,
    by_port: BTreeMap<ServicePortName, (u32, usize)>,
    used: BTreeSet<u32>,
}

impl Marks {
    pub fn new(mask: u32, always: u32) -> Self {
        Self {
            mask,
            always,
            by_port: BTreeMap::new(),
            used: BTreeSet::new(),
        }
    }

    /// The mark of a port that has one.
    pub fn get(&self, port: &ServicePortName) -> Option<u32> {
        self.by_port.get(port).map(|(mark, _)| *mark)
    }

    /// The mark of a port, for one tuple more. `None` if all are taken.
    pub fn acquire(&mut self, port: &ServicePortName) -> Option<u32> {
        if let Some((mark, tuples)) = self.by_port.get_mut(port) {
            *tuples += 1;
            return Some(*mark);
        }
        let numbers = (1_u64 << self.mask.count_ones()) - 1;
        let first = hash(port);
        // Number 0 would be no mark.
        let mark = (0..numbers)
            .map(|nth| deposit(1 + (first.wrapping_add(nth)) % numbers, self.mask) | self.always)
            .find(|mark| !self.used.contains(mark))?;
        self.used.insert(mark);
        self.by_port.insert(port.clone(), (mark, 1));
        Some(mark)
    }

    /// One tuple fewer shares the port's mark. True if that was the last.
    pub fn release(&mut self, port: &ServicePortName) -> bool {
        let Some((mark, tuples)) = self.by_port.get_mut(port) else {
            return false;
        };
        *tuples -= 1;
        if *tuples > 0 {
            return false;
        }
        self.used.remove(&*mark);
        self.by_port.remove(port);
        true
    }
}

/// Of a fixed kind, since the next version must find the same.
fn hash(port: &ServicePortName) -> u64 {
    let mut hasher = FnvHasher::default();
    hasher.write(port.service.namespace.as_bytes());
    hasher.write_u8(0);
    hasher.write(port.service.name.as_bytes());
    hasher.write_u8(0);
    hasher.write(port.port.as_bytes());
    hasher.write_u8(port.protocol.number());
    hasher.finish()
}

/// The bits of `number`, lowest first, at the places that `mask` names.
fn deposit(number: u64, mask: u32) -> u32 {
    let places = (0..u32::BITS).filter(|place| mask & (1 << place) != 0);
    places
        .enumerate()
        .filter(|(bit, _)| number & (1 << bit) != 0)
        .fold(0, |mark, (_, place)| mark | 1 << place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ObjectName, Protocol};

    fn port(name: &str) -> ServicePortName {
        ServicePortName {
            service: ObjectName::new("ns", name),
            port: "http".into(),
            protocol: Protocol::Tcp,
        }
    }

    #[test]
    fn marks_use_the_permitted_bits_and_never_meet() {
        // Three bits: seven marks.
        let mut marks = Marks::new(0x8000_0011, 0x4);
        let mut met = BTreeSet::new();
        for n in 0..7 {
            let mark = marks.acquire(&port(&n.to_string())).unwrap();
            assert_eq!(mark & !0x8000_0011, 0x4);
            assert_ne!(mark, 0x4);
            assert!(met.insert(mark));
        }
        assert_eq!(marks.acquire(&port("one too many")), None);
        assert!(marks.release(&port("3")));
        assert!(marks.acquire(&port("now it fits")).is_some());
    }

    #[test]
    fn a_mark_stays_while_a_tuple_has_it_and_comes_again_after() {
        let mut marks = Marks::new(0x7ff0_00ff, 0x2000);
        let mark = marks.acquire(&port("a"));
        assert_eq!(marks.acquire(&port("a")), mark);
        assert!(!marks.release(&port("a")));
        assert_eq!(marks.get(&port("a")), mark);
        assert!(marks.release(&port("a")));
        assert_eq!(marks.get(&port("a")), None);
        assert_eq!(Marks::new(0x7ff0_00ff, 0x2000).acquire(&port("a")), mark);
    }
}
