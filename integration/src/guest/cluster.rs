//! Objects at the API server. The test plays the controllers: it writes slices itself.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::topology::{POD_PORT, Pod};
use crate::protocol::TOKEN;

/// A client of the API server, with a list of what it made.
pub struct Cluster {
    runtime: Runtime,
    client: Client,
    made: Vec<(&'static str, String)>,
    pub kubeconfig: PathBuf,
    pub server: ApiServer,
}

/// How the API server is reached; its token is [`TOKEN`].
#[derive(Debug)]
pub struct ApiServer {
    pub url: String,
    /// Who signed its certificate, a file.
    pub authority: PathBuf,
}

/// State of one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Ready,
    Terminating,
    NotReady,
}

impl Cluster {
    /// Connects and waits until the server is ready.
    pub fn connect(server: ApiServer) -> Result<Self> {
        let kubeconfig = PathBuf::from("/run/kubeconfig");
        std::fs::write(&kubeconfig, kubeconfig_text(&server))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let client = runtime.block_on(async {
            let file = Kubeconfig::read_from(&kubeconfig)?;
            let config =
                Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
            anyhow::Ok(Client::try_from(config)?)
        })?;
        let cluster = Self {
            runtime,
            client,
            made: Vec::new(),
            kubeconfig,
            server,
        };
        cluster.wait_ready()?;
        Ok(cluster)
    }

    /// Waits until the server serves Services.
    pub fn wait_ready(&self) -> Result<()> {
        let services = self.api("Service");
        self.runtime.block_on(async {
            for _ in 0..600 {
                if services.get("kubernetes").await.is_ok() {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            anyhow::bail!("the API server is not ready after two minutes")
        })
    }

    /// Writes a Service and gives its cluster IPs, IPv4 first. `spec` is laid over the defaults:
    /// both families, one port 80 named `http`.
    pub fn service(&mut self, name: &str, annotations: Value, spec: Value) -> Result<Vec<String>> {
        let mut whole = json!({
            "ipFamilyPolicy": "RequireDualStack",
            "ipFamilies": ["IPv4", "IPv6"],
            "ports": [{ "name": "http", "port": 80, "targetPort": POD_PORT }],
        });
        merge(&mut whole, spec);
        let object = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": name, "annotations": annotations },
            "spec": whole,
        });
        let made = self.apply("Service", name, &object)?;
        let ips = made.data["spec"]["clusterIPs"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        Ok(ips
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect())
    }

    /// Writes the ingress IPs of a Service of type LoadBalancer.
    pub fn load_balancer_ips(&self, name: &str, ips: &[&str]) -> Result<()> {
        let ingress: Vec<Value> = ips.iter().map(|ip| json!({ "ip": ip })).collect();
        self.load_balancer_ingress(name, &ingress)
    }

    /// The same in full.
    pub fn load_balancer_ingress(&self, name: &str, ingress: &[Value]) -> Result<()> {
        let status = json!({ "status": { "loadBalancer": { "ingress": ingress } } });
        let services = self.api("Service");
        let (params, patch) = (PatchParams::default(), Patch::Merge(&status));
        let written = self
            .runtime
            .block_on(services.patch_status(name, &params, &patch));
        written.context("cannot write the load balancer's status")?;
        Ok(())
    }

    /// Writes the endpoints of a Service: one slice for each family.
    pub fn endpoints(&mut self, service: &str, pods: &[(Pod, State)]) -> Result<()> {
        self.endpoints_of_ports(service, pods, &[("http", "TCP")])
    }

    /// The same for several ports, all of them at the pods' one.
    pub fn endpoints_of_ports(
        &mut self,
        service: &str,
        pods: &[(Pod, State)],
        ports: &[(&str, &str)],
    ) -> Result<()> {
        self.slice(service, service, pods, ports)
    }

    /// A slice of a Service beside its others, again one for each family.
    pub fn slice(
        &mut self,
        service: &str,
        slice: &str,
        pods: &[(Pod, State)],
        ports: &[(&str, &str)],
    ) -> Result<()> {
        let pods: Vec<_> = pods
            .iter()
            .map(|(pod, state)| (*pod, *state, json!(null)))
            .collect();
        self.hinted_slice(service, slice, &pods, ports)
    }

    /// The same with the `hints` of each endpoint.
    pub fn hinted_slice(
        &mut self,
        service: &str,
        slice: &str,
        pods: &[(Pod, State, Value)],
        ports: &[(&str, &str)],
    ) -> Result<()> {
        let ports: Vec<Value> = ports
            .iter()
            .map(|(name, protocol)| json!({ "name": name, "protocol": protocol, "port": POD_PORT }))
            .collect();
        for (family, v6) in [("IPv4", false), ("IPv6", true)] {
            let endpoints: Vec<Value> = pods
                .iter()
                .map(|(pod, state, hints)| {
                    let addr = if v6 { pod.v6() } else { pod.v4() };
                    json!({
                        "addresses": [addr],
                        "nodeName": pod.node_name(),
                        "conditions": {
                            "ready": *state == State::Ready,
                            "serving": *state != State::NotReady,
                            "terminating": *state == State::Terminating,
                        },
                        "hints": hints,
                    })
                })
                .collect();
            self.write_slice(service, slice, family, &endpoints, &ports)?;
        }
        Ok(())
    }

    /// Writes a Node.
    pub fn node(&mut self, name: &str) -> Result<()> {
        let pods = Pod {
            node: name[1..].parse()?,
            number: 1,
        };
        let object = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": { "name": name },
            "spec": { "podCIDR": pods.cidrs()[0], "podCIDRs": pods.cidrs() },
        });
        let nodes = self.nodes();
        let (params, patch) = (PatchParams::apply("lab").force(), Patch::Apply(&object));
        self.runtime.block_on(nodes.patch(name, &params, &patch))?;
        Ok(())
    }

    /// Sets or removes a label of a Node.
    pub fn label_node(&self, node: &str, key: &str, value: Option<&str>) -> Result<()> {
        let patch = json!({ "metadata": { "labels": { key: value } } });
        let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
        self.runtime
            .block_on(self.nodes().patch(node, &params, &patch))?;
        Ok(())
    }

    /// Sets the taints of a Node; all of them go where none is given.
    pub fn taint_node(&self, node: &str, keys: &[&str]) -> Result<()> {
        let taint = |key: &&str| json!({ "key": key, "effect": "NoSchedule" });
        let taints: Vec<Value> = keys.iter().map(taint).collect();
        self.patch_node(node, &json!({ "spec": { "taints": taints } }))
    }

    /// Deletes a Node, which stays, being deleted, until `let_node_go`.
    pub fn delete_node(&self, node: &str) -> Result<()> {
        let finalizers = json!({ "metadata": { "finalizers": ["lab.example/wait"] } });
        self.patch_node(node, &finalizers)?;
        let params = DeleteParams::default();
        self.runtime.block_on(self.nodes().delete(node, &params))?;
        Ok(())
    }

    /// Ends the deletion of a Node.
    pub fn let_node_go(&self, node: &str) -> Result<()> {
        self.patch_node(node, &json!({ "metadata": { "finalizers": null } }))
    }

    fn patch_node(&self, node: &str, patch: &Value) -> Result<()> {
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        self.runtime
            .block_on(self.nodes().patch(node, &params, &patch))
            .with_context(|| format!("cannot write Node {node}"))?;
        Ok(())
    }

    fn nodes(&self) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &resource("Node"))
    }

    /// Writes the addresses of a Node, by type.
    pub fn node_addresses(&self, name: &str, addresses: &[(&str, &str)]) -> Result<()> {
        let entries: Vec<Value> = addresses
            .iter()
            .map(|(of_type, address)| json!({ "type": of_type, "address": address }))
            .collect();
        let patch = json!({ "status": { "addresses": entries } });
        let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
        self.runtime
            .block_on(self.nodes().patch_status(name, &params, &patch))
            .context("cannot write the Node's addresses")?;
        Ok(())
    }

    /// Sets or removes a label of a Service.
    pub fn label(&self, service: &str, key: &str, value: Option<&str>) -> Result<()> {
        let patch = json!({ "metadata": { "labels": { key: value } } });
        let api = self.api("Service");
        let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
        self.runtime.block_on(api.patch(service, &params, &patch))?;
        Ok(())
    }

    /// Sets or removes an annotation of a Service.
    pub fn annotate(&self, service: &str, key: &str, value: Option<&str>) -> Result<()> {
        let patch = json!({ "metadata": { "annotations": { key: value } } });
        let api = self.api("Service");
        let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
        self.runtime.block_on(api.patch(service, &params, &patch))?;
        Ok(())
    }

    /// Sets an annotation of a slice, by its name with the family: `web-ipv4`.
    pub fn annotate_slice(&self, slice: &str, key: &str, value: &str) -> Result<()> {
        let patch = json!({ "metadata": { "annotations": { key: value } } });
        let api = self.api("EndpointSlice");
        let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
        self.runtime.block_on(api.patch(slice, &params, &patch))?;
        Ok(())
    }

    /// When a Service was made, by the API server's clock, which tells whole seconds.
    pub fn made_at(&self, service: &str) -> Result<String> {
        let services = self.api("Service");
        let object = self.runtime.block_on(services.get(service))?;
        let time = serde_json::to_value(object.metadata.creation_timestamp)?;
        Ok(time.as_str().unwrap_or_default().to_owned())
    }

    /// The agents' Events about a Service that exists, in any order. The API server has some of its own.
    pub fn events_about(&self, service: &str) -> Result<Vec<Value>> {
        let (services, events) = (self.api("Service"), self.api("Event"));
        let (uid, list) = self.runtime.block_on(async {
            let uid = services.get(service).await?.metadata.uid;
            anyhow::Ok((uid, events.list(&ListParams::default()).await?))
        })?;
        let uid = uid.context("a Service without a uid")?;
        let about = |event: &Value| {
            event["regarding"]["uid"] == uid.as_str()
                && event["reportingController"] == "ipvs-agent"
        };
        let events = list.items.into_iter().map(|event| event.data);
        Ok(events.filter(about).collect())
    }

    /// The Events about a Node, in any order.
    pub fn events_about_node(&self, node: &str) -> Result<Vec<Value>> {
        let events = self.api("Event");
        let list = self.runtime.block_on(events.list(&ListParams::default()))?;
        let about = |event: &Value| {
            event["regarding"]["kind"] == "Node" && event["regarding"]["name"] == node
        };
        let events = list.items.into_iter().map(|event| event.data);
        Ok(events.filter(about).collect())
    }

    /// Whether the API server answers now.
    pub fn is_up(&self) -> bool {
        let services = self.api("Service");
        self.runtime.block_on(async {
            let get = services.get("kubernetes");
            matches!(
                tokio::time::timeout(Duration::from_secs(2), get).await,
                Ok(Ok(_))
            )
        })
    }

    pub fn delete(&self, kind: &'static str, name: &str) -> Result<()> {
        let api = self.api(kind);
        self.runtime
            .block_on(api.delete(name, &DeleteParams::default()))?;
        Ok(())
    }

    /// Writes a slice of one family of endpoints that need not be pods.
    pub fn endpoint_slice(
        &mut self,
        service: &str,
        family: &str,
        endpoints: &[Value],
        ports: &[Value],
    ) -> Result<()> {
        self.write_slice(service, service, family, endpoints, ports)
    }

    fn write_slice(
        &mut self,
        service: &str,
        slice: &str,
        family: &str,
        endpoints: &[Value],
        ports: &[Value],
    ) -> Result<()> {
        let name = format!("{slice}-{}", family.to_lowercase());
        let object = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": name,
                "labels": { "kubernetes.io/service-name": service },
            },
            "addressType": family,
            "ports": ports,
            "endpoints": endpoints,
        });
        self.apply("EndpointSlice", &name, &object)?;
        Ok(())
    }

    /// Makes many objects of the namespace, some of them at a time. They are not tidied away.
    pub fn create(&self, objects: Vec<(&'static str, Value)>) -> Result<()> {
        let mut todo = objects.into_iter();
        self.runtime.block_on(async {
            let mut under_way = JoinSet::new();
            loop {
                while under_way.len() < AT_A_TIME
                    && let Some((kind, object)) = todo.next()
                {
                    let api = self.api(kind);
                    under_way.spawn(async move {
                        let object: DynamicObject = serde_json::from_value(object)?;
                        api.create(&PostParams::default(), &object).await?;
                        anyhow::Ok(())
                    });
                }
                match under_way.join_next().await {
                    Some(made) => made?.context("cannot make an object")?,
                    None => return Ok(()),
                }
            }
        })
    }

    /// Deletes all that was made.
    pub fn tidy(&mut self) {
        for (kind, name) in std::mem::take(&mut self.made) {
            let _ = self.delete(kind, &name);
        }
    }

    fn apply(&mut self, kind: &'static str, name: &str, object: &Value) -> Result<DynamicObject> {
        let api = self.api(kind);
        let params = PatchParams::apply("lab").force();
        let made = self
            .runtime
            .block_on(api.patch(name, &params, &Patch::Apply(object)))
            .with_context(|| format!("cannot write {kind} {name}"))?;
        if !self.made.iter().any(|(k, n)| *k == kind && n == name) {
            self.made.push((kind, name.to_owned()));
        }
        Ok(made)
    }

    fn api(&self, kind: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), "default", &resource(kind))
    }
}

fn resource(kind: &str) -> ApiResource {
    let (group, version, plural) = match kind {
        "EndpointSlice" => ("discovery.k8s.io", "v1", "endpointslices"),
        "Event" => ("events.k8s.io", "v1", "events"),
        "Node" => ("", "v1", "nodes"),
        _ => ("", "v1", "services"),
    };
    let api_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    let mut resource = ApiResource::from_gvk_with_plural(
        &kube::core::GroupVersionKind::gvk(group, version, kind),
        plural,
    );
    resource.api_version = api_version;
    resource
}

/// Lays `over` over `base`, key by key.
fn merge(base: &mut Value, over: Value) {
    if let (Value::Object(base), Value::Object(over)) = (base, over) {
        base.extend(over);
    }
}

fn kubeconfig_text(server: &ApiServer) -> String {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "lab",
        "clusters": [{ "name": "lab", "cluster": {
            "server": server.url, "certificate-authority": server.authority } }],
        "users": [{ "name": "lab", "user": { "token": TOKEN } }],
        "contexts": [{ "name": "lab", "context": { "cluster": "lab", "user": "lab" } }],
    })
    .to_string()
}

/// Requests that make many objects.
const AT_A_TIME: usize = 16;
