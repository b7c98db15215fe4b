//! The synchronous client: one socket, one request at a time, every wait bounded.
//!
//! The kernel works a datagram off before `send` returns, so nothing is ever in flight: what a
//! batch could answer is already in the queue, and is taken from there without waiting.

mod batch;
mod dump;
mod exchange;

use std::time::Duration;

pub use batch::Outcome;

use crate::codec::{self, Envelope, Reply};
use crate::command::{Command, Query};
use crate::daemon::{DaemonEntry, Info, Timeouts};
use crate::destination::DestinationEntry;
use crate::error::{Error, Kind, Request};
use crate::key::{Family, ServiceKey};
use crate::service::ServiceEntry;
use crate::transport::{NetlinkSocket, Transport};
use exchange::Until;

/// A client for the IPVS of one network namespace.
///
/// Writes and dumps through one client cannot get into each other's way: a dump is positional, and
/// entries that come or go during it make it skip or repeat others.
#[derive(Debug)]
pub struct Client<T = NetlinkSocket> {
    transport: T,
    family_id: u16,
    sequence: u32,
    timeout: Duration,
    /// An exchange was given up: late answers may be in the queue, a dump may still run.
    unfinished: bool,
    buffer: Vec<u8>,
    counters: Counters,
}

/// What a client has done so far; to be measured, not relied upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Netlink messages sent.
    pub messages: u64,
    /// `sendmsg` calls: datagrams sent.
    pub sends: u64,
    /// Datagrams received.
    pub receives: u64,
    /// Look-ups of the family's number; more than one after the module was loaded anew.
    pub lookups: u64,
    /// Requests that the kernel refused, and receive queues that overflowed.
    pub errors: u64,
}

impl Client<NetlinkSocket> {
    /// Opens a socket in the current network namespace. The kernel loads `ip_vs` if it can.
    ///
    /// # Errors
    /// [`Error::is_no_module`] when the kernel has no IPVS.
    pub fn open() -> Result<Self, Error> {
        let socket = NetlinkSocket::open()
            .map_err(|error| Error::new(Request::Open, Kind::Socket(error)))?;
        Self::with_transport(socket)
    }
}

impl<T: Transport> Client<T> {
    /// A client over a transport of the caller's. Looks the family up.
    ///
    /// # Errors
    /// [`Error::is_no_module`] when the kernel has no IPVS.
    pub fn with_transport(transport: T) -> Result<Self, Error> {
        let mut client = Self {
            transport,
            family_id: 0,
            sequence: 0,
            timeout: DEFAULT_TIMEOUT,
            unfinished: false,
            buffer: vec![0; RECEIVE_BUFFER],
            counters: Counters::default(),
        };
        client.refresh_family()?;
        Ok(client)
    }

    /// Sets how long one answer may take; 10 s at first.
    pub const fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// What was sent and received so far.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// The transport, for inspection.
    #[must_use]
    pub const fn transport(&self) -> &T {
        &self.transport
    }

    /// Does one command and waits for its confirmation.
    ///
    /// # Errors
    /// When the command cannot work, the kernel refuses it, or does not answer.
    pub fn execute(&mut self, command: &Command) -> Result<(), Error> {
        let request = || Request::Command(command.clone());
        if let Err(invalid) = command.validate() {
            return Err(Error::new(request(), Kind::Invalid(invalid)));
        }
        self.with_family(request, |client| {
            let envelope = client.envelope(true);
            let mut datagram = Vec::with_capacity(MESSAGE_HINT);
            codec::encode_command(&mut datagram, &envelope, command);
            client.exchange(&datagram, envelope.sequence, Until::Ack, |_| Ok(()))
        })
        .map(drop)
    }

    /// Every virtual service, read consistently; equivalent to `ipvsadm -Ln` without destinations.
    ///
    /// # Errors
    /// [`Error::is_inconsistent`] when the table changed during several attempts.
    pub fn services(&mut self) -> Result<Vec<ServiceEntry>, Error> {
        self.consistent(Query::Services, take_service, |entry| entry.service.key)
    }

    /// One virtual service.
    ///
    /// # Errors
    /// [`Error::is_not_found`] when there is none.
    pub fn service(&mut self, key: &ServiceKey) -> Result<ServiceEntry, Error> {
        self.ask(Query::Service(*key), take_service)
    }

    /// The destinations of a virtual service, read consistently.
    ///
    /// # Errors
    /// [`Error::is_not_found`] when there is no such service: the kernel answers that with an empty
    /// list, so an empty list is followed by a question for the service.
    pub fn destinations(&mut self, key: &ServiceKey) -> Result<Vec<DestinationEntry>, Error> {
        let entries = self.consistent(Query::Destinations(*key), take_destination, |entry| {
            entry.destination.key
        })?;
        if entries.is_empty() {
            self.service(key)?;
        }
        Ok(entries)
    }

    /// The synchronisation daemons that run: none, one, or one of each kind.
    ///
    /// # Errors
    /// When the kernel refuses or does not answer.
    pub fn daemons(&mut self) -> Result<Vec<DaemonEntry>, Error> {
        self.consistent(
            Query::Daemons,
            |reply| match reply {
                Reply::Daemon(entry) => Some(entry),
                _ => None,
            },
            |entry| entry.daemon.state,
        )
    }

    /// The lives of connections; equivalent to `ipvsadm -L --timeout`.
    ///
    /// # Errors
    /// When the kernel refuses or does not answer.
    pub fn timeouts(&mut self) -> Result<Timeouts, Error> {
        self.ask(Query::Timeouts, |reply| match reply {
            Reply::Timeouts { timeouts, .. } => Some(timeouts),
            _ => None,
        })
    }

    /// Version and size of the connection table.
    ///
    /// # Errors
    /// When the kernel refuses or does not answer.
    pub fn info(&mut self) -> Result<Info, Error> {
        self.ask(Query::Info, |reply| match reply {
            Reply::Info(info) => Some(info),
            _ => None,
        })
    }

    /// Asks a question that has one answer.
    fn ask<R>(&mut self, query: Query, take: fn(Reply) -> Option<R>) -> Result<R, Error> {
        self.with_family(
            || Request::Query(query),
            |client| {
                let envelope = client.envelope(false);
                let mut datagram = Vec::with_capacity(MESSAGE_HINT);
                codec::encode_query(&mut datagram, &envelope, &query);
                let mut answer = None;
                client.exchange(&datagram, envelope.sequence, Until::Reply, |payload| {
                    answer = take(Reply::decode(payload, Family::Inet)?);
                    Ok(())
                })?;
                answer.ok_or(Kind::Unexpected)
            },
        )
    }

    /// Runs `attempt`, and once more if it failed because the family has got another number.
    fn with_family<R>(
        &mut self,
        request: impl Fn() -> Request,
        mut attempt: impl FnMut(&mut Self) -> Result<R, Kind>,
    ) -> Result<R, Error> {
        let mut result = attempt(self);
        if let Err(kind) = &result
            && kind.may_be_stale_family()
            && self.refresh_family()?
        {
            result = attempt(self);
        }
        result.map_err(|kind| Error::new(request(), kind))
    }

    /// Looks the family up; whether its number is another one than before.
    fn refresh_family(&mut self) -> Result<bool, Error> {
        let sequence = self.envelope(false).sequence;
        let mut datagram = Vec::with_capacity(MESSAGE_HINT);
        codec::encode_family_lookup(&mut datagram, sequence);
        self.counters.lookups += 1;
        let mut id = None;
        let result = self.exchange(&datagram, sequence, Until::Reply, |payload| {
            id = Some(codec::decode_family_id(payload)?);
            Ok(())
        });
        let id = match result {
            Err(kind) if kind.may_be_stale_family() => Err(Kind::NoModule),
            Err(kind) => Err(kind),
            Ok(_) => id.ok_or(Kind::Unexpected),
        }
        .map_err(|kind| Error::new(Request::Family, kind))?;
        let changed = id != self.family_id;
        self.family_id = id;
        Ok(changed)
    }

    /// The header of the next request.
    const fn envelope(&mut self, acknowledge: bool) -> Envelope {
        // 0 is what the kernel's own notifications carry.
        self.sequence = match self.sequence.wrapping_add(1) {
            0 => 1,
            next => next,
        };
        Envelope {
            family_id: self.family_id,
            sequence: self.sequence,
            acknowledge,
        }
    }
}

fn take_service(reply: Reply) -> Option<ServiceEntry> {
    match reply {
        Reply::Service(entry) => Some(entry),
        _ => None,
    }
}

fn take_destination(reply: Reply) -> Option<DestinationEntry> {
    match reply {
        Reply::Destination(entry) => Some(entry),
        _ => None,
    }
}

/// The kernel fills datagrams of a dump up to the largest buffer that was ever offered, at most
/// 32 kB; one size for ever means that none is cut off.
const RECEIVE_BUFFER: usize = 32 << 10;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Most requests fit.
const MESSAGE_HINT: usize = 256;
