//! What upstream's own unit tests ask of a Service's addresses and ports, whatever its endpoints.

use super::*;

fn addrs(text: &str) -> Vec<IpAddr> {
    text.split_whitespace()
        .map(|addr| addr.parse().unwrap())
        .collect()
}

/// `NAME PROTOCOL PORT NODEPORT`
fn port(text: &str) -> ServicePort {
    let [name, protocol, port, node_port] = text.split(' ').collect::<Vec<_>>().try_into().unwrap();
    ServicePort {
        name: name.into(),
        protocol: protocol.parse().unwrap(),
        port: port.parse().unwrap(),
        node_port: node_port.parse().unwrap(),
    }
}

/// A Service at `cluster_ips`, on a node with an address of each family.
fn at(cluster_ips: &str, ports: &[&str]) -> Lab {
    let mut lab = lab();
    lab.spec.cluster_ips = addrs(cluster_ips);
    lab.spec.ports = ports.iter().map(|text| port(text)).collect();
    lab.node_port_addresses = addrs("192.0.2.1 2001:db8::1").into_iter().collect();
    lab.policy.external_ip_cidrs = vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
    lab
}

/// Tuples, each with its kind and port's name.
fn tuples(lab: &Lab) -> Vec<String> {
    let resolved = lab.resolve();
    let servers = resolved.virtual_servers.iter();
    let mut tuples: Vec<_> = servers
        .map(|(vip, server)| format!("{vip} {} {}", server.kind, server.owner.port))
        .collect();
    tuples.sort();
    tuples
}

/// 52, 58.
#[test]
fn nothing_to_serve() {
    for protocol in ["TCP", "UDP", "SCTP"] {
        let headless = at("", &[&format!("a {protocol} 80 0")]);
        assert_eq!(tuples(&headless), [""; 0], "{protocol}");
    }
    assert_eq!(tuples(&at("", &[])), [""; 0]);
    assert_eq!(tuples(&at("10.96.0.10", &[])), [""; 0]);
    // Another type before: what it had may still be there.
    let mut alias = at("10.96.0.10", &["a TCP 80 30080"]);
    alias.spec.service_type = ServiceType::ExternalName;
    alias.spec.load_balancer_ips = addrs("203.0.113.7");
    assert_eq!(tuples(&alias), [""; 0]);
}

/// 53, 54, 55, 59: each port at each address of the Service's families.
#[test]
fn every_port_at_every_address() {
    let both = "10.96.0.10 fd00:96::10";
    for (what, cluster_ips, ports, balancer, want) in [
        (
            "53 ports of one VIP",
            "10.96.0.10",
            &[
                "http TCP 80 0",
                "dns UDP 53 0",
                "dns-tcp TCP 53 0",
                "s SCTP 53 0",
            ][..],
            "",
            &[
                "10.96.0.10:53/SCTP ClusterIP s",
                "10.96.0.10:53/TCP ClusterIP dns-tcp",
                "10.96.0.10:53/UDP ClusterIP dns",
                "10.96.0.10:80/TCP ClusterIP http",
            ][..],
        ),
        (
            "54 NodePort, the same for two protocols",
            "10.96.0.10",
            &["a TCP 53 30053", "b UDP 53 30053"],
            "",
            &[
                "10.96.0.10:53/TCP ClusterIP a",
                "10.96.0.10:53/UDP ClusterIP b",
                "192.0.2.1:30053/TCP NodePort a",
                "192.0.2.1:30053/UDP NodePort b",
            ],
        ),
        (
            "55 load balancer",
            "10.96.0.10",
            &["a TCP 80 30080"],
            "203.0.113.7 203.0.113.8",
            &[
                "10.96.0.10:80/TCP ClusterIP a",
                "192.0.2.1:30080/TCP NodePort a",
                "203.0.113.7:80/TCP LoadBalancer a",
                "203.0.113.8:80/TCP LoadBalancer a",
            ],
        ),
        (
            "55 without NodePorts (allocateLoadBalancerNodePorts: false)",
            "10.96.0.10",
            &["a TCP 80 0"],
            "203.0.113.7",
            &[
                "10.96.0.10:80/TCP ClusterIP a",
                "203.0.113.7:80/TCP LoadBalancer a",
            ],
        ),
        (
            "59 both families",
            both,
            &["a TCP 80 30080"],
            "",
            &[
                "10.96.0.10:80/TCP ClusterIP a",
                "192.0.2.1:30080/TCP NodePort a",
                "[2001:db8::1]:30080/TCP NodePort a",
                "[fd00:96::10]:80/TCP ClusterIP a",
            ],
        ),
        (
            "59 IPv6 alone",
            "fd00:96::10",
            &["a TCP 80 30080"],
            "",
            &[
                "[2001:db8::1]:30080/TCP NodePort a",
                "[fd00:96::10]:80/TCP ClusterIP a",
            ],
        ),
    ] {
        let mut lab = at(cluster_ips, ports);
        lab.spec.load_balancer_ips = addrs(balancer);
        assert_eq!(tuples(&lab), want, "{what}");
    }
}

/// 60: external IPs, load balancers' addresses and source ranges of a family that the Service does
/// not have, both ways.
#[test]
fn what_is_of_the_other_family_is_left_out() {
    let mixed = |cluster_ips| {
        let mut lab = at(cluster_ips, &["a TCP 80 0"]);
        lab.spec.external_ips = addrs("198.51.100.9 2001:db8:9::9");
        lab.spec.load_balancer_ips = addrs("203.0.113.7 2001:db8:7::7");
        lab.spec.load_balancer_source_ranges = ["10.0.0.0/8", "2001:db8::/32"]
            .map(|net| net.parse().unwrap())
            .into();
        let ranged = lab
            .resolve()
            .virtual_servers
            .into_iter()
            .flat_map(|(vip, server)| {
                let ranges = server.source_ranges.into_iter();
                ranges.map(move |range| format!("{vip} from {range}"))
            });
        let ranged: Vec<String> = ranged.collect();
        (tuples(&lab), ranged)
    };
    let four = [
        "10.96.0.10:80/TCP ClusterIP a",
        "198.51.100.9:80/TCP ExternalIP a",
        "203.0.113.7:80/TCP LoadBalancer a",
    ];
    let six = [
        "[2001:db8:7::7]:80/TCP LoadBalancer a",
        "[2001:db8:9::9]:80/TCP ExternalIP a",
        "[fd00:96::10]:80/TCP ClusterIP a",
    ];
    let from_four = "203.0.113.7:80/TCP from 10.0.0.0/8".to_owned();
    let from_six = "[2001:db8:7::7]:80/TCP from 2001:db8::/32".to_owned();
    let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(mixed("10.96.0.10"), (owned(&four), vec![from_four.clone()]));
    assert_eq!(mixed("fd00:96::10"), (owned(&six), vec![from_six.clone()]));
    let all = (owned(&[four, six].concat()), vec![from_four, from_six]);
    assert_eq!(mixed("10.96.0.10 fd00:96::10"), all);
}

/// 63, 64: from type to type, told by what changes in the desired state.
#[test]
fn a_change_of_type_changes_what_differs_and_no_more() {
    let cluster_ip = at("10.96.0.10", &["a TCP 80 0"]);
    let mut balancer = at("10.96.0.10", &["a TCP 80 30080"]);
    balancer.spec.service_type = ServiceType::LoadBalancer;
    balancer.spec.load_balancer_ips = addrs("203.0.113.7");
    let mut alias = at("10.96.0.10", &["a TCP 80 0"]);
    alias.spec.service_type = ServiceType::ExternalName;

    let mut state = DesiredState::default();
    let mut changes = |lab: &Lab| {
        let mut changes = Vec::new();
        state.replace(&lab.name, &lab.spec, lab.resolve(), &mut |change| {
            let sign = match (change.old, change.new) {
                (None, _) => '+',
                (_, None) => '-',
                _ => '~',
            };
            changes.push(format!("{sign}{}", change.vip));
        });
        changes.sort();
        changes
    };
    assert_eq!(changes(&cluster_ip), ["+10.96.0.10:80/TCP"]);
    assert_eq!(changes(&cluster_ip), [""; 0]);
    let outside = ["192.0.2.1:30080/TCP", "203.0.113.7:80/TCP"];
    assert_eq!(changes(&balancer), outside.map(|vip| format!("+{vip}")));
    assert_eq!(changes(&balancer), [""; 0]);
    assert_eq!(changes(&cluster_ip), outside.map(|vip| format!("-{vip}")));
    assert_eq!(changes(&alias), ["-10.96.0.10:80/TCP"]);
    assert_eq!(changes(&cluster_ip), ["+10.96.0.10:80/TCP"]);
}

/// 79 with 81: of two copies the better one counts, whichever slice is read first.
#[test]
fn the_order_of_slices_does_not_matter() {
    let copies = [
        unready("10.0.0.1"),
        ready("10.0.0.1"),
        terminating("10.0.0.1"),
    ];
    for first in &copies {
        for second in &copies {
            let lab = lab()
                .slice("http", 8080, std::slice::from_ref(first))
                .slice("http", 8080, std::slice::from_ref(second));
            let mirrored = super::lab()
                .slice("http", 8080, std::slice::from_ref(second))
                .slice("http", 8080, std::slice::from_ref(first));
            assert_eq!(lab.real_servers(), mirrored.real_servers());
            let serves = [first, second].iter().any(|copy| copy.ready);
            if serves {
                assert_eq!(lab.real_servers(), ["10.0.0.1:8080"]);
            }
        }
    }
}

/// 97: addresses of the other family that no endpoint may have, beside those of IPv4.
#[test]
fn endpoints_of_ipv6_that_lead_to_the_node_itself_are_refused() {
    for addr in ["::1", "fe80::1", "ff02::1", "::", "10.0.0.1"] {
        let mut lab = at("fd00:96::10", &["http TCP 80 0"]).slice("http", 80, &[ready(addr)]);
        lab.slices[0].address_type = Family::V6;
        let servers = lab.resolve().virtual_servers;
        let real_servers = servers.values().map(|server| server.real_servers.len());
        assert_eq!(real_servers.sum::<usize>(), 0, "{addr}");
    }
}
