use super::*;

/// Service `ns/web` with these fields of `spec`.
fn web(spec: Value) -> Value {
    let mut object = json!({"metadata": {"name": "web", "namespace": "ns", "uid": "u1"}});
    object["spec"] = spec;
    object
}

fn cluster_ip() -> Value {
    json!({"clusterIPs": ["10.96.0.10"], "ports": [{"port": 80}]})
}

fn with(mut spec: Value, fields: Value) -> Value {
    let Value::Object(fields) = fields else {
        panic!("{fields}")
    };
    spec.as_object_mut().unwrap().extend(fields);
    spec
}

fn texts<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

/// 53, 54, 62, 64.
#[test]
fn a_service_counts_once_for_each_change() {
    let mut cluster = Cluster::new();
    assert_eq!(cluster.service(web(cluster_ip())), "ns/web");
    assert_eq!(cluster.service(web(cluster_ip())), "");
    // What a proxy does not read is no change.
    let unread = json!({"allocateLoadBalancerNodePorts": false});
    let mut written = web(with(cluster_ip(), unread));
    written["metadata"]["resourceVersion"] = json!("77");
    written["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/restartedAt": "now"});
    written["metadata"]["labels"] = json!({"team": "web"});
    assert_eq!(cluster.service(written), "");
    let ports = json!([{"name": "http", "port": 80, "nodePort": 30080},
                       {"name": "dns", "port": 53, "protocol": "UDP"}]);
    let multi = with(cluster_ip(), json!({"type": "NodePort", "ports": ports}));
    assert_eq!(cluster.service(web(multi.clone())), "ns/web");
    let ports: Vec<_> = cluster.spec("web").ports.iter().collect();
    let ports: Vec<_> = ports
        .iter()
        .map(|port| {
            format!(
                "{} {}/{} {}",
                port.name, port.port, port.protocol, port.node_port
            )
        })
        .collect();
    assert_eq!(ports, ["http 80/TCP 30080", "dns 53/UDP 0"]);
    assert_eq!(cluster.no_service(web(multi.clone())), "ns/web");
    assert_eq!(cluster.no_service(web(multi)), "");
}

/// 55, 56, 57, 63: a load balancer, and back. The API server takes away what the type does not have.
#[test]
fn a_service_changes_its_type() {
    let mut cluster = Cluster::new();
    cluster.service(web(cluster_ip()));
    let fields = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local",
                        "healthCheckNodePort": 30100, "loadBalancerSourceRanges": ["10.0.0.0/8"]});
    let mut balancer = web(with(cluster_ip(), fields));
    assert_eq!(cluster.service(balancer.clone()), "ns/web");
    assert_eq!(cluster.spec("web").health_check_node_port, 30100);
    // The cloud's controller gives the addresses later.
    balancer["status"] = json!({"loadBalancer": {"ingress": [
        {"ip": "203.0.113.7", "ipMode": "VIP"}, {"ip": "203.0.113.8", "ipMode": "Proxy"},
        {"ip": "203.0.113.9"},
    ]}});
    assert_eq!(cluster.service(balancer.clone()), "ns/web");
    let ips = texts(&cluster.spec("web").load_balancer_ips);
    assert_eq!(ips, ["203.0.113.7", "203.0.113.9"]);
    assert_eq!(cluster.service(balancer), "");
    assert_eq!(cluster.service(web(cluster_ip())), "ns/web");
    let spec = cluster.spec("web");
    let left = (&spec.load_balancer_ips[..], spec.health_check_node_port);
    assert_eq!(left, (&[][..], 0));
    assert!(spec.load_balancer_source_ranges.is_empty());
}

/// 61.
#[test]
fn spaces_around_source_ranges_do_not_matter() {
    let mut cluster = Cluster::new();
    let ranges = json!([" 10.0.0.0/8", "192.168.0.0/16 ", "\t2001:db8::/32  "]);
    let fields = json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ranges});
    cluster.service(web(with(cluster_ip(), fields)));
    let ranges = texts(&cluster.spec("web").load_balancer_source_ranges);
    assert_eq!(ranges, ["10.0.0.0/8", "192.168.0.0/16", "2001:db8::/32"]);
}

/// Item 65. The API server leaves labelled ones out of the watch, which tells them as gone and come;
/// manifests hand them over as they are.
#[test]
fn a_label_gives_a_service_to_another_proxy_and_back() {
    let mut cluster = Cluster::new();
    let mut labelled = web(cluster_ip());
    labelled["metadata"]["labels"] = json!({"service.kubernetes.io/service-proxy-name": "them"});
    cluster.service(web(cluster_ip()));
    assert_eq!(cluster.service(labelled.clone()), "ns/web");
    assert_eq!(cluster.spec("web").other_proxy.as_deref(), Some("them"));
    assert_eq!(cluster.service(web(cluster_ip())), "ns/web");
    assert_eq!(cluster.spec("web").other_proxy, None);
    assert_eq!(cluster.no_service(labelled), "ns/web");
}
