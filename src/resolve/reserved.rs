//! Addresses that belong to somebody else than a Service, and that none may take.
//!
//! Whoever may write a Service names its external IPs, and the cluster trusts more people with
//! that than with its nodes: an address of the node itself, of the API server or of a gateway
//! would cut the node off, or send what is meant for them to a pod.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::{Family, NodeInfo, NodeNetwork, VipKind};

/// What no Service may claim on this node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reserved {
    /// The node's own addresses.
    pub node: BTreeSet<IpAddr>,
    /// Where the API server answers: the endpoints of `default/kubernetes`, and what the agent
    /// was told.
    pub api_servers: BTreeSet<IpAddr>,
    /// Next hops of the node's default routes.
    pub gateways: BTreeSet<IpAddr>,
    /// Cluster IPs come from these, and nothing else does.
    pub service_cidrs: BTreeSet<IpNet>,
}

impl Reserved {
    /// Why `addr` cannot be an address of this kind; none for one that may be served.
    pub fn objection(&self, addr: IpAddr, kind: VipKind) -> Option<&'static str> {
        let link_local = match addr {
            IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        if addr.is_loopback() || addr.is_multicast() || addr.is_unspecified() || link_local {
            return Some("refused: loopback, link-local, multicast or unspecified; give another");
        }
        if self.is_cluster_ip(addr) {
            return Some("refused: it lies in a range of cluster IPs; give one outside of it");
        }
        if self.node.contains(&addr) {
            // Who writes a Service's status is trusted, and some load balancers hand the nodes'
            // own addresses out.
            return (kind == VipKind::ExternalIp)
                .then_some("refused: it is this node's own address; use a NodePort");
        }
        if self.api_servers.contains(&addr) {
            return Some("refused: the API server answers there; give another address");
        }
        self.gateways
            .contains(&addr)
            .then_some("refused: it is the node's default gateway; give another address")
    }

    /// Lies in a range of cluster IPs.
    pub fn is_cluster_ip(&self, addr: IpAddr) -> bool {
        self.service_cidrs.iter().any(|cidr| cidr.contains(&addr))
    }
}

/// The node's own addresses: those that Kubernetes knows and those of its interfaces. A single
/// address without a network around it (/32, /128) that Kubernetes does not know floats: keepalived
/// or kube-vip moves it between nodes, on behalf of Services.
pub fn own_addresses(node: &NodeInfo, network: &NodeNetwork) -> BTreeSet<IpAddr> {
    let known = |family: Family| {
        node.addresses
            .iter()
            .any(|addr| Family::of(*addr) == family)
    };
    let floats = |net: &&IpNet| {
        let family = Family::of(net.addr());
        net.prefix_len() == family.host_prefix() && known(family)
    };
    let of_interfaces = network.addresses.iter().filter(|net| !floats(net));
    let mut own = node.addresses.clone();
    own.extend(of_interfaces.map(IpNet::addr));
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set<T: std::str::FromStr + Ord>(text: &str) -> BTreeSet<T>
    where
        T::Err: std::fmt::Debug,
    {
        text.split_whitespace()
            .map(|t| t.parse().unwrap())
            .collect()
    }

    #[test]
    fn who_may_claim_what() {
        let reserved = Reserved {
            node: set("192.0.2.1 2001:db8::1"),
            api_servers: set("192.0.2.10 192.0.2.1"),
            gateways: set("192.0.2.254 2001:db8::fe"),
            service_cidrs: set("10.96.0.0/16 fd00:96::/112"),
        };
        for (addr, external, balancer) in [
            ("203.0.113.5", "", ""),
            ("2001:db8::5", "", ""),
            ("192.0.2.1", "own", ""),
            ("2001:db8::1", "own", ""),
            ("192.0.2.10", "API", "API"),
            ("192.0.2.254", "gateway", "gateway"),
            ("2001:db8::fe", "gateway", "gateway"),
            ("10.96.3.4", "cluster", "cluster"),
            ("fd00:96::9", "cluster", "cluster"),
            ("127.0.0.1", "loopback", "loopback"),
            ("::1", "loopback", "loopback"),
            ("fe80::1", "link-local", "link-local"),
            ("169.254.20.10", "link-local", "link-local"),
            ("224.0.0.1", "multicast", "multicast"),
            ("255.255.255.255", "unspecified", "unspecified"),
            ("0.0.0.0", "unspecified", "unspecified"),
        ] {
            for (kind, wanted) in [
                (VipKind::ExternalIp, external),
                (VipKind::LoadBalancer, balancer),
            ] {
                let said = reserved.objection(addr.parse().unwrap(), kind);
                let right = match said {
                    None => wanted.is_empty(),
                    Some(text) => !wanted.is_empty() && text.contains(wanted),
                };
                assert!(right, "{addr} as {kind}: {said:?}");
            }
        }
    }

    #[test]
    fn a_floating_address_is_nobodys_own() {
        let network = NodeNetwork {
            addresses: set("192.0.2.1/24 10.0.0.1/32 203.0.113.9/32 2001:db8::1/128"),
            ..NodeNetwork::default()
        };
        let node = NodeInfo {
            addresses: set("10.0.0.1"),
            ..NodeInfo::default()
        };
        let own: BTreeSet<IpAddr> = set("192.0.2.1 10.0.0.1 2001:db8::1");
        assert_eq!(own_addresses(&node, &network), own);
        // Where Kubernetes knows none, each may be the node's.
        let all: BTreeSet<IpAddr> = set("192.0.2.1 10.0.0.1 203.0.113.9 2001:db8::1");
        assert_eq!(own_addresses(&NodeInfo::default(), &network), all);
    }
}
