//! The image on a node, as the chart runs it: its DaemonSet's container out of the installed chart, in a sandbox with
//! exactly its capabilities and mounts, against the API server.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::container::Container;
use super::sandbox::Sandbox;
use super::verify::Image;
use crate::chart::helm::{Helm, NAMESPACE, RELEASE, one, text};
use crate::chart::server::Server;
use crate::guest::checks::{self, Check};
use crate::guest::cluster::{ApiServer, Cluster, State};
use crate::guest::http::{HEALTH_PORT, get};
use crate::guest::probe::{Answer, Transport, probe_within};
use crate::guest::sh_in;
use crate::guest::topology::{P11, P21, Topology};
use crate::guest::wait::eventually;
use crate::scenarios::expect::{answered_by, at};

/// What the host tells.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[arg(long)]
    layout: PathBuf,
    #[arg(long)]
    helm: PathBuf,
    /// The project
    #[arg(long)]
    tree: PathBuf,
    #[arg(long)]
    work: PathBuf,
    #[arg(long)]
    api: String,
    /// Who signed its certificate
    #[arg(long)]
    authority: PathBuf,
}

/// What the checks are made with.
struct Stage {
    image: Image,
    sandbox: Sandbox,
    /// The DaemonSet's pods, and the cleanup's.
    pods: Value,
    cleanup: Value,
    log: PathBuf,
    /// The API server's cluster IP.
    kubernetes: String,
    /// Addresses of a Service with two endpoints.
    vips: Vec<String>,
}

const CHECKS: [Check<Stage>; 5] = [
    ("contents", contents),
    ("programs", programs),
    ("serves", serves),
    ("cleanup", cleanup),
    ("without-net-admin", without_net_admin),
];

/// Runs them and ends with a verdict.
pub fn run(arguments: &Arguments) -> Result<()> {
    let _topology = Topology::new()?;
    let stage = Stage::new(arguments)?;
    checks::run(&stage, &CHECKS);
    Ok(())
}

impl Stage {
    fn new(arguments: &Arguments) -> Result<Self> {
        let server = || ApiServer {
            url: arguments.api.clone(),
            authority: arguments.authority.clone(),
        };
        let image = Image::read(&arguments.layout)?;
        let root = arguments.work.join("root");
        image.unpack(&root)?;
        let api = Server::connect(server())?;
        let mut cluster = Cluster::connect(server())?;
        cluster.node(NODE)?;
        let vips = cluster.service("web", json!({}), json!({}))?;
        cluster.endpoints("web", &[(P11, State::Ready), (P21, State::Ready)])?;

        let helm = Helm::new(&arguments.helm, &arguments.work, &api);
        let chart = arguments.tree.join("charts/ipvs-agent");
        let address = arguments.api.trim_start_matches("https://");
        let (host, port) = address.rsplit_once(':').context("no port")?;
        let values = arguments.work.join("values.yaml");
        let value = json!({
            "k8sServiceHost": host, "k8sServicePort": port.parse::<u16>()?,
            "config": { "dataplane": "iptables" },
            "cleanup": { "enabled": true }, "modules": { "load": true },
        });
        fs::write(&values, value.to_string())?;
        let rendered = helm.objects(&chart, &values, &[])?;
        let cleanup = pod(one(&rendered, "DaemonSet", "ipvs-agent-cleanup")?);
        helm.run(&[
            "install",
            RELEASE,
            text(&chart)?,
            "--namespace",
            NAMESPACE,
            "--values",
            text(&values)?,
        ])?;

        // What a kubelet puts beside the pod.
        let (account, config_maps) = (arguments.work.join("account"), arguments.work.join("maps"));
        fs::create_dir_all(&account)?;
        fs::write(account.join("token"), api.token(NAMESPACE, RELEASE)?)?;
        fs::write(account.join("namespace"), NAMESPACE)?;
        fs::copy(&arguments.authority, account.join("ca.crt"))?;
        let map = api.get("ConfigMap", NAMESPACE, RELEASE)?;
        fs::create_dir_all(config_maps.join(RELEASE))?;
        for (key, value) in map["data"].as_object().context("an empty ConfigMap")? {
            let value = value.as_str().context("not a text")?;
            fs::write(config_maps.join(RELEASE).join(key), value)?;
        }
        let kubernetes = api.get("Service", "default", "kubernetes")?;
        let kubernetes = kubernetes["spec"]["clusterIP"].as_str();
        let kubernetes = kubernetes.context("no cluster IP of kubernetes")?;
        Ok(Self {
            image,
            pods: pod(&api.get("DaemonSet", NAMESPACE, RELEASE)?),
            cleanup,
            log: arguments.work.join("agent.log"),
            kubernetes: kubernetes.to_owned(),
            vips,
            sandbox: Sandbox {
                node: NODE.to_owned(),
                root,
                config_maps,
                account,
            },
        })
    }

    fn container(&self, name: &str) -> Result<Container> {
        let mut container = Container::of(&self.pods, name, &self.image.config, NODE)?;
        // As a kubelet tells every container.
        let told = [
            ("KUBERNETES_SERVICE_HOST", self.kubernetes.as_str()),
            ("KUBERNETES_SERVICE_PORT", "443"),
        ];
        let told = told.map(|(name, value)| (name.to_owned(), value.to_owned()));
        container.environment.extend(told);
        Ok(container)
    }

    /// Runs a program to its end and gives what it said.
    fn run(&self, container: &Container) -> Result<String> {
        let output = self.sandbox.command(container)?.output()?;
        let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        ensure!(
            output.status.success(),
            "{:?}: {}: {out}{err}",
            container.command,
            output.status
        );
        Ok(format!("{out}{err}"))
    }

    fn start(&self, container: &Container) -> Result<Running> {
        let log = File::create(&self.log)?;
        let mut command: Command = self.sandbox.command(container)?;
        let child = command.stdout(log.try_clone()?).stderr(log).spawn()?;
        Ok(Running { child })
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether every cluster IP is answered by both endpoints.
    fn is_answered(&self) -> Result<()> {
        for vip in &self.vips {
            answered_by("p12", Transport::Tcp, at(vip, 80)?, &["p11", "p21"])?;
        }
        Ok(())
    }
}

/// A container's processes; they end when dropped.
struct Running {
    child: Child,
}

impl Running {
    /// The program's process, once it is that.
    fn status(&self, program: &str) -> Result<String> {
        let mut found = String::new();
        eventually(&format!("{program} is started"), || {
            let parent = self.child.id();
            let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
            let child = children.split_whitespace().next().unwrap_or("none");
            found = fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
            let is_there = field(&found, "Name").is_some_and(|name| name == program);
            Ok(if is_there {
                Ok(())
            } else {
                Err(format!("process {child}: {found}"))
            })
        })?;
        Ok(found)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The image has what it says of itself, and nothing that would help somebody who got in.
fn contents(stage: &Stage) -> Result<()> {
    let config = &stage.image.config["config"];
    let label = |name: &str| config["Labels"][format!("org.opencontainers.image.{name}")].clone();
    ensure!(label("version") == env!("CARGO_PKG_VERSION"), "{config}");
    for name in ["title", "description", "licenses", "created"] {
        ensure!(label(name).is_string(), "no label {name}: {config}");
    }
    ensure!(config["Entrypoint"] == json!(["ipvs-agent"]), "{config}");
    let root = &stage.sandbox.root;
    for shell in [
        "bin/sh",
        "bin/bash",
        "bin/busybox",
        "usr/bin/apt",
        "usr/bin/dpkg",
    ] {
        ensure!(!root.join(shell).exists(), "{shell} is in the image");
    }
    let package = root.join("var/lib/dpkg/status.d/iptables");
    ensure!(
        fs::read_to_string(package)?.contains("\nVersion: "),
        "no list of packages"
    );
    no_one_gains(root)
}

/// No file that gives rights to who starts it.
fn no_one_gains(folder: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let file = entry.metadata()?;
        let mode = file.permissions().mode();
        let path = entry.path();
        ensure!(
            !file.is_file() || mode & 0o6000 == 0,
            "{} is setuid",
            path.display()
        );
        if file.is_dir() {
            no_one_gains(&path)?;
        }
    }
    Ok(())
}

/// What the agent and the init container start is there and finds its libraries.
fn programs(stage: &Stage) -> Result<()> {
    let agent = stage.container("ipvs-agent")?;
    let version = stage.run(&agent.with(&["--version"]))?;
    ensure!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    for family in ["iptables", "ip6tables"] {
        for (variant, says) in [
            ("", "nf_tables"),
            ("-nft", "nf_tables"),
            ("-legacy", "legacy"),
        ] {
            for verb in ["save", "restore"] {
                let mut tool = agent.with(&["--version"]);
                tool.command[0] = format!("{family}{variant}-{verb}");
                let version = stage.run(&tool)?;
                ensure!(version.contains(says), "{:?}: {version}", tool.command);
            }
        }
    }
    let modules = stage.container("modules")?;
    ensure!(
        modules.capabilities == ["SYS_MODULE"],
        "{:?}",
        modules.capabilities
    );
    let version = stage.run(&modules.with(&["--version"]))?;
    ensure!(version.contains("kmod"), "{:?}: {version}", modules.command);
    Ok(())
}

/// The agent gets ready and serves, with those rights; what one types in its container works.
fn serves(stage: &Stage) -> Result<()> {
    let agent = stage.container("ipvs-agent")?;
    ensure!(
        agent.capabilities == ["NET_ADMIN", "NET_RAW"],
        "{:?}",
        agent.capabilities
    );
    let begin = Instant::now();
    let running = stage.start(&agent)?;
    is_ready(stage)?;
    let took = begin.elapsed();
    stage.is_answered()?;

    let status = running.status("ipvs-agent")?;
    for (name, wanted) in [
        ("CapEff", NET_ADMIN_AND_NET_RAW),
        ("CapPrm", NET_ADMIN_AND_NET_RAW),
        ("CapBnd", NET_ADMIN_AND_NET_RAW),
        ("CapInh", NONE),
        ("CapAmb", NONE),
        ("NoNewPrivs", "1"),
    ] {
        let found = field(&status, name).unwrap_or_default();
        ensure!(found == wanted, "{name} is {found}, wanted {wanted}");
    }
    let pid = field(&status, "Pid").context("no pid")?;
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
    let root = mounts
        .lines()
        .rfind(|line| line.split(' ').nth(4) == Some("/"));
    let root = root.with_context(|| format!("no root in {mounts}"))?;
    let options = root.split(' ').nth(5).unwrap_or_default();
    ensure!(
        options.split(',').any(|option| option == "ro"),
        "the root is {options}"
    );

    // Asked over the socket, as `kubectl exec` does.
    let told = stage.run(&agent.with(&["explain", "default/web"]))?;
    for vip in &stage.vips {
        ensure!(told.contains(vip.as_str()), "no {vip} in {told}");
    }
    // What it finds is the node's; that it comes to its end, and sees the tools, is the image's.
    let output = stage.sandbox.command(&agent.with(&["check"]))?.output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        said.contains("iptables") && matches!(output.status.code(), Some(0 | 1)),
        "{said}"
    );

    let size = fs::metadata(stage.sandbox.root.join(super::build::PROGRAM))?.len();
    println!(
        "     binary {}, image {} unpacked; ready after {} ms; VmRSS {}, VmHWM {}",
        megabytes(size),
        megabytes(u64::try_from(
            stage.image.layers.iter().map(Vec::len).sum::<usize>()
        )?),
        took.as_millis(),
        field(&status, "VmRSS").unwrap_or_default(),
        field(&status, "VmHWM").unwrap_or_default(),
    );
    Ok(())
}

/// The hook of `helm uninstall` takes away what the agent left, from its own container.
fn cleanup(stage: &Stage) -> Result<()> {
    let left = || -> Result<String> { Ok(sh_in(NODE, "ipset save")? + &sh_in(NODE, "ip rule")?) };
    let rules = || sh_in(NODE, "iptables-save");
    ensure!(rules()?.contains(CHAINS), "nothing was left to take away");
    let container = Container::of(&stage.cleanup, "cleanup", &stage.image.config, NODE)?;
    stage.run(&container)?;
    let (left, rules) = (left()?, rules()?);
    ensure!(
        !left.contains("create ") && !rules.contains(CHAINS),
        "{left}{rules}"
    );
    Ok(())
}

/// Without the one capability nothing is served, and the agent says why: what is proved above is not so by accident.
fn without_net_admin(stage: &Stage) -> Result<()> {
    let mut agent = stage.container("ipvs-agent")?;
    agent.capabilities.retain(|name| name != "NET_ADMIN");
    let running = stage.start(&agent)?;
    eventually("a word about what is not permitted", || {
        let log = stage.log();
        Ok(if log.contains(NOT_PERMITTED) {
            Ok(())
        } else {
            Err(log)
        })
    })?;
    if let Ok(status) = running.status("ipvs-agent") {
        let held = field(&status, "CapEff").unwrap_or_default();
        ensure!(held == NET_RAW, "it holds {held}");
    }
    if let Some(page) = get(NODE, at("127.0.0.1", HEALTH_PORT)?, "/readyz")? {
        ensure!(page.status != 200, "it is ready: {}", page.body);
    }
    for vip in &stage.vips {
        let answer = probe_within(Duration::from_secs(1), "p12", Transport::Tcp, at(vip, 80)?)?;
        if let Answer::From { name, .. } = answer {
            bail!("{vip} is answered by {name}");
        }
    }
    Ok(())
}

fn is_ready(stage: &Stage) -> Result<()> {
    let server = at("127.0.0.1", HEALTH_PORT)?;
    eventually("the agent is ready", || {
        let page = get(NODE, server, "/readyz")?;
        Ok(match page {
            Some(page) if page.status == 200 => Ok(()),
            Some(page) => Err(page.body),
            None => Err(stage.log()),
        })
    })
}

fn pod(daemon_set: &Value) -> Value {
    daemon_set["spec"]["template"]["spec"].clone()
}

/// The first word of a line of `/proc/PID/status`; of a size, with its unit.
fn field(status: &str, name: &str) -> Option<String> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}

const NODE: &str = "n1";
/// Begins the names of the agent's chains.
const CHAINS: &str = "IPVS-AGENT";
/// Bits 12 and 13.
const NET_ADMIN_AND_NET_RAW: &str = "0000000000003000";
const NET_RAW: &str = "0000000000002000";
/// EPERM, as the log has it.
const NOT_PERMITTED: &str = "the kernel refused the request (error 1)";
const NONE: &str = "0000000000000000";
