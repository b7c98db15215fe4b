//! A node, a client pod and, behind a cable of its own, all endpoints: three network namespaces, made
//! anew for each measurement so that no proxy finds what another left.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use socket2::{Domain, Socket, Type};

use super::load::{ENDPOINT_CIDR, PORT};
use crate::guest::namespace::inside;
use crate::guest::{sh, sh_in};

/// The node's namespace, and its name in Kubernetes.
pub const NODE: &str = "n1";
/// The pod that asks.
pub const CLIENT: &str = "client";
/// Where every address of `ENDPOINT_CIDR` answers.
const BACKENDS: &str = "backends";
/// The node's own address.
pub const NODE_ADDRESS: &str = "192.168.50.11";

/// Taken down when dropped.
pub struct Node {
    stopped: Arc<AtomicBool>,
}

impl Node {
    pub fn new() -> Result<Self> {
        let node = Self {
            stopped: Arc::default(),
        };
        for name in [NODE, CLIENT, BACKENDS] {
            sh(&format!("ip netns add {name}"))?;
            sh_in(name, "ip link set lo up")?;
        }
        sh(&format!(
            "ip link add up0 type veth peer name eth0 netns {NODE}"
        ))?;
        sh("ip addr add 192.168.50.254/24 dev up0")?;
        sh("ip link set up0 up")?;
        sh("sysctl -qw net.ipv4.ip_forward=1")?;
        sh_in(NODE, "sysctl -qw net.ipv4.ip_forward=1")?;
        sh_in(NODE, &format!("ip addr add {NODE_ADDRESS}/24 dev eth0"))?;
        sh_in(NODE, "ip link set eth0 up")?;
        sh_in(NODE, "ip route add default via 192.168.50.254")?;
        for (name, net) in [(CLIENT, "10.244.1"), (BACKENDS, "10.244.2")] {
            sh_in(
                NODE,
                &format!("ip link add {name} type veth peer name eth0 netns {name}"),
            )?;
            sh_in(NODE, &format!("ip addr add {net}.1/24 dev {name}"))?;
            sh_in(NODE, &format!("ip link set {name} up"))?;
            sh_in(name, &format!("ip addr add {net}.2/24 dev eth0"))?;
            sh_in(name, "ip link set eth0 up")?;
            sh_in(name, &format!("ip route add default via {net}.1"))?;
        }
        sh_in(
            NODE,
            &format!("ip route add {ENDPOINT_CIDR} via 10.244.2.2"),
        )?;
        sh_in(
            BACKENDS,
            &format!("ip route add local {ENDPOINT_CIDR} dev lo"),
        )?;
        node.serve()?;
        Ok(node)
    }

    /// Each endpoint tells its address to who connects. It looks for them by the clock: to wake it would
    /// be part of what the client waits for, and on a virtual machine the larger part.
    fn serve(&self) -> Result<()> {
        let listener = inside(BACKENDS, || -> std::io::Result<_> {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)).into())?;
            // None is turned away while this thread waits for a processor.
            socket.listen(BACKLOG)?;
            socket.set_nonblocking(true)?;
            Ok(TcpListener::from(socket))
        })??;
        let stopped = self.stopped.clone();
        std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let _ = tell(stream);
                    }
                    Err(_) => std::thread::sleep(LOOK),
                }
            }
        });
        Ok(())
    }
}

/// Its end is the client's to say, so that no port here waits for late packets.
fn tell(mut stream: TcpStream) -> std::io::Result<()> {
    if let IpAddr::V4(addr) = stream.local_addr()?.ip() {
        stream.set_read_timeout(Some(TICK))?;
        stream.write_all(&addr.octets())?;
        let _ = stream.read(&mut [0])?;
    }
    Ok(())
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        let _ = sh("ip link del up0");
        for name in [CLIENT, BACKENDS, NODE] {
            let _ = sh(&format!("ip netns del {name}"));
        }
    }
}

const TICK: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_micros(200);
const BACKLOG: i32 = 4096;
