//! A network namespace of the host with a device that the guest is plugged into.

use anyhow::Result;

use super::{Kernel, tool};

/// The host's end of the cable.
pub const HOST_ADDRESS: &str = "10.97.0.1";
/// The guest's end.
pub const GUEST_ADDRESS: &str = "10.97.0.2";
/// The device's name.
pub const TAP: &str = "tap0";

/// Deleted when dropped, with everything in it.
pub struct LabNetwork {
    pub namespace: String,
}

impl LabNetwork {
    /// That of one of this process' guests, by what plugs it in.
    pub fn of(kernel: Kernel, guest: usize) -> Result<Self> {
        if kernel.is_native() {
            Self::cable(guest)
        } else {
            Self::tap(guest)
        }
    }

    /// That of one of this process' guests, with a tap device to plug it into.
    pub fn tap(guest: usize) -> Result<Self> {
        let network = Self::made(guest)?;
        network.ip(&format!("tuntap add {TAP} mode tap"))?;
        network.up()?;
        Ok(network)
    }

    /// The same for a guest that is a namespace: with a cable into that.
    pub fn cable(guest: usize) -> Result<Self> {
        let network = Self::made(guest)?;
        let inside = network.guest_namespace();
        tool("ip", &["netns", "add", &inside])?;
        network.ip(&format!(
            "link add {TAP} type veth peer name eth0 netns {inside}"
        ))?;
        network.up()?;
        Ok(network)
    }

    /// Where a guest without a kernel of its own lives.
    pub fn guest_namespace(&self) -> String {
        format!("{}-guest", self.namespace)
    }

    /// What lies behind the guest too.
    pub fn route(&self, prefix: &str) -> Result<()> {
        self.ip(&format!("route add {prefix} via {GUEST_ADDRESS}"))
    }

    fn made(guest: usize) -> Result<Self> {
        let network = Self {
            namespace: format!("ipvs-lab-{}-{guest}", std::process::id()),
        };
        tool("ip", &["netns", "add", &network.namespace])?;
        network.ip("link set lo up")?;
        Ok(network)
    }

    fn up(&self) -> Result<()> {
        self.ip(&format!("addr add {HOST_ADDRESS}/24 dev {TAP}"))?;
        self.ip(&format!("link set {TAP} up"))?;
        // The nodes' network lies behind the guest.
        self.ip(&format!("route add 192.168.50.0/24 via {GUEST_ADDRESS}"))
    }

    fn ip(&self, line: &str) -> Result<()> {
        let words = ["-n", &self.namespace].into_iter().chain(line.split(' '));
        tool("ip", &Vec::from_iter(words))
    }
}

impl Drop for LabNetwork {
    fn drop(&mut self) {
        for namespace in [self.guest_namespace(), self.namespace.clone()] {
            let _ = tool("ip", &["netns", "del", &namespace]);
        }
    }
}
