//! The addresses at which a Service answers on this node.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Finding, View};
use crate::model::{Family, ServicePort, VipKind};

/// One family's addresses of a Service, in order of precedence for a shared tuple.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    vips: Vec<(IpAddr, VipKind)>,
    node_ports: Vec<IpAddr>,
}

impl Addresses {
    /// Every (address, port number, kind) at which `port` answers.
    pub(super) fn of_port<'a>(
        &'a self,
        port: &'a ServicePort,
    ) -> impl Iterator<Item = (IpAddr, u16, VipKind)> + 'a {
        let node_ports = self.node_ports.iter().filter(|_| port.node_port != 0);
        self.vips
            .iter()
            .map(|&(addr, kind)| (addr, port.port, kind))
            .chain(node_ports.map(|&addr| (addr, port.node_port, VipKind::NodePort)))
    }
}

/// The Service's addresses by family. A family without a cluster IP has none of any kind.
pub(super) fn expand(view: View<'_>, findings: &mut Vec<Finding>) -> BTreeMap<Family, Addresses> {
    let mut families: BTreeMap<Family, Addresses> = BTreeMap::new();
    for &addr in &view.spec.cluster_ips {
        families
            .entry(Family::of(addr))
            .or_default()
            .vips
            .push((addr, VipKind::ClusterIp));
    }
    let load_balancer = view
        .spec
        .load_balancer_ips
        .iter()
        .map(|a| (*a, VipKind::LoadBalancer));
    let external = permitted_external_ips(view, findings).map(|a| (a, VipKind::ExternalIp));
    for (addr, kind) in load_balancer.chain(external) {
        if let Some(family) = families.get_mut(&Family::of(addr)) {
            family.vips.push((addr, kind));
        }
    }
    for &addr in view.node_port_addresses {
        if let Some(family) = families.get_mut(&Family::of(addr)) {
            family.node_ports.push(addr);
        }
    }
    families
}

/// Anyone who may write a Service can claim any address by `externalIPs` (CVE-2020-8554), so
/// only addresses that the operator has listed are taken.
fn permitted_external_ips<'a>(
    view: View<'a>,
    findings: &mut Vec<Finding>,
) -> impl Iterator<Item = IpAddr> + 'a {
    let permitted = |addr: &IpAddr| {
        view.policy
            .external_ip_cidrs
            .iter()
            .any(|cidr| cidr.contains(addr))
    };
    for addr in view
        .spec
        .external_ips
        .iter()
        .filter(|addr| !permitted(addr))
    {
        findings.push(Finding {
            field: "spec.externalIPs".to_owned(),
            value: addr.to_string(),
            advice: "refused: no --external-ip-cidr of the agent contains it".to_owned(),
        });
    }
    view.spec.external_ips.iter().copied().filter(permitted)
}
