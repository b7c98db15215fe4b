//! Names that the kernel keeps in small arrays: schedulers, persistence engines, interfaces.
//!
//! A name that cannot be sent, or that could smuggle something into the module name the kernel
//! makes of it (`ip_vs_NAME`), cannot be built.

use std::fmt;
use std::str::FromStr;

use crate::abi;

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing was given.
    #[error("the name of a {what} is empty")]
    Empty {
        /// What was to be named.
        what: &'static str,
    },
    /// The kernel keeps fewer bytes.
    #[error("the name of a {what} has at most {max} bytes, not {length}")]
    TooLong {
        /// What was to be named.
        what: &'static str,
        /// Bytes that fit.
        max: usize,
        /// Bytes that were given.
        length: usize,
    },
    /// A byte that such names do not have.
    #[error("the name of a {what} has no character {character:?}")]
    Character {
        /// What was to be named.
        what: &'static str,
        /// The first wrong one.
        character: char,
    },
}

fn check(
    name: &str,
    what: &'static str,
    max: usize,
    allowed: fn(char) -> bool,
) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty { what });
    }
    if name.len() > max {
        return Err(NameError::TooLong {
            what,
            max,
            length: name.len(),
        });
    }
    match name.chars().find(|c| !allowed(*c)) {
        Some(character) => Err(NameError::Character { what, character }),
        None => Ok(()),
    }
}

fn module_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

fn interface_part(c: char) -> bool {
    c != '/' && !c.is_whitespace() && !c.is_control()
}

macro_rules! name {
    ($(#[$meta:meta])* $name:ident, $what:literal, $max:expr, $allowed:expr) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// Checks length and characters.
            ///
            /// # Errors
            /// When the kernel could not keep the name.
            pub fn new(name: &str) -> Result<Self, NameError> {
                check(name, $what, $max, $allowed)?;
                Ok(Self(name.into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(s: &str) -> Result<Self, Self::Err> {
                Self::new(s)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = NameError;

            fn try_from(s: &str) -> Result<Self, Self::Error> {
                Self::new(s)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                *self.0 == *other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                *self.0 == **other
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A scheduler: `rr`, `wrr`, `lc`, `wlc`, `sh`, `mh`, … at most 15 bytes
    /// (`IP_VS_SCHEDNAME_MAXLEN` of `linux/ip_vs.h`). The kernel loads the module `ip_vs_NAME`.
    /// `none` is a service that forwards nothing.
    SchedulerName, "scheduler", abi::SCHED_NAME_MAX, module_part
);

name!(
    /// A persistence engine: the kernel has `sip`. At most 16 bytes (`IP_VS_PENAME_MAXLEN` of
    /// `linux/ip_vs.h`). The kernel loads the module `ip_vs_pe_NAME`.
    PeName, "persistence engine", abi::PE_NAME_MAX, module_part
);

name!(
    /// A network interface, at most 15 bytes (`IP_VS_IFNAME_MAXLEN` of `linux/ip_vs.h`).
    InterfaceName, "network interface", abi::IFNAME_MAX, interface_part
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_kernel_cannot_keep_are_refused() {
        assert_eq!(
            SchedulerName::new(""),
            Err(NameError::Empty { what: "scheduler" })
        );
        assert!(SchedulerName::new("a23456789012345").is_ok());
        assert!(matches!(
            SchedulerName::new("a234567890123456"),
            Err(NameError::TooLong {
                max: 15,
                length: 16,
                ..
            })
        ));
        assert!(PeName::new("a234567890123456").is_ok());
        assert!(matches!(
            PeName::new("si p"),
            Err(NameError::Character { character: ' ', .. })
        ));
        assert!(matches!(
            SchedulerName::new("r\0r"),
            Err(NameError::Character {
                character: '\0',
                ..
            })
        ));
        assert!(InterfaceName::new("eth0.100").is_ok());
        assert!(InterfaceName::new("../eth0").is_err());
    }
}
