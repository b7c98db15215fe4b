//! What went wrong, with what, in words that an operator understands.

use std::fmt;
use std::io;

use rustix::io::Errno;

use crate::codec::DecodeError;
use crate::command::{Command, Query};
use crate::validate::Invalid;

/// What was asked of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request {
    /// A socket.
    Open,
    /// The number of the family `IPVS`.
    Family,
    /// A change.
    Command(Command),
    /// A question.
    Query(Query),
}

impl fmt::Display for Request {
    /// As `ipvsadm` would be told.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("opening a netlink socket"),
            Self::Family => f.write_str("looking up the netlink family IPVS"),
            Self::Command(command) => write!(f, "ipvsadm {command}"),
            Self::Query(query) => write!(f, "ipvsadm {query}"),
        }
    }
}

/// A failure, with the request that it belongs to.
#[derive(Debug)]
pub struct Error(Box<(Request, Kind)>);

/// The ways to fail.
#[derive(Debug)]
pub(crate) enum Kind {
    /// Refused before sending.
    Invalid(Invalid),
    /// Refused by the kernel.
    Kernel { errno: i32, message: Option<String> },
    /// The family does not exist, and the kernel could not load it.
    NoModule,
    /// The socket failed.
    Socket(io::Error),
    /// No answer in time.
    Timeout,
    /// The kernel threw answers away (`ENOBUFS`).
    Overflow,
    /// A datagram did not fit the buffer.
    Truncated { length: usize },
    /// The answer cannot be read.
    Decode(DecodeError),
    /// The table changed during every attempt to read it.
    Inconsistent { attempts: usize },
    /// The answer is not one to the question.
    Unexpected,
}

impl Kind {
    /// What an unknown family looks like, among other things.
    pub(crate) fn may_be_stale_family(&self) -> bool {
        matches!(self, Self::Kernel { errno, .. }
            if is(*errno, Errno::NOENT) || is(*errno, Errno::OPNOTSUPP))
    }
}

impl From<DecodeError> for Kind {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

fn is(errno: i32, wanted: Errno) -> bool {
    errno == wanted.raw_os_error()
}

impl Error {
    pub(crate) fn new(request: Request, kind: Kind) -> Self {
        Self(Box::new((request, kind)))
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.0.1
    }

    /// What was asked.
    #[must_use]
    pub fn request(&self) -> &Request {
        &self.0.0
    }

    /// The change that failed, if it was one.
    #[must_use]
    pub fn command(&self) -> Option<&Command> {
        match self.request() {
            Request::Command(command) => Some(command),
            _ => None,
        }
    }

    /// The number of the error, if the kernel gave one.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        match self.kind() {
            Kind::Kernel { errno, .. } => Some(*errno),
            Kind::NoModule => Some(Errno::NOENT.raw_os_error()),
            Kind::Socket(error) => error.raw_os_error(),
            Kind::Overflow => Some(Errno::NOBUFS.raw_os_error()),
            _ => None,
        }
    }

    /// The kernel's own words (extended acknowledgement). IPVS has none up to Linux 7.1.
    #[must_use]
    pub fn kernel_message(&self) -> Option<&str> {
        match self.kind() {
            Kind::Kernel { message, .. } => message.as_deref(),
            _ => None,
        }
    }

    /// Why it was refused before sending, if it was.
    #[must_use]
    pub fn invalid(&self) -> Option<&Invalid> {
        match self.kind() {
            Kind::Invalid(invalid) => Some(invalid),
            _ => None,
        }
    }

    fn is_errno(&self, any: &[Errno]) -> bool {
        self.raw_os_error()
            .is_some_and(|errno| any.iter().any(|wanted| is(errno, *wanted)))
    }

    /// The service, destination, daemon, scheduler or engine does not exist (`ESRCH`, `ENOENT`).
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        !self.is_no_module() && self.is_errno(&[Errno::NOENT, Errno::SRCH])
    }

    /// The service itself does not exist (`ESRCH`).
    #[must_use]
    pub fn is_no_service(&self) -> bool {
        self.is_errno(&[Errno::SRCH])
    }

    /// It exists already (`EEXIST`).
    #[must_use]
    pub fn is_exists(&self) -> bool {
        self.is_errno(&[Errno::EXIST])
    }

    /// The kernel has no IPVS: the module `ip_vs` is not there, or is being unloaded.
    #[must_use]
    pub fn is_no_module(&self) -> bool {
        matches!(self.kind(), Kind::NoModule)
            || self.is_errno(&[Errno::NOPROTOOPT, Errno::PROTONOSUPPORT])
    }

    /// The caller lacks `CAP_NET_ADMIN` in the initial user namespace (`EPERM`, `EACCES`).
    #[must_use]
    pub fn is_permission(&self) -> bool {
        self.is_errno(&[Errno::PERM, Errno::ACCESS])
    }

    /// The kernel did not answer in time. What was asked may have been done.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self.kind(), Kind::Timeout)
    }

    /// The kernel threw answers away (`ENOBUFS`). What was asked may have been done.
    #[must_use]
    pub fn is_overflow(&self) -> bool {
        matches!(self.kind(), Kind::Overflow)
    }

    /// The table changed during every attempt to read it.
    #[must_use]
    pub fn is_inconsistent(&self) -> bool {
        matches!(self.kind(), Kind::Inconsistent { .. })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.request())?;
        match self.kind() {
            Kind::Invalid(_) => f.write_str("refused before it was sent"),
            Kind::Kernel { errno, message } => {
                f.write_str(explain(self.request(), *errno))?;
                write!(f, " ({})", errno_name(*errno))?;
                match message {
                    Some(message) => write!(f, ", kernel: {message}"),
                    None => Ok(()),
                }
            }
            Kind::NoModule => f.write_str(
                "this kernel has no IPVS: module ip_vs is neither loaded nor loadable (ENOENT)",
            ),
            Kind::Socket(_) => f.write_str("the netlink socket failed"),
            Kind::Timeout => {
                f.write_str("the kernel did not answer in time, the outcome is unknown")
            }
            Kind::Overflow => {
                f.write_str("the kernel threw answers away (ENOBUFS), the outcome is unknown")
            }
            Kind::Truncated { length } => {
                write!(f, "an answer of {length} bytes was cut off")
            }
            Kind::Decode(_) => f.write_str("the kernel's answer cannot be read"),
            Kind::Inconsistent { attempts } => {
                write!(
                    f,
                    "the table changed during each of {attempts} attempts to read it"
                )
            }
            Kind::Unexpected => f.write_str("the kernel answered something else"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self.kind() {
            Kind::Invalid(error) => Some(error),
            Kind::Socket(error) => Some(error),
            Kind::Decode(error) => Some(error),
            _ => None,
        }
    }
}

/// What a number means after a request. The kernel gives numbers only.
fn explain(request: &Request, errno: i32) -> &'static str {
    use Command::{DelDaemon, DelDest, NewDaemon, NewDest, NewService, SetDest, SetService};
    let command = match request {
        Request::Command(command) => Some(command),
        _ => None,
    };
    match (Errno::from_raw_os_error(errno), command) {
        (Errno::SRCH, Some(DelDaemon(_))) => "no such synchronisation daemon runs",
        (Errno::SRCH, _) => "no such service",
        (Errno::NOENT, Some(NewService(_) | SetService(_))) => {
            "no such scheduler or persistence engine"
        }
        (Errno::NOENT, Some(SetDest(..) | DelDest(..))) => "no such destination",
        (Errno::NOENT, _) => "no such object",
        (Errno::EXIST, Some(NewService(_))) => "the service exists already",
        (Errno::EXIST, Some(NewDest(..))) => "the destination exists already",
        (Errno::EXIST, Some(NewDaemon(_))) => "such a synchronisation daemon runs already",
        (Errno::EXIST, _) => "it exists already",
        (Errno::INVAL, Some(NewDest(..) | SetDest(..))) => {
            "the kernel rejects the destination: its address is not unicast here (without an \
             interface that is up no IPv4 address is), or its family differs from the service's \
             while a synchronisation daemon runs"
        }
        (Errno::INVAL, Some(NewService(_) | SetService(_))) => "the kernel rejects the service",
        (Errno::INVAL, _) => "the kernel rejects the request",
        (Errno::RANGE, _) => "the weight or the thresholds are out of range",
        (Errno::PERM | Errno::ACCESS, _) => "CAP_NET_ADMIN in the initial user namespace is needed",
        (Errno::AFNOSUPPORT, _) => "the kernel has no such address family, or it is disabled",
        (Errno::OPNOTSUPP, _) => "this kernel's IPVS does not know the request",
        (Errno::NODEV, _) => "no such network interface",
        (Errno::NOMEM, _) => "the kernel is out of memory",
        (Errno::BUSY, _) => "another dump is under way on this socket",
        (Errno::NOPROTOOPT, _) => "the module ip_vs is being unloaded",
        (Errno::MSGSIZE, _) => "the request is larger than the socket's send buffer",
        _ => "the kernel refuses",
    }
}

fn errno_name(errno: i32) -> String {
    let name = match Errno::from_raw_os_error(errno) {
        Errno::PERM => "EPERM",
        Errno::NOENT => "ENOENT",
        Errno::SRCH => "ESRCH",
        Errno::INTR => "EINTR",
        Errno::NOMEM => "ENOMEM",
        Errno::ACCESS => "EACCES",
        Errno::BUSY => "EBUSY",
        Errno::EXIST => "EEXIST",
        Errno::NODEV => "ENODEV",
        Errno::INVAL => "EINVAL",
        Errno::RANGE => "ERANGE",
        Errno::MSGSIZE => "EMSGSIZE",
        Errno::NOPROTOOPT => "ENOPROTOOPT",
        Errno::OPNOTSUPP => "EOPNOTSUPP",
        Errno::AFNOSUPPORT => "EAFNOSUPPORT",
        Errno::NOBUFS => "ENOBUFS",
        _ => return format!("errno {errno}"),
    };
    name.to_owned()
}
