//! Services with ten endpoints each, by number.

use std::net::Ipv4Addr;
use std::ops::Range;

use anyhow::Result;
use serde_json::{Value, json};

use crate::guest::cluster::Cluster;

/// Of each Service.
pub const ENDPOINTS: u8 = 10;
/// What endpoints listen on.
pub const PORT: u16 = 8080;
/// Where all endpoints are.
pub const ENDPOINT_CIDR: &str = "10.128.0.0/11";

/// It answers too, and no Service has it: conntrack would take a connection for another's whose client
/// port a Service's has just had towards the same endpoint.
pub const NOBODYS: Ipv4Addr = Ipv4Addr::new(10, 159, 255, 1);

/// The cluster IP of Service `n`.
pub fn vip(n: usize) -> Ipv4Addr {
    let [high, low] = split(n);
    // The first network begins with the Service that is the API server.
    Ipv4Addr::new(10, 96, 1 + high, 1 + low)
}

/// Endpoint `e`, from 1, of Service `n`.
pub fn endpoint(n: usize, e: u8) -> Ipv4Addr {
    let [high, low] = split(n);
    Ipv4Addr::new(10, 128 + high, low, e)
}

fn split(n: usize) -> [u8; 2] {
    [n / 250, n % 250].map(|part| u8::try_from(part).unwrap_or(u8::MAX))
}

/// Makes the Services of these numbers.
pub fn create(cluster: &Cluster, numbers: Range<usize>) -> Result<()> {
    let slices = numbers.clone().map(|n| ("EndpointSlice", slice(n)));
    let services = numbers.map(|n| ("Service", service(n)));
    cluster.create(slices.chain(services).collect())
}

/// Puts other endpoints in the place of Service `n`'s.
pub fn replace(cluster: &mut Cluster, n: usize, endpoints: impl Iterator<Item = u8>) -> Result<()> {
    let endpoints: Vec<Value> = endpoints.map(|e| one(n, e)).collect();
    cluster.endpoint_slice(&name(n), "IPv4", &endpoints, &[port()])
}

fn name(n: usize) -> String {
    format!("s{n}")
}

fn port() -> Value {
    json!({ "name": "http", "protocol": "TCP", "port": PORT })
}

fn one(n: usize, e: u8) -> Value {
    json!({ "addresses": [endpoint(n, e)], "nodeName": "elsewhere", "conditions": { "ready": true } })
}

fn service(n: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": name(n) },
        "spec": { "clusterIP": vip(n), "ports": [{ "name": "http", "port": 80, "targetPort": PORT }] },
    })
}

fn slice(n: usize) -> Value {
    let endpoints: Vec<Value> = (1..=ENDPOINTS).map(|e| one(n, e)).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{}-ipv4", name(n)),
            "labels": { "kubernetes.io/service-name": name(n) },
        },
        "addressType": "IPv4", "ports": [port()], "endpoints": endpoints,
    })
}
