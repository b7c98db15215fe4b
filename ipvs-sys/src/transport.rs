//! The socket, behind a trait small enough for a test to script the kernel.

use std::io;
use std::time::Duration;

use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};
use rustix::io::Errno;
use rustix::net::{RecvFlags, sockopt};

/// How long a receive may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Not at all: [`io::ErrorKind::WouldBlock`] when nothing is there.
    No,
    /// At most so long: [`io::ErrorKind::WouldBlock`] or [`io::ErrorKind::TimedOut`] thereafter.
    AtMost(Duration),
}

/// Carries datagrams to and from the kernel.
pub trait Transport {
    /// Sends one datagram. When it returns, the kernel has worked through all messages of it.
    ///
    /// # Errors
    /// When nothing of it was sent.
    fn send(&mut self, datagram: &[u8]) -> io::Result<usize>;

    /// Receives one datagram and returns its true length, which is greater than the buffer's if it
    /// was cut off.
    ///
    /// # Errors
    /// `ENOBUFS` when the kernel had to throw answers away; `WouldBlock` when there are none.
    fn receive(&mut self, buffer: &mut [u8], wait: Wait) -> io::Result<usize>;

    /// Bytes of the kernel's receive queue: they limit how many answers one batch can get.
    fn receive_queue(&self) -> usize;
}

/// A `NETLINK_GENERIC` socket in the network namespace of the thread that opened it.
///
/// Its receive queue has 8 MB where the caller may force that (`SO_RCVBUFFORCE`), acknowledgements
/// do not repeat the request (`NETLINK_CAP_ACK`), and only the kernel can write to it.
#[derive(Debug)]
pub struct NetlinkSocket {
    socket: Socket,
    timeout: Option<Duration>,
    queue: usize,
}

impl NetlinkSocket {
    /// Opens and binds a socket.
    ///
    /// # Errors
    /// When the kernel refuses; only the size of the queue is a wish.
    pub fn open() -> io::Result<Self> {
        Self::with_receive_queue(RECEIVE_QUEUE)
    }

    /// Opens a socket with another receive queue; the kernel doubles the `bytes` for its own
    /// bookkeeping.
    ///
    /// # Errors
    /// When the kernel refuses; only the size of the queue is a wish.
    pub fn with_receive_queue(bytes: usize) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        // Connected: messages of other processes are refused by the kernel.
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_cap_ack(true)?;
        socket.set_ext_ack(true)?;
        if sockopt::set_socket_recv_buffer_size_force(&socket, bytes).is_err() {
            sockopt::set_socket_recv_buffer_size(&socket, bytes)?;
        }
        let queue = sockopt::socket_recv_buffer_size(&socket)?;
        Ok(Self {
            socket,
            timeout: None,
            queue,
        })
    }
}

impl Transport for NetlinkSocket {
    fn send(&mut self, datagram: &[u8]) -> io::Result<usize> {
        retry(|| self.socket.send(datagram, 0))
    }

    fn receive(&mut self, buffer: &mut [u8], wait: Wait) -> io::Result<usize> {
        let mut flags = RecvFlags::TRUNC;
        match wait {
            Wait::No => flags |= RecvFlags::DONTWAIT,
            Wait::AtMost(timeout) if self.timeout != Some(timeout) => {
                // The kernel takes zero for "for ever".
                let timeout_or_tick = timeout.max(Duration::from_millis(1));
                sockopt::set_socket_timeout(
                    &self.socket,
                    sockopt::Timeout::Recv,
                    Some(timeout_or_tick),
                )?;
                self.timeout = Some(timeout);
            }
            Wait::AtMost(_) => {}
        }
        let flags = flags.bits().cast_signed();
        retry(|| self.socket.recv(&mut &mut *buffer, flags))
    }

    fn receive_queue(&self) -> usize {
        self.queue
    }
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

/// The kernel doubles it for its own bookkeeping, about 0.8 kB an answer.
const RECEIVE_QUEUE: usize = 4 << 20;
