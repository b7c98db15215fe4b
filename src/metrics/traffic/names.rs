//! Whose each virtual server is. The loop says what changes, at the cost of the change; who reads
//! the kernel asks.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard};

use ipvs_sys::ServiceKey;

use crate::metrics::lock;
use crate::model::{Family, Named, Protocol, ServicePortName, VipPort};

/// Owners of virtual servers.
#[derive(Debug, Default)]
pub struct Names {
    tuples: BTreeMap<VipPort, (ServicePortName, Option<u32>)>,
    /// With the number of tuples that are led by each.
    marks: BTreeMap<(Family, u32), (ServicePortName, usize)>,
}

/// The same for two threads.
#[derive(Debug, Clone, Default)]
pub struct SharedNames(Arc<Mutex<Names>>);

impl SharedNames {
    /// Nobody keeps it for long.
    pub fn lock(&self) -> MutexGuard<'_, Names> {
        lock(&self.0)
    }
}

impl Names {
    /// Takes a change.
    pub fn put(&mut self, Named { vip, owner, mark }: Named) {
        let family = vip.family();
        if let Some((_, Some(mark))) = self.tuples.remove(&vip)
            && let Some((_, count)) = self.marks.get_mut(&(family, mark))
        {
            *count -= 1;
            if *count == 0 {
                self.marks.remove(&(family, mark));
            }
        }
        let Some(owner) = owner else {
            return;
        };
        if let Some(mark) = mark {
            let entry = self.marks.entry((family, mark));
            let (of, count) = entry.or_insert_with(|| (owner.clone(), 0));
            of.clone_from(&owner);
            *count += 1;
        }
        self.tuples.insert(vip, (owner, mark));
    }

    /// Forgets everything, and takes this in its place.
    pub fn replace(&mut self, all: impl IntoIterator<Item = Named>) {
        *self = Self::default();
        for named in all {
            self.put(named);
        }
    }

    /// The owners of those that have one.
    pub(super) fn of_all<'a>(
        &self,
        keys: impl Iterator<Item = &'a ServiceKey>,
    ) -> BTreeMap<ServiceKey, ServicePortName> {
        keys.filter_map(|key| Some((*key, self.owner(key)?.clone())))
            .collect()
    }

    /// All Service ports that have a tuple, served or not.
    pub(super) fn owners(&self) -> BTreeSet<ServicePortName> {
        self.tuples
            .values()
            .map(|(owner, _)| owner.clone())
            .collect()
    }

    fn owner(&self, key: &ServiceKey) -> Option<&ServicePortName> {
        match *key {
            ServiceKey::Address {
                protocol,
                addr,
                port,
            } => {
                let protocol = match protocol {
                    ipvs_sys::Protocol::Tcp => Protocol::Tcp,
                    ipvs_sys::Protocol::Udp => Protocol::Udp,
                    ipvs_sys::Protocol::Sctp => Protocol::Sctp,
                    ipvs_sys::Protocol::Other(_) => return None,
                };
                let vip = VipPort {
                    addr,
                    protocol,
                    port,
                };
                self.tuples.get(&vip).map(|(owner, _)| owner)
            }
            ServiceKey::Mark { family, mark } => {
                let family = match family {
                    ipvs_sys::Family::Inet => Family::V4,
                    ipvs_sys::Family::Inet6 => Family::V6,
                };
                let mark = NonZeroU32::get(mark);
                self.marks.get(&(family, mark)).map(|(owner, _)| owner)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ObjectName;

    fn owner(name: &str) -> ServicePortName {
        ServicePortName {
            service: ObjectName::new("ns", name),
            port: "".into(),
            protocol: Protocol::Tcp,
        }
    }

    fn named(vip: &str, name: Option<&str>, mark: Option<u32>) -> Named {
        Named {
            vip: vip.parse().unwrap(),
            owner: name.map(owner),
            mark,
        }
    }

    #[test]
    fn a_mark_is_a_services_for_as_long_as_one_of_its_tuples_has_it() {
        let mut names = Names::default();
        let mark = ServiceKey::Mark {
            family: ipvs_sys::Family::Inet,
            mark: NonZeroU32::new(7).unwrap(),
        };
        let tuple = ServiceKey::tcp("192.0.2.1:80".parse().unwrap());
        names.put(named("192.0.2.1:80/TCP", Some("a"), Some(7)));
        names.put(named("192.0.2.2:80/TCP", Some("a"), Some(7)));
        assert_eq!(names.owner(&mark), Some(&owner("a")));
        assert_eq!(names.owner(&tuple), Some(&owner("a")));
        names.put(named("192.0.2.1:80/TCP", Some("b"), None));
        assert_eq!(names.owner(&mark), Some(&owner("a")));
        assert_eq!(names.owner(&tuple), Some(&owner("b")));
        names.put(named("192.0.2.2:80/TCP", None, None));
        assert_eq!(names.owner(&mark), None);
        names.put(named("192.0.2.1:80/TCP", None, None));
        assert_eq!(names.owner(&tuple), None);
        let udp = ServiceKey::udp("192.0.2.1:80".parse().unwrap());
        names.replace([named("192.0.2.1:80/UDP", Some("c"), None)]);
        assert_eq!(names.owner(&udp), Some(&owner("c")));
        assert_eq!(names.owner(&tuple), None);
    }
}
