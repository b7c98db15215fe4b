//! Many commands in one datagram.
//!
//! The kernel applies the messages of a datagram one after the other, whatever becomes of each, and
//! answers failures. Success is not confirmed: a confirmation each would overflow the receive queue,
//! and one for the last command might be among those thrown away. So a batch is sent, and what came
//! back is taken from the queue without waiting.

use super::Client;
use crate::codec::{self, Body, Envelope, frames};
use crate::command::Command;
use crate::error::{Error, Kind, Request};
use crate::transport::{Transport, Wait};

/// What became of a command of a batch.
#[derive(Debug)]
pub enum Outcome {
    /// It was done.
    Applied,
    /// It was not done; the other commands are not affected.
    Failed(Error),
    /// The kernel threw answers away: it was done or has failed. Read the table again.
    Unknown,
}

impl Outcome {
    /// Whether it was certainly done.
    #[must_use]
    pub const fn is_applied(&self) -> bool {
        matches!(self, Self::Applied)
    }

    /// The failure, if it is one.
    #[must_use]
    pub const fn error(&self) -> Option<&Error> {
        match self {
            Self::Failed(error) => Some(error),
            Self::Applied | Self::Unknown => None,
        }
    }
}

impl<T: Transport> Client<T> {
    /// Does commands in order, with few system calls: 64 kB of them at a time. Gives one outcome a
    /// command, in order. A failure does not stop the ones after it.
    ///
    /// # Errors
    /// When the kernel has no IPVS any more, and with it nothing of what was done before.
    pub fn batch(&mut self, commands: &[Command]) -> Result<Vec<Outcome>, Error> {
        let mut outcomes: Vec<Outcome> = commands.iter().map(refused).collect();
        self.run(
            commands,
            &positions(&outcomes, Outcome::is_unknown),
            &mut outcomes,
        );
        let stale = positions(&outcomes, Outcome::may_be_stale);
        if !stale.is_empty() {
            match self.refresh_family() {
                Ok(true) => self.run(commands, &stale, &mut outcomes),
                Ok(false) => {}
                // With the module everything is gone, what was applied before included.
                Err(error) if error.is_no_module() => return Err(error),
                // The failures stand as they are.
                Err(_) => {}
            }
        }
        Ok(outcomes)
    }

    /// Sends the chosen commands in as few datagrams as go.
    fn run(&mut self, commands: &[Command], chosen: &[usize], outcomes: &mut [Outcome]) {
        let most = (self.transport.receive_queue() / QUEUE_PER_ANSWER).max(1);
        let mut datagram = Vec::with_capacity(DATAGRAM + MESSAGE_ROOM);
        let mut rest = chosen;
        while !rest.is_empty() {
            datagram.clear();
            let first = self.envelope(false);
            let mut count = 0;
            let candidates = rest.iter().take(most).filter_map(|at| commands.get(*at));
            for (offset, command) in (0_u32..).zip(candidates) {
                let end = datagram.len();
                let sequence = first.sequence.wrapping_add(offset);
                codec::encode_command(&mut datagram, &Envelope { sequence, ..first }, command);
                if datagram.len() > DATAGRAM && count > 0 {
                    datagram.truncate(end);
                    break;
                }
                self.sequence = sequence;
                count += 1;
            }
            let (chunk, tail) = rest.split_at_checked(count).unwrap_or((rest, &[]));
            self.send_chunk(&datagram, first.sequence, commands, chunk, outcomes);
            rest = tail;
        }
    }

    fn send_chunk(
        &mut self,
        datagram: &[u8],
        first: u32,
        commands: &[Command],
        chunk: &[usize],
        outcomes: &mut [Outcome],
    ) {
        self.finish_previous();
        let sent = self.send(datagram, u64::try_from(chunk.len()).unwrap_or(u64::MAX));
        let mut set = |at: usize, outcome: Outcome| {
            if let Some(slot) = outcomes.get_mut(at) {
                *slot = outcome;
            }
        };
        if let Err(kind) = sent {
            // Nothing of a datagram that was not sent was done. A partial send does not exist.
            let errno = match &kind {
                Kind::Socket(error) => error.raw_os_error(),
                _ => None,
            };
            for at in chunk {
                let Some(command) = commands.get(*at) else {
                    continue;
                };
                let kind = errno.map_or(Kind::Unexpected, |errno| {
                    Kind::Socket(std::io::Error::from_raw_os_error(errno))
                });
                set(
                    *at,
                    Outcome::Failed(Error::new(Request::Command(command.clone()), kind)),
                );
            }
            return;
        }
        for at in chunk {
            set(*at, Outcome::Applied);
        }
        let mut failures = Vec::new();
        if !self.drain(first, chunk.len(), &mut failures) {
            for at in chunk {
                set(*at, Outcome::Unknown);
            }
        }
        for (offset, kind) in failures {
            if let Some(at) = chunk.get(offset)
                && let Some(command) = commands.get(*at)
            {
                set(
                    *at,
                    Outcome::Failed(Error::new(Request::Command(command.clone()), kind)),
                );
            }
        }
    }

    /// Takes the answers to a batch from the queue; whether none was lost.
    fn drain(&mut self, first: u32, count: usize, failures: &mut Vec<(usize, Kind)>) -> bool {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut complete = true;
        let mut troubles = 0;
        while troubles < MAX_TROUBLES {
            let datagram = match self.receive(&mut buffer, Wait::No) {
                Ok(datagram) => datagram,
                Err(Kind::Timeout) => break,
                Err(_) => {
                    // After an overflow the answers before it are still there.
                    complete = false;
                    self.counters.errors += 1;
                    troubles += 1;
                    continue;
                }
            };
            for frame in frames(datagram) {
                let Ok(frame) = frame else {
                    complete = false;
                    break;
                };
                let offset = usize::try_from(frame.sequence.wrapping_sub(first));
                let Some(offset) = offset.ok().filter(|offset| *offset < count) else {
                    continue;
                };
                match frame.body {
                    Body::Ack { errno: 0, .. } => {}
                    Body::Ack { errno, message } => {
                        failures.push((offset, Kind::Kernel { errno, message }));
                    }
                    Body::Overrun => complete = false,
                    _ => {}
                }
            }
        }
        self.counters.errors += u64::try_from(failures.len()).unwrap_or(u64::MAX);
        self.unfinished = !complete;
        self.buffer = buffer;
        complete
    }
}

impl Outcome {
    const fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }

    fn may_be_stale(&self) -> bool {
        self.error()
            .is_some_and(|error| error.kind().may_be_stale_family())
    }
}

/// A command that cannot work is not sent; the others are unknown until they are.
fn refused(command: &Command) -> Outcome {
    match command.validate() {
        Ok(()) => Outcome::Unknown,
        Err(invalid) => Outcome::Failed(Error::new(
            Request::Command(command.clone()),
            Kind::Invalid(invalid),
        )),
    }
}

fn positions(outcomes: &[Outcome], wanted: impl Fn(&Outcome) -> bool) -> Vec<usize> {
    (0..)
        .zip(outcomes)
        .filter(|(_, outcome)| wanted(outcome))
        .map(|(at, _)| at)
        .collect()
}

/// Bytes a datagram: beyond 16 kB nothing gets faster, and the default send buffer takes 208 kB.
const DATAGRAM: usize = 64 << 10;
/// More than any one command has.
const MESSAGE_ROOM: usize = 512;
/// What the kernel's receive queue is charged for one answer, rounded up.
const QUEUE_PER_ANSWER: usize = 1024;
/// Receive errors in a row before a queue is given up.
const MAX_TROUBLES: usize = 64;
