//! What changed in the table between two looks at it, in the language of rules.

use std::collections::BTreeMap;

use ipvs_sys::{Destination, DestinationKey, ServiceKey};

use super::Row;

/// The rules of a table at one moment; counters are no part of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot(BTreeMap<(ServiceKey, Option<DestinationKey>), String>);

impl Snapshot {
    /// Of rows that were read in full.
    pub fn of(rows: &[Row]) -> Self {
        let mut rules = BTreeMap::new();
        for row in rows {
            let service = &row.service.service;
            rules.insert((service.key, None), format!("-A {service}"));
            for entry in &row.destinations {
                let Destination { key, .. } = entry.destination;
                let rule = format!("-a {} {}", service.key, entry.destination);
                rules.insert((service.key, Some(key)), rule);
            }
        }
        Self(rules)
    }

    /// A line for each rule that went (`-`) or came (`+`); an edit is both.
    pub fn changes_to(&self, later: &Self) -> String {
        let places: std::collections::BTreeSet<_> = self.0.keys().chain(later.0.keys()).collect();
        let mut out = String::new();
        for place in places {
            let (before, after) = (self.0.get(place), later.0.get(place));
            if before != after {
                for (sign, rule) in [('-', before), ('+', after)] {
                    out.extend(rule.map(|rule| format!("{sign} {rule}\n")));
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipvs_sys::{DestinationEntry, ForwardMethod, Service, ServiceEntry};

    fn row(port: u16, weights: &[(u8, u32)]) -> Row {
        let key = ServiceKey::tcp(([10, 96, 0, 1], port).into());
        let destination = |(last, weight): &(u8, u32)| {
            let key = DestinationKey::new([10, 2, 0, *last].into(), 8080);
            let masq = Destination::new(key, ForwardMethod::Masquerade);
            DestinationEntry::new(masq.with_weight(*weight))
        };
        Row {
            service: ServiceEntry::new(Service::new(key, "rr".parse().unwrap())),
            destinations: weights.iter().map(destination).collect(),
        }
    }

    #[test]
    fn changes_are_told_as_rules_and_counters_are_none() {
        let before = Snapshot::of(&[row(80, &[(2, 1), (3, 1)]), row(81, &[])]);
        let mut rows = [row(80, &[(2, 0), (3, 1), (4, 1)]), row(82, &[])];
        rows[0].destinations[1].active = 7;
        assert_eq!(
            before.changes_to(&Snapshot::of(&rows)),
            "- -a -t 10.96.0.1:80 -r 10.2.0.2:8080 -m -w 1\n\
             + -a -t 10.96.0.1:80 -r 10.2.0.2:8080 -m -w 0\n\
             + -a -t 10.96.0.1:80 -r 10.2.0.4:8080 -m -w 1\n\
             - -A -t 10.96.0.1:81 -s rr\n\
             + -A -t 10.96.0.1:82 -s rr\n"
        );
        assert_eq!(before.changes_to(&before), "");
    }
}
