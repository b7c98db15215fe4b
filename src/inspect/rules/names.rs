//! Names for numbers: `ipvsadm -S` without `-n` writes `10.96.0.1:https`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipvs_sys::Protocol;

/// Who knows the numbers behind names.
#[derive(Clone, Copy)]
pub struct Names<'a> {
    /// A port by its name.
    pub ports: &'a ServicePorts,
    /// An address by the name of a host.
    pub host: &'a dyn Fn(&str) -> Option<IpAddr>,
}

/// Ports by name and protocol.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServicePorts(BTreeMap<(String, String), u16>);

impl ServicePorts {
    /// Reads `/etc/services` (services(5)); what cannot be read in it is left out.
    pub fn parse(text: &str) -> Self {
        let mut ports = BTreeMap::new();
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut fields = line.split_whitespace();
            let (Some(name), Some((port, protocol))) = (
                fields.next(),
                fields.next().and_then(|field| field.split_once('/')),
            ) else {
                continue;
            };
            let Ok(port) = port.parse() else { continue };
            for name in std::iter::once(name).chain(fields) {
                let key = (name.to_owned(), protocol.to_owned());
                ports.entry(key).or_insert(port);
            }
        }
        Self(ports)
    }

    /// The port with this name.
    pub fn port(&self, name: &str, protocol: Protocol) -> Option<u16> {
        let protocol = protocol.to_string().to_lowercase();
        self.0.get(&(name.to_owned(), protocol)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_have_names_and_aliases_by_protocol() {
        let ports = ServicePorts::parse(
            "# comment\nhttp\t80/tcp\t\twww\t# WorldWideWeb HTTP\nsip 5060/udp\nbad x/tcp\nodd\n",
        );
        assert_eq!(ports.port("http", Protocol::Tcp), Some(80));
        assert_eq!(ports.port("www", Protocol::Tcp), Some(80));
        assert_eq!(ports.port("http", Protocol::Udp), None);
        assert_eq!(ports.port("sip", Protocol::Udp), Some(5060));
        assert_eq!(ports.port("bad", Protocol::Tcp), None);
    }
}
