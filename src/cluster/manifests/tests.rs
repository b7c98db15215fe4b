use super::*;

const WEB: &str = "\
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  clusterIPs: [10.96.0.10, 'fd00:96::10']
  externalIPs: [192.0.2.1, 192.0.2.01]
  ports: [{name: http, port: 80, nodePort: 30080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [10.244.1.2], nodeName: n1}
- {addresses: [10.244.1.3], conditions: {ready: false, serving: true, terminating: true}}
";

#[test]
fn documents_of_a_file_become_values_with_their_defaults() {
    let objects = parse_file("web.yaml", WEB).unwrap();
    let service = &objects.services[&ObjectName::new("shop", "web")];
    assert_eq!(service.cluster_ips.len(), 2);
    assert_eq!(
        service.external_ips,
        ["192.0.2.1".parse::<std::net::IpAddr>().unwrap()]
    );
    assert_eq!(service.ports[0].node_port, 30080);
    assert_eq!(objects.notices.len(), 1);
    assert!(objects.notices[0].contains("Service shop/web: spec.externalIPs[1] is \"192.0.2.01\""));
    let slice = &objects.slices[&ObjectName::new("shop", "web-1")];
    let [ready, terminating] = &slice.endpoints[..] else {
        panic!("{slice:?}")
    };
    assert!(ready.ready && ready.serving && !ready.terminating);
    assert!(!terminating.ready && terminating.serving && terminating.terminating);
}

#[test]
fn a_broken_file_is_reported_by_file_line_and_field() {
    let text = WEB.replace("port: 8080", "port: eighty");
    let error = parse_file("web.yaml", &text).unwrap_err();
    assert_eq!((error.file.as_str(), error.line), ("web.yaml", 13));
    assert_eq!(error.field.as_deref(), Some("ports[0].port"));
    let error = parse_file("x.yaml", "# nothing\n---\n\nmetadata: {name: a}\n").unwrap_err();
    assert_eq!((error.line, error.field.as_deref()), (4, Some("kind")));
}

#[test]
fn a_broken_item_of_a_list_is_reported_by_its_number() {
    let text = "kind: Node\nmetadata: {name: n1}\n---\n# a list\nkind: List\nitems:\n- {kind: Node, metadata: \
                {name: n2}}\n- {kind: Service, metadata: {name: a}, spec: {ports: [{port: http}]}}\n";
    let error = parse_file("list.yaml", text).unwrap_err();
    assert_eq!(error.line, 5);
    assert_eq!(error.field.as_deref(), Some("items[1].spec.ports[0].port"));
}

#[test]
fn endpoints_and_lists_are_understood_and_other_kinds_left_out() {
    let text = "{\"kind\": \"List\", \"items\": [\
        {\"kind\": \"Endpoints\", \"metadata\": {\"name\": \"db\"}, \"subsets\": [{\"addresses\": \
        [{\"ip\": \"10.0.0.9\"}], \"notReadyAddresses\": [{\"ip\": \"fd00::9\"}], \"ports\": [{\"port\": 5432}]}]}, \
        {\"kind\": \"Secret\"}]}";
    let objects = parse_file("db.json", text).unwrap();
    let families: Vec<_> = objects
        .slices
        .values()
        .map(|slice| slice.address_type)
        .collect();
    assert_eq!(
        families,
        [crate::model::Family::V4, crate::model::Family::V6]
    );
    assert!(
        objects
            .slices
            .values()
            .all(|slice| slice.service == ObjectName::new("default", "db"))
    );
    assert_eq!(objects.notices.len(), 1);
}

/// An earlier run may have programmed what it says: without it, what is wanted is not known.
#[tokio::test]
async fn nothing_is_listed_before_every_file_was_read_once() {
    let directory = tempfile::tempdir().unwrap();
    let broken = directory.path().join("db.yaml");
    std::fs::write(directory.path().join("web.yaml"), WEB).unwrap();
    std::fs::write(&broken, "kind: [").unwrap();
    let (sender, mut events) = tokio::sync::mpsc::channel(100);
    let board = SourceBoard::default();
    let source = run(
        directory.path().to_owned(),
        "n1".to_owned(),
        sender,
        board.clone(),
    );
    let source = tokio::spawn(source);
    let told = |board: &SourceBoard| {
        let state = board.states().remove(&Kind::Services);
        state.and_then(|state| state.last_error).unwrap_or_default()
    };
    // Two readings of the directory, with what they bring.
    let mut seen = Vec::new();
    for _ in 0..2 {
        tokio::time::sleep(POLL + POLL / 2).await;
        while let Ok(event) = events.try_recv() {
            seen.push(event);
        }
    }
    assert!(
        seen.iter()
            .any(|event| matches!(event, Event::ServiceApplied(..)))
    );
    assert!(
        !seen.iter().any(|event| matches!(event, Event::Listed(_))),
        "{seen:?}"
    );
    assert!(
        told(&board).contains("before every file was read once"),
        "{}",
        told(&board)
    );
    std::fs::remove_file(&broken).unwrap();
    loop {
        if let Event::Listed(_) = events.recv().await.unwrap() {
            break;
        }
    }
    source.abort();
}

#[test]
fn a_broken_file_keeps_its_last_good_state_until_it_is_mended() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("web.yaml");
    std::fs::write(&path, WEB).unwrap();
    let mut files = BTreeMap::new();
    assert!(scan(directory.path(), &mut files).unwrap());
    let good = merge(&files);
    assert_eq!(good.services.len(), 1);
    std::fs::write(&path, "kind: [").unwrap();
    assert!(!scan(directory.path(), &mut files).unwrap());
    assert_eq!(merge(&files), good);
    assert!(complaint(&files).unwrap().contains("web.yaml:1:"));
    std::fs::write(&path, WEB).unwrap();
    assert!(!scan(directory.path(), &mut files).unwrap());
    assert_eq!((merge(&files), complaint(&files)), (good.clone(), None));
    std::fs::remove_file(&path).unwrap();
    assert!(scan(directory.path(), &mut files).unwrap());
    let events = diff(&good, &merge(&files), "n1");
    assert_eq!(
        events,
        [
            Event::ServiceDeleted(ObjectName::new("shop", "web")),
            Event::SliceDeleted(ObjectName::new("shop", "web-1")),
        ]
    );
}

#[test]
fn a_change_of_the_same_length_within_one_tick_of_the_clock_is_seen() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("web.yaml");
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
    let write = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(modified).unwrap();
    };
    let mut files = BTreeMap::new();
    write(WEB);
    assert!(scan(directory.path(), &mut files).unwrap());
    write(&WEB.replace("30080", "30081"));
    assert!(scan(directory.path(), &mut files).unwrap());
    let service = &merge(&files).services[&ObjectName::new("shop", "web")];
    assert_eq!(service.ports[0].node_port, 30081);
}

#[test]
fn an_unreadable_file_leaves_the_others_alone() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("a.yaml"), [0xff, 0xfe, 0x00]).unwrap();
    std::fs::write(directory.path().join("b.yaml"), WEB).unwrap();
    let mut files = BTreeMap::new();
    assert!(scan(directory.path(), &mut files).unwrap());
    assert_eq!(merge(&files).services.len(), 1);
}

#[test]
fn the_node_of_that_name_comes_and_goes() {
    let text = "kind: Node\nmetadata: {name: n1, labels: {topology.kubernetes.io/zone: z1}}\n";
    let some = parse_file("n.yaml", text).unwrap();
    let none = Objects::default();
    assert!(
        matches!(&diff(&none, &some, "n1")[..], [Event::NodeApplied(node)] if node.name == "n1")
    );
    assert_eq!(diff(&some, &some, "n1"), []);
    assert_eq!(diff(&none, &some, "n2"), []);
    assert_eq!(diff(&some, &none, "n1"), [Event::NodeDeleted]);
}

/// The API server leaves these out of the watch, whatever the label says.
#[test]
fn endpoints_of_headless_services_are_left_out() {
    let label = "labels: {kubernetes.io/service-name: web";
    let labelled = |value: &str| {
        let more = format!("{label}, service.kubernetes.io/headless: '{value}'");
        parse_file("web.yaml", &WEB.replace(label, &more)).unwrap()
    };
    for value in ["", "true", "false"] {
        let objects = labelled(value);
        assert!(objects.slices.is_empty() && objects.services.len() == 1);
        let notice =
            "EndpointSlice shop/web-1: left out: it has the label service.kubernetes.io/headless";
        assert_eq!(objects.notices[1..], [notice]);
    }
    let text = "kind: Endpoints\nmetadata: {name: db, labels: {service.kubernetes.io/headless: ''}}\n\
                subsets: [{addresses: [{ip: 10.0.0.9}], ports: [{port: 5432}]}]\n";
    let objects = parse_file("db.yaml", text).unwrap();
    assert!(objects.slices.is_empty());
    let notice = "Endpoints default/db: left out: it has the label service.kubernetes.io/headless";
    assert_eq!(objects.notices, [notice]);
    let unlabelled = text.replace("service.kubernetes.io/headless", "app");
    assert_eq!(parse_file("db.yaml", &unlabelled).unwrap().slices.len(), 1);
}
