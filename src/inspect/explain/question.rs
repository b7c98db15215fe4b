//! What is asked: a Service by its name, or a packet by who sends it to where.

use std::net::IpAddr;

use crate::ask::explain::{Asked, Packet};
use crate::model::{HostPort, ObjectName, Protocol};

/// What cannot be read, with what would be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    #[error(
        "{0:?} is neither a Service (NAMESPACE/NAME) nor a packet (\"SRC -> DST:PORT/PROTOCOL\")"
    )]
    Neither(String),
    #[error("{0:?} is no source: it takes an address, or the word node for a process of this node")]
    Source(String),
    #[error(
        "{0:?} is no destination: it takes ADDRESS:PORT/PROTOCOL such as 10.96.0.1:443/TCP or \
         [fd00::1]:53/UDP"
    )]
    Destination(String),
    #[error("{from} and {to} are of different families; no packet goes from one to the other")]
    Families { from: IpAddr, to: IpAddr },
}

/// Reads `NAMESPACE/NAME` or `SRC -> DST:PORT/PROTOCOL`; without a protocol TCP is meant. Names of a
/// Service are to end in `domain`.
pub fn parse(text: &str, domain: &str) -> Result<Asked, QuestionError> {
    let arrow = text.split_once("->").or_else(|| text.split_once('→'));
    if let Some((from, to)) = arrow {
        let to = to.trim();
        let error = || QuestionError::Destination(to.to_owned());
        let (host, protocol) = to.split_once('/').unwrap_or((to, "TCP"));
        let HostPort { addr, port } = host.parse().map_err(|_| error())?;
        let protocol = protocol.parse().map_err(|_| error())?;
        return packet(from, addr, port, protocol);
    }
    let neither = || QuestionError::Neither(text.to_owned());
    let (namespace, name) = text.split_once('/').ok_or_else(neither)?;
    if is_name(namespace) && is_name(name) {
        Ok(Asked::Service {
            name: ObjectName::new(namespace, name),
            domain: domain.to_owned(),
        })
    } else {
        Err(neither())
    }
}

/// Where the agent answers it.
pub fn path(asked: &Asked) -> String {
    match asked {
        Asked::Service { name, domain } => {
            let ObjectName { namespace, name } = name;
            format!("/v1/explain/service/{namespace}/{name}?cluster-domain={domain}")
        }
        Asked::Packet(Packet {
            from,
            to,
            port,
            protocol,
        }) => {
            let from = from.map(|from| format!("from={from}&")).unwrap_or_default();
            format!("/v1/explain/packet?{from}to={to}&port={port}&protocol={protocol}")
        }
    }
}

/// A packet from `from`, an address or `node`.
pub fn packet(
    from: &str,
    to: IpAddr,
    port: u16,
    protocol: Protocol,
) -> Result<Asked, QuestionError> {
    let from = match from.trim() {
        "node" => None,
        text => {
            let addr = text.parse::<IpAddr>();
            Some(addr.map_err(|_| QuestionError::Source(text.to_owned()))?)
        }
    };
    match from {
        Some(from) if from.is_ipv4() != to.is_ipv4() => Err(QuestionError::Families { from, to }),
        _ => Ok(Asked::Packet(Packet {
            from,
            to,
            port,
            protocol: protocol.into(),
        })),
    }
}

/// What names of objects are made of.
pub fn is_name(text: &str) -> bool {
    let permitted = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
    !text.is_empty() && text.len() <= 253 && text.chars().all(permitted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_questions_are_read() {
        for (text, path) in [
            (
                "shop/web",
                "/v1/explain/service/shop/web?cluster-domain=cluster.local",
            ),
            (
                "10.244.1.2 -> 10.96.0.1:443/TCP",
                "/v1/explain/packet?from=10.244.1.2&to=10.96.0.1&port=443&protocol=TCP",
            ),
            (
                "node → [fd00:96::1]:53/udp",
                "/v1/explain/packet?to=fd00:96::1&port=53&protocol=UDP",
            ),
            (
                "node->10.96.0.1:80",
                "/v1/explain/packet?to=10.96.0.1&port=80&protocol=TCP",
            ),
        ] {
            assert_eq!(super::path(&parse(text, "cluster.local").unwrap()), path);
        }
    }

    #[test]
    fn what_is_neither_is_told_what_it_should_be() {
        for (text, part) in [
            ("web", "NAMESPACE/NAME"),
            ("shop/web/x", "NAMESPACE/NAME"),
            ("shop/../../x", "NAMESPACE/NAME"),
            ("Shop/Web?x", "NAMESPACE/NAME"),
            ("somewhere -> 10.96.0.1:80", "no source"),
            ("node -> 10.96.0.1", "no destination"),
            ("node -> 10.96.0.1:80/ICMP", "no destination"),
            ("10.0.0.1 -> [fd00::1]:80", "different families"),
        ] {
            let error = parse(text, "cluster.local").unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
