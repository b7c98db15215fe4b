//! kube-proxy's `KubeProxyConfiguration` v1alpha1, read as it is: each field is done, or named in a warning
//! with what to do instead. One that asks for nothing is passed over.
//!
//! Fields and defaults: `k8s.io/kube-proxy/config/v1alpha1/types.go` and its `defaults.go`.

use super::tree::{Field, Node};
use super::{Content, Setting, unknown};

pub const API_VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";
pub const KIND: &str = "KubeProxyConfiguration";

/// What becomes of a field.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// The flag that means the same.
    Flag(&'static str),
    /// Decides about others, or means the same in other words.
    Special,
    /// Not done. Values by which nothing is asked for that the agent does not do anyway, and what to do instead.
    Instead(&'static [&'static str], &'static str),
}

use Fate::{Flag, Instead, Special};

/// Every field, by its path.
const FIELDS: &[(&str, Fate)] = &[
    ("apiVersion", Special),
    ("kind", Special),
    (
        "featureGates",
        Instead(&[], "the agent has no feature gates"),
    ),
    ("clientConnection.kubeconfig", Flag("kubeconfig")),
    (
        "clientConnection.acceptContentTypes",
        Instead(&[], CONNECTION),
    ),
    (
        "clientConnection.contentType",
        Instead(&["application/vnd.kubernetes.protobuf"], CONNECTION),
    ),
    ("clientConnection.qps", Instead(&["0", "5"], CONNECTION)),
    ("clientConnection.burst", Instead(&["0", "10"], CONNECTION)),
    ("logging.format", Special),
    (
        "logging.flushFrequency",
        Instead(&["0", "5s", "5000000000"], "every line is written at once"),
    ),
    (
        "logging.verbosity",
        Instead(
            &["0"],
            "say --log debug, or a filter such as ipvs_agent::sync=debug",
        ),
    ),
    (
        "logging.vmodule",
        Instead(&[], "say a filter such as --log ipvs_agent::sync=debug"),
    ),
    (
        "logging.options",
        Instead(&[], "the log goes to standard error"),
    ),
    ("hostnameOverride", Flag("node-name")),
    (
        "bindAddress",
        Instead(
            &["0.0.0.0"],
            "the node's addresses come from its Node object and its interfaces",
        ),
    ),
    ("healthzBindAddress", Special),
    ("metricsBindAddress", Special),
    (
        "bindAddressHardFail",
        Instead(&["false", "true"], "the agent ends if it cannot listen"),
    ),
    (
        "enableProfiling",
        Instead(&["false"], "use perf: the binary has no profiling pages"),
    ),
    (
        "showHiddenMetricsForVersion",
        Instead(&[], "no metric is hidden"),
    ),
    ("mode", Special),
    ("iptables.masqueradeBit", Special),
    ("iptables.masqueradeAll", Special),
    (
        "iptables.localhostNodePorts",
        Instead(
            &["false"],
            "NodePorts never answer on loopback (CVE-2020-8558)",
        ),
    ),
    ("iptables.syncPeriod", Special),
    ("iptables.minSyncPeriod", Instead(&["0s", "1s"], CHANGES)),
    ("ipvs.syncPeriod", Special),
    ("ipvs.minSyncPeriod", Instead(&["0s"], CHANGES)),
    ("ipvs.scheduler", Flag("scheduler")),
    (
        "ipvs.excludeCIDRs",
        Instead(
            &[],
            "nothing to do: virtual servers that the agent did not make are never touched",
        ),
    ),
    (
        "ipvs.strictARP",
        Instead(
            &["false", "true"],
            "nothing to do: VIPs are on no interface, so no node answers ARP for them",
        ),
    ),
    ("ipvs.tcpTimeout", Special),
    ("ipvs.tcpFinTimeout", Special),
    ("ipvs.udpTimeout", Special),
    ("nftables.masqueradeBit", Special),
    ("nftables.masqueradeAll", Special),
    ("nftables.syncPeriod", Special),
    ("nftables.minSyncPeriod", Instead(&["0s", "1s"], CHANGES)),
    ("winkernel", Instead(&[], WINDOWS)),
    ("windowsRunAsService", Instead(&["false"], WINDOWS)),
    ("detectLocalMode", Flag("detect-local-mode")),
    ("detectLocal.bridgeInterface", Flag("pod-bridge-interface")),
    (
        "detectLocal.interfaceNamePrefix",
        Flag("pod-interface-name-prefix"),
    ),
    ("clusterCIDR", Special),
    ("nodePortAddresses", Flag("node-port-addresses")),
    (
        "oomScoreAdj",
        Instead(
            &["-999"],
            "give the pod the priority class system-node-critical, or the unit OOMScoreAdjust=",
        ),
    ),
    (
        "conntrack.maxPerCore",
        Instead(&[], "set net.netfilter.nf_conntrack_max on the node"),
    ),
    (
        "conntrack.min",
        Instead(&[], "set net.netfilter.nf_conntrack_max on the node"),
    ),
    (
        "conntrack.tcpEstablishedTimeout",
        Instead(
            &[],
            "set net.netfilter.nf_conntrack_tcp_timeout_established on the node",
        ),
    ),
    (
        "conntrack.tcpCloseWaitTimeout",
        Instead(
            &[],
            "set net.netfilter.nf_conntrack_tcp_timeout_close_wait on the node",
        ),
    ),
    (
        "conntrack.tcpBeLiberal",
        Instead(
            &["false"],
            "set net.netfilter.nf_conntrack_tcp_be_liberal=1 on the node",
        ),
    ),
    (
        "conntrack.udpTimeout",
        Instead(
            &["0s"],
            "set net.netfilter.nf_conntrack_udp_timeout on the node",
        ),
    ),
    (
        "conntrack.udpStreamTimeout",
        Instead(
            &["0s"],
            "set net.netfilter.nf_conntrack_udp_timeout_stream on the node",
        ),
    ),
    (
        "configSyncPeriod",
        Instead(
            &["0s", "15m", "15m0s"],
            "nothing to do: watches tell every change, and are made anew when they break",
        ),
    ),
    (
        "portRange",
        Instead(&[], "nothing to do: kube-proxy ignores it too"),
    ),
];

const CONNECTION: &str = "nothing to do: the agent watches a few kinds of objects and polls none";
const CHANGES: &str = "nothing to do: changes that come together go together";
const WINDOWS: &str = "the agent runs on Linux alone";

/// Every field with what becomes of it, for people.
pub fn described() -> impl Iterator<Item = (&'static str, String)> {
    FIELDS.iter().map(|(path, fate)| {
        let told = match fate {
            Flag(flag) => format!("`--{flag}`"),
            Special => match *path {
                "apiVersion" | "kind" => "that it is this file".to_owned(),
                "logging.format" => "`--log-format`; text and json".to_owned(),
                "healthzBindAddress" => "`--health-address`; an address alone is on port 10256".to_owned(),
                "metricsBindAddress" => "`--metrics-address`; an address alone is on port 10249".to_owned(),
                "mode" => "`--dataplane`: ipvs is auto, iptables is iptables; nftables is warned of and auto".to_owned(),
                "clusterCIDR" => "`--cluster-cidr`".to_owned(),
                path if path.ends_with("masqueradeBit") => "`--masquerade-mark`, by the mode in force".to_owned(),
                path if path.ends_with("masqueradeAll") => "`--masquerade-all`, by the mode in force".to_owned(),
                path if path.ends_with("syncPeriod") => "`--audit-interval`, by the mode in force".to_owned(),
                "ipvs.tcpTimeout" => "`--ipvs-tcp-timeout`".to_owned(),
                "ipvs.tcpFinTimeout" => "`--ipvs-tcpfin-timeout`".to_owned(),
                _ => "`--ipvs-udp-timeout`".to_owned(),
            },
            Instead(_, advice) => format!("not done: {advice}"),
        };
        (*path, told)
    })
}

/// What the fields set. An error comes with its line.
pub fn read(fields: &[Field]) -> Result<Content, (u64, String)> {
    let mut leaves = Vec::new();
    flatten("", fields, &mut leaves)?;
    let text = |path: &str| {
        let leaf = leaves.iter().find(|(at, _)| at == path);
        leaf.and_then(|(_, field)| field.value.node.scalar())
    };
    let mode = text("mode").unwrap_or_default();
    let mut content = Content::default();
    for (path, field) in &leaves {
        let node = &field.value.node;
        let fate = FIELDS.iter().find(|(known, _)| known == path);
        // Nothing said is nothing done.
        if node.is_empty() {
            continue;
        }
        match fate {
            Some((_, Flag(flag))) => content.set(flag, path, field, words(node))?,
            Some((_, Special)) => special(&mut content, path, field, &mode)?,
            Some((_, Instead(defaults, advice))) => {
                let said = node.scalar();
                let is_default = said.is_some_and(|said| defaults.contains(&&*said));
                if !is_default && !says_nothing(node) {
                    let line = field.line;
                    let text = format!("line {line}: {path} is not done: {advice}");
                    content.warnings.push(text);
                }
            }
            // Found by `flatten` already.
            None => {}
        }
    }
    Ok(content)
}

impl Content {
    fn set(
        &mut self,
        flag: &str,
        path: &str,
        field: &Field,
        values: Option<Vec<String>>,
    ) -> Result<(), (u64, String)> {
        let kind = field.value.node.kind();
        let values = values.ok_or_else(|| (field.line, format!("{path} does not take {kind}")))?;
        self.settings.push(Setting {
            flag: flag.to_owned(),
            values,
            field: path.to_owned(),
            line: field.line,
        });
        Ok(())
    }
}

/// Fields that mean the same as a flag in other words.
fn special(
    content: &mut Content,
    path: &str,
    field: &Field,
    mode: &str,
) -> Result<(), (u64, String)> {
    let node = &field.value.node;
    let text = node.scalar().unwrap_or_default();
    let one = |value: String| Some(vec![value]);
    // The settings of the modes that are not in force say nothing.
    let of_mode = path.split_once('.').map(|(group, _)| group);
    let in_force = match of_mode {
        // kube-proxy's IPVS mode masquerades by the settings of iptables.
        Some("iptables") => mode != "nftables" && !(mode == "ipvs" && path.ends_with("syncPeriod")),
        Some("nftables") => mode == "nftables",
        Some("ipvs") => mode == "ipvs" || !path.ends_with("syncPeriod"),
        _ => true,
    };
    if !in_force {
        return Ok(());
    }
    let zero = matches!(&*text, "0" | "0s");
    match path.rsplit('.').next().unwrap_or(path) {
        "mode" => match &*text {
            "ipvs" => content.set("dataplane", path, field, one("auto".to_owned()))?,
            "iptables" => content.set("dataplane", path, field, one(text))?,
            "nftables" => content.warnings.push(format!(
                "line {}: mode nftables is not done: IPVS serves, or iptables where there is none",
                field.line
            )),
            _ => {
                let text = format!("mode {text:?}: it takes ipvs, iptables or nftables");
                return Err((field.line, text));
            }
        },
        "masqueradeBit" => {
            let bit = text.parse().ok().and_then(|bit| 1_u32.checked_shl(bit));
            let error = || (field.line, format!("{path} {text:?}: it takes 0 to 31"));
            let bit = bit.ok_or_else(error)?;
            content.set("masquerade-mark", path, field, one(format!("{bit:#x}")))?;
        }
        "masqueradeAll" => content.set("masquerade-all", path, field, one(text))?,
        "syncPeriod" if !zero => content.set("audit-interval", path, field, one(text))?,
        "tcpTimeout" if !zero => content.set("ipvs-tcp-timeout", path, field, one(text))?,
        "tcpFinTimeout" if !zero => content.set("ipvs-tcpfin-timeout", path, field, one(text))?,
        "udpTimeout" if !zero => content.set("ipvs-udp-timeout", path, field, one(text))?,
        "format" => match &*text {
            "text" | "json" => content.set("log-format", path, field, one(text))?,
            _ => {
                return Err((
                    field.line,
                    format!("{path} {text:?}: it takes text or json"),
                ));
            }
        },
        "clusterCIDR" => {
            let cidrs = text.split(',').map(|cidr| cidr.trim().to_owned());
            content.set("cluster-cidr", path, field, Some(cidrs.collect()))?;
        }
        // An address alone is on the port that everybody knows.
        "healthzBindAddress" => {
            content.set("health-address", path, field, one(with_port(&text, 10256)))?;
        }
        "metricsBindAddress" => {
            content.set("metrics-address", path, field, one(with_port(&text, 10249)))?;
        }
        _ => {}
    }
    Ok(())
}

/// Zero values, as kubeadm writes them out, alone or in an object.
fn says_nothing(node: &Node) -> bool {
    match node {
        Node::Map(fields) => fields.iter().all(|field| says_nothing(&field.value.node)),
        Node::Bool(false) => true,
        Node::Number(text) | Node::Text(text) => matches!(&**text, "" | "0" | "0s"),
        node => node.is_empty(),
    }
}

fn with_port(address: &str, port: u16) -> String {
    match address.parse::<std::net::IpAddr>() {
        Ok(addr) => std::net::SocketAddr::new(addr, port).to_string(),
        Err(_) => address.to_owned(),
    }
}

/// The texts of a value or of a list of them.
fn words(node: &Node) -> Option<Vec<String>> {
    match node {
        Node::List(items) => items.iter().map(|item| item.node.scalar()).collect(),
        node => node.scalar().map(|text| vec![text]),
    }
}

/// Every field with its path, down to those that [`FIELDS`] knows.
fn flatten<'a>(
    above: &str,
    fields: &'a [Field],
    leaves: &mut Vec<(String, &'a Field)>,
) -> Result<(), (u64, String)> {
    for field in fields {
        let path = match above {
            "" => field.name.clone(),
            above => format!("{above}.{}", field.name),
        };
        let below = format!("{path}.");
        if FIELDS.iter().any(|(known, _)| *known == path) {
            leaves.push((path, field));
        } else if FIELDS.iter().any(|(known, _)| known.starts_with(&below)) {
            match &field.value.node {
                Node::Map(inner) => flatten(&path, inner, leaves)?,
                Node::Null => {}
                node => {
                    let text = format!("{path} takes an object, not {}", node.kind());
                    return Err((field.line, text));
                }
            }
        } else {
            let known = FIELDS.iter().map(|(known, _)| *known);
            return Err((field.line, unknown(&path, known)));
        }
    }
    Ok(())
}
