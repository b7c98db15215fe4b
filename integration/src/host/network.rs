//! A network namespace of the host with a tap device that the guest is plugged into.

use anyhow::Result;

use super::tool;

/// The host's end of the cable.
pub const HOST_ADDRESS: &str = "10.97.0.1";
/// The guest's end.
pub const GUEST_ADDRESS: &str = "10.97.0.2";
/// The tap device's name.
pub const TAP: &str = "tap0";

/// Deleted when dropped, with everything in it.
pub struct LabNetwork {
    pub namespace: String,
}

impl LabNetwork {
    /// That of one of this process' guests.
    pub fn new(guest: usize) -> Result<Self> {
        let network = Self {
            namespace: format!("ipvs-lab-{}-{guest}", std::process::id()),
        };
        let n = network.namespace.as_str();
        tool("ip", &["netns", "add", n])?;
        tool("ip", &["-n", n, "link", "set", "lo", "up"])?;
        tool("ip", &["-n", n, "tuntap", "add", TAP, "mode", "tap"])?;
        tool(
            "ip",
            &[
                "-n",
                n,
                "addr",
                "add",
                &format!("{HOST_ADDRESS}/24"),
                "dev",
                TAP,
            ],
        )?;
        tool("ip", &["-n", n, "link", "set", TAP, "up"])?;
        // The nodes' network lies behind the guest.
        tool(
            "ip",
            &[
                "-n",
                n,
                "route",
                "add",
                "192.168.50.0/24",
                "via",
                GUEST_ADDRESS,
            ],
        )?;
        Ok(network)
    }
}

impl Drop for LabNetwork {
    fn drop(&mut self) {
        let _ = tool("ip", &["netns", "del", &self.namespace]);
    }
}
