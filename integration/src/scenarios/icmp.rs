//! What IP says of a connection through a VIP: a path that carries less, datagrams in pieces.
//!
//! A network `far` lies behind the outside client, who routes for it. Smaller MTUs are those of routes,
//! so that no end knows of them and only an ICMP error can tell.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{Lab, answered_by, at, node_addresses, route_from_client};
use crate::guest::cluster::State::Ready;
use crate::guest::namespace::inside;
use crate::guest::probe::{Transport::Tcp, Transport::Udp, open_stream};
use crate::guest::server::ECHO;
use crate::guest::topology::{CLIENT, P21};
use crate::guest::wait::eventually;
use crate::guest::{sh, sh_in};

/// A VIP and how its clients come to it.
struct Way {
    about: &'static str,
    from: &'static str,
    to: SocketAddr,
    /// Whom the real server takes for the client.
    seen: String,
    /// The node that balances is the real server's.
    at_backend: bool,
}

pub fn path_mtu(lab: &mut Lab) -> Result<()> {
    let far = Far::new()?;
    let ways = ways(lab)?;
    for (stage, narrow, wide) in [
        ("the client's side", NARROW_AT_CLIENT, WIDE_AT_CLIENT),
        ("the backend's side", NARROW_AT_BACKEND, WIDE_AT_BACKEND),
    ] {
        for line in narrow {
            let (place, line) = line.split_once(": ").context("a place and a command")?;
            sh_in(place, line)?;
        }
        for way in ways
            .iter()
            .filter(|way| way.from == FAR || narrow == NARROW_AT_BACKEND)
        {
            // IPv4 sends no ICMP error from an address that no interface has, and here the node that
            // would have to send it is the one that balances: documented, not solved.
            let its_own = narrow == NARROW_AT_BACKEND && way.at_backend && way.to.is_ipv4();
            if !its_own {
                learns(way).with_context(|| format!("{}, {}, {stage}", way.about, way.to))?;
            }
        }
        for line in wide {
            let (place, line) = line.split_once(": ").context("a place and a command")?;
            sh_in(place, line)?;
        }
    }
    forget_paths()?;
    drop(far);
    Ok(())
}

pub fn fragments(lab: &mut Lab) -> Result<()> {
    let far = Far::new()?;
    for way in ways(lab)? {
        eventually(&format!("4 kB of UDP, {} to {}", way.about, way.to), || {
            echo_datagram(way.from, way.to)
        })?;
    }
    drop(far);
    Ok(())
}

/// The three ways: masqueraded from outside, not masqueraded from outside, and from a pod.
fn ways(lab: &mut Lab) -> Result<Vec<Way>> {
    let ports = |node_ports: [u16; 2]| {
        json!([
            { "name": "t", "port": 80, "protocol": "TCP", "nodePort": node_ports[0] },
            { "name": "u", "port": 80, "protocol": "UDP", "nodePort": node_ports[1] },
        ])
    };
    let spec = json!({ "type": "NodePort", "ports": ports([30_280, 30_281]) });
    let cluster = lab.cluster.service("big", json!({}), spec)?;
    let spec = json!({
        "type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": ports([30_282, 30_283]),
    });
    lab.cluster.service("big-local", json!({}), spec)?;
    lab.cluster.load_balancer_ips("big-local", &BALANCER)?;
    for service in ["big", "big-local"] {
        lab.cluster
            .endpoints_of_ports(service, &[(P21, Ready)], &[("t", "TCP"), ("u", "UDP")])?;
    }
    let mut ways = Vec::new();
    let nodes = node_addresses("n1");
    for family in 0..2 {
        route_from_client(BALANCER[family], "n2")?;
        ways.push(Way {
            about: "masqueraded, from outside",
            from: FAR,
            to: at(&nodes[family], 30_280)?,
            seen: nodes[family].clone(),
            at_backend: false,
        });
        ways.push(Way {
            about: "with its source, from outside",
            from: FAR,
            to: at(BALANCER[family], 80)?,
            seen: FAR_ADDRESSES[family].to_owned(),
            at_backend: true,
        });
        ways.push(Way {
            about: "from a pod",
            from: "p12",
            to: at(&cluster[family], 80)?,
            seen: ["10.244.1.3", "fd00:244:1::3"][family].to_owned(),
            at_backend: false,
        });
    }
    for way in &ways {
        answered_by(way.from, Tcp, way.to, &["p21"])?;
        answered_by(way.from, Udp, udp(way.to), &["p21"])?;
    }
    Ok(ways)
}

/// The UDP port beside a TCP one.
fn udp(to: SocketAddr) -> SocketAddr {
    let port = if to.port() == 30_280 {
        30_281
    } else {
        to.port()
    };
    SocketAddr::new(to.ip(), port)
}

/// A large transfer each way, and both ends have learnt what the path carries.
fn learns(way: &Way) -> Result<()> {
    forget_paths()?;
    let moved = transfer(way.from, way.to);
    let client = path(way.from, &way.to.ip().to_string())?;
    let server = path("p21", &way.seen)?;
    ensure!(
        moved.is_ok(),
        "{moved:?}".lines().next().unwrap_or_default().to_owned() + &client + &server
    );
    ensure!(
        client.contains(LEARNT),
        "the client has not learnt of it: {client}"
    );
    ensure!(
        server.contains(LEARNT),
        "the server has not learnt of it: {server}"
    );
    Ok(())
}

/// Sends much and reads it back.
fn transfer(from: &str, to: SocketAddr) -> Result<()> {
    let (mut stream, _) = open_stream(from, to)?;
    stream.set_read_timeout(Some(Duration::from_secs(4)))?;
    stream.set_write_timeout(Some(Duration::from_secs(4)))?;
    let mut sender = stream.try_clone()?;
    std::thread::scope(|scope| {
        let sending = scope.spawn(move || sender.write_all(&[b'x'; MUCH]));
        let mut back = vec![0; MUCH];
        stream
            .read_exact(&mut back)
            .context("what was sent does not come back")?;
        sending
            .join()
            .map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        ensure!(
            back.iter().all(|byte| *byte == b'x'),
            "something else comes back"
        );
        Ok(())
    })
}

fn echo_datagram(from: &str, to: SocketAddr) -> Result<Result<(), String>> {
    let to = udp(to);
    inside(from, || {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = std::net::UdpSocket::bind(any)?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        let mut large = [b'x'; 4096];
        large[..ECHO.len()].copy_from_slice(ECHO);
        socket.send(&large)?;
        let mut back = [0; 8192];
        Ok(match socket.recv(&mut back) {
            Ok(4096) => Ok(()),
            other => Err(format!("{other:?}")),
        })
    })?
}

/// What a namespace knows of the path to an address.
fn path(namespace: &str, to: &str) -> Result<String> {
    sh_in(namespace, &format!("ip route get {to}"))
}

fn forget_paths() -> Result<()> {
    for namespace in [FAR, CLIENT, "n1", "n2", "p12", "p21"] {
        sh_in(namespace, "ip route flush cache")?;
        sh_in(namespace, "ip -6 route flush cache")?;
    }
    Ok(())
}

/// The network behind the outside client; gone when dropped.
struct Far;

impl Far {
    fn new() -> Result<Self> {
        sh("ip netns add far")?;
        let far = Self;
        sh(&format!(
            "ip link add far netns {CLIENT} type veth peer name eth0 netns {FAR}"
        ))?;
        for (namespace, line) in [
            (FAR, "sysctl -qw net.ipv6.conf.all.accept_dad=0"),
            (FAR, "ip addr add 192.168.70.2/24 dev eth0"),
            (FAR, "ip -6 addr add fd00:70::2/64 dev eth0 nodad"),
            (FAR, "ip link set eth0 up"),
            (FAR, "ip route add default via 192.168.70.1"),
            (CLIENT, "ip addr add 192.168.70.1/24 dev far"),
            (CLIENT, "ip -6 addr add fd00:70::1/64 dev far nodad"),
            (CLIENT, "ip link set far up"),
            (CLIENT, "sysctl -qw net.ipv4.ip_forward=1"),
            (CLIENT, "sysctl -qw net.ipv6.conf.all.forwarding=1"),
            (FAR, "ip -6 route add default via fd00:70::1"),
        ] {
            sh_in(namespace, line)?;
        }
        for node in ["n1", "n2"] {
            sh_in(node, "ip route add 192.168.70.0/24 via 192.168.50.100")?;
            sh_in(node, "ip -6 route add fd00:70::/64 via fd00:50::100")?;
        }
        Ok(far)
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        for node in ["n1", "n2"] {
            let _ = sh_in(node, "ip route del 192.168.70.0/24");
            let _ = sh_in(node, "ip -6 route del fd00:70::/64");
        }
        let _ = sh_in(CLIENT, "ip link del far");
        let _ = sh("ip netns del far");
        let _ = sh_in(CLIENT, "sysctl -qw net.ipv4.ip_forward=0");
        let _ = sh_in(CLIENT, "sysctl -qw net.ipv6.conf.all.forwarding=0");
    }
}

const FAR: &str = "far";
const FAR_ADDRESSES: [&str; 2] = ["192.168.70.2", "fd00:70::2"];
const BALANCER: [&str; 2] = ["192.168.61.70", "fd00:61::70"];
const MUCH: usize = 300_000;
const LEARNT: &str = "mtu 1300";
/// The router at the client carries less, both to him and from him.
const NARROW_AT_CLIENT: &[&str] = &[
    "ext: ip route add 192.168.70.2/32 dev far mtu lock 1300",
    "ext: ip -6 route add fd00:70::2/128 dev far mtu lock 1300",
    "ext: ip route add 192.168.50.11/32 dev eth0 mtu lock 1300",
    "ext: ip -6 route add fd00:50::11/128 dev eth0 mtu lock 1300",
    "ext: ip route replace 192.168.61.70 via 192.168.50.12 mtu lock 1300",
    "ext: ip -6 route replace fd00:61::70 via fd00:50::12 mtu lock 1300",
];
const WIDE_AT_CLIENT: &[&str] = &[
    "ext: ip route del 192.168.70.2/32",
    "ext: ip -6 route del fd00:70::2/128",
    "ext: ip route del 192.168.50.11/32",
    "ext: ip -6 route del fd00:50::11/128",
    "ext: ip route replace 192.168.61.70 via 192.168.50.12",
    "ext: ip -6 route replace fd00:61::70 via fd00:50::12",
];
/// The node of the real server carries less, to it and from it.
const NARROW_AT_BACKEND: &[&str] = &[
    "n2: ip route replace 10.244.2.2/32 dev vp21 mtu lock 1300",
    "n2: ip -6 route replace fd00:244:2::2/128 dev vp21 mtu lock 1300",
    "n2: ip route add 192.168.50.11/32 dev eth0 mtu lock 1300",
    "n2: ip -6 route add fd00:50::11/128 dev eth0 mtu lock 1300",
    "n2: ip route replace 10.244.1.0/24 via 192.168.50.11 mtu lock 1300",
    "n2: ip -6 route replace fd00:244:1::/64 via fd00:50::11 mtu lock 1300",
    "n2: ip route replace 192.168.70.0/24 via 192.168.50.100 mtu lock 1300",
    "n2: ip -6 route replace fd00:70::/64 via fd00:50::100 mtu lock 1300",
];
const WIDE_AT_BACKEND: &[&str] = &[
    "n2: ip route replace 10.244.2.2/32 dev vp21",
    "n2: ip -6 route replace fd00:244:2::2/128 dev vp21",
    "n2: ip route del 192.168.50.11/32",
    "n2: ip -6 route del fd00:50::11/128",
    "n2: ip route replace 10.244.1.0/24 via 192.168.50.11",
    "n2: ip -6 route replace fd00:244:1::/64 via fd00:50::11",
    "n2: ip route replace 192.168.70.0/24 via 192.168.50.100",
    "n2: ip -6 route replace fd00:70::/64 via fd00:50::100",
];
