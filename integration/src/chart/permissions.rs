//! The agent with the chart's own ServiceAccount on an API server that asks for permissions, and with one verb less.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::Bench;
use super::alerts::names_in_queries;
use super::helm::{NAMESPACE, RELEASE, text};
use crate::guest::tool;
use crate::guest::wait::eventually;

/// An installed chart, and an agent with its account and its file. Both end when dropped.
pub struct Installed<'a> {
    bench: &'a Bench,
    child: Option<Child>,
    log: PathBuf,
}

impl<'a> Installed<'a> {
    pub fn new(bench: &'a Bench, name: &str) -> Result<Self> {
        let chart = bench.chart();
        let address = bench.server.url.trim_start_matches("https://").to_owned();
        let (host, port) = address.rsplit_once(':').context("no port")?;
        bench.helms[0].run(&[
            "install",
            RELEASE,
            text(&chart)?,
            "--namespace",
            NAMESPACE,
            "--set",
            &format!("k8sServiceHost={host},k8sServicePort={port}"),
            "--set",
            "config.dataplane=iptables,config.auditInterval=2s",
            "--set",
            "config.socket=/run/ipvs-agent/agent.sock",
        ])?;
        bench.server.apply(
            &json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": NODE },
            "spec": { "podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"] } }),
        )?;
        bench.server.apply(&service())?;
        bench.server.apply(&slice())?;
        Ok(Self {
            bench,
            child: None,
            log: bench.work.join(format!("agent-{name}.log")),
        })
    }

    /// Takes a verb out of the role.
    fn without(&self, resource: &str, verb: &str) -> Result<()> {
        let mut role = self.bench.server.get("ClusterRole", "", RELEASE)?;
        let rules = role["rules"].as_array_mut().context("no rules")?;
        let rule = rules
            .iter_mut()
            .find(|rule| rule["resources"] == json!([resource]));
        let verbs = &mut rule.context("no such rule")?["verbs"];
        let left: Vec<Value> = verbs
            .as_array()
            .context("no verbs")?
            .iter()
            .filter(|v| **v != verb)
            .cloned()
            .collect();
        ensure!(
            left.len() + 1 == verbs.as_array().map_or(0, Vec::len),
            "no verb {verb}"
        );
        *verbs = left.into();
        role["metadata"] = json!({ "name": RELEASE });
        self.bench.server.apply(&role)
    }

    /// Starts the agent as a pod of the DaemonSet would.
    pub fn start(&mut self) -> Result<()> {
        self.start_with(true)
    }

    /// The same with or without the mount of the value `sysctls`.
    fn start_with(&mut self, sysctls: bool) -> Result<()> {
        let bench = self.bench;
        let map = bench.server.get("ConfigMap", NAMESPACE, RELEASE)?;
        let file = map["data"]["config.yaml"].as_str().context("no file")?;
        let config = bench.work.join("agent.yaml");
        fs::write(&config, file)?;
        let token = bench.work.join("agent.token");
        fs::write(&token, bench.server.token(NAMESPACE, RELEASE)?)?;
        let log = File::create(&self.log)?;
        let child = contained(bench)?
            .args([
                "run",
                "--config",
                text(&config)?,
                "--token-file",
                text(&token)?,
            ])
            .args([
                "--apiserver-ca",
                text(&bench.server.authority)?,
                "--log",
                "debug",
            ])
            .env_remove("KUBECONFIG")
            .env("NODE_NAME", NODE)
            .envs(sysctls.then_some(("IPVS_AGENT_PROC_SYS", "/run/host/proc/sys")))
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start the agent")?;
        self.child = Some(child);
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        if let Some(child) = &mut self.child {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What is forbidden, by the log.
    fn forbidden(&self) -> Vec<String> {
        let log = self.log();
        let lines = log
            .lines()
            .filter(|line| line.contains("forbidden") || line.contains("Forbidden"));
        lines.map(str::to_owned).collect()
    }

    /// Waits until the log tells of this permission, as the API server words it.
    fn misses(&self, resource: &str, verb: &str) -> Result<()> {
        let says = format!("cannot {verb} resource \\\"{resource}\\\"");
        let plain = says.replace('\\', "");
        eventually(&format!("without {verb} {resource}"), || {
            let forbidden = self.forbidden();
            let told = forbidden
                .iter()
                .any(|line| line.contains(&says) || line.contains(&plain));
            // An old server has none of them, so the log says what is done without.
            let cidrs = (resource, verb) == ("servicecidrs", "list")
                && self
                    .log()
                    .contains("ServiceCIDR objects, or they may not be read");
            Ok(if told || cidrs {
                Ok(())
            } else {
                Err(format!("forbidden: {forbidden:?}"))
            })
        })
    }
}

/// The agent's program, confined as a container runtime does.
fn contained(bench: &Bench) -> Result<Command> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", CONTAINER, "sh", text(&bench.agent)?]);
    Ok(command)
}

impl Drop for Installed<'_> {
    fn drop(&mut self) {
        let _ = self.stop();
        let _ = Command::new(&self.bench.agent).arg("cleanup").output();
        let _ = self.bench.helms[0].say(&["uninstall", RELEASE, "--namespace", NAMESPACE]);
        for event in self
            .bench
            .server
            .list("Event", "default")
            .unwrap_or_default()
        {
            if let Some(name) = event["metadata"]["name"].as_str() {
                let _ = self.bench.server.delete("Event", "default", name);
            }
        }
        let _ = self.bench.server.delete("Service", "default", "web");
        let _ = self.bench.server.apply(&service());
    }
}

/// The agent programs the Service, makes an Event and counts it up, and nothing is forbidden to it.
pub fn permitted(bench: &Bench) -> Result<()> {
    let mut installed = Installed::new(bench, "permitted")?;
    installed.start()?;
    is_served(&installed)?;
    counts_an_event_up(bench)?;
    let forbidden = installed.forbidden();
    ensure!(forbidden.is_empty(), "{forbidden:?}");
    let without = installed.log().contains("no ServiceCIDR objects");
    ensure!(!without, "no ServiceCIDRs were read");
    Ok(())
}

/// With the two capabilities that the chart gives, and a `/proc/sys` that is read-only as a container's is, the agent
/// sets the sysctls by the mount of the value `sysctls`, and says what it misses without.
pub fn unprivileged(bench: &Bench) -> Result<()> {
    let forward = "/proc/sys/net/ipv4/ip_forward";
    for sysctls in [true, false] {
        fs::write(forward, "0")?;
        let mut installed = Installed::new(bench, &format!("sysctls-{sysctls}"))?;
        installed.start_with(sysctls)?;
        if sysctls {
            is_served(&installed)?;
            let value = fs::read_to_string(forward)?;
            ensure!(value.trim() == "1", "served, and ip_forward is {value}");
        } else {
            eventually("a word about ip_forward", || {
                let log = installed.log();
                let mut lines = log.lines();
                let told = lines
                    .any(|line| line.contains("net.ipv4.ip_forward") && line.contains("Read-only"));
                Ok(if told { Ok(()) } else { Err(log) })
            })?;
        }
        let pid = installed
            .child
            .as_ref()
            .map(Child::id)
            .context("no agent")?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let held = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        ensure!(
            held.map(str::trim) == Some(NET_ADMIN_AND_NET_RAW),
            "{held:?}"
        );
        installed.stop()?;
        // And takes all of it away again.
        let output = contained(bench)?.arg("cleanup").output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let left = tool("ipset", &["save"])? + &tool("ip", &["rule"])?;
        let left = left.contains("create ") || left.contains("10256");
        ensure!(output.status.success() && !left, "{said} {left}");
    }
    Ok(())
}

/// What `helm test` runs passes where the agent serves, and fails where nothing does. There is no cluster DNS here: the
/// agent is asked at its address.
pub fn test_command(bench: &Bench) -> Result<()> {
    let mut installed = Installed::new(bench, "test")?;
    let pods = bench.helms[0].objects(&bench.chart(), &values(bench), &[])?;
    let test = pods.iter().find(|object| object["kind"] == "Pod");
    let script = &test.context("no test")?["spec"]["containers"][0]["args"][0];
    let script = script.as_str().context("no script")?;
    let name = "http://ipvs-agent.kube-system.svc:10256/readyz";
    ensure!(script.contains(name), "{script}");
    let script = script.replace(name, "http://127.0.0.1:10256/readyz");
    let kubernetes = bench.server.get("Service", "default", "kubernetes")?;
    let host = kubernetes["spec"]["clusterIP"].as_str().context("no IP")?;
    tool("mkdir", &["-p", "/run/applets"])?;
    tool("busybox", &["--install", "-s", "/run/applets"])?;
    let run = || {
        let output = Command::new("/run/applets/sh")
            .args(["-ec", &script])
            .env("PATH", "/run/applets")
            .env("KUBERNETES_SERVICE_HOST", host)
            .env("KUBERNETES_SERVICE_PORT", "443")
            .output()?;
        let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        anyhow::Ok((output.status.success(), format!("{out}{err}")))
    };
    let (passed, said) = run()?;
    ensure!(!passed, "it passed before anything served: {said}");
    installed.start()?;
    is_served(&installed)?;
    let (passed, said) = run()?;
    ensure!(passed && said.contains("\"healthy\":true"), "{said}");
    Ok(())
}

/// Every metric that an alert or the dashboard asks for is one of the agent's.
pub fn metrics(bench: &Bench) -> Result<()> {
    let mut installed = Installed::new(bench, "metrics")?;
    installed.start()?;
    is_served(&installed)?;
    let text = tool(
        "busybox",
        &["wget", "-q", "-O", "-", "http://127.0.0.1:10249/metrics"],
    )?;
    let families: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    ensure!(families.len() > 10, "{families:?}");
    let mut missing = BTreeSet::new();
    for name in names_in_queries(bench)? {
        let family = ["_total", "_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .unwrap_or(&name);
        if !families.contains(family)
            && !families.contains(name.as_str())
            && !LATER.contains(&family)
        {
            missing.insert(name);
        }
    }
    ensure!(missing.is_empty(), "no metrics {missing:?}");
    Ok(())
}

/// Without any one verb of the role, something is forbidden, and the log names it.
pub fn each_verb(bench: &Bench) -> Result<()> {
    for (resource, verb) in granted(bench)? {
        let mut installed = Installed::new(bench, &format!("without-{verb}-{resource}"))?;
        installed.without(&resource, &verb)?;
        installed.start()?;
        if resource == "events" {
            is_served(&installed)?;
            if verb == "patch" {
                meets_an_event_again(bench)?;
            }
        }
        installed.misses(&resource, &verb)?;
    }
    Ok(())
}

/// The role grants what was taken away one by one above, and not a verb more.
pub fn no_verb_is_idle(bench: &Bench) -> Result<()> {
    let granted = granted(bench)?;
    let watched = ["services", "endpointslices", "nodes", "servicecidrs"];
    let wanted: BTreeSet<(String, String)> = watched
        .iter()
        .flat_map(|resource| {
            ["list", "watch"].map(|verb| (resource.to_owned().to_owned(), verb.to_owned()))
        })
        .chain(["create", "patch"].map(|verb| ("events".to_owned(), verb.to_owned())))
        .collect();
    ensure!(granted == wanted, "{granted:?}");
    Ok(())
}

fn values(bench: &Bench) -> PathBuf {
    bench.chart().join("ci/default-values.yaml")
}

/// Resource and verb of everything that the rendered role grants.
fn granted(bench: &Bench) -> Result<BTreeSet<(String, String)>> {
    let objects = bench.helms[0].objects(&bench.chart(), &values(bench), &[])?;
    let role = super::helm::one(&objects, "ClusterRole", RELEASE)?;
    let texts = |value: &Value| -> Vec<String> {
        let items = value.as_array().cloned().unwrap_or_default();
        items
            .iter()
            .filter_map(|item| Some(item.as_str()?.to_owned()))
            .collect()
    };
    let mut granted = BTreeSet::new();
    for rule in role["rules"].as_array().context("no rules")? {
        for resource in texts(&rule["resources"]) {
            for verb in texts(&rule["verbs"]) {
                if [&resource, &verb].contains(&&"*".to_owned()) {
                    bail!("a rule grants everything");
                }
                granted.insert((resource.clone(), verb));
            }
        }
    }
    Ok(granted)
}

/// The agent is ready, and the kernel has the Service's cluster IP.
pub fn is_served(installed: &Installed<'_>) -> Result<()> {
    let web = installed.bench.server.get("Service", "default", "web")?;
    let address = web["spec"]["clusterIP"]
        .as_str()
        .context("no cluster IP")?
        .to_owned();
    eventually("the Service is served", || {
        let sets = tool("ipset", &["save"])?;
        let ready = tool(
            "busybox",
            &["wget", "-q", "-O", "-", "http://127.0.0.1:10256/readyz"],
        );
        Ok(if sets.contains(&address) && ready.is_ok() {
            Ok(())
        } else {
            let log = installed.log();
            let end: Vec<&str> = log.lines().rev().take(6).collect();
            Err(format!("no {address} in a set, or not ready: {end:#?}"))
        })
    })
}

/// A bad annotation is told, taken back, and comes again.
fn counts_an_event_up(bench: &Bench) -> Result<()> {
    meets_an_event_again(bench)?;
    eventually("the Event is counted up", || {
        let events = events(bench)?;
        let counted = events.iter().any(|event| event["series"]["count"] == 2);
        Ok(if counted {
            Ok(())
        } else {
            Err(format!("{events:?}"))
        })
    })
}

fn meets_an_event_again(bench: &Bench) -> Result<()> {
    annotate(bench, Some("nonsense"))?;
    eventually("an Event", || {
        let events = events(bench)?;
        Ok(if events.is_empty() {
            Err("none".to_owned())
        } else {
            Ok(())
        })
    })?;
    annotate(bench, None)?;
    std::thread::sleep(SETTLE);
    annotate(bench, Some("nonsense"))
}

fn annotate(bench: &Bench, scheduler: Option<&str>) -> Result<()> {
    let mut service = service();
    service["metadata"]["annotations"] = match scheduler {
        Some(scheduler) => json!({ "ipvs-agent.io/scheduler": scheduler }),
        None => json!({}),
    };
    bench.server.apply(&service)
}

fn events(bench: &Bench) -> Result<Vec<Value>> {
    let events = bench.server.list("Event", "default")?;
    let ours = |event: &Value| {
        event["reportingController"] == "ipvs-agent" && event["regarding"]["name"] == "web"
    };
    Ok(events.into_iter().filter(ours).collect())
}

fn service() -> Value {
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web", "namespace": "default", "annotations": { "ipvs-agent.io/scheduler": "nonsense" } },
        "spec": { "ports": [{ "name": "http", "port": 80, "targetPort": 8080 }] } })
}

pub fn slice() -> Value {
    json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": { "name": "web-1", "namespace": "default", "labels": { "kubernetes.io/service-name": "web" } },
        "ports": [{ "name": "http", "protocol": "TCP", "port": 8080 }],
        "endpoints": [{ "addresses": ["10.244.1.7"], "nodeName": NODE, "conditions": { "ready": true } }] })
}

/// What a container runtime does to the agent, seccomp aside: sysctls read-only but for the chart's mount of the
/// node's, and two capabilities.
const CONTAINER: &str = "mkdir -p /run/host/proc/sys/net\n\
    mount --bind /proc/sys/net /run/host/proc/sys/net\n\
    mount --bind /proc/sys /proc/sys\n\
    mount -o remount,bind,ro /proc/sys\n\
    exec setpriv --bounding-set=-all,+net_admin,+net_raw --inh-caps=-all --no-new-privs \"$@\"";
/// Bits 12 and 13.
const NET_ADMIN_AND_NET_RAW: &str = "0000000000003000";
const NODE: &str = "n1";
/// For the agent to see that the annotation went before it comes again.
const SETTLE: std::time::Duration = std::time::Duration::from_secs(2);
/// Families without a sample yet are not shown.
const LATER: &[&str] = &[
    "kubeproxy_network_programming_duration_seconds",
    "kubeproxy_conntrack_reconciler_deleted_entries",
    "kubeproxy_proxy_livez",
    "kubeproxy_proxy_healthz",
];
