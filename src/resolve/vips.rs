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
    let load_balancer = permitted_load_balancer_ips(view, findings);
    let external = permitted_external_ips(view, findings);
    for (addr, kind) in load_balancer.into_iter().chain(external) {
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

/// Load balancers' addresses but those that would cut the node off.
fn permitted_load_balancer_ips(
    view: View<'_>,
    findings: &mut Vec<Finding>,
) -> Vec<(IpAddr, VipKind)> {
    let kind = VipKind::LoadBalancer;
    let addresses = view.spec.load_balancer_ips.iter();
    addresses
        .filter_map(|&addr| match view.reserved.objection(addr, kind) {
            None => Some((addr, kind)),
            Some(advice) => {
                findings.push(finding("status.loadBalancer.ingress", addr, advice));
                None
            }
        })
        .collect()
}

/// Anyone who may write a Service can claim any address by `externalIPs` (CVE-2020-8554), so
/// only addresses that the operator has listed are taken, and of these none that is somebody's.
fn permitted_external_ips(view: View<'_>, findings: &mut Vec<Finding>) -> Vec<(IpAddr, VipKind)> {
    let kind = VipKind::ExternalIp;
    let is_listed = |addr: &IpAddr| {
        let cidrs = &view.policy.external_ip_cidrs;
        cidrs.iter().any(|cidr| cidr.contains(addr))
    };
    let mut permitted = Vec::new();
    for &addr in &view.spec.external_ips {
        let objection = if is_listed(&addr) {
            view.reserved.objection(addr, kind)
        } else {
            Some("refused: no --external-ip-cidr of the agent contains it")
        };
        match objection {
            None => permitted.push((addr, kind)),
            Some(advice) => findings.push(finding("spec.externalIPs", addr, advice)),
        }
    }
    permitted
}

fn finding(field: &str, addr: IpAddr, advice: &str) -> Finding {
    Finding {
        field: field.to_owned(),
        value: addr.to_string(),
        advice: advice.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{NodeInfo, ObjectName, Scheduler, ServiceSpec};
    use crate::resolve::{Policy, Reserved};

    fn addresses(text: &str) -> Vec<IpAddr> {
        text.split_whitespace()
            .map(|t| t.parse().unwrap())
            .collect()
    }

    #[test]
    fn what_is_somebodys_is_refused_and_the_rest_is_served() {
        let spec = ServiceSpec {
            cluster_ips: addresses("10.96.0.10"),
            external_ips: addresses("192.0.2.1 192.0.2.7 198.51.100.7 192.0.2.254"),
            load_balancer_ips: addresses("192.0.2.1 192.0.2.254 10.96.0.99 203.0.113.7"),
            ..ServiceSpec::default()
        };
        let reserved = Reserved {
            node: addresses("192.0.2.1").into_iter().collect(),
            gateways: addresses("192.0.2.254").into_iter().collect(),
            service_cidrs: ["10.96.0.0/16".parse().unwrap()].into(),
            ..Reserved::default()
        };
        let policy = Policy {
            scheduler: Scheduler::named("rr"),
            schedulers: [].into(),
            refused_schedulers: [].into(),
            approximated: BTreeMap::new(),
            tunable: true,
            external_ip_cidrs: vec!["192.0.2.0/24".parse().unwrap()],
        };
        let view = View {
            name: &ObjectName::new("ns", "web"),
            spec: &spec,
            slices: &[],
            node: &NodeInfo::default(),
            node_port_addresses: &[].into(),
            reserved: &reserved,
            policy: &policy,
        };
        let mut findings = Vec::new();
        let families = expand(view, &mut findings);
        let served: Vec<String> = families[&Family::V4]
            .vips
            .iter()
            .map(|(addr, kind)| format!("{addr} {kind}"))
            .collect();
        assert_eq!(
            served,
            [
                "10.96.0.10 ClusterIP",
                "192.0.2.1 LoadBalancer",
                "203.0.113.7 LoadBalancer",
                "192.0.2.7 ExternalIP",
            ]
        );
        let told: Vec<String> = findings.iter().map(Finding::to_string).collect();
        assert_eq!(
            told,
            [
                "status.loadBalancer.ingress \"192.0.2.254\": refused: it is the node's default gateway; give another address",
                "status.loadBalancer.ingress \"10.96.0.99\": refused: it lies in a range of cluster IPs; give one outside of it",
                "spec.externalIPs \"192.0.2.1\": refused: it is this node's own address; use a NodePort",
                "spec.externalIPs \"198.51.100.7\": refused: no --external-ip-cidr of the agent contains it",
                "spec.externalIPs \"192.0.2.254\": refused: it is the node's default gateway; give another address",
            ]
        );
    }
}
