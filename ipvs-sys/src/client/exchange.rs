//! One request and its answers; late answers to earlier ones are passed over.

use std::io;

use netlink_packet_core::NLM_F_DUMP_INTR;
use rustix::io::Errno;

use super::Client;
use crate::codec::{Body, DecodeError, frames};
use crate::error::Kind;
use crate::transport::{Transport, Wait};

/// What ends an exchange, besides an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// A confirmation.
    Ack,
    /// One message.
    Reply,
    /// `NLMSG_DONE`.
    Done,
}

/// How the answers came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Answers {
    /// Datagrams that carried messages of the family.
    pub(super) datagrams: usize,
    /// The kernel says that the table changed meanwhile (`NLM_F_DUMP_INTR`).
    pub(super) interrupted: bool,
}

impl<T: Transport> Client<T> {
    /// Sends a request and hands the payload of each answer to `each`.
    pub(super) fn exchange(
        &mut self,
        datagram: &[u8],
        sequence: u32,
        until: Until,
        mut each: impl FnMut(&[u8]) -> Result<(), DecodeError>,
    ) -> Result<Answers, Kind> {
        self.finish_previous();
        self.send(datagram, 1)?;
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = self.collect(&mut buffer, sequence, until, &mut each);
        self.buffer = buffer;
        self.counters.errors += u64::from(result.is_err());
        // Whatever ended it early may have left answers behind.
        self.unfinished = match &result {
            Ok(_) => false,
            Err(Kind::Kernel { .. }) => until == Until::Done,
            Err(_) => true,
        };
        result
    }

    fn collect(
        &mut self,
        buffer: &mut [u8],
        sequence: u32,
        until: Until,
        each: &mut impl FnMut(&[u8]) -> Result<(), DecodeError>,
    ) -> Result<Answers, Kind> {
        let mut answers = Answers::default();
        let mut strangers = 0;
        while strangers < MAX_STRANGERS {
            let datagram = self.receive(buffer, Wait::AtMost(self.timeout))?;
            let mut ours = false;
            let mut carries = false;
            for frame in frames(datagram) {
                let frame = frame?;
                if frame.sequence != sequence {
                    continue;
                }
                ours = true;
                answers.interrupted |= frame.flags & NLM_F_DUMP_INTR != 0;
                match frame.body {
                    Body::Payload(payload) => {
                        carries = true;
                        each(payload)?;
                        if until == Until::Reply {
                            return Ok(answers);
                        }
                    }
                    Body::Ack { errno: 0, .. } | Body::Done { errno: 0 } => {
                        answers.datagrams += usize::from(carries);
                        return if until == Until::Reply {
                            Err(Kind::Unexpected)
                        } else {
                            Ok(answers)
                        };
                    }
                    Body::Ack { errno, message } => return Err(Kind::Kernel { errno, message }),
                    Body::Done { errno } => {
                        return Err(Kind::Kernel {
                            errno,
                            message: None,
                        });
                    }
                    Body::Overrun => return Err(Kind::Overflow),
                    Body::Noop => {}
                }
            }
            answers.datagrams += usize::from(carries);
            strangers += usize::from(!ours);
        }
        Err(Kind::Unexpected)
    }

    pub(super) fn send(&mut self, datagram: &[u8], messages: u64) -> Result<(), Kind> {
        let sent = self.transport.send(datagram).map_err(Kind::Socket)?;
        self.counters.sends += 1;
        self.counters.messages += messages;
        if sent == datagram.len() {
            Ok(())
        } else {
            Err(Kind::Unexpected)
        }
    }

    pub(super) fn receive<'a>(
        &mut self,
        buffer: &'a mut [u8],
        wait: Wait,
    ) -> Result<&'a [u8], Kind> {
        let length = match self.transport.receive(buffer, wait) {
            Ok(length) => length,
            Err(error) if is_nothing(&error) => return Err(Kind::Timeout),
            Err(error) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => {
                return Err(Kind::Overflow);
            }
            Err(error) => return Err(Kind::Socket(error)),
        };
        self.counters.receives += 1;
        buffer.get(..length).ok_or(Kind::Truncated { length })
    }

    /// Takes what earlier, abandoned exchanges left in the queue. A dump that still runs goes on
    /// with each receive, and while it runs the kernel refuses another one.
    pub(super) fn finish_previous(&mut self) {
        if !self.unfinished {
            return;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        for _ in 0..MAX_STRANGERS {
            match self.receive(&mut buffer, Wait::No) {
                Ok(_) | Err(Kind::Overflow | Kind::Truncated { .. }) => {}
                Err(_) => break,
            }
        }
        self.buffer = buffer;
        self.unfinished = false;
    }
}

fn is_nothing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// Datagrams of earlier exchanges that are passed over before giving up: more than the longest dump
/// can have left behind.
const MAX_STRANGERS: usize = 4096;
