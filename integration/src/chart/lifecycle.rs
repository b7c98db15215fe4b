//! The chart against the API server: what it says of each object, and a release from its first day to its last.
//! No kubelet runs here, so nothing is waited for.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::Bench;
use super::helm::{Helm, NAMESPACE, RELEASE, text};

/// The API server takes every object of every set of values, to the last field.
pub fn objects(bench: &Bench) -> Result<()> {
    bench.server.namespace("networking", &json!({}))?;
    for (set, values) in bench.value_sets()? {
        for object in bench.helms[0].objects(&bench.chart(), &values, &[])? {
            let mut object = object;
            // Templates may leave the namespace to Helm.
            let kind = object["kind"].as_str().unwrap_or_default().to_owned();
            if object["metadata"]["namespace"].is_null() && !kind.starts_with("Cluster") {
                object["metadata"]["namespace"] = NAMESPACE.into();
            }
            bench.server.dry_run(&object).with_context(|| set.clone())?;
        }
    }
    Ok(())
}

/// What Pod Security says: the pods need a namespace that is `privileged`, for exactly these reasons.
pub fn pod_security(bench: &Bench) -> Result<()> {
    let values = bench.chart().join("ci/default-values.yaml");
    let label = |level: &str| json!({ "pod-security.kubernetes.io/enforce": level });
    bench.server.namespace("strict", &label("baseline"))?;
    bench.server.namespace("open", &label("privileged"))?;
    for more in [
        &[][..],
        &["--set", "modules.load=true"],
        &["--set", "cleanup.enabled=true"],
    ] {
        for object in bench.helms[0].objects(&bench.chart(), &values, more)? {
            if object["kind"] != "DaemonSet" {
                continue;
            }
            let mut spec = object["spec"]["template"]["spec"].clone();
            // No such account is in these namespaces.
            spec["serviceAccountName"] = "default".into();
            spec["automountServiceAccountToken"] = false.into();
            let pod = |namespace: &str| {
                json!({
                    "apiVersion": "v1", "kind": "Pod", "spec": spec,
                    "metadata": { "name": "agent", "namespace": namespace },
                })
            };
            bench.server.dry_run(&pod("open"))?;
            let refused = match bench.server.dry_run(&pod("strict")) {
                Ok(()) => bail!("baseline takes the agent's pod"),
                Err(error) => format!("{error:#}"),
            };
            for reason in BASELINE_EXCEPTIONS {
                ensure!(refused.contains(reason), "no {reason:?} in {refused}");
            }
            for no_reason in [
                "privileged",
                "seccomp",
                "hostPID",
                "hostIPC",
                "forbidden sysctls",
                "AppArmor",
                "procMount",
                "SYS_ADMIN",
            ] {
                ensure!(!refused.contains(no_reason), "{no_reason:?} in {refused}");
            }
            let modules = refused.contains("SYS_MODULE");
            ensure!(modules == more.contains(&"modules.load=true"), "{refused}");
        }
    }
    // The test's pod needs no exception at all.
    bench.server.namespace("strict", &label("restricted"))?;
    let objects = bench.helms[0].objects(&bench.chart(), &values, &[])?;
    let test = objects
        .iter()
        .find(|object| object["kind"] == "Pod")
        .context("no test")?;
    let mut test = test.clone();
    test["metadata"]["namespace"] = "strict".into();
    bench.server.dry_run(&test)
}

pub fn helm_4(bench: &Bench) -> Result<()> {
    whole_life(bench, &bench.helms[0])
}

pub fn helm_3(bench: &Bench) -> Result<()> {
    whole_life(bench, &bench.helms[1])
}

/// Install, upgrade, roll back, uninstall; after each, what the API server has.
fn whole_life(bench: &Bench, helm: &Helm) -> Result<()> {
    let chart = bench.chart();
    let chart = text(&chart)?;
    let (first, second) = (
        bench.work.join("first.yaml"),
        bench.work.join("second.yaml"),
    );
    fs::write(&first, FIRST)?;
    fs::write(&second, SECOND)?;
    let release = |verb: &'static str, values: &Path| {
        let args = ["--namespace", NAMESPACE, "--values", text(values)?];
        helm.run(&[&[verb, RELEASE, chart][..], &args].concat())
    };
    let notes = release("install", &first)?.out;
    ensure!(notes.contains("rollout status ds/ipvs-agent"), "{notes}");
    ensure!(notes.contains("k8sServiceHost is not set"), "{notes}");
    ensure!(!notes.contains("kube-proxy is still there"), "{notes}");
    let sum_before = checksum(bench)?;
    let config = config(bench)?;
    ensure!(config.contains("scheduler: rr"), "{config}");

    // kube-proxy is there by now.
    bench.server.apply(&kube_proxy())?;
    let notes = release("upgrade", &second)?.out;
    ensure!(!notes.contains("k8sServiceHost is not set"), "{notes}");
    ensure!(notes.contains("kube-proxy is still there"), "{notes}");
    bench
        .server
        .delete("DaemonSet", "kube-system", "kube-proxy")?;
    let config_now = self::config(bench)?;
    ensure!(config_now.contains("scheduler: wlc"), "{config_now}");
    ensure!(
        config_now.contains("https://192.0.2.10:6443"),
        "{config_now}"
    );
    // Another configuration, other pods.
    ensure!(
        checksum(bench)? != sum_before,
        "the pods would stay as they are"
    );
    bench
        .server
        .get("PrometheusRule", NAMESPACE, "ipvs-agent")?;

    helm.run(&["rollback", RELEASE, "1", "--namespace", NAMESPACE])?;
    ensure!(
        self::config(bench)? == config,
        "rolled back to another configuration"
    );
    ensure!(checksum(bench)? == sum_before, "rolled back to other pods");
    ensure!(
        bench
            .server
            .get("PrometheusRule", NAMESPACE, "ipvs-agent")
            .is_err(),
        "an alert is left"
    );

    release("upgrade", &second)?;
    helm.run(&["uninstall", RELEASE, "--namespace", NAMESPACE])?;
    for kind in [
        "DaemonSet",
        "ConfigMap",
        "Service",
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "PrometheusRule",
    ] {
        let left = bench.server.names(kind, NAMESPACE)?;
        let left: Vec<_> = left
            .iter()
            .filter(|name| name.contains("ipvs-agent"))
            .collect();
        let wanted: &[&str] = if kind == "DaemonSet" {
            &["ipvs-agent-cleanup"]
        } else {
            &[]
        };
        ensure!(left == wanted, "{kind}: {left:?} after the release is gone");
    }
    bench
        .server
        .delete("DaemonSet", NAMESPACE, "ipvs-agent-cleanup")
}

fn checksum(bench: &Bench) -> Result<String> {
    let pods = bench.server.get("DaemonSet", NAMESPACE, "ipvs-agent")?;
    let sum = pods["spec"]["template"]["metadata"]["annotations"]["checksum/config"].as_str();
    Ok(sum.context("no checksum")?.to_owned())
}

fn config(bench: &Bench) -> Result<String> {
    let map = bench.server.get("ConfigMap", NAMESPACE, "ipvs-agent")?;
    Ok(map["data"]["config.yaml"]
        .as_str()
        .context("no file")?
        .to_owned())
}

fn kube_proxy() -> Value {
    let labels = json!({ "k8s-app": "kube-proxy" });
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": { "name": "kube-proxy", "namespace": "kube-system" },
        "spec": {
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": [{ "name": "kube-proxy", "image": "kube-proxy" }] },
            },
        },
    })
}

const FIRST: &str = "config: { scheduler: rr }\n";
const SECOND: &str = "k8sServiceHost: 192.0.2.10\nconfig: { scheduler: wlc }\nprometheusRule: { enabled: true }\n\
    cleanup: { enabled: true }\n";

/// Beyond what the level `baseline` permits; docs/install.md says why.
const BASELINE_EXCEPTIONS: [&str; 5] = [
    "host namespaces (hostNetwork=true)",
    "hostPath volumes",
    "hostPort",
    "NET_ADMIN",
    "NET_RAW",
];
