//! Who is measured: the agent and kube-proxy, each as one would run it, but that neither compares the
//! kernel with what it wants by the clock meanwhile.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use super::node::NODE;

/// A proxy in one of its modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    pub proxy: Proxy,
    pub mode: Mode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proxy {
    Agent,
    KubeProxy,
}

/// By what it programs the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Legacy,
    Nft,
    Nftables,
}

/// Where the programs are, and the API server.
#[derive(Debug)]
pub struct Programs {
    pub agent: PathBuf,
    pub kube_proxy: PathBuf,
    pub kubeconfig: PathBuf,
}

impl Peer {
    pub const ALL: [Self; 5] = [
        Self::of(Proxy::Agent, Mode::Legacy),
        Self::of(Proxy::Agent, Mode::Nft),
        Self::of(Proxy::KubeProxy, Mode::Legacy),
        Self::of(Proxy::KubeProxy, Mode::Nft),
        Self::of(Proxy::KubeProxy, Mode::Nftables),
    ];

    pub const fn of(proxy: Proxy, mode: Mode) -> Self {
        Self { proxy, mode }
    }

    pub const fn name(self) -> &'static str {
        match (self.proxy, self.mode) {
            (Proxy::Agent, Mode::Legacy) => "ipvs-agent, iptables-legacy",
            (Proxy::Agent, _) => "ipvs-agent, iptables-nft",
            (Proxy::KubeProxy, Mode::Legacy) => "kube-proxy, iptables-legacy",
            (Proxy::KubeProxy, Mode::Nft) => "kube-proxy, iptables-nft",
            (Proxy::KubeProxy, Mode::Nftables) => "kube-proxy, nftables",
        }
    }

    /// Starts it on the node.
    pub fn start(self, programs: &Programs) -> Result<Running> {
        let path = self.mode.path()?;
        let log = PathBuf::from("/run/peer.log");
        let file = File::create(&log)?;
        let (program, arguments) = match self.proxy {
            Proxy::Agent => (&programs.agent, AGENT),
            Proxy::KubeProxy => (&programs.kube_proxy, KUBE_PROXY),
        };
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", NODE])
            .arg(program)
            .args(arguments.split_whitespace())
            .arg("--kubeconfig")
            .arg(&programs.kubeconfig);
        if self.proxy == Proxy::KubeProxy {
            let nftables = self.mode == Mode::Nftables;
            let mode = if nftables { "nftables" } else { "iptables" };
            command.args(["--proxy-mode", mode]);
        }
        let child = command
            .env("PATH", path)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {}", self.name()))?;
        Ok(Running {
            peer: self,
            child,
            log,
        })
    }
}

impl Mode {
    /// A search path on which `iptables` is of this mode.
    fn path(self) -> Result<String> {
        let variant = match self {
            Self::Legacy => "legacy",
            Self::Nft | Self::Nftables => "nft",
        };
        let directory = format!("/run/iptables-{variant}");
        if !Path::new(&directory).exists() {
            fs::create_dir(&directory)?;
            for tool in ["iptables", "ip6tables"] {
                for part in ["", "-save", "-restore"] {
                    let name = format!("{directory}/{tool}{part}");
                    symlink(format!("/usr/sbin/xtables-{variant}-multi"), name)?;
                }
            }
        }
        let rest = std::env::var("PATH").context("no PATH")?;
        Ok(format!("{directory}:{rest}"))
    }
}

/// Killed when dropped.
pub struct Running {
    peer: Peer,
    child: Child,
    log: PathBuf,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An error with one line of its log if it has ended by itself.
    pub fn demand_alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            // kube-proxy shows its usage after an error, and the agent shows none.
            let is_error = |line: &&str| line.to_lowercase().contains("error");
            let error = log.lines().find(is_error).unwrap_or_default();
            bail!("it ended by itself: {status}: {error}");
        }
        Ok(())
    }

    /// The Services in the order in which a packet meets them, where it meets them one by one.
    pub fn order(&self) -> Result<Vec<Ipv4Addr>> {
        let Peer { proxy, mode } = self.peer;
        if proxy != Proxy::KubeProxy || mode == Mode::Nftables {
            return Ok(Vec::new());
        }
        let output = Command::new("ip")
            .args(["netns", "exec", NODE, "iptables-save", "-t", "nat"])
            .env("PATH", mode.path()?)
            .output()?;
        Ok(walked(&String::from_utf8_lossy(&output.stdout)))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The cluster IPs in the chain that kube-proxy dispatches by.
fn walked(save: &str) -> Vec<Ipv4Addr> {
    let rules = save
        .lines()
        .filter_map(|line| line.strip_prefix("-A KUBE-SERVICES -d "));
    let destinations = rules.filter_map(|rule| rule.split_once("/32")?.0.parse().ok());
    destinations.collect()
}

/// Common to its modes.
const AGENT: &str = "run --node-name n1 --dataplane iptables --cluster-cidr 10.244.0.0/16 \
    --audit-interval 1h";
/// Conntrack's limits are left as they are.
const KUBE_PROXY: &str = "--hostname-override n1 --cluster-cidr 10.244.0.0/16 \
    --iptables-sync-period 1h --conntrack-max-per-core 0 \
    --conntrack-tcp-timeout-established 0 --conntrack-tcp-timeout-close-wait 0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_met_in_the_order_of_their_rules() {
        let save = "*nat\n:KUBE-SERVICES - [0:0]\n\
            -A KUBE-SERVICES -d 10.96.1.9/32 -p tcp -m comment --comment \"default/s8:http cluster IP\" -m tcp --dport 80 -j KUBE-SVC-A\n\
            -A KUBE-SERVICES -d 10.96.1.1/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-B\n\
            -A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\n\
            -A KUBE-SVC-A ! -s 10.244.0.0/16 -d 10.96.1.9/32 -p tcp -j KUBE-MARK-MASQ\nCOMMIT\n";
        let [first, last] = [[10, 96, 1, 9], [10, 96, 1, 1]].map(Ipv4Addr::from);
        assert_eq!(walked(save), [first, last]);
    }
}
