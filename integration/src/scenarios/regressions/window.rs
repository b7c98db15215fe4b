//! Packets that do not belong to the window of their connection.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};

use crate::dataplane::Dataplane;
use crate::guest::cluster::State::Ready;
use crate::guest::namespace::inside;
use crate::guest::probe::{Transport::Tcp, open_stream};
use crate::guest::sh_in;
use crate::guest::topology::{P12, P21, POD_PORT};
use crate::scenarios::{Lab, answered_by, at};

/// A packet from far outside the window came to the client from the endpoint's own address, since
/// conntrack translates nothing that it calls INVALID, and the client reset its connection. IPVS
/// translates it all the same: it comes from the VIP, and TCP ignores it.
pub fn left(lab: &mut Lab) -> Result<()> {
    let vips = lab.cluster.service("web", json!({}), json!({}))?;
    lab.cluster.endpoints("web", &[(P21, Ready)])?;
    let vip = at(&vips[0], 80)?;
    let IpAddr::V4(vip_v4) = vip.ip() else {
        bail!("{vip} is not IPv4");
    };
    answered_by("p12", Tcp, vip, &["p21"])?;
    let (mut stream, name) = open_stream("p12", vip)?;
    ensure!(name == "p21", "{name} answers");
    let client: Ipv4Addr = P12.v4().parse()?;
    let endpoint: Ipv4Addr = P21.v4().parse()?;
    let port = stream.local_addr()?.port();
    let tap = inside("p12", raw)??;
    tap.set_read_timeout(Some(Duration::from_secs(1)))?;
    let resets = resets_sent("p12")?;
    let invalid = invalid_packets()?;
    // At least one of two that lie half of all numbers apart is out of the window.
    for sequence in [0x1000_0000_u32, 0x9000_0000] {
        let segment = segment((endpoint, POD_PORT), (client, port), sequence);
        inside("p21", || -> Result<()> {
            let to = SocketAddr::from((client, 0));
            raw()?.send_to(&segment, &to.into())?;
            Ok(())
        })??;
    }
    let mut senders = Vec::new();
    while let Some((sender, source_port)) = next_marked(&tap)? {
        senders.push((sender, source_port));
    }
    // IPVS passes both on; on iptables FORWARD drops what conntrack cannot place.
    let expected = match lab.program.dataplane {
        Dataplane::Ipvs => senders == [(vip_v4, 80); 2],
        Dataplane::Iptables => {
            senders.len() < 2 && senders.iter().all(|from| *from == (vip_v4, 80))
        }
    };
    ensure!(
        expected,
        "of two segments these came: {senders:?}; the VIP is {vip}"
    );
    ensure!(
        invalid_packets()? > invalid,
        "conntrack found nothing wrong with them"
    );
    ensure!(
        resets_sent("p12")? == resets,
        "the client reset its connection"
    );
    stream.write_all(b"on\n")?;
    let mut answer = [0; 3];
    stream
        .read_exact(&mut answer)
        .context("the connection ended")?;
    ensure!(answer == *b"on\n", "{answer:?}");
    Ok(())
}

/// A socket that sends TCP segments as they are and gets a copy of all that come.
fn raw() -> Result<Socket> {
    Ok(Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP))?)
}

/// The sender of the next segment with the mark; none once none comes.
fn next_marked(mut tap: &Socket) -> Result<Option<(Ipv4Addr, u16)>> {
    let mut buffer = [0; 2048];
    loop {
        let length = match tap.read(&mut buffer) {
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let packet = &buffer[..length];
        if packet.len() >= 20 + 20 + MARK.len() && packet.ends_with(MARK) {
            let header = usize::from(packet[0] & 0xf) * 4;
            let sender = Ipv4Addr::new(packet[12], packet[13], packet[14], packet[15]);
            let port = u16::from_be_bytes([packet[header], packet[header + 1]]);
            return Ok(Some((sender, port)));
        }
    }
}

/// A TCP segment with the mark for payload (RFC 9293, 3.1).
fn segment(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), sequence: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(from.1.to_be_bytes());
    bytes.extend(to.1.to_be_bytes());
    bytes.extend(sequence.to_be_bytes());
    bytes.extend(1_u32.to_be_bytes());
    // Five words of header; ACK and PSH; a window; no urgent data.
    bytes.extend([5 << 4, 0x18, 0x10, 0, 0, 0, 0, 0]);
    bytes.extend(MARK);
    let mut pseudo = Vec::new();
    pseudo.extend(from.0.octets());
    pseudo.extend(to.0.octets());
    pseudo.extend([0, 6]);
    pseudo.extend(u16::try_from(bytes.len()).unwrap_or_default().to_be_bytes());
    pseudo.extend(&bytes);
    let words = pseudo.chunks(2);
    let words =
        words.map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |b| u32::from(*b)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [.., high, low] = (!sum).to_be_bytes();
    bytes[16..18].copy_from_slice(&[high, low]);
    bytes
}

/// Resets that a namespace has sent.
fn resets_sent(namespace: &str) -> Result<u64> {
    let text = inside(namespace, || {
        fs::read_to_string("/proc/thread-self/net/snmp")
    })??;
    let mut rows = text.lines().filter(|line| line.starts_with("Tcp: "));
    let names = rows.next().unwrap_or_default().split(' ');
    let mut columns = names.zip(rows.next().unwrap_or_default().split(' '));
    let (_, number) = columns
        .find(|(name, _)| *name == "OutRsts")
        .context("the kernel does not count resets")?;
    Ok(number.parse()?)
}

/// Packets that n1's conntrack found invalid, on all processors.
fn invalid_packets() -> Result<u64> {
    // On either node between the two.
    let text = sh_in("n1", "conntrack -S")? + &sh_in("n2", "conntrack -S")?;
    let words = text.split_whitespace();
    let counts = words.filter_map(|word| word.strip_prefix("invalid=")?.parse::<u64>().ok());
    Ok(counts.sum())
}

const MARK: &[u8] = b"far outside of the window";
