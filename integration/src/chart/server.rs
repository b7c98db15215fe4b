//! The API server, as an administrator.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::core::params::ValidationDirective;
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::guest::cluster::{ApiServer, Cluster};

pub struct Server {
    runtime: Runtime,
    client: Client,
    pub url: String,
    pub authority: PathBuf,
    pub kubeconfig: PathBuf,
}

impl Server {
    /// Connects, and waits until the server is ready.
    pub fn connect(server: ApiServer) -> Result<Self> {
        let (url, authority) = (server.url.clone(), server.authority.clone());
        let kubeconfig = Cluster::connect(server)?.kubeconfig;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let client = runtime.block_on(async {
            let file = Kubeconfig::read_from(&kubeconfig)?;
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(file, &options).await?;
            anyhow::Ok(Client::try_from(config)?)
        })?;
        let server = Self {
            runtime,
            client,
            url,
            authority,
            kubeconfig,
        };
        server.namespace(super::helm::NAMESPACE, &json!({}))?;
        Ok(server)
    }

    /// Makes a namespace with these labels, or gives it them.
    pub fn namespace(&self, name: &str, labels: &Value) -> Result<()> {
        self.apply(&json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": name, "labels": labels },
        }))
    }

    /// Makes the CRDs in a folder, and waits until each is served.
    pub fn crds(&self, folder: &Path) -> Result<()> {
        for entry in fs::read_dir(folder).context("no CRDs; `make chart-deps` gets them")? {
            let object: Value = serde_saphyr::from_str(&fs::read_to_string(entry?.path())?)?;
            self.apply(&object)?;
            let kind = object["spec"]["names"]["kind"]
                .as_str()
                .context("no kind")?;
            let mut attempts = 0;
            while let Err(error) = self.names(kind, "default") {
                attempts += 1;
                if attempts > 300 {
                    return Err(error.context(format!("{kind} is not served")));
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        Ok(())
    }

    /// Writes an object.
    pub fn apply(&self, object: &Value) -> Result<()> {
        self.write(object, PatchParams::apply("lab").force())
    }

    /// Asks what the server says of an object, to the last field, and writes nothing.
    pub fn dry_run(&self, object: &Value) -> Result<()> {
        let params = PatchParams {
            field_validation: Some(ValidationDirective::Strict),
            ..PatchParams::apply("lab").force().dry_run()
        };
        self.write(object, params)
    }

    fn write(&self, object: &Value, params: PatchParams) -> Result<()> {
        let name = object["metadata"]["name"].as_str().context("no name")?;
        let api = self.api_of(object)?;
        let patch = Patch::Apply(object);
        let written = self.runtime.block_on(api.patch(name, &params, &patch));
        written.with_context(|| format!("{} {name}", object["kind"]))?;
        Ok(())
    }

    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Result<Value> {
        let api = self.api(kind, namespace)?;
        let object = self.runtime.block_on(api.get(name))?;
        Ok(serde_json::to_value(object)?)
    }

    pub fn delete(&self, kind: &str, namespace: &str, name: &str) -> Result<()> {
        let api = self.api(kind, namespace)?;
        let params = DeleteParams::default();
        self.runtime.block_on(api.delete(name, &params))?;
        Ok(())
    }

    /// The objects of a kind.
    pub fn list(&self, kind: &str, namespace: &str) -> Result<Vec<Value>> {
        let api = self.api(kind, namespace)?;
        let list = self.runtime.block_on(api.list(&ListParams::default()))?;
        let objects = list.items.into_iter().map(serde_json::to_value);
        Ok(objects.collect::<Result<_, _>>()?)
    }

    /// Their names.
    pub fn names(&self, kind: &str, namespace: &str) -> Result<Vec<String>> {
        let objects = self.list(kind, namespace)?.into_iter();
        let names =
            objects.filter_map(|object| Some(object["metadata"]["name"].as_str()?.to_owned()));
        Ok(names.collect())
    }

    /// A token of a ServiceAccount, as a pod of it gets.
    pub fn token(&self, namespace: &str, account: &str) -> Result<String> {
        let api = Api::<ServiceAccount>::namespaced(self.client.clone(), namespace);
        let request = TokenRequest {
            spec: TokenRequestSpec {
                expiration_seconds: Some(3600),
                ..TokenRequestSpec::default()
            },
            ..TokenRequest::default()
        };
        let params = PostParams::default();
        let asked = api.create_token_request(account, &params, &request);
        let answer = self.runtime.block_on(asked)?;
        Ok(answer.status.context("no token")?.token)
    }

    fn api_of(&self, object: &Value) -> Result<Api<DynamicObject>> {
        let kind = object["kind"].as_str().context("no kind")?;
        let namespace = object["metadata"]["namespace"].as_str();
        let version = object["apiVersion"].as_str().context("no apiVersion")?;
        let resource = resource(kind, version);
        Ok(match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        })
    }

    fn api(&self, kind: &str, namespace: &str) -> Result<Api<DynamicObject>> {
        let known = VERSIONS.iter().find(|(kinds, _)| kinds.contains(&kind));
        let Some((_, version)) = known else {
            bail!("no version of {kind} is known");
        };
        let resource = resource(kind, version);
        let client = self.client.clone();
        Ok(if OF_THE_CLUSTER.contains(&kind) {
            Api::all_with(client, &resource)
        } else {
            Api::namespaced_with(client, namespace, &resource)
        })
    }
}

fn resource(kind: &str, version: &str) -> ApiResource {
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

const VERSIONS: &[(&[&str], &str)] = &[
    (
        &["ConfigMap", "Service", "ServiceAccount", "Pod", "Node"],
        "v1",
    ),
    (&["DaemonSet"], "apps/v1"),
    (&["Event"], "events.k8s.io/v1"),
    (
        &["ClusterRole", "ClusterRoleBinding"],
        "rbac.authorization.k8s.io/v1",
    ),
    (
        &["ServiceMonitor", "PodMonitor", "PrometheusRule"],
        "monitoring.coreos.com/v1",
    ),
];
const OF_THE_CLUSTER: &[&str] = &["ClusterRole", "ClusterRoleBinding", "Node"];
