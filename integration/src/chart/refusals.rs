//! Values that end an installation, each with a message that says what to do.

use std::fs;

use anyhow::{Result, ensure};

use super::Bench;
use super::helm::{RELEASE, text};

/// Each is refused by both Helms at `helm install`, nothing is made, and the message names the value.
pub fn refusals(bench: &Bench) -> Result<()> {
    let chart = bench.chart();
    for (number, (values, says)) in REFUSED.iter().enumerate() {
        let path = bench.work.join(format!("refused-{number}.yaml"));
        fs::write(&path, values)?;
        for helm in &bench.helms {
            let args = [
                "install",
                RELEASE,
                text(&chart)?,
                "--namespace",
                "refused",
                "--create-namespace",
                "--values",
                text(&path)?,
            ];
            let said = helm.say(&args)?;
            ensure!(!said.succeeded, "{values:?} was taken");
            for part in *says {
                ensure!(
                    said.err.contains(part),
                    "{values:?}: no {part:?} in {:?}",
                    said.err
                );
            }
        }
    }
    let made = bench.server.names("ConfigMap", "refused")?;
    ensure!(
        made.iter().all(|name| name == "kube-root-ca.crt"),
        "{made:?} were made"
    );
    Ok(())
}

/// Values, and what the message says.
const REFUSED: &[(&str, &[&str])] = &[
    ("config: { schedulr: wlc }", &["config", "schedulr"]),
    ("config: { nodeName: n1 }", &["config", "nodeName"]),
    (
        "config: { dataplane: nftables }",
        &["dataplane", "'auto', 'ipvs', 'iptables'"],
    ),
    (
        "config: { routeMark: 0x2000 }",
        &["routeMark", "want string"],
    ),
    (
        "config: { auditInterval: 30 }",
        &["auditInterval", "want string"],
    ),
    (
        "config: { clusterCidr: 10.244.0.0/16 }",
        &["clusterCidr", "want array"],
    ),
    (
        "config: { rulePriority: 40000 }",
        &["rulePriority", "32,765"],
    ),
    (
        "config: { detectLocalMode: BridgeInterface }",
        &["podBridgeInterface"],
    ),
    (
        "k8sServiceHost: https://192.0.2.1:6443",
        &["k8sServiceHost", "does not match pattern"],
    ),
    ("k8sServicePort: 70000", &["k8sServicePort"]),
    (
        "{ k8sServiceHost: a, config: { apiserver: ['https://b'] } }",
        &["k8sServiceHost and config.apiserver", "set one"],
    ),
    (
        "serviceMonitor: { enabled: true }",
        &["127.0.0.1:10249", "set config.metricsAddress"],
    ),
    (
        "{ config: { metricsAddress: '0.0.0.0:10249' }, serviceMonitor: { enabled: true }, podMonitor: { enabled: true } }",
        &["scrape every agent twice"],
    ),
    (
        "config: { routeMark: '16384' }",
        &["config.routeMark and config.masqueradeMark", "two bits"],
    ),
    (
        "config: { clusterCidr: [10.244.0.0/40] }",
        &["clusterCidr", "does not match pattern"],
    ),
    ("image: { tag: 1.0 }", &["tag", "want string"]),
    (
        "updateStrategy: { rollingUpdate: { maxSurge: 1 } }",
        &["maxSurge"],
    ),
    (
        "prometheusRule: { alerts: { NoSuchAlert: { enabled: false } } }",
        &["NoSuchAlert"],
    ),
    ("tolerations: Exists", &["tolerations", "want array"]),
];
