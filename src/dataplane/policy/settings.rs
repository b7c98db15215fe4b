//! What an operator may choose about who is masqueraded, and how pods are known.

use crate::dataplane::ClusterNetwork;
use crate::model::Family;

/// Settings that shape the shared rules. All agents on one node must agree on them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySettings {
    /// One bit: the connection is to be masqueraded (kube-proxy's default, bit 14).
    pub masquerade_mark: u32,
    /// How pods of this node are told from others.
    pub detect_local: DetectLocal,
    /// Masquerade all traffic to cluster IPs.
    pub masquerade_all: bool,
}

impl Default for PolicySettings {
    fn default() -> Self {
        Self {
            masquerade_mark: 1 << 14,
            detect_local: DetectLocal::Sources,
            masquerade_all: false,
        }
    }
}

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

impl PolicySettings {
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
            let settings = PolicySettings {
                masquerade_all,
                detect_local,
                ..PolicySettings::default()
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
