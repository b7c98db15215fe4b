use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::model::{Family, Protocol, ServiceSpec, ServiceType, TrafficPolicy};

fn service_of(value: Value) -> Converted<(ObjectName, ServiceSpec)> {
    service(&serde_json::from_value(value).expect("decodes"))
}

fn texts<T>(converted: &Converted<T>) -> Vec<String> {
    converted.problems.iter().map(ToString::to_string).collect()
}

#[test]
fn defaults_of_a_service_are_those_of_the_api() {
    let converted = service_of(json!({
        "metadata": {"name": "web", "namespace": "shop", "managedFields": [{"manager": "x"}]},
        "spec": {"clusterIP": "10.96.0.10", "ports": [{"port": 80}], "sessionAffinity": "ClientIP"},
    }));
    assert_eq!(texts(&converted), Vec::<String>::new());
    let (name, spec) = converted.value;
    assert_eq!(name.to_string(), "shop/web");
    assert_eq!(spec.service_type, ServiceType::ClusterIp);
    assert_eq!(
        spec.cluster_ips,
        ["10.96.0.10".parse::<std::net::IpAddr>().unwrap()]
    );
    assert_eq!(spec.internal_traffic_policy, TrafficPolicy::Cluster);
    assert_eq!(spec.external_traffic_policy, TrafficPolicy::Cluster);
    assert_eq!(spec.affinity_timeout_seconds, Some(10_800));
    let port = &spec.ports[0];
    assert_eq!(
        (&*port.name, port.protocol, port.port, port.node_port),
        ("", Protocol::Tcp, 80, 0)
    );
}

#[test]
fn headless_and_external_name_keep_their_mark() {
    let headless = service_of(json!({
        "metadata": {"name": "db", "namespace": "a"},
        "spec": {"clusterIP": "None", "clusterIPs": ["None"]},
    }));
    assert!(headless.value.1.cluster_ips.is_empty());
    assert_eq!(headless.value.1.service_type, ServiceType::ClusterIp);

    let named = service_of(json!({
        "metadata": {"name": "db", "namespace": "a",
                     "labels": {"service.kubernetes.io/service-proxy-name": "other", "app": "x"}},
        "spec": {"type": "ExternalName", "externalName": "db.example.com"},
    }));
    assert_eq!(named.value.1.service_type, ServiceType::ExternalName);
    assert_eq!(named.value.1.other_proxy.as_deref(), Some("other"));
}

#[test]
fn only_annotations_of_ours_and_of_kube_router_are_kept() {
    let converted = service_of(json!({
        "metadata": {"name": "web", "namespace": "a", "creationTimestamp": "1970-01-01T00:01:00Z",
                     "uid": "u-1",
                     "annotations": {"ipvs-agent.io/scheduler": "lc", "kubectl.kubernetes.io/x": "y",
                                     "kube-router.io/service.scheduler": "sh"}},
    }));
    let spec = converted.value.1;
    let keys: Vec<&str> = spec.annotations.keys().map(|key| &**key).collect();
    assert_eq!(
        keys,
        [
            "ipvs-agent.io/scheduler",
            "kube-router.io/service.scheduler"
        ]
    );
    assert_eq!((spec.created_seconds, &*spec.uid), (60, "u-1"));
}

#[test]
fn a_refused_value_names_object_and_field_and_the_rest_works() {
    let converted = service_of(json!({
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "clusterIPs": ["10.96.0.10", "fd00::10", "10.96.0.11"],
            "externalIPs": ["192.0.2.1", "192.0.2.01", "::ffff:192.0.2.7"],
            "ports": [{"port": 70000}, {"name": "dns", "port": 53, "protocol": "udp"},
                      {"name": "ok", "port": 443, "nodePort": 30443}],
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86401}},
        },
    }));
    assert_eq!(
        texts(&converted),
        [
            "Service shop/web: spec.clusterIPs[2] is \"10.96.0.11\", wanted at most one address of each family",
            "Service shop/web: spec.externalIPs[1] is \"192.0.2.01\", wanted an IPv4 or IPv6 address",
            "Service shop/web: spec.externalIPs[2] is \"::ffff:192.0.2.7\", wanted an IPv4 address in its own form",
            "Service shop/web: spec.ports[0].port is \"70000\", wanted a port from 1 to 65535",
            "Service shop/web: spec.ports[1].protocol is \"udp\", wanted TCP, UDP or SCTP",
            "Service shop/web: spec.sessionAffinityConfig.clientIP.timeoutSeconds is \"86401\", wanted 1 to 86400 seconds; read as 10800",
        ]
    );
    let spec = converted.value.1;
    assert_eq!(
        (
            spec.cluster_ips.len(),
            spec.external_ips.len(),
            spec.ports.len()
        ),
        (2, 1, 1)
    );
    assert_eq!(spec.ports[0].node_port, 30443);
}

/// 56, 100 of `docs/checklist.md`.
#[test]
fn load_balancer_entries_for_the_balancer_itself_are_left_out() {
    let converted = service_of(json!({
        "metadata": {"name": "web", "namespace": "a"},
        "status": {"loadBalancer": {"ingress": [
            {"ip": "192.0.2.1"}, {"ip": "192.0.2.2", "ipMode": "VIP"},
            {"ip": "192.0.2.3", "ipMode": "Proxy"}, {"hostname": "lb.example.com"},
        ]}},
    }));
    assert_eq!(texts(&converted), Vec::<String>::new());
    let ips: Vec<String> = converted
        .value
        .1
        .load_balancer_ips
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(ips, ["192.0.2.1", "192.0.2.2"]);
}

#[test]
fn a_refused_source_range_never_opens_a_service_to_all() {
    let converted = service_of(json!({
        "metadata": {"name": "web", "namespace": "a"},
        "spec": {"loadBalancerSourceRanges": [" 010.0.0.0/8", "fd00::1/64 "]},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"ip": "2001:db8::1"}]}},
    }));
    let spec = &converted.value.1;
    assert_eq!(
        spec.load_balancer_source_ranges,
        ["fd00::/64".parse::<IpNet>().unwrap()]
    );
    assert_eq!(
        spec.load_balancer_ips,
        ["2001:db8::1".parse::<std::net::IpAddr>().unwrap()]
    );
    assert_eq!(converted.problems.len(), 2);
}

fn slice_of(value: Value) -> Converted<Option<(ObjectName, crate::model::EndpointSlice)>> {
    endpoint_slice(&serde_json::from_value(value).expect("decodes"))
}

/// 80, 81.
#[test]
fn conditions_ports_and_addresses_of_a_slice() {
    let converted = slice_of(json!({
        "metadata": {"name": "web-abc", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "", "port": 8080}, {"port": 1}, {"name": "any", "port": null}, {"name": "z", "port": 0}],
        "endpoints": [
            {"addresses": ["10.1.0.1", "10.1.0.2"], "nodeName": "n1", "zone": "z1",
             "hints": {"forZones": [{"name": "z1"}], "forNodes": [{"name": "n1"}]}},
            {"addresses": ["10.1.0.3"], "conditions": {"ready": false, "serving": true, "terminating": true}},
            {"addresses": ["fd00::3"]},
            {"addresses": []},
        ],
    }));
    assert_eq!(
        texts(&converted),
        [
            "EndpointSlice shop/web-abc: endpoints[2].addresses[0] is \"fd00::3\", wanted an address of the slice's addressType"
        ]
    );
    let (name, slice) = converted.value.expect("belongs to web");
    assert_eq!(
        (name.to_string(), slice.service.to_string()),
        ("shop/web-abc".into(), "shop/web".into())
    );
    assert_eq!(slice.ports.len(), 1);
    assert_eq!((&*slice.ports[0].name, slice.ports[0].port), ("", 8080));
    let got: Vec<_> = slice
        .endpoints
        .iter()
        .map(|e| (e.addr.to_string(), e.ready, e.serving, e.terminating))
        .collect();
    assert_eq!(
        got,
        [
            ("10.1.0.1".to_owned(), true, true, false),
            ("10.1.0.3".to_owned(), false, true, true)
        ]
    );
    assert_eq!(
        (
            &*slice.endpoints[0].for_zones[0],
            &*slice.endpoints[0].for_nodes[0]
        ),
        ("z1", "n1")
    );
}

#[test]
fn slices_of_no_service_of_host_names_and_empty_ones() {
    let label = json!({"kubernetes.io/service-name": "web"});
    assert_eq!(
        slice_of(json!({"metadata": {"name": "a"}, "addressType": "IPv4"})).value,
        None
    );
    let fqdn = json!({"metadata": {"name": "a", "labels": label}, "addressType": "FQDN",
                      "endpoints": [{"addresses": ["a.example.com"]}]});
    assert_eq!(slice_of(fqdn).value, None);
    let empty = json!({"metadata": {"name": "a", "labels": label}, "addressType": "IPv6",
                       "endpoints": null, "ports": null});
    let (_, slice) = slice_of(empty).value.expect("belongs to web");
    assert_eq!((slice.address_type, slice.endpoints.len()), (Family::V6, 0));
}

#[test]
fn endpoints_objects_become_one_slice_per_subset_and_family() {
    let object = json!({
        "metadata": {"name": "web", "namespace": "shop"},
        "subsets": [
            {"addresses": [{"ip": "10.1.0.1", "nodeName": "n1"}, {"ip": "fd00::1"}],
             "notReadyAddresses": [{"ip": "10.1.0.2"}], "ports": [{"port": 8080}]},
            {"addresses": [{"ip": "10.1.0.9"}], "ports": [{"name": "alt", "port": 9090}]},
        ],
    });
    let converted = endpoints(&serde_json::from_value(object).expect("decodes"));
    let got: Vec<_> = converted
        .value
        .iter()
        .map(|(name, slice)| {
            let endpoints: Vec<_> = slice
                .endpoints
                .iter()
                .map(|e| format!("{} {}", e.addr, e.ready))
                .collect();
            (name.to_string(), slice.ports[0].port, endpoints.join(", "))
        })
        .collect();
    assert_eq!(
        got,
        [
            (
                "shop/web#0-IPv4".into(),
                8080,
                "10.1.0.1 true, 10.1.0.2 false".to_owned()
            ),
            ("shop/web#0-IPv6".into(), 8080, "fd00::1 true".to_owned()),
            ("shop/web#1-IPv4".into(), 9090, "10.1.0.9 true".to_owned()),
        ]
    );
}

#[test]
fn a_node_with_its_labels_and_addresses() {
    let object = json!({
        "metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "z1"}},
        "spec": {"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24", "fd00:1::/64"]},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.5"},
                                 {"type": "Hostname", "address": "n1"}]},
    });
    let converted = node(&serde_json::from_value(object).expect("decodes"));
    assert_eq!(texts(&converted), Vec::<String>::new());
    let node = converted.value;
    assert_eq!((node.pod_cidrs.len(), node.addresses.len()), (2, 1));
    assert_eq!(node.labels["topology.kubernetes.io/zone"], "z1");
}

/// Objects that look like the API's at every depth, with values of any sort in every place.
fn any_object() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        Just("None".to_owned()),
        Just("10.96.0.1".to_owned()),
        Just("10.96.0.0/8".to_owned()),
        Just("::ffff:1.2.3.4".to_owned()),
        Just("ClientIP".to_owned()),
        Just("Proxy".to_owned()),
        Just("IPv4".to_owned()),
        Just("UDP".to_owned()),
        "[a-z0-9:./%-]{0,20}",
        ".{0,8}",
    ];
    let text = text.prop_map(Value::from);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-2i64..70_000).prop_map(Value::from),
        text.clone(),
        text,
    ];
    let keys = prop::sample::select(vec![
        "metadata",
        "name",
        "namespace",
        "labels",
        "annotations",
        "uid",
        "creationTimestamp",
        "spec",
        "status",
        "type",
        "clusterIP",
        "clusterIPs",
        "externalIPs",
        "loadBalancerSourceRanges",
        "ports",
        "port",
        "protocol",
        "nodePort",
        "sessionAffinity",
        "sessionAffinityConfig",
        "clientIP",
        "timeoutSeconds",
        "loadBalancer",
        "ingress",
        "ip",
        "ipMode",
        "addressType",
        "endpoints",
        "addresses",
        "conditions",
        "ready",
        "hints",
        "forZones",
        "subsets",
        "notReadyAddresses",
        "podCIDRs",
        "cidrs",
        "kubernetes.io/service-name",
        "healthCheckNodePort",
        "internalTrafficPolicy",
    ]);
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((keys.clone(), inner), 0..6).prop_map(|entries| {
                Value::Object(
                    entries
                        .into_iter()
                        .map(|(k, v)| (k.to_owned(), v))
                        .collect(),
                )
            }),
        ]
    })
}

/// A shape that decodes, with odd values in it.
fn odd_service() -> impl Strategy<Value = Value> {
    let text = || {
        prop_oneof![
            Just("10.0.0.1".to_owned()),
            Just("fd00::1".to_owned()),
            ".{0,12}"
        ]
    };
    (prop::collection::vec(text(), 0..4), prop::collection::vec(any::<i64>(), 0..4), any::<i64>(), text())
        .prop_map(|(texts, numbers, seconds, word)| {
            let ports: Vec<_> = numbers
                .iter()
                .map(|n| json!({"port": n, "nodePort": n, "protocol": word}))
                .collect();
            let ingress: Vec<_> = texts.iter().map(|t| json!({"ip": t, "ipMode": word})).collect();
            json!({
                "metadata": {"name": word, "namespace": word, "creationTimestamp": word},
                "spec": {"clusterIPs": texts, "externalIPs": texts, "loadBalancerSourceRanges": texts,
                         "ports": ports, "type": word, "sessionAffinity": "ClientIP",
                         "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": seconds}},
                         "healthCheckNodePort": seconds},
                "status": {"loadBalancer": {"ingress": ingress}},
            })
        })
}

proptest! {
    #[test]
    fn conversion_never_panics(value in any_object()) {
        if let Ok(object) = serde_json::from_value(value.clone()) { service(&object); }
        if let Ok(object) = serde_json::from_value(value.clone()) { endpoint_slice(&object); }
        if let Ok(object) = serde_json::from_value(value.clone()) { endpoints(&object); }
        if let Ok(object) = serde_json::from_value(value.clone()) { node(&object); }
        if let Ok(object) = serde_json::from_value(value) { service_cidr(&object); }
    }

    #[test]
    fn a_service_keeps_at_most_one_cluster_ip_of_a_family(value in odd_service()) {
        let spec = service_of(value).value.1;
        for family in Family::ALL {
            let count = spec.cluster_ips.iter().filter(|ip| Family::of(**ip) == family).count();
            prop_assert!(count <= 1);
        }
    }
}
