//! Says when the node's addresses may have changed: the kernel's own notifications.
//!
//! Only a wake-up: whoever is woken reads the addresses anew, so a notification that was lost
//! (`ENOBUFS`) costs a read and nothing else. Those of link-local addresses are passed over:
//! every pod's cable brings one.

use std::io;
use std::time::Duration;

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::MulticastGroup;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use rustix::io::Errno;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::Error;
use super::addresses::{is_of_another_proxy, usable_address};

/// A subscription to changes of addresses, and of the interfaces that decide about them.
pub struct AddressWatch {
    socket: TokioSocket,
}

impl AddressWatch {
    /// Subscribes in the current network namespace. Needs a tokio runtime around it.
    pub fn open() -> Result<Self, Error> {
        let open = || -> io::Result<TokioSocket> {
            let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
            socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
            for group in GROUPS {
                socket.socket_ref().add_membership(group as u32)?;
            }
            Ok(socket)
        };
        let socket = open().map_err(Error::Open)?;
        Ok(Self { socket })
    }

    /// Calls `wake` after each change, a burst of them being one, for ever.
    pub async fn run(mut self, wake: impl Fn()) {
        loop {
            match self.changed().await {
                Ok(()) => wake(),
                Err(error) => {
                    warn!(%error, "cannot follow the node's addresses; subscribing again");
                    sleep(REOPEN).await;
                    if let Ok(fresh) = Self::open() {
                        self = fresh;
                    }
                    // What happened meanwhile was told to nobody.
                    wake();
                }
            }
        }
    }

    /// Waits for a change, and then until it is quiet for a moment.
    async fn changed(&self) -> io::Result<()> {
        self.relevant().await?;
        let longest = sleep(LONGEST);
        let burst = async {
            // Quiet is nothing that matters: pods may come and go all the time.
            while let Ok(received) = timeout(QUIET, self.relevant()).await {
                received?;
            }
            Ok(())
        };
        tokio::select! {
            result = burst => result,
            () = longest => Ok(()),
        }
    }

    /// Waits for a datagram that matters.
    async fn relevant(&self) -> io::Result<()> {
        while !self.receive().await? {}
        Ok(())
    }

    /// One datagram. True if it is about what is followed here, or if some were lost.
    async fn receive(&self) -> io::Result<bool> {
        match self.socket.recv_from_full().await {
            Ok((datagram, _)) => Ok(any_concerns(&datagram)),
            Err(error) if error.raw_os_error() == Some(OVERRUN) => {
                debug!("notifications were lost; the addresses are read anew");
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether a datagram holds a message that matters. One that cannot be read may.
fn any_concerns(datagram: &[u8]) -> bool {
    let mut rest = datagram;
    while !rest.is_empty() {
        let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest) else {
            return true;
        };
        if concerns(&message.payload) {
            return true;
        }
        let length = (message.header.length as usize).next_multiple_of(4);
        rest = rest.get(length.max(1)..).unwrap_or_default();
    }
    false
}

fn concerns(payload: &NetlinkPayload<RouteNetlinkMessage>) -> bool {
    use RouteNetlinkMessage::{DelAddress, DelLink, NewAddress, NewLink};
    match payload {
        NetlinkPayload::InnerMessage(NewAddress(address) | DelAddress(address)) => {
            // One that turns out to be a duplicate is told by its flag, and is one no more.
            let mut plain = address.clone();
            plain.header.flags = Default::default();
            usable_address(&plain).is_some()
        }
        // An interface becomes another proxy's by its name.
        NetlinkPayload::InnerMessage(NewLink(link) | DelLink(link)) => is_of_another_proxy(link),
        NetlinkPayload::Overrun(_) => true,
        _ => false,
    }
}

const GROUPS: [MulticastGroup; 3] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
];
const OVERRUN: i32 = Errno::NOBUFS.raw_os_error();
/// A burst ends when nothing came for this long, or after the longest time.
const QUIET: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_millis(200);
const REOPEN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use netlink_packet_core::{NetlinkBuffer, NetlinkHeader};
    use netlink_packet_route::address::{AddressAttribute, AddressMessage};
    use netlink_packet_route::link::{LinkAttribute, LinkMessage};

    use super::*;

    fn bytes(message: RouteNetlinkMessage) -> Vec<u8> {
        let mut message = NetlinkMessage::new(
            NetlinkHeader::default(),
            NetlinkPayload::InnerMessage(message),
        );
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        assert!(NetlinkBuffer::new_checked(&bytes).is_ok());
        bytes
    }

    fn added(addr: &str) -> Vec<u8> {
        let addr = addr.parse().unwrap();
        let mut message = AddressMessage::default();
        message.header.family = match addr {
            std::net::IpAddr::V4(_) => netlink_packet_route::AddressFamily::Inet,
            std::net::IpAddr::V6(_) => netlink_packet_route::AddressFamily::Inet6,
        };
        message.header.prefix_len = 24;
        message.attributes = vec![AddressAttribute::Address(addr)];
        bytes(RouteNetlinkMessage::NewAddress(message))
    }

    fn changed(interface: &str) -> Vec<u8> {
        let mut message = LinkMessage::default();
        message.attributes = vec![LinkAttribute::IfName(interface.to_owned())];
        bytes(RouteNetlinkMessage::NewLink(message))
    }

    #[test]
    fn pods_that_come_and_go_wake_nobody() {
        assert!(!any_concerns(&added("fe80::1")));
        assert!(!any_concerns(&added("127.0.0.2")));
        assert!(!any_concerns(&changed("veth12345678")));
    }

    #[test]
    fn an_address_wakes_and_so_does_what_cannot_be_read() {
        assert!(any_concerns(&added("192.0.2.1")));
        assert!(any_concerns(&added("2001:db8::1")));
        assert!(any_concerns(&changed("kube-ipvs0")));
        let mut second = changed("veth0");
        second.extend(added("192.0.2.1"));
        assert!(any_concerns(&second));
        assert!(any_concerns(&[1, 2, 3]));
    }
}
