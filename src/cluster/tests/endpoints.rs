use super::*;

/// Slice `NAMESPACE/NAME` of Service `SERVICE`; `PORT:NUMBER…` and addresses.
fn slice(name: &str, service: &str, ports: &str, addresses: &str) -> Value {
    let (namespace, name) = name.split_once('/').unwrap();
    let ports: Vec<_> = ports
        .split_whitespace()
        .map(|port| {
            let (name, number) = port.split_once(':').unwrap();
            json!({"name": name, "port": number.parse::<u16>().unwrap()})
        })
        .collect();
    let endpoints: Vec<_> = addresses
        .split_whitespace()
        .map(|addr| json!({"addresses": [addr], "nodeName": "n1"}))
        .collect();
    let family = if addresses.contains(':') {
        "IPv6"
    } else {
        "IPv4"
    };
    json!({"metadata": {"name": name, "namespace": namespace,
                        "labels": {"kubernetes.io/service-name": service}},
           "addressType": family, "ports": ports, "endpoints": endpoints})
}

/// What one change of slices does.
struct Row {
    items: &'static str,
    before: Vec<Value>,
    after: Value,
    dirty: &'static str,
    served: &'static [&'static str],
}

fn row(
    items: &'static str,
    before: &[Value],
    after: Value,
    dirty: &'static str,
    served: &'static [&'static str],
) -> Row {
    Row {
        items,
        before: before.to_vec(),
        after,
        dirty,
        served,
    }
}

/// 66 to 75, 77.
#[test]
fn a_slice_changes() {
    let one = || slice("ns/a", "web", "http:80", "10.1.0.1");
    let two = || slice("ns/b", "web", "http:80", "10.1.0.2");
    let many = || {
        slice(
            "ns/a",
            "web",
            "http:80 dns:53",
            "10.1.0.1 10.1.0.2 10.1.0.3",
        )
    };
    for Row {
        items,
        before,
        after,
        dirty,
        served,
    } in [
        row(
            "66 a slice without anything",
            &[],
            slice("ns/a", "web", "", ""),
            "ns/web",
            &[],
        ),
        row(
            "67 no change",
            &[one()],
            one(),
            "",
            &["http 80/TCP: 10.1.0.1"],
        ),
        row(
            "67 one of several",
            &[one(), two()],
            two(),
            "",
            &["http 80/TCP: 10.1.0.1", "http 80/TCP: 10.1.0.2"],
        ),
        row(
            "67 many ports and addresses",
            &[many()],
            many(),
            "",
            &[
                "http 80/TCP: 10.1.0.1 10.1.0.2 10.1.0.3",
                "dns 53/TCP: 10.1.0.1 10.1.0.2 10.1.0.3",
            ],
        ),
        row("68 added", &[], one(), "ns/web", &["http 80/TCP: 10.1.0.1"]),
        row(
            "70 an address and a port more",
            &[one()],
            slice("ns/a", "web", "http:80 dns:53", "10.1.0.1 10.1.0.2"),
            "ns/web",
            &[
                "http 80/TCP: 10.1.0.1 10.1.0.2",
                "dns 53/TCP: 10.1.0.1 10.1.0.2",
            ],
        ),
        row(
            "71 and less",
            &[many()],
            one(),
            "ns/web",
            &["http 80/TCP: 10.1.0.1"],
        ),
        row(
            "72 a second slice",
            &[one()],
            two(),
            "ns/web",
            &["http 80/TCP: 10.1.0.1", "http 80/TCP: 10.1.0.2"],
        ),
        row(
            "74 a port by another name",
            &[one()],
            slice("ns/a", "web", "web:80", "10.1.0.1"),
            "ns/web",
            &["web 80/TCP: 10.1.0.1"],
        ),
        row(
            "75 of another number",
            &[one()],
            slice("ns/a", "web", "http:8080", "10.1.0.1"),
            "ns/web",
            &["http 8080/TCP: 10.1.0.1"],
        ),
        row(
            "77 nobody at an unnamed port",
            &[slice("ns/a", "web", ":80", "")],
            slice("ns/a", "web", ":80", "10.1.0.1"),
            "ns/web",
            &[" 80/TCP: 10.1.0.1"],
        ),
        row(
            "82 it is another Service's now",
            &[one()],
            slice("ns/a", "other", "http:80", "10.1.0.1"),
            "ns/other ns/web",
            &[],
        ),
    ] {
        let mut cluster = Cluster::new();
        for slice in before {
            cluster.slice(slice);
        }
        assert_eq!(cluster.slice(after), dirty, "{items}");
        assert_eq!(cluster.served("ns/web"), served, "{items}");
    }
}

/// 69, 73.
#[test]
fn slices_go_and_only_those_that_were_there() {
    let mut cluster = Cluster::new();
    let one = slice("ns/a", "web", "http:80", "10.1.0.1");
    let two = slice("ns/b", "web", "http:80", "10.1.0.2");
    cluster.slice(one.clone());
    cluster.slice(two.clone());
    assert_eq!(cluster.no_slice(one.clone()), "ns/web");
    assert_eq!(cluster.served("ns/web"), ["http 80/TCP: 10.1.0.2"]);
    assert_eq!(cluster.no_slice(one), "");
    assert_eq!(cluster.no_slice(two), "ns/web");
    assert_eq!(cluster.served("ns/web"), [""; 0]);
}

/// 76: one name in four namespaces; a slice is the Service's in its own.
#[test]
fn namespaces_do_not_mix() {
    let mut cluster = Cluster::new();
    let names = ["ns1", "ns2", "ns3", "ns4"];
    for (n, namespace) in names.iter().enumerate() {
        let made = slice(
            &format!("{namespace}/a"),
            "web",
            "http:80",
            &format!("10.{n}.0.1"),
        );
        assert_eq!(cluster.slice(made), format!("{namespace}/web"));
    }
    // One loses an address, one gains a slice, one goes, one stays.
    let emptied = slice("ns1/a", "web", "http:80", "");
    assert_eq!(cluster.slice(emptied), "ns1/web");
    let more = slice("ns2/b", "web", "dns:53", "10.1.0.2 10.1.0.3");
    assert_eq!(cluster.slice(more), "ns2/web");
    let gone = slice("ns3/a", "web", "http:80", "10.2.0.1");
    assert_eq!(cluster.no_slice(gone), "ns3/web");
    let served = names.map(|namespace| cluster.served(&format!("{namespace}/web")).join(", "));
    assert_eq!(
        served,
        [
            "http 80/TCP: ",
            "http 80/TCP: 10.1.0.1, dns 53/TCP: 10.1.0.2 10.1.0.3",
            "",
            "http 80/TCP: 10.3.0.1",
        ]
    );
}

/// 80, 82. Values of a family that the slice is not of are told (`convert`).
#[test]
fn slices_of_host_names_and_of_no_service_are_not_looked_at() {
    let mut cluster = Cluster::new();
    let mut names = slice("ns/a", "web", "http:80", "");
    names["addressType"] = json!("FQDN");
    names["endpoints"] = json!([{"addresses": ["web.example.com"]}]);
    let mut orphan = slice("ns/b", "web", "http:80", "10.1.0.1");
    orphan["metadata"]["labels"] = json!({"app": "web"});
    let mut unnamed = slice("ns/c", "", "http:80", "10.1.0.1");
    unnamed["metadata"]["labels"]["kubernetes.io/service-name"] = json!("");
    for object in [names, orphan, unnamed] {
        assert_eq!(cluster.slice(object), "");
    }
    // It belongs to one from now on, and then to none again.
    let owned = slice("ns/b", "web", "http:80", "10.1.0.1");
    assert_eq!(cluster.slice(owned.clone()), "ns/web");
    let mut orphan = owned;
    orphan["metadata"]["labels"] = json!(null);
    assert_eq!(cluster.slice(orphan), "ns/web");
    assert_eq!(cluster.served("ns/web"), [""; 0]);
}

/// 81: what a controller leaves out.
#[test]
fn conditions_have_their_defaults() {
    for (conditions, ready, serving, terminating) in [
        (json!(null), true, true, false),
        (json!({}), true, true, false),
        (
            json!({"ready": null, "serving": null, "terminating": null}),
            true,
            true,
            false,
        ),
        (json!({"ready": false}), false, true, false),
        (
            json!({"ready": false, "serving": false}),
            false,
            false,
            false,
        ),
        (
            json!({"ready": false, "terminating": true}),
            false,
            true,
            true,
        ),
        (json!({"serving": false}), true, false, false),
    ] {
        let mut cluster = Cluster::new();
        let mut object = slice("ns/a", "web", "http:80", "10.1.0.1");
        object["endpoints"][0]["conditions"] = conditions.clone();
        cluster.slice(object);
        let slices = cluster.index.slices(&ObjectName::new("ns", "web"));
        let endpoint = &slices[0].endpoints[0];
        let got = (endpoint.ready, endpoint.serving, endpoint.terminating);
        assert_eq!(got, (ready, serving, terminating), "{conditions}");
    }
}

/// 36: what is told of a Service that nobody knows waits for it.
#[test]
fn slices_may_come_before_their_service() {
    let mut cluster = Cluster::new();
    cluster.slice(slice("ns/a", "web", "http:80", "10.1.0.1"));
    let name = ObjectName::new("ns", "web");
    assert!(cluster.index.service(&name).is_none());
    let object = json!({"metadata": {"name": "web", "namespace": "ns"},
                        "spec": {"clusterIPs": ["10.96.0.10"], "ports": [{"name": "http", "port": 80}]}});
    assert_eq!(cluster.service(object), "ns/web");
    assert_eq!(cluster.served("ns/web"), ["http 80/TCP: 10.1.0.1"]);
}
