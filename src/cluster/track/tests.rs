use serde_json::{Value, json};

use super::*;
use crate::model::Leaving;

fn observe<T: Track>(track: &mut T, event: watcher::Event<Value>) -> Vec<Event>
where
    T::Object: serde::de::DeserializeOwned,
{
    let decode = |value| serde_json::from_value(value).expect("decodes");
    let event = match event {
        watcher::Event::Init => watcher::Event::Init,
        watcher::Event::InitApply(object) => watcher::Event::InitApply(decode(object)),
        watcher::Event::InitDone => watcher::Event::InitDone,
        watcher::Event::Apply(object) => watcher::Event::Apply(decode(object)),
        watcher::Event::Delete(object) => watcher::Event::Delete(decode(object)),
    };
    track.observe(event).events
}

fn named(name: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "a"}})
}

fn name(name: &str) -> ObjectName {
    ObjectName::new("a", name)
}

#[test]
fn a_new_list_ends_with_the_deletions_of_what_is_gone() {
    let mut track = Services::default();
    assert_eq!(observe(&mut track, watcher::Event::Init), []);
    for service in ["one", "two"] {
        observe(&mut track, watcher::Event::InitApply(named(service)));
    }
    assert_eq!(
        observe(&mut track, watcher::Event::InitDone),
        [Event::Listed(Kind::Services)]
    );
    observe(&mut track, watcher::Event::Apply(named("three")));

    observe(&mut track, watcher::Event::Init);
    observe(&mut track, watcher::Event::InitApply(named("two")));
    // The list broke off and begins again.
    observe(&mut track, watcher::Event::Init);
    observe(&mut track, watcher::Event::InitApply(named("three")));
    assert_eq!(
        observe(&mut track, watcher::Event::InitDone),
        [
            Event::ServiceDeleted(name("one")),
            Event::ServiceDeleted(name("two")),
            Event::Listed(Kind::Services),
        ]
    );
}

/// 82 of `docs/checklist.md`.
#[test]
fn a_slice_that_loses_its_service_is_deleted_once() {
    let mut track = EndpointSlices::default();
    let owned = json!({"metadata": {"name": "s", "namespace": "a", "labels": {"kubernetes.io/service-name": "web"}},
                       "addressType": "IPv4"});
    let orphan = json!({"metadata": {"name": "s", "namespace": "a"}, "addressType": "IPv4"});
    assert_eq!(
        observe(&mut track, watcher::Event::Apply(orphan.clone())),
        []
    );
    assert_eq!(observe(&mut track, watcher::Event::Apply(owned)).len(), 1);
    assert_eq!(
        observe(&mut track, watcher::Event::Apply(orphan.clone())),
        [Event::SliceDeleted(name("s"))]
    );
    assert_eq!(observe(&mut track, watcher::Event::Delete(orphan)), []);
}

#[test]
fn a_node_is_told_when_something_that_counts_changed() {
    let mut track = ThisNode::default();
    let node = |zone: &str, version: &str| {
        json!({"metadata": {"name": "n1", "resourceVersion": version,
                            "labels": {"topology.kubernetes.io/zone": zone}}})
    };
    assert_eq!(
        observe(&mut track, watcher::Event::Apply(node("z1", "1"))).len(),
        1
    );
    assert_eq!(
        observe(&mut track, watcher::Event::Apply(node("z1", "2"))),
        []
    );
    assert_eq!(
        observe(&mut track, watcher::Event::Apply(node("z2", "3"))).len(),
        1
    );
    observe(&mut track, watcher::Event::Init);
    assert_eq!(
        observe(&mut track, watcher::Event::InitDone),
        [Event::NodeDeleted, Event::Listed(Kind::Node)]
    );
}

/// One that was never there is told of like one that is gone.
#[test]
fn a_node_that_is_not_in_the_list_is_missing() {
    let mut track = ThisNode::default();
    observe(&mut track, watcher::Event::Init);
    assert_eq!(
        observe(&mut track, watcher::Event::InitDone),
        [Event::NodeDeleted, Event::Listed(Kind::Node)]
    );
}

/// 49, 50: taints and the time of deletion decide, and other taints do not.
#[test]
fn a_node_says_that_it_is_about_to_go() {
    let mut track = ThisNode::default();
    let mut index = crate::cluster::Index::new("n1");
    let taint = |key: &str| json!({"taints": [{"key": key, "effect": "NoSchedule"}]});
    for (deleted, spec, wanted) in [
        (Value::Null, json!({}), None),
        (
            Value::Null,
            taint("ToBeDeletedByClusterAutoscaler"),
            Some(Leaving::Tainted),
        ),
        (Value::Null, taint("node.kubernetes.io/unreachable"), None),
        (Value::Null, json!({"taints": null}), None),
        (
            json!("2024-05-01T12:00:00Z"),
            json!({}),
            Some(Leaving::BeingDeleted),
        ),
        (Value::Null, Value::Null, None),
    ] {
        let node = json!({"metadata": {"name": "n1", "deletionTimestamp": deleted}, "spec": spec});
        for event in observe(&mut track, watcher::Event::Apply(node)) {
            index.apply(event);
        }
        assert_eq!(index.node().leaving, wanted, "{deleted} {spec}");
    }
    for event in observe(
        &mut track,
        watcher::Event::Delete(json!({"metadata": {"name": "n1"}})),
    ) {
        index.apply(event);
    }
    assert_eq!(index.node().leaving, Some(Leaving::Missing));
}

#[test]
fn service_cidrs_are_told_as_one_set() {
    let mut track = ServiceCidrs::default();
    let cidr =
        |name: &str, cidrs: Value| json!({"metadata": {"name": name}, "spec": {"cidrs": cidrs}});
    let set =
        |cidrs: &[&str]| Event::ServiceCidrs(cidrs.iter().map(|c| c.parse().unwrap()).collect());
    observe(&mut track, watcher::Event::Init);
    let first = cidr("kubernetes", json!(["10.96.0.0/12", "fd00::/108"]));
    assert_eq!(
        observe(&mut track, watcher::Event::InitApply(first.clone())),
        []
    );
    assert_eq!(
        observe(&mut track, watcher::Event::InitDone),
        [
            set(&["10.96.0.0/12", "fd00::/108"]),
            Event::Listed(Kind::ServiceCidrs)
        ]
    );
    let second = cidr("more", json!(["10.200.0.0/16"]));
    assert_eq!(
        observe(&mut track, watcher::Event::Apply(second)),
        [set(&["10.96.0.0/12", "10.200.0.0/16", "fd00::/108"])]
    );
    assert_eq!(
        observe(&mut track, watcher::Event::Delete(first)),
        [set(&["10.200.0.0/16"])]
    );
}
