//! The socket: batches that report errors by request, and dumps.

use std::io::{self, ErrorKind};
use std::time::Duration;

use netlink_packet_core::{NLM_F_DUMP, NLMSG_DONE, NLMSG_ERROR};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use rustix::io::Errno;
use rustix::net::{RecvFlags, sockopt};

use super::WireError;
use super::message::{NFGEN_HEADER, Reply, Request, replies};

/// How one request of a batch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Applied,
    /// The negative of `nlmsgerr.error`: an errno, or a number of the subsystem's own.
    Failed(i32),
    /// Answers were lost; the kernel must be asked what is so.
    Unknown,
}

/// What was sent since the socket was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Requests.
    pub messages: u64,
    /// Calls of `sendmsg`.
    pub sends: u64,
    /// Requests that were refused, and of which the answers were lost.
    pub errors: u64,
}

/// A `NETLINK_NETFILTER` socket.
pub struct NfnlSocket {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
    counters: Counters,
}

impl NfnlSocket {
    /// Opens a socket in the current network namespace.
    pub fn open() -> Result<Self, WireError> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_NETFILTER)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            socket.set_cap_ack(true)?;
            if sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_QUEUE).is_err() {
                sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_QUEUE)?;
            }
            sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(DEADLINE))?;
            Ok(socket)
        };
        let socket = open().map_err(WireError::Open)?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: vec![0; BUFFER],
            counters: Counters::default(),
        })
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Sends requests, many in one datagram, and tells how each ended.
    pub fn batch(&mut self, requests: &[Request]) -> Result<Vec<Outcome>, WireError> {
        let mut outcomes = Vec::with_capacity(requests.len());
        let mut rest = requests;
        while !rest.is_empty() {
            let first = self.sequence.wrapping_add(1);
            let mut datagram = Vec::with_capacity(DATAGRAM);
            let mut count = 0;
            for request in rest {
                let message = request.finish(first.wrapping_add(count));
                if count > 0 && datagram.len() + message.len() > DATAGRAM {
                    break;
                }
                datagram.extend_from_slice(&message);
                count += 1;
            }
            self.sequence = self.sequence.wrapping_add(count);
            self.send(&datagram, u64::from(count))?;
            let mut part = vec![Outcome::Applied; count as usize];
            self.collect_errors(first, &mut part)?;
            let failed = part.iter().filter(|o| **o != Outcome::Applied).count();
            self.counters.errors += failed as u64;
            outcomes.append(&mut part);
            rest = &rest[count as usize..];
        }
        Ok(outcomes)
    }

    /// Sends a dump request and hands the attributes of each answer over.
    pub fn dump(
        &mut self,
        subsystem: u8,
        command: u8,
        family: Option<crate::model::Family>,
        fill: impl FnOnce(&mut Request),
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), WireError> {
        let mut request = Request::new(subsystem, command, family, NLM_F_DUMP);
        fill(&mut request);
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        self.send(&request.finish(sequence), 1)?;
        loop {
            let length = self
                .receive(RecvFlags::empty())
                .map_err(WireError::Receive)?;
            let datagram = self
                .buffer
                .get(..length)
                .ok_or(WireError::Truncated { length })?;
            for reply in replies(datagram) {
                let reply = reply.ok_or(WireError::Malformed)?;
                if reply.sequence != sequence {
                    continue;
                }
                match reply.kind {
                    // A dump that fails midway ends like a whole one, but for its number.
                    NLMSG_DONE | NLMSG_ERROR => {
                        match error_of(&reply).ok_or(WireError::Malformed)? {
                            0 => return Ok(()),
                            error => {
                                self.counters.errors += 1;
                                return Err(WireError::Refused(error));
                            }
                        }
                    }
                    _ => each(
                        reply
                            .payload
                            .get(NFGEN_HEADER..)
                            .ok_or(WireError::Malformed)?,
                    ),
                }
            }
        }
    }

    fn send(&mut self, datagram: &[u8], messages: u64) -> Result<(), WireError> {
        // What is left of an earlier request that was given up must not be taken for an answer.
        while self.receive(RecvFlags::DONTWAIT).is_ok() {}
        self.counters.messages += messages;
        self.counters.sends += 1;
        retry(|| self.socket.send(datagram, 0))
            .map(|_| ())
            .map_err(WireError::Send)
    }

    /// Errors are queued when `send` returns: read them without waiting.
    fn collect_errors(&mut self, first: u32, outcomes: &mut [Outcome]) -> Result<(), WireError> {
        loop {
            let length = match self.receive(RecvFlags::DONTWAIT) {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => {
                    let unknown = outcomes.iter_mut().filter(|o| **o == Outcome::Applied);
                    unknown.for_each(|outcome| *outcome = Outcome::Unknown);
                    continue;
                }
                Err(error) => return Err(WireError::Receive(error)),
            };
            let datagram = self
                .buffer
                .get(..length)
                .ok_or(WireError::Truncated { length })?;
            for reply in replies(datagram) {
                let reply = reply.ok_or(WireError::Malformed)?;
                let place = reply.sequence.wrapping_sub(first) as usize;
                if reply.kind == NLMSG_ERROR
                    && let Some(outcome) = outcomes.get_mut(place)
                {
                    *outcome = match error_of(&reply).ok_or(WireError::Malformed)? {
                        0 => Outcome::Applied,
                        error => Outcome::Failed(error),
                    };
                }
            }
        }
    }

    fn receive(&mut self, flags: RecvFlags) -> io::Result<usize> {
        let flags = (flags | RecvFlags::TRUNC).bits().cast_signed();
        retry(|| self.socket.recv(&mut &mut self.buffer[..], flags))
    }
}

/// `nlmsgerr.error`, its sign taken off.
fn error_of(reply: &Reply<'_>) -> Option<i32> {
    let code = reply.payload.get(..4)?;
    Some(i32::from_ne_bytes(code.try_into().ok()?).wrapping_neg())
}

/// Again after a signal.
fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.raw_os_error() == Some(Errno::INTR.raw_os_error()) => {}
            result => return result,
        }
    }
}

/// An error answer costs about 0.8 kB of it.
const RECEIVE_QUEUE: usize = 4 << 20;
/// Beyond 16 kB nothing gets faster, and the default send buffer takes 208 kB.
const DATAGRAM: usize = 64 << 10;
/// A dump's datagram is at most 32 kB.
const BUFFER: usize = 128 << 10;
const DEADLINE: Duration = Duration::from_secs(5);
