//! Errors of the set client, with the kernel's own numbers explained.

use rustix::io::Errno;

use super::SetCommand;
use crate::netfilter::nfnetlink::WireError;

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused one command.
    #[error("{command}: {}", explain(*code))]
    Command { command: Box<SetCommand>, code: i32 },
    #[error("cannot {act}")]
    Wire {
        act: String,
        #[source]
        source: WireError,
    },
}

impl Error {
    fn code(&self) -> Option<i32> {
        match self {
            Self::Command { code, .. }
            | Self::Wire {
                source: WireError::Refused(code),
                ..
            } => Some(*code),
            Self::Wire { .. } => None,
        }
    }

    /// No such set.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(Errno::NOENT.raw_os_error())
    }

    /// A set of that name with another type or other options is there.
    pub fn is_exists(&self) -> bool {
        self.code() == Some(Errno::EXIST.raw_os_error()) || self.code() == Some(ERR_EXIST)
    }

    /// The set holds as many entries as it may.
    pub fn is_full(&self) -> bool {
        self.code() == Some(ERR_HASH_FULL)
    }

    /// A rule or another set uses it.
    pub fn is_in_use(&self) -> bool {
        matches!(self.code(), Some(ERR_BUSY | ERR_REFERENCED))
    }

    pub fn is_permission(&self) -> bool {
        self.code() == Some(Errno::PERM.raw_os_error())
    }

    /// The kernel lacks `ip_set` or the set type.
    pub fn is_no_module(&self) -> bool {
        matches!(self.code(), Some(code) if code == Errno::INVAL.raw_os_error() || code == ERR_FIND_TYPE)
    }
}

/// `enum ipset_errno` of `ip_set.h`; below 4096 it is an errno.
fn explain(code: i32) -> String {
    match code {
        ERR_PROTOCOL => {
            "the set is of another family, or the kernel speaks another protocol version".to_owned()
        }
        ERR_FIND_TYPE => "this kernel has no such set type; load its ip_set module".to_owned(),
        ERR_BUSY => "the set is in use by a rule or another set".to_owned(),
        ERR_TYPE_MISMATCH => "the entry does not fit the set's type".to_owned(),
        ERR_EXIST => "it exists already".to_owned(),
        ERR_INVALID_CIDR => "the prefix length is not one that the set can hold".to_owned(),
        ERR_REFERENCED => "the set is referred to".to_owned(),
        ERR_HASH_FULL => "the set is full".to_owned(),
        code if code >= ERR_PRIVATE => format!("ipset error {code}"),
        code => std::io::Error::from_raw_os_error(code).to_string(),
    }
}

const ERR_PRIVATE: i32 = 4096;
const ERR_PROTOCOL: i32 = 4097;
const ERR_FIND_TYPE: i32 = 4098;
const ERR_BUSY: i32 = 4100;
const ERR_TYPE_MISMATCH: i32 = 4102;
const ERR_EXIST: i32 = 4103;
const ERR_INVALID_CIDR: i32 = 4104;
const ERR_REFERENCED: i32 = 4108;
const ERR_HASH_FULL: i32 = 4352;
