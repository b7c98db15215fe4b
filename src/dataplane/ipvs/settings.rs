//! What an operator may choose about the IPVS dataplane.

use std::time::Duration;

use crate::dataplane::ClusterNetwork;
use crate::model::Family;
use crate::routing::PolicyRule;

/// Settings that shape kernel objects. All agents on one node must agree on them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// One bit: the packet is to be routed to IPVS. Network plugins own some bits.
    pub route_mark: u32,
    /// One bit: the connection is to be masqueraded (kube-proxy's default, bit 14).
    pub masquerade_mark: u32,
    /// The bits of which marks for clients on this node are made, under a `Local` traffic policy. The
    /// mark is the packet's only one from mangle to IPVS and gone after it.
    pub near_marks: u32,
    /// Routing table that holds the VIPs.
    pub route_table: u32,
    /// Priority of the policy rule; before the main table (32766), after `local` (0).
    pub rule_priority: u32,
    /// How pods of this node are told from others.
    pub detect_local: DetectLocal,
    /// Masquerade all traffic to cluster IPs.
    pub masquerade_all: bool,
    /// How long a real server that is gone may finish its TCP connections.
    pub drain_timeout: Duration,
    pub timeouts: TimeoutSettings,
}

/// How long connections are kept on which nothing moves; `None`: as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TimeoutSettings {
    pub tcp: TcpTimeout,
    /// Seconds after a FIN.
    pub tcp_fin: Option<u32>,
    /// Seconds.
    pub udp: Option<u32>,
}

/// How long an established TCP connection is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TcpTimeout {
    #[default]
    AsConntrack,
    Seconds(u32),
    Keep,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            route_mark: 1 << 13,
            masquerade_mark: 1 << 14,
            near_marks: NEAR_MARKS,
            route_table: 10256,
            rule_priority: 90,
            detect_local: DetectLocal::Sources,
            masquerade_all: false,
            drain_timeout: Duration::from_secs(60),
            timeouts: TimeoutSettings::default(),
        }
    }
}

/// Free of bits that others test between mangle and IPVS: 8 to 11 are Cilium's, 13 to 15 ours and
/// the kubelet's, 16 to 19 Calico's.
pub const NEAR_MARKS: u32 = 0x7ff0_00ff;

/// How a packet of a pod of this node is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DetectLocal {
    /// By its source, which lies in a pod CIDR.
    Sources,
    /// By the interface that it comes in by; a name that ends in `+` stands for all that begin so.
    Interface(String),
}

/// Which traffic to a cluster IP is masqueraded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterMasquerade {
    /// Nothing tells pods from others: only hairpin traffic is.
    Never,
    /// All but local pods'.
    UnlessFromPod,
    All,
}

impl Settings {
    /// The rule that leads marked packets to the VIPs' table.
    pub fn policy_rule(&self) -> PolicyRule {
        PolicyRule {
            mark: self.route_mark,
            table: self.route_table,
            priority: self.rule_priority,
        }
    }

    /// Where masquerading of cluster IP traffic stands for a family.
    pub fn cluster_masquerade(
        &self,
        network: &ClusterNetwork,
        family: Family,
    ) -> ClusterMasquerade {
        if self.masquerade_all {
            ClusterMasquerade::All
        } else if matches!(self.detect_local, DetectLocal::Interface(_))
            || network
                .pod_cidrs
                .iter()
                .any(|cidr| Family::of(cidr.addr()) == family)
        {
            ClusterMasquerade::UnlessFromPod
        } else {
            ClusterMasquerade::Never
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 93 of `docs/checklist.md`.
    #[test]
    fn who_is_masqueraded_on_the_way_to_a_cluster_ip() {
        use ClusterMasquerade::{All, Never, UnlessFromPod};
        let interface = DetectLocal::Interface("veth+".to_owned());
        for (masquerade_all, detect_local, pods, want) in [
            (
                false,
                DetectLocal::Sources,
                "10.244.0.0/16",
                [UnlessFromPod, Never],
            ),
            (
                false,
                DetectLocal::Sources,
                "fd00:244::/48",
                [Never, UnlessFromPod],
            ),
            (
                false,
                interface.clone(),
                "10.244.0.0/16",
                [UnlessFromPod; 2],
            ),
            (true, DetectLocal::Sources, "10.244.0.0/16", [All; 2]),
            (true, interface, "10.244.0.0/16", [All; 2]),
        ] {
            let settings = Settings {
                masquerade_all,
                detect_local,
                ..Settings::default()
            };
            let network = ClusterNetwork {
                pod_cidrs: [pods.parse().unwrap()].into(),
                ..ClusterNetwork::default()
            };
            let got = Family::ALL.map(|family| settings.cluster_masquerade(&network, family));
            assert_eq!(got, want, "{settings:?} {pods}");
        }
    }
}
