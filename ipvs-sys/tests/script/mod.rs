//! A kernel made of a closure: it is handed each datagram and says which answers are then queued.

use std::collections::VecDeque;
use std::io;

use ipvs_sys::codec::{Body, Envelope, encode_command, frames};
use ipvs_sys::{Command, Transport, Wait};

pub const ENOENT: i32 = 2;
pub const ESRCH: i32 = 3;
pub const EEXIST: i32 = 17;
pub const ENOBUFS: i32 = 105;
const CONTROLLER: u16 = 16;

/// What a receive gives.
pub enum Answer {
    Datagram(Vec<u8>),
    /// A system call error.
    Errno(i32),
}

/// A request as the kernel sees it.
pub struct Seen {
    pub family: u16,
    pub flags: u16,
    pub sequence: u32,
    pub payload: Vec<u8>,
}

impl Seen {
    /// The `cmd` byte.
    pub fn number(&self) -> u8 {
        self.payload[0]
    }
}

type Kernel = Box<dyn FnMut(&[Seen]) -> Vec<Answer>>;

pub struct Script {
    kernel: Kernel,
    queue: VecDeque<Answer>,
    queue_bytes: usize,
    pub datagrams: Vec<Vec<u8>>,
}

impl Script {
    /// Answers look-ups with `family`, everything else is the closure's.
    pub fn new(kernel: impl FnMut(&[Seen]) -> Vec<Answer> + 'static) -> Self {
        Self {
            kernel: Box::new(kernel),
            queue: VecDeque::new(),
            queue_bytes: 8 << 20,
            datagrams: Vec::new(),
        }
    }

    pub fn with_queue(mut self, bytes: usize) -> Self {
        self.queue_bytes = bytes;
        self
    }
}

pub fn seen(datagram: &[u8]) -> Vec<Seen> {
    frames(datagram)
        .map(|frame| {
            let frame = frame.unwrap();
            let Body::Payload(payload) = frame.body else {
                panic!("a request: {frame:?}");
            };
            Seen {
                family: frame.kind,
                flags: frame.flags,
                sequence: frame.sequence,
                payload: payload.to_vec(),
            }
        })
        .collect()
}

impl Transport for Script {
    fn send(&mut self, datagram: &[u8]) -> io::Result<usize> {
        self.datagrams.push(datagram.to_vec());
        let answers = (self.kernel)(&seen(datagram));
        self.queue.extend(answers);
        Ok(datagram.len())
    }

    fn receive(&mut self, buffer: &mut [u8], _: Wait) -> io::Result<usize> {
        match self.queue.pop_front() {
            None => Err(io::ErrorKind::WouldBlock.into()),
            Some(Answer::Errno(errno)) => Err(io::Error::from_raw_os_error(errno)),
            Some(Answer::Datagram(bytes)) => {
                let fits = bytes.len().min(buffer.len());
                buffer[..fits].copy_from_slice(&bytes[..fits]);
                Ok(bytes.len())
            }
        }
    }

    fn receive_queue(&self) -> usize {
        self.queue_bytes
    }
}

fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + payload.len()).unwrap();
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

/// `NLMSG_ERROR`; 0 confirms.
pub fn error(sequence: u32, errno: i32) -> Answer {
    let mut payload = (-errno).to_ne_bytes().to_vec();
    payload.extend([0; 16]);
    Answer::Datagram(message(2, 0x100, sequence, &payload))
}

pub fn is_lookup(request: &Seen) -> bool {
    request.family == CONTROLLER
}

/// The controller's answer.
pub fn family(sequence: u32, id: u16) -> Answer {
    let mut payload = vec![1, 2, 0, 0, 6, 0, 1, 0];
    payload.extend(id.to_ne_bytes());
    payload.extend([0, 0]);
    Answer::Datagram(message(CONTROLLER, 0, sequence, &payload))
}

/// Messages of a dump in one datagram: a reply has the shape of the request that makes the thing.
pub fn dump(sequence: u32, flags: u16, things: &[Command]) -> Answer {
    let mut bytes = Vec::new();
    for thing in things {
        let envelope = Envelope {
            family_id: 34,
            sequence,
            acknowledge: false,
        };
        let start = bytes.len();
        encode_command(&mut bytes, &envelope, thing);
        let flags = 2 | flags;
        bytes[start + 6..start + 8].copy_from_slice(&flags.to_ne_bytes());
    }
    Answer::Datagram(bytes)
}

pub fn done(sequence: u32) -> Answer {
    Answer::Datagram(message(3, 2, sequence, &[0; 4]))
}
