//! One schema: the values' `config` and the agent's own configuration file. What the agent takes is asked of the
//! agent itself.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::Bench;
use super::helm::{RELEASE, one, text};

/// Every field of the agent is in the schema, and no other.
pub fn fields(bench: &Bench) -> Result<()> {
    let schema = config_schema(bench)?;
    let schema = schema["properties"].as_object().context("no properties")?;
    let has: BTreeSet<String> = schema.keys().cloned().collect();
    let documented = fs::read_to_string(bench.tree.join("docs/configuration.md"))?;
    let table = documented
        .split_once("<!-- fields:")
        .and_then(|(_, rest)| rest.split_once("<!-- end -->"))
        .context("docs/configuration.md has no table of fields")?
        .0;
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    let mut wanted: BTreeSet<String> = rows
        .filter_map(|row| Some(row.split_once('`')?.0.to_owned()))
        .collect();
    ensure!(wanted.len() > 20, "only {} fields", wanted.len());
    ensure!(wanted.remove(EACH_PODS_OWN), "no field {EACH_PODS_OWN}");
    ensure!(
        has == wanted,
        "only in the schema: {:?}; only in the agent: {:?}",
        has.difference(&wanted).collect::<Vec<_>>(),
        wanted.difference(&has).collect::<Vec<_>>()
    );
    // The table is the agent's, says a test of its own; a field is one if the agent says so too.
    for field in &has {
        let output = check(bench, &json!({ (field): null }))?;
        ensure!(output.status.success(), "{field}: {}", error(&output));
    }
    let output = check(bench, &json!({ "noSuchField": null }))?;
    ensure!(!output.status.success(), "the agent takes any field");
    Ok(())
}

/// Where the agent has a choice of names, the schema has the same.
pub fn choices(bench: &Bench) -> Result<()> {
    let schema = config_schema(bench)?;
    let properties = schema["properties"].as_object().context("no properties")?;
    let mut with_choice = 0;
    for (field, property) in properties {
        // What is offered is in the agent's complaint.
        let output = check(bench, &json!({ (field): "no-such-name" }))?;
        let complaint = error(&output);
        let offered = complaint.split_once("allowed are ").map(|(_, names)| {
            let names = names.split([' ', ',']).filter(|name| !name.is_empty());
            names.map(str::to_owned).collect::<BTreeSet<_>>()
        });
        let names = property["enum"].as_array().map(|names| {
            let names = names.iter().filter_map(Value::as_str);
            names.map(str::to_owned).collect::<BTreeSet<_>>()
        });
        if property["type"] == "boolean" {
            continue;
        }
        with_choice += usize::from(offered.is_some());
        ensure!(
            names == offered,
            "{field}: the schema has {names:?}, the agent {offered:?}: {complaint}"
        );
    }
    ensure!(
        with_choice >= 3,
        "the agent offered names for {with_choice} fields"
    );
    Ok(())
}

/// What the schema takes the agent takes; what it refuses here the agent refuses too.
pub fn values(bench: &Bench) -> Result<()> {
    let schema = config_schema(bench)?;
    let properties = schema["properties"].as_object().context("no properties")?;
    let mut tried = BTreeSet::new();
    for (field, good, bad) in EXAMPLES {
        tried.insert((*field).to_owned());
        for (examples, wanted) in [(good, true), (bad, false)] {
            for example in *examples {
                let value: Value = serde_json::from_str(example)?;
                let config = json!({ (*field): value });
                let agent = check(bench, &with_what_it_needs(field, config.clone()))?;
                ensure!(
                    agent.status.success() == wanted,
                    "{field}: {example}: the agent: {}",
                    error(&agent)
                );
                let chart = template(bench, &with_what_it_needs(field, config))?;
                ensure!(
                    chart.is_ok() == wanted,
                    "{field}: {example}: the chart: {chart:?}"
                );
            }
        }
    }
    let untried: Vec<_> = properties.keys().filter(|f| !tried.contains(*f)).collect();
    ensure!(untried.is_empty(), "no examples of {untried:?}");
    Ok(())
}

/// The agent takes the file and the arguments that each set of values gives it.
pub fn rendered(bench: &Bench) -> Result<()> {
    for (name, values) in bench.value_sets()? {
        let objects = bench.helms[0].objects(&bench.chart(), &values, &[])?;
        let pods = objects
            .iter()
            .find(|object| {
                object["kind"] == "DaemonSet"
                    && object["metadata"]["annotations"]["helm.sh/hook"].is_null()
            })
            .context("no DaemonSet")?;
        let args = &pods["spec"]["template"]["spec"]["containers"][0]["args"];
        let args: Vec<&str> = args
            .as_array()
            .context("no args")?
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let volumes = pods["spec"]["template"]["spec"]["volumes"]
            .as_array()
            .context("no volumes")?;
        let mounted = volumes
            .iter()
            .find(|volume| volume["name"] == "config")
            .context("no config")?;
        let mounted = mounted["configMap"]["name"].as_str().context("no name")?;
        let file = match one(&objects, "ConfigMap", mounted) {
            Ok(map) => map["data"]["config.yaml"]
                .as_str()
                .context("no file")?
                .to_owned(),
            Err(_) => KUBE_PROXY.to_owned(),
        };
        let path = bench.work.join(format!("{name}.yaml"));
        fs::write(&path, file)?;
        let args = args.iter().map(|arg| match arg.strip_prefix("--config=") {
            Some(_) => format!("--config={}", path.display()),
            None => (*arg).to_owned(),
        });
        let output = Command::new(&bench.agent)
            .args(args)
            .arg("--check-config")
            .output()?;
        ensure!(output.status.success(), "{name}: {}", error(&output));
        cleanup(bench, &name, &objects)?;
    }
    Ok(())
}

/// So does its cleanup.
fn cleanup(bench: &Bench, name: &str, objects: &[Value]) -> Result<()> {
    let mut hooks = objects
        .iter()
        .filter(|object| object["metadata"]["annotations"]["helm.sh/hook"] == "post-delete");
    let Some(pods) = hooks.next() else {
        return Ok(());
    };
    let args = &pods["spec"]["template"]["spec"]["initContainers"][0]["args"];
    let args = args.as_array().context("no args")?.iter();
    let output = Command::new(&bench.agent)
        .args(args.filter_map(Value::as_str))
        .arg("--dry-run")
        .output()?;
    ensure!(output.status.success(), "{name}: {}", error(&output));
    Ok(())
}

/// Runs the agent's own check over a file of these fields.
fn check(bench: &Bench, fields: &Value) -> Result<Output> {
    let mut whole = json!({ "apiVersion": "ipvs-agent.io/v1alpha1", "kind": "AgentConfiguration" });
    if let (Some(whole), Some(fields)) = (whole.as_object_mut(), fields.as_object()) {
        whole.extend(fields.clone());
    }
    let path = bench.work.join("config.yaml");
    fs::write(&path, whole.to_string())?;
    let args = ["run", "--check-config", "--config", text(&path)?];
    Command::new(&bench.agent)
        .args(args)
        .output()
        .context("cannot run the agent")
}

/// Whether the chart renders with such a `config`, or what it says.
fn template(bench: &Bench, config: &Value) -> Result<Result<(), String>> {
    let path = bench.work.join("values.yaml");
    fs::write(&path, json!({ "config": config }).to_string())?;
    let chart = bench.chart();
    let args = ["template", RELEASE, text(&chart)?, "--values", text(&path)?];
    let said = bench.helms[0].say(&args)?;
    Ok(if said.succeeded {
        Ok(())
    } else {
        Err(said.err)
    })
}

/// A mode that wants a second field gets it.
fn with_what_it_needs(field: &str, mut config: Value) -> Value {
    let second = match (field, config[field].as_str()) {
        ("detectLocalMode", Some("BridgeInterface")) => Some("podBridgeInterface"),
        ("detectLocalMode", Some("InterfaceNamePrefix")) => Some("podInterfaceNamePrefix"),
        _ => None,
    };
    if let Some(second) = second {
        config[second] = "cbr0".into();
    }
    config
}

fn config_schema(bench: &Bench) -> Result<Value> {
    let schema: Value = serde_json::from_str(&bench.read("values.schema.json")?)?;
    let config = &schema["properties"]["config"];
    if config["additionalProperties"] != false {
        bail!("the schema's config takes unknown fields");
    }
    Ok(config.clone())
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}

/// A DaemonSet has one configuration for all nodes.
const EACH_PODS_OWN: &str = "nodeName";

/// kubeadm's, in short.
const KUBE_PROXY: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n\
    mode: ipvs\nclusterCIDR: 10.244.0.0/16\nclientConnection:\n  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf\n";

type Examples = (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

/// Field, values that both take, values that both refuse.
const EXAMPLES: &[Examples] = &[
    ("manifests", &[r#""/etc/services""#], &["[]"]),
    ("kubeconfig", &[r#""/etc/kubernetes/admin.conf""#], &["[]"]),
    ("context", &[r#""admin""#], &["{}"]),
    (
        "apiserver",
        &[r#"["https://192.0.2.1:6443", "https://[2001:db8::1]"]"#],
        &["{}"],
    ),
    ("apiserverCa", &[r#""/etc/ca.crt""#], &["[]"]),
    ("tokenFile", &[r#""/etc/token""#], &["[]"]),
    (
        "dataplane",
        &[r#""auto""#, r#""ipvs""#, r#""iptables""#],
        &[r#""nftables""#, "1"],
    ),
    ("scheduler", &[r#""wlc""#, r#""mh""#], &["[]"]),
    (
        "serviceCidr",
        &[r#"["10.96.0.0/16", "fd00::/112"]"#],
        &[
            r#"["10.96.0.0"]"#,
            r#"["all"]"#,
            r#"["10.96.0.0/33"]"#,
            r#"["010.96.0.0/16"]"#,
            r#"["fd00::/129"]"#,
        ],
    ),
    (
        "clusterCidr",
        &[r#"["10.244.0.0/16"]"#, r#"["0.0.0.0/1", "fd00::/8"]"#],
        &[
            r#"["pods"]"#,
            r#"["0.0.0.0/0"]"#,
            r#"["::/0"]"#,
            r#"["300.0.0.0/8"]"#,
        ],
    ),
    (
        "detectLocalMode",
        &[
            r#""NodeCIDR""#,
            r#""BridgeInterface""#,
            r#""InterfaceNamePrefix""#,
        ],
        &[r#""nodeCIDR""#],
    ),
    (
        "podBridgeInterface",
        &[r#""cbr0""#],
        &[r#""a/b""#, r#""-x""#, r#""a-name-too-long""#],
    ),
    ("podInterfaceNamePrefix", &[r#""cali""#], &[r#""a b""#]),
    (
        "externalIpCidr",
        &[r#"["192.0.2.0/24"]"#],
        &[r#"["192.0.2.1-9"]"#],
    ),
    (
        "nodePortAddresses",
        &[r#"["primary"]"#, r#"["all"]"#, r#"["192.0.2.0/24"]"#],
        &[
            r#"["secondary"]"#,
            r#"["primary", "192.0.2.0/24"]"#,
            r#"["all", "primary"]"#,
        ],
    ),
    ("masqueradeAll", &["true", "false"], &[r#""maybe""#]),
    (
        "ipvsTcpTimeout",
        &[r#""15m""#, r#""0s""#, r#""24h""#, r#""1h30m""#],
        &[
            r#""-1s""#,
            r#""soon""#,
            r#""48h""#,
            r#""1.5s""#,
            r#""900ms""#,
        ],
    ),
    ("ipvsTcpfinTimeout", &[r#""2m""#], &[r#""-2m""#]),
    ("ipvsUdpTimeout", &[r#""5m30s""#], &[r#""x""#]),
    (
        "drainTimeout",
        &[r#""1m""#, r#""1.5s""#],
        &[r#""1 parsec""#, r#""0s""#, r#""0m0s""#],
    ),
    (
        "routeMark",
        &[r#""0x2000""#, r#""8192""#],
        &[r#""mark""#, r#""0x3""#, r#""0x0""#, r#""24576""#],
    ),
    ("masqueradeMark", &[r#""0x4000""#], &[r#""0xg""#]),
    ("nearMarks", &[r#""0x7ff000ff""#], &[r#""0x100000000f""#]),
    ("routeTable", &["10257"], &[r#""main""#, "-1", "254"]),
    ("rulePriority", &["91"], &["0", "32766"]),
    (
        "auditInterval",
        &[r#""30s""#, r#""1m30s""#],
        &[r#""often""#, r#""0s""#],
    ),
    ("sourcePatience", &[r#""15m""#, r#""0s""#], &[r#""soon""#]),
    (
        "healthAddress",
        &[
            r#""0.0.0.0:10256""#,
            r#""[::]:10256""#,
            r#""192.0.2.1:65535""#,
        ],
        &[r#""10256""#, r#""999.0.0.1:10256""#, r#""0.0.0.0:99999""#],
    ),
    (
        "metricsAddress",
        &[r#""127.0.0.1:10249""#],
        &[r#""localhost""#],
    ),
    (
        "trafficMetrics",
        &[r#""none""#, r#""services""#, r#""backends""#],
        &[r#""all""#, "true"],
    ),
    ("trafficMetricsLimit", &["0", "70000"], &["-1", r#""many""#]),
    ("socket", &[r#""/run/x/agent.sock""#], &["[]"]),
    ("logFormat", &[r#""text""#, r#""json""#], &[r#""xml""#]),
    (
        "log",
        &[r#""debug""#, r#""ipvs_agent::sync=debug""#],
        &["[]"],
    ),
];
