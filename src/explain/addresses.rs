//! The addresses of a Service, each with whether it is served here, or why not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Facts;
use crate::ask::explain::ExplainedAddress;
use crate::model::{
    Family, ObjectName, ServicePort, ServiceSpec, Unserved, VipKind, VipPort, VirtualServer,
};
use crate::resolve::{Resolved, policy_of};

/// All of them: what resolves to a virtual server, and what is asked for and does not.
pub fn addresses(
    facts: &Facts<'_>,
    name: &ObjectName,
    spec: &ServiceSpec,
    resolved: &Resolved,
) -> Vec<ExplainedAddress> {
    let mut rows: Vec<ExplainedAddress> = wanted(spec)
        .flat_map(|(addr, kind)| spec.ports.iter().map(move |port| (addr, kind, port)))
        .map(|(addr, kind, port)| {
            let vip = VipPort {
                addr,
                protocol: port.protocol,
                port: port.port,
            };
            match resolved
                .virtual_servers
                .get(&vip)
                .filter(|s| s.kind == kind)
            {
                Some(server) => served(facts, name, vip, server),
                None => row(
                    vip,
                    port,
                    kind,
                    spec,
                    Some(refusal(addr, kind, spec, resolved)),
                ),
            }
        })
        .collect();
    let of_node = resolved.virtual_servers.iter();
    let of_node = of_node.filter(|(_, server)| server.kind == VipKind::NodePort);
    rows.extend(of_node.map(|(vip, server)| served(facts, name, *vip, server)));
    for family in Family::ALL {
        let of_family = |addr: &IpAddr| Family::of(*addr) == family;
        if !spec.cluster_ips.iter().any(of_family)
            || facts.node_port_addresses.iter().any(of_family)
        {
            continue;
        }
        let node_ports = spec.ports.iter().filter(|port| port.node_port != 0);
        rows.extend(node_ports.map(|port| {
            let vip = VipPort {
                addr: match family {
                    Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
                    Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
                },
                protocol: port.protocol,
                port: port.node_port,
            };
            let reason = format!("--node-port-addresses permits no {family} address of this node");
            row(vip, port, VipKind::NodePort, spec, Some(reason))
        }));
    }
    rows
}

/// Addresses that the Service names.
fn wanted(spec: &ServiceSpec) -> impl Iterator<Item = (IpAddr, VipKind)> {
    let of = |addresses: &[IpAddr], kind: VipKind| {
        addresses
            .iter()
            .map(|addr| (*addr, kind))
            .collect::<Vec<_>>()
    };
    [
        of(&spec.cluster_ips, VipKind::ClusterIp),
        of(&spec.load_balancer_ips, VipKind::LoadBalancer),
        of(&spec.external_ips, VipKind::ExternalIp),
    ]
    .into_iter()
    .flatten()
}

/// Why an address that the Service names has no virtual server.
fn refusal(addr: IpAddr, kind: VipKind, spec: &ServiceSpec, resolved: &Resolved) -> String {
    let field = match kind {
        VipKind::ExternalIp => "spec.externalIPs",
        _ => "status.loadBalancer.ingress",
    };
    let value = addr.to_string();
    let family = Family::of(addr);
    let mut findings = resolved.findings.iter();
    if let Some(finding) = findings.find(|f| f.field == field && f.value == value) {
        finding.advice.clone()
    } else if let Some(skipped) = &resolved.skipped {
        skipped.to_string()
    } else if !spec.cluster_ips.iter().any(|ip| Family::of(*ip) == family) {
        format!("the Service has no {family} cluster IP, so it has no address of that family")
    } else {
        "another kind of address of this Service has the same address and port".to_owned()
    }
}

/// One that resolves to a virtual server, and what is in its way.
fn served(
    facts: &Facts<'_>,
    name: &ObjectName,
    vip: VipPort,
    server: &VirtualServer,
) -> ExplainedAddress {
    let winner = facts
        .desired
        .virtual_server(&vip)
        .map(|server| &server.owner.service);
    let serves = server.real_servers.values().any(|real| !real.draining);
    let nearby = server.near.as_ref();
    let near_serves = nearby.is_some_and(|near| near.values().any(|real| !real.draining));
    let (served, reason) = if let Some(winner) = winner.filter(|winner| *winner != name) {
        (false, Some(format!("the older Service {winner} has it")))
    } else if facts.foreign.contains(&vip) {
        let text = "somebody else's virtual server stands there (ipvsadm -Ln)";
        (false, Some(text.to_owned()))
    } else if serves {
        (true, None)
    } else if server.unserved == Unserved::Refuse {
        (
            false,
            Some("no endpoint anywhere: clients are refused".to_owned()),
        )
    } else if near_serves {
        let text =
            "no endpoint on this node: clients from elsewhere hear nothing, this node's are served";
        (false, Some(text.to_owned()))
    } else {
        (
            false,
            Some("no endpoint on this node: clients hear nothing".to_owned()),
        )
    };
    ExplainedAddress {
        address: vip.addr,
        port: vip.port,
        protocol: vip.protocol.into(),
        port_name: server.owner.port.to_string(),
        kind: server.kind.to_string(),
        policy: server.policy.to_string(),
        served,
        reason,
    }
}

fn row(
    vip: VipPort,
    port: &ServicePort,
    kind: VipKind,
    spec: &ServiceSpec,
    reason: Option<String>,
) -> ExplainedAddress {
    ExplainedAddress {
        address: vip.addr,
        port: vip.port,
        protocol: vip.protocol.into(),
        port_name: port.name.to_string(),
        kind: kind.to_string(),
        policy: policy_of(spec, kind).to_string(),
        served: false,
        reason,
    }
}
