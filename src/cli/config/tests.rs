//! Files as people have them: what they set, what they are told, and what they are refused for.

use super::*;

fn parsed(words: &str, file: &str) -> Result<Parsed, Refusal> {
    let words = format!("ipvs-agent run --config f.yaml {words}");
    let words = words.split_whitespace().map(Into::into).collect();
    parse(words, |_| Ok(file.to_owned()))
}

/// The field's value in force.
fn value(words: &str, file: &str, field: &str) -> String {
    let parsed = parsed(words, file).unwrap_or_else(|refusal| panic!("{refusal:?}"));
    parsed
        .effective
        .get(field)
        .map(ToString::to_string)
        .unwrap_or_default()
}

fn refusal(file: &str) -> String {
    match parsed("", file) {
        Err(Refusal::Config(error)) => error.to_string(),
        Err(Refusal::Clap(error)) => panic!("clap: {error}"),
        Ok(_) => panic!("it was taken"),
    }
}

fn own(text: &str) -> String {
    format!("apiVersion: ipvs-agent.io/v1alpha1\nkind: AgentConfiguration\n{text}")
}

fn of_kube_proxy(text: &str) -> String {
    format!("apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n{text}")
}

#[test]
fn a_file_sets_flags_and_flags_override_it() {
    let file = own(
        "scheduler: wlc\nclusterCidr: [10.244.0.0/16, 'fd00:244::/32']\nmasqueradeAll: true\nrouteMark: 0x10000\n",
    );
    assert_eq!(value("", &file, "scheduler"), "\"wlc\"");
    assert_eq!(
        value("", &file, "clusterCidr"),
        r#"["10.244.0.0/16","fd00:244::/32"]"#
    );
    assert_eq!(value("", &file, "masqueradeAll"), "true");
    assert_eq!(value("", &file, "dataplane"), "\"auto\"");
    assert_eq!(value("--scheduler mh", &file, "scheduler"), "\"mh\"");
    assert_eq!(
        value("--masquerade-all=false", &file, "masqueradeAll"),
        "false"
    );
    // A list on the command line takes the place of the file's and is not added to it.
    assert_eq!(
        value("--cluster-cidr 10.1.0.0/16", &file, "clusterCidr"),
        r#"["10.1.0.0/16"]"#
    );
    let parsed = parsed("", &file).unwrap_or_else(|refusal| panic!("{refusal:?}"));
    let crate::cli::Command::Run(args) = parsed.cli.command else {
        panic!("another command")
    };
    assert_eq!(args.agent.kernel.route_mark, 0x10000);
}

#[test]
fn commands_that_see_the_node_as_an_agent_does_read_the_same_file() {
    let read = |words: &str| {
        let file = own("scheduler: wlc\nhealthAddress: 127.0.0.1:10999\nrouteMark: 0x10000\n");
        let words = words.split_whitespace().map(Into::into).collect();
        parse(words, |_| Ok(file.clone())).unwrap_or_else(|refusal| panic!("{refusal:?}"))
    };
    let crate::cli::Command::Check(check) = read("a check --config f.yaml").cli.command else {
        panic!("another command")
    };
    // What `check` has no flag for is for `run`.
    assert_eq!(
        (&*check.scheduler, check.kernel.route_mark),
        ("wlc", 0x10000)
    );
    let words = "a diff --config f.yaml --route-mark 0x20000 --manifests d";
    let crate::cli::Command::Diff(diff) = read(words).cli.command else {
        panic!("another command")
    };
    assert_eq!(diff.agent.services.scheduler, "wlc");
    assert_eq!(diff.agent.kernel.route_mark, 0x20000);
}

#[test]
fn what_a_file_says_wrongly_is_told_with_its_line() {
    for (text, told) in [
        (
            "schedulr: rr\n",
            "f.yaml:3: there is no field \"schedulr\"; is \"scheduler\" meant?",
        ),
        (
            "\nrouteMark: 3\n",
            "f.yaml:4: routeMark \"3\": it takes one bit of 32, such as 0x2000",
        ),
        (
            "dataplane: ebpf\n",
            "f.yaml:3: dataplane \"ebpf\": allowed are auto, ipvs, iptables",
        ),
        (
            "scheduler: [rr]\n",
            "f.yaml:3: scheduler takes one value, not a list",
        ),
        (
            "clusterCidr:\n- 10.0.0.0/8\n- {a: b}\n",
            "f.yaml:5: clusterCidr takes a list of texts",
        ),
        (
            "clusterCidr: [10.244.0.0/33]\n",
            "f.yaml:3: clusterCidr \"10.244.0.0/33\": it takes a CIDR such as 10.96.0.0/16 or fd00::/64",
        ),
        ("xyzzy: 1\n", "f.yaml:3: there is no field \"xyzzy\""),
        ("config: g.yaml\n", "f.yaml:3: there is no field \"config\""),
    ] {
        assert_eq!(refusal(&own(text)), told, "{text}");
    }
    let other = refusal("apiVersion: v1\nkind: ConfigMap\n");
    assert!(
        other.contains("apiVersion v1 with kind ConfigMap is not known")
            && other.contains("KubeProxyConfiguration"),
        "{other}"
    );
    let twice = refusal(&own("scheduler: rr\nscheduler: lc\n"));
    assert!(
        twice.starts_with("f.yaml:4:") && twice.contains("scheduler"),
        "{twice}"
    );
    let broken = refusal(&own("scheduler: [\n"));
    assert!(broken.starts_with("f.yaml:"), "{broken}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let words = ["ipvs-agent", "run", "--config", "f.yaml"]
        .map(Into::into)
        .into();
    let refused = parse(words, |_| Err(std::io::ErrorKind::NotFound.into()));
    let Err(Refusal::Config(error)) = refused else {
        panic!("it was taken")
    };
    assert_eq!(
        error.to_string(),
        "f.yaml: cannot read it: entity not found"
    );
}

/// As kubeadm writes it into the ConfigMap kube-proxy, zero values and all, with mode ipvs.
const KUBEADM: &str = "\
apiVersion: kubeproxy.config.k8s.io/v1alpha1
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: \"\"
  burst: 0
  contentType: \"\"
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
  qps: 0
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
conntrack:
  maxPerCore: null
  min: null
  tcpBeLiberal: false
  tcpCloseWaitTimeout: null
  tcpEstablishedTimeout: null
  udpStreamTimeout: 0s
  udpTimeout: 0s
detectLocal:
  bridgeInterface: \"\"
  interfaceNamePrefix: \"\"
detectLocalMode: \"\"
enableProfiling: false
healthzBindAddress: \"\"
hostnameOverride: \"\"
iptables:
  localhostNodePorts: null
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
ipvs:
  excludeCIDRs: null
  minSyncPeriod: 0s
  scheduler: \"\"
  strictARP: false
  syncPeriod: 0s
  tcpFinTimeout: 0s
  tcpTimeout: 0s
  udpTimeout: 0s
kind: KubeProxyConfiguration
logging:
  flushFrequency: 0
  options:
    json:
      infoBufferSize: \"0\"
    text:
      infoBufferSize: \"0\"
  verbosity: 0
metricsBindAddress: \"\"
mode: ipvs
nftables:
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
nodePortAddresses: null
oomScoreAdj: null
portRange: \"\"
showHiddenMetricsForVersion: \"\"
winkernel:
  enableDSR: false
  forwardHealthCheckVip: false
  networkName: \"\"
  rootHnsEndpointName: \"\"
  sourceVip: \"\"
";

#[test]
fn kubeadms_file_is_taken_as_it_is() {
    let parsed = parsed("", KUBEADM).unwrap_or_else(|refusal| panic!("{refusal:?}"));
    assert_eq!(parsed.warnings, [""; 0]);
    let told = |field: &str| parsed.effective[field].to_string();
    assert_eq!(
        told("kubeconfig"),
        "\"/var/lib/kube-proxy/kubeconfig.conf\""
    );
    assert_eq!(told("clusterCidr"), r#"["10.244.0.0/16"]"#);
    assert_eq!(told("dataplane"), "\"auto\"");
    assert_eq!(told("auditInterval"), "\"30s\"");
    assert_eq!(told("masqueradeMark"), "\"0x4000\"");
}

#[test]
fn each_field_of_kube_proxy_is_done_or_named_with_what_to_do() {
    let file = of_kube_proxy(
        "mode: ipvs\nipvs: {scheduler: sh, syncPeriod: 1m, tcpTimeout: 15m, strictARP: true, excludeCIDRs: [10.0.0.0/8]}\n\
         iptables: {masqueradeAll: true, masqueradeBit: 15, syncPeriod: 7s}\nnodePortAddresses: [primary]\n\
         healthzBindAddress: 192.0.2.1\nmetricsBindAddress: '[::1]:9999'\nconntrack: {maxPerCore: 65536}\n\
         detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: cni0}\nclusterCIDR: '10.244.0.0/16,fd00:244::/32'\n\
         hostnameOverride: n7\nlogging: {format: json, verbosity: 4}\n",
    );
    for (field, want) in [
        ("scheduler", "\"sh\""),
        ("auditInterval", "\"1m\""),
        ("ipvsTcpTimeout", "\"15m\""),
        ("masqueradeAll", "true"),
        ("masqueradeMark", "\"0x8000\""),
        ("nodePortAddresses", r#"["primary"]"#),
        ("healthAddress", "\"192.0.2.1:10256\""),
        ("metricsAddress", "\"[::1]:9999\""),
        ("detectLocalMode", "\"BridgeInterface\""),
        ("podBridgeInterface", "\"cni0\""),
        ("clusterCidr", r#"["10.244.0.0/16","fd00:244::/32"]"#),
        ("nodeName", "\"n7\""),
        ("logFormat", "\"json\""),
    ] {
        assert_eq!(value("", &file, field), want, "{field}");
    }
    let parsed = parsed("", &file).unwrap_or_else(|refusal| panic!("{refusal:?}"));
    let named: Vec<&str> = parsed
        .warnings
        .iter()
        .filter_map(|warning| warning.split(' ').nth(2))
        .collect();
    assert_eq!(
        named,
        [
            "ipvs.excludeCIDRs",
            "conntrack.maxPerCore",
            "logging.verbosity"
        ]
    );
    assert!(parsed.warnings[1].contains("nf_conntrack_max"));
}

/// No field is passed over in silence.
#[test]
fn each_field_alone_sets_something_or_is_warned_of() {
    let mut seen = 0;
    for (path, _) in kube_proxy::described() {
        let mode = match path.split('.').next() {
            Some("nftables") => "nftables",
            Some("ipvs") => "ipvs",
            _ => "iptables",
        };
        let value = match path {
            "apiVersion" | "kind" => continue,
            "mode" => "",
            "logging.format" => "json",
            "ipvs.scheduler" => "sh",
            "detectLocalMode" => "NodeCIDR",
            "clientConnection.kubeconfig" => "/etc/k",
            "clusterCIDR" => "10.0.0.0/8",
            "nodePortAddresses" => "[primary]",
            "healthzBindAddress" | "metricsBindAddress" => "'127.0.0.7:7'",
            "winkernel" | "featureGates" | "logging.vmodule" | "logging.options" => "{a: b}",
            path if path.ends_with("masqueradeBit") => "13",
            path if path.ends_with("eriod") || path.ends_with("imeout") => "7s",
            path if path.ends_with("masqueradeAll") => "true",
            "iptables.localhostNodePorts" | "enableProfiling" | "conntrack.tcpBeLiberal" => "true",
            "ipvs.excludeCIDRs" => "[10.0.0.0/8]",
            // Either way the agent does what it does.
            "bindAddressHardFail" | "ipvs.strictARP" | "windowsRunAsService" => continue,
            _ => "'7'",
        };
        let mut text = format!("mode: {mode}\n");
        if path != "mode" {
            let (group, field) = path.split_once('.').unwrap_or(("", path));
            text += &match group {
                "" => format!("{field}: {value}\n"),
                group => format!("{group}: {{{field}: {value}}}\n"),
            };
        }
        let without = if path == "mode" {
            ""
        } else {
            &format!("mode: {mode}\n")
        };
        let [before, after] = [without, &text].map(|text| {
            parsed("", &of_kube_proxy(text)).unwrap_or_else(|refusal| panic!("{refusal:?}"))
        });
        let warned = after.warnings.iter().any(|warning| warning.contains(path));
        assert!(
            warned || after.effective != before.effective,
            "{path}: {value}"
        );
        seen += 1;
    }
    assert!(seen > 45, "{seen}");
}

#[test]
fn kube_proxys_file_is_held_to_its_fields() {
    for (text, told) in [
        (
            "mode: ebpf\n",
            "f.yaml:3: mode \"ebpf\": it takes ipvs, iptables or nftables",
        ),
        (
            "ipvs:\n  schedular: rr\n",
            "f.yaml:4: there is no field \"ipvs.schedular\"; is \"ipvs.scheduler\" meant?",
        ),
        ("ipvs: rr\n", "f.yaml:3: ipvs takes an object, not a text"),
        (
            "iptables: {masqueradeBit: 40}\n",
            "f.yaml:3: iptables.masqueradeBit \"40\": it takes 0 to 31",
        ),
        (
            "clusterCIDR: 10.244.0.0\n",
            "f.yaml:3: clusterCIDR \"10.244.0.0\": it takes a CIDR such as 10.96.0.0/16 or fd00::/64",
        ),
    ] {
        assert_eq!(refusal(&of_kube_proxy(text)), told, "{text}");
    }
    let nftables = parsed("", &of_kube_proxy("mode: nftables\n"));
    let warnings = nftables.map(|parsed| parsed.warnings).unwrap_or_default();
    assert!(
        warnings[0].contains("mode nftables is not done"),
        "{warnings:?}"
    );
    assert_eq!(
        value("", &of_kube_proxy("mode: iptables\n"), "dataplane"),
        "\"iptables\""
    );
}
