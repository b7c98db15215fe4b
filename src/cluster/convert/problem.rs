//! What was refused, where, and what was wanted instead; and the strict parsers that refuse.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Converted;
use crate::model::Protocol;
use crate::model::addr::parse_cidr;

/// One value of an object that was left out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Kind and name: `Service default/web`.
    pub object: Box<str>,
    /// Path of the field: `spec.externalIPs[1]`.
    pub field: Box<str>,
    /// The value as it stands there.
    pub value: Box<str>,
    /// What would have been understood.
    pub wanted: &'static str,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            object,
            field,
            value,
            wanted,
        } = self;
        // Debug form: foreign text must not write its own lines into a log.
        write!(f, "{object}: {field} is {value:?}, wanted {wanted}")
    }
}

/// Collects the problems of one object.
pub(super) struct Problems {
    object: Box<str>,
    list: Vec<Problem>,
}

impl Problems {
    pub(super) fn new(object: String) -> Self {
        Self {
            object: object.into(),
            list: Vec::new(),
        }
    }

    pub(super) fn with<T>(self, value: T) -> Converted<T> {
        Converted {
            value,
            problems: self.list,
        }
    }

    pub(super) fn refuse(&mut self, field: &str, value: impl fmt::Display, wanted: &'static str) {
        self.list.push(Problem {
            object: self.object.clone(),
            field: field.into(),
            value: value.to_string().into(),
            wanted,
        });
    }

    /// An address of a host. IPv4 addresses dressed as IPv6 are refused: the two forms of one
    /// address would be two VIPs here and one in the kernel.
    pub(super) fn address(&mut self, field: &str, text: &str) -> Option<IpAddr> {
        self.address_at(&|| field.to_owned(), text)
    }

    /// The same, for long lists: the field's name is only made up for a refusal.
    pub(super) fn address_at(&mut self, field: &dyn Fn() -> String, text: &str) -> Option<IpAddr> {
        match text.parse::<IpAddr>() {
            Ok(IpAddr::V6(addr)) if addr.to_ipv4_mapped().is_some() => {
                self.refuse(&field(), text, "an IPv4 address in its own form");
                None
            }
            Ok(addr) => Some(addr),
            Err(_) => {
                self.refuse(&field(), text, "an IPv4 or IPv6 address");
                None
            }
        }
    }

    /// A CIDR; bits after the prefix are cut off, as Kubernetes does.
    pub(super) fn cidr(&mut self, field: &str, text: &str) -> Option<IpNet> {
        let net = parse_cidr(text).map(|net| net.trunc());
        if net.is_none() {
            self.refuse(field, text, "a CIDR such as 10.0.0.0/8 or fd00::/64");
        }
        net
    }

    /// A port number from 1 to 65,535.
    pub(super) fn port(&mut self, field: &str, number: i64) -> Option<u16> {
        let port = u16::try_from(number).ok().filter(|port| *port != 0);
        if port.is_none() {
            self.refuse(field, number, "a port from 1 to 65535");
        }
        port
    }

    /// A node port: absent and 0 mean none.
    pub(super) fn node_port(&mut self, field: &str, number: Option<i64>) -> u16 {
        match number {
            None | Some(0) => 0,
            Some(number) => self.port(field, number).unwrap_or(0),
        }
    }

    /// A protocol, in the API's spelling; absent means TCP.
    pub(super) fn protocol(&mut self, field: &str, text: Option<&str>) -> Option<Protocol> {
        match text {
            None | Some("" | "TCP") => Some(Protocol::Tcp),
            Some("UDP") => Some(Protocol::Udp),
            Some("SCTP") => Some(Protocol::Sctp),
            Some(other) => {
                self.refuse(field, other, "TCP, UDP or SCTP");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed_strictly() {
        let mut problems = Problems::new("Service a/b".to_owned());
        for good in [
            "192.0.2.1",
            "2001:db8::1",
            "2001:DB8:0:0::1",
            "0.0.0.0",
            "::1",
        ] {
            assert!(problems.address("f", good).is_some(), "{good}");
        }
        assert!(problems.list.is_empty());
        let odd = [
            // Octal to some, decimal to others (CVE-2021-29923).
            "192.0.2.01",
            "010.0.0.1",
            "0x7f.0.0.1",
            "192.0.2",
            "3221225985",
            // Two forms of one address would be two VIPs here and one in the kernel.
            "::ffff:192.0.2.1",
            "::FFFF:c000:201",
            // A zone means something on one node only.
            "fe80::1%eth0",
            "fe80::1%2",
            "[2001:db8::1]",
            "192.0.2.1/32",
            "192.0.2.1:80",
            " 192.0.2.1",
            "192.0.2.1\n",
            "",
        ];
        for text in odd {
            assert_eq!(problems.address("f", text), None, "{text:?}");
        }
        assert_eq!(problems.list.len(), odd.len());
    }
}
