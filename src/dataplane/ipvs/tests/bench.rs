//! A Service and its slices in, a kernel's objects out: resolution, plan and a kernel that is strict
//! about order, with short texts for what goes in and comes out.

use super::*;
use crate::model::{Endpoint, EndpointPort, EndpointSlice, NodeInfo, ServicePort};
use crate::resolve::{Policy, Reserved, View, resolve};

/// One Service on node n1, and a kernel.
pub struct Bench {
    pub spec: ServiceSpec,
    pub slices: Vec<EndpointSlice>,
    pub node_addresses: &'static str,
    pub kernel: Observed,
}

pub fn addrs<T: FromIterator<std::net::IpAddr>>(text: &str) -> T {
    text.split_whitespace()
        .map(|addr| addr.parse().unwrap())
        .collect()
}

/// `NAME PROTOCOL PORT NODEPORT`
pub fn port(text: &str) -> ServicePort {
    let [name, protocol, port, node_port] = text.split(' ').collect::<Vec<_>>().try_into().unwrap();
    ServicePort {
        name: name.into(),
        protocol: protocol.parse().unwrap(),
        port: port.parse().unwrap(),
        node_port: node_port.parse().unwrap(),
    }
}

/// `ADDRESS[/WORD]`: `here` (on n1), `unready`, `term` (terminating and serving).
pub fn endpoint(text: &str) -> Endpoint {
    let (addr, word) = text.split_once('/').unwrap_or((text, ""));
    Endpoint {
        addr: addr.parse().unwrap(),
        ready: !matches!(word, "unready" | "term"),
        serving: word != "unready",
        terminating: word == "term",
        node_name: Some(if word == "here" { "n1" } else { "n9" }.into()),
        zone: None,
        for_zones: Vec::new(),
        for_nodes: Vec::new(),
    }
}

/// A slice for one port, `NAME PROTOCOL NUMBER`.
pub fn slice(of: &str, endpoints: &str) -> EndpointSlice {
    let [name, protocol, number] = of.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let endpoints: Vec<_> = endpoints.split_whitespace().map(endpoint).collect();
    EndpointSlice {
        hostnames: BTreeMap::new(),
        triggered: None,
        weight: None,
        service: ObjectName::new("ns", "web"),
        address_type: endpoints.first().map_or(Family::V4, |e| Family::of(e.addr)),
        ports: vec![EndpointPort {
            name: name.into(),
            protocol: protocol.parse().unwrap(),
            port: number.parse().unwrap(),
        }],
        endpoints,
    }
}

pub fn bench(cluster_ips: &str, ports: &[&str]) -> Bench {
    Bench {
        spec: ServiceSpec {
            cluster_ips: addrs(cluster_ips),
            ports: ports.iter().map(|text| port(text)).collect(),
            ..ServiceSpec::default()
        },
        slices: Vec::new(),
        node_addresses: "",
        kernel: empty_kernel(),
    }
}

/// A Service on 10.96.0.10:80 with these endpoints on port 8080.
pub fn web(endpoints: &str) -> Bench {
    let mut bench = bench("10.96.0.10", &["http TCP 80 0"]);
    bench.slices = vec![slice("http TCP 8080", endpoints)];
    bench
}

impl Bench {
    pub fn wanted(&self) -> DesiredState {
        let name = ObjectName::new("ns", "web");
        let resolved = resolve(View {
            name: &name,
            spec: &self.spec,
            slices: &self.slices.iter().collect::<Vec<_>>(),
            node: &NodeInfo {
                name: "n1".to_owned(),
                ..NodeInfo::default()
            },
            node_port_addresses: &addrs(self.node_addresses),
            reserved: &Reserved::default(),
            policy: &Policy {
                scheduler: Scheduler::named("rr"),
                schedulers: BTreeSet::new(),
                refused_schedulers: BTreeSet::new(),
                approximated: BTreeMap::new(),
                tunable: true,
                external_ip_cidrs: vec!["198.51.100.0/24".parse().unwrap()],
            },
        });
        let mut state = DesiredState::default();
        state.replace(&name, &self.spec, resolved, &mut |_| {});
        state
    }

    /// Brings the kernel up to date; what was done to IPVS and to flows, as a person would type it.
    pub fn sync(&mut self) -> Vec<String> {
        let steps = self.steps();
        let told = steps.iter().map(ToString::to_string);
        told.filter(|text| text.starts_with("ipvsadm") || text.starts_with("conntrack"))
            .map(|text| text.trim_start_matches("ipvsadm ").to_owned())
            .collect()
    }

    pub fn steps(&mut self) -> Vec<Step> {
        let wanted = self.wanted();
        let target = target(&wanted);
        let scope = target.everything(&wanted, &self.kernel);
        let steps = plan(&wanted, &target, &self.kernel, &scope, NOW);
        apply(&mut self.kernel, &steps);
        steps
    }

    /// Virtual servers with their real servers; `ADDRESS=0` for one of weight 0.
    pub fn held(&self) -> Vec<String> {
        let servers = self.kernel.virtual_servers.iter();
        let text = servers.map(|(key, server)| {
            let reals = server.real_servers.iter().map(|(key, real)| {
                let weight = if real.weight == 0 { "=0" } else { "" };
                format!(" {key}{weight}")
            });
            let name = match key {
                ServerKey::Tuple(vip) => vip.to_string(),
                ServerKey::Mark { .. } => "near".to_owned(),
            };
            format!("{name} ->{}", reals.collect::<String>())
        });
        text.collect()
    }

    /// The entries of one set.
    pub fn set(&self, set: SetKind) -> Vec<String> {
        let members = self.kernel.members.iter();
        let members = members.filter(|member| member.set == set);
        members.map(|member| member.element.to_string()).collect()
    }
}
