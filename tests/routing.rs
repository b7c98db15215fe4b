//! What the kernel of this machine says of a node's place in the network, against what `ip` was
//! told to make there. Each test has a network namespace of its own and needs root.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

#[path = "netfilter/namespace.rs"]
mod namespace;

use std::sync::Arc;
use std::time::Duration;

use ipvs_agent::model::{Family, NodeNetwork};
use ipvs_agent::routing::{AddressWatch, RouteClient};
use tokio::sync::Notify;

use namespace::{in_namespace, run};

fn read() -> NodeNetwork {
    RouteClient::open().unwrap().node_network().unwrap()
}

fn texts<T: ToString>(values: impl IntoIterator<Item = T>) -> Vec<String> {
    let mut texts: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    texts.sort();
    texts
}

/// `eth0` with its cable's other end, and `kube-ipvs0` as kube-proxy makes it.
fn interfaces() {
    run("ip link add eth0 type veth peer name far0");
    run("ip link add kube-ipvs0 type veth peer name far1");
    for name in ["lo", "eth0", "far0", "kube-ipvs0"] {
        run(&format!("ip link set {name} up"));
    }
    for (net, name) in [
        ("192.0.2.1/24", "eth0"),
        ("192.0.2.2/24", "eth0"),
        ("2001:db8::1/64", "eth0"),
        ("203.0.113.5/32", "lo"),
        ("10.96.0.1/32", "kube-ipvs0"),
    ] {
        let nodad = if net.contains(':') { " nodad" } else { "" };
        run(&format!("ip addr add {net} dev {name}{nodad}"));
    }
}

#[test]
fn a_namespace_without_anything_has_nothing() {
    in_namespace(|| assert_eq!(read(), NodeNetwork::default()));
}

#[test]
fn addresses_gateways_and_sources_are_those_of_the_main_table() {
    in_namespace(|| {
        interfaces();
        for route in [
            "route add default via 192.0.2.254 metric 50",
            "route add default metric 100 nexthop via 192.0.2.252 nexthop via 192.0.2.253",
            "-6 route add default via 2001:db8::fe",
            // Neither a default route nor the main table's.
            "route add 198.51.100.0/24 via 192.0.2.251",
            "route add default via 192.0.2.250 table 100",
        ] {
            run(&format!("ip {route}"));
        }
        let network = read();
        let addresses = [
            "192.0.2.1/24",
            "192.0.2.2/24",
            "2001:db8::1/64",
            "203.0.113.5/32",
        ];
        assert_eq!(texts(&network.addresses), addresses);
        let gateways = ["192.0.2.252", "192.0.2.253", "192.0.2.254", "2001:db8::fe"];
        assert_eq!(texts(&network.gateways), gateways);
        assert_eq!(
            texts(network.sources.values()),
            ["192.0.2.1", "2001:db8::1"]
        );
        // A better one names what it sends from.
        run("ip route add default via 192.0.2.254 src 192.0.2.2 metric 10");
        assert_eq!(read().sources[&Family::V4].to_string(), "192.0.2.2");
    });
}

#[test]
fn every_change_is_told() {
    in_namespace(|| {
        interfaces();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let told = Arc::new(Notify::new());
            let tell = told.clone();
            let watch = AddressWatch::open().unwrap();
            tokio::spawn(watch.run(move || tell.notify_one()));
            let wait = || tokio::time::timeout(Duration::from_secs(10), told.notified());
            for change in [
                "addr add 192.0.2.3/24 dev eth0",
                "addr del 192.0.2.3/24 dev eth0",
                "-6 addr add 2001:db8::3/64 dev eth0 nodad",
                "-6 addr del 2001:db8::3/64 dev eth0",
                "link del eth0",
                "link set kube-ipvs0 down",
            ] {
                run(&format!("ip {change}"));
                wait()
                    .await
                    .unwrap_or_else(|_| panic!("nothing was told of: {change}"));
            }
        });
    });
}
