//! Sets, their entries and the commands that change them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::model::{Family, VipPort};

/// Name of a set: 1 to 31 bytes (`IPSET_MAXNAMELEN` with its end), letters, digits, `-_.:`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetName(String);

impl SetName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SetName {
    type Err = NameError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let permitted = |b: u8| b.is_ascii_alphanumeric() || b"-_.:".contains(&b);
        if (1..=31).contains(&s.len()) && s.bytes().all(permitted) {
            Ok(Self(s.to_owned()))
        } else {
            Err(NameError { name: s.to_owned() })
        }
    }
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that cannot name a set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} cannot name a set: 1 to 31 letters, digits or -_.:")]
pub struct NameError {
    pub name: String,
}

/// The set types in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetType {
    HashIpPort,
    /// Entries leave by themselves after so many seconds.
    HashIpPortTimeout(u32),
    /// Each entry carries a mark, for rules that put it on packets (`skbinfo`).
    HashIpPortSkbmark,
    HashIpPortIp,
    HashIpPortNet,
    HashNet,
    /// Entries leave by themselves, after the time that the rule which added them gave.
    HashIpTimeout,
    /// Of no family: one set is for both.
    BitmapPort,
}

impl SetType {
    /// Whether entries carry a mark.
    pub fn carries_marks(self) -> bool {
        self == Self::HashIpPortSkbmark
    }
}

impl fmt::Display for SetType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HashIpPort | Self::HashIpPortTimeout(_) | Self::HashIpPortSkbmark => {
                "hash:ip,port"
            }
            Self::HashIpPortIp => "hash:ip,port,ip",
            Self::HashIpPortNet => "hash:ip,port,net",
            Self::HashNet => "hash:net",
            Self::HashIpTimeout => "hash:ip",
            Self::BitmapPort => "bitmap:port",
        })
    }
}

/// A set to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetSpec {
    pub name: SetName,
    pub set_type: SetType,
    pub family: Family,
    /// `maxelem`: entries that it may hold.
    pub max_elements: u32,
}

/// A set as the kernel lists it; of any type, foreign ones too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetHeader {
    pub name: String,
    pub type_name: String,
    /// Rules and sets that use it; it cannot be destroyed while there are any.
    pub references: u32,
}

/// One entry of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entry {
    IpPort(VipPort),
    /// With the whole mark that it carries.
    IpPortSkbmark {
        vip: VipPort,
        mark: u32,
    },
    IpPortIp {
        vip: VipPort,
        source: IpAddr,
    },
    /// The net is not of length 0.
    IpPortNet {
        vip: VipPort,
        net: IpNet,
    },
    /// Not of length 0: the kernel's `hash:net` has no such entry.
    Net(IpNet),
    Port(u16),
}

impl fmt::Display for Entry {
    /// As `ipset add` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IpPort(vip) => write_tuple(f, vip),
            Self::IpPortSkbmark { vip, mark } => {
                write_tuple(f, vip)?;
                write!(f, " skbmark 0x{mark:x}")
            }
            Self::IpPortNet { vip, net } => {
                write_tuple(f, vip)?;
                write!(f, ",{net}")
            }
            Self::IpPortIp { vip, source } => {
                write_tuple(f, vip)?;
                write!(f, ",{source}")
            }
            Self::Net(net) => net.fmt(f),
            Self::Port(port) => port.fmt(f),
        }
    }
}

fn write_tuple(f: &mut fmt::Formatter<'_>, vip: &VipPort) -> fmt::Result {
    write!(
        f,
        "{},{}:{}",
        vip.addr,
        vip.protocol.to_string().to_lowercase(),
        vip.port
    )
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetCommand {
    Create(SetSpec),
    Destroy(SetName),
    Add(SetName, Entry),
    Delete(SetName, Entry),
}

impl fmt::Display for SetCommand {
    /// As a person would type it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(spec) => {
                let family = if spec.family == Family::V6 {
                    "inet6"
                } else {
                    "inet"
                };
                if spec.set_type == SetType::BitmapPort {
                    return write!(f, "ipset create {} bitmap:port range 0-65535", spec.name);
                }
                write!(
                    f,
                    "ipset create {} {} family {family} maxelem {}",
                    spec.name, spec.set_type, spec.max_elements
                )?;
                if spec.set_type.carries_marks() {
                    f.write_str(" skbinfo")?;
                }
                Ok(())
            }
            Self::Destroy(name) => write!(f, "ipset destroy {name}"),
            Self::Add(name, entry) => write!(f, "ipset add {name} {entry}"),
            Self::Delete(name, entry) => write!(f, "ipset del {name} {entry}"),
        }
    }
}
