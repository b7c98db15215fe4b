//! Everything that changes the kernel's state, as values.

use std::fmt;

use crate::daemon::{Daemon, DaemonState, Timeouts};
use crate::destination::Destination;
use crate::key::{DestinationKey, ServiceKey};
use crate::service::Service;

/// A change. `Display` is the `ipvsadm` line that does the same.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command {
    /// `IPVS_CMD_NEW_SERVICE`; `ipvsadm -A`. `EEXIST` when it is there.
    NewService(Service),
    /// `IPVS_CMD_SET_SERVICE`; `ipvsadm -E`. Replaces the whole record. `ESRCH` when it is not there.
    SetService(Service),
    /// `IPVS_CMD_DEL_SERVICE`; `ipvsadm -D`. `ESRCH` when it is not there.
    DelService(ServiceKey),
    /// `IPVS_CMD_NEW_DEST`; `ipvsadm -a`. `EEXIST` when it is there, `ESRCH` without the service.
    NewDest(ServiceKey, Destination),
    /// `IPVS_CMD_SET_DEST`; `ipvsadm -e`. Replaces the whole record. `ENOENT` when it is not there,
    /// `ESRCH` without the service.
    SetDest(ServiceKey, Destination),
    /// `IPVS_CMD_DEL_DEST`; `ipvsadm -d`. `ENOENT` when it is not there, `ESRCH` without the service.
    DelDest(ServiceKey, DestinationKey),
    /// `IPVS_CMD_ZERO`; `ipvsadm -Z`. All counters of a service, or of everything.
    Zero(Option<ServiceKey>),
    /// `IPVS_CMD_FLUSH`; `ipvsadm -C`. Every service of the network namespace.
    Flush,
    /// `IPVS_CMD_NEW_DAEMON`; `ipvsadm --start-daemon`.
    NewDaemon(Daemon),
    /// `IPVS_CMD_DEL_DAEMON`; `ipvsadm --stop-daemon`. `ESRCH` when it does not run.
    DelDaemon(DaemonState),
    /// `IPVS_CMD_SET_CONFIG`; `ipvsadm --set`.
    SetTimeouts(Timeouts),
}

impl Command {
    /// The service that the command is about.
    #[must_use]
    pub const fn service_key(&self) -> Option<&ServiceKey> {
        match self {
            Self::NewService(service) | Self::SetService(service) => Some(&service.key),
            Self::DelService(key)
            | Self::NewDest(key, _)
            | Self::SetDest(key, _)
            | Self::DelDest(key, _) => Some(key),
            Self::Zero(key) => key.as_ref(),
            Self::Flush | Self::NewDaemon(_) | Self::DelDaemon(_) | Self::SetTimeouts(_) => None,
        }
    }

    /// The destination that the command is about.
    #[must_use]
    pub const fn destination_key(&self) -> Option<&DestinationKey> {
        match self {
            Self::NewDest(_, destination) | Self::SetDest(_, destination) => Some(&destination.key),
            Self::DelDest(_, key) => Some(key),
            _ => None,
        }
    }
}

impl fmt::Display for Command {
    /// The arguments of `ipvsadm`: `-a -t 10.96.0.1:443 -r 10.2.0.2:6443 -m -w 1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NewService(service) => write!(f, "-A {service}"),
            Self::SetService(service) => write!(f, "-E {service}"),
            Self::DelService(key) => write!(f, "-D {key}"),
            Self::NewDest(key, destination) => write!(f, "-a {key} {destination}"),
            Self::SetDest(key, destination) => write!(f, "-e {key} {destination}"),
            Self::DelDest(key, destination) => write!(f, "-d {key} -r {destination}"),
            Self::Zero(Some(key)) => write!(f, "-Z {key}"),
            Self::Zero(None) => f.write_str("-Z"),
            Self::Flush => f.write_str("-C"),
            Self::NewDaemon(daemon) => write!(f, "--start-daemon {daemon}"),
            Self::DelDaemon(state) => write!(f, "--stop-daemon {state}"),
            Self::SetTimeouts(timeouts) => write!(f, "--set {timeouts}"),
        }
    }
}

/// A question to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Query {
    /// `IPVS_CMD_GET_SERVICE` as a dump; `ipvsadm -Ln`.
    Services,
    /// `IPVS_CMD_GET_SERVICE`; `ipvsadm -Ln -t …`.
    Service(ServiceKey),
    /// `IPVS_CMD_GET_DEST`, a dump.
    Destinations(ServiceKey),
    /// `IPVS_CMD_GET_DAEMON`, a dump; `ipvsadm -L --daemon`.
    Daemons,
    /// `IPVS_CMD_GET_CONFIG`; `ipvsadm -L --timeout`.
    Timeouts,
    /// `IPVS_CMD_GET_INFO`; the head of `ipvsadm -Ln`.
    Info,
}

impl Query {
    /// Whether the kernel answers with a dump, which ends in `NLMSG_DONE`.
    #[must_use]
    pub const fn is_dump(&self) -> bool {
        matches!(self, Self::Services | Self::Destinations(_) | Self::Daemons)
    }
}

impl fmt::Display for Query {
    /// The arguments of `ipvsadm` that ask the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Services => f.write_str("-Ln"),
            Self::Service(key) => write!(f, "-Ln {key}"),
            Self::Destinations(key) => write!(f, "-Ln {key} (destinations)"),
            Self::Daemons => f.write_str("-L --daemon"),
            Self::Timeouts => f.write_str("-L --timeout"),
            Self::Info => f.write_str("-Ln (version)"),
        }
    }
}
