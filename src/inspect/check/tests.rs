//! A fit node passes every check; each mistake turns the check of its name, and none else.

#![allow(
    clippy::semicolon_if_nothing_returned,
    reason = "a mistake is an expression"
)]

use std::collections::{BTreeMap, BTreeSet};

use super::facts::*;
use super::*;

const RULES: &str = "\
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:IPVS-AGENT-FORWARD - [0:0]
-A FORWARD -j IPVS-AGENT-FORWARD
-A IPVS-AGENT-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:KUBE-POSTROUTING - [0:0]
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
COMMIT
*mangle
:cali-PREROUTING - [0:0]
-A cali-PREROUTING -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-PREROUTING -j MARK --set-xmark 0x0/0xe0000
-A IPVS-AGENT-INPUT -m mark --mark 0x2000/0x2000 -j MARK --set-xmark 0x0/0x2000
COMMIT
";

fn dump(program: &str, variant: Variant, text: &str) -> IptablesDump {
    IptablesDump {
        program: program.to_owned(),
        variant,
        saved: Ok(saved::parse(text)),
    }
}

fn texts<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

fn link(index: u32, name: &str, kind: &str, bridge: Option<u32>) -> Link {
    Link {
        index,
        name: name.to_owned(),
        kind: kind.to_owned(),
        bridge,
        hairpin: bridge.map(|_| true),
        promiscuous: false,
    }
}

fn rule(priority: u32, mark: Option<(u32, u32)>, table: u32) -> RoutingRule {
    RoutingRule {
        priority,
        mark,
        table,
        ours: false,
        selects: false,
    }
}

fn server(name: &str, addr: &str, ours: bool) -> VirtualServer {
    VirtualServer {
        name: name.to_owned(),
        addr: Some(addr.parse().unwrap()),
        ours,
    }
}

/// A node that serves by IPVS, with Calico, pods on a bridge, and an agent at work.
fn fit() -> Facts {
    let schedulers = [
        "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh",
    ];
    let extensions = [
        "set",
        "mark",
        "conntrack",
        "addrtype",
        "tcp",
        "MARK",
        "MASQUERADE",
        "REJECT",
        "SET",
    ];
    let ours = RoutingRule {
        ours: true,
        ..rule(90, Some((0x2000, 0x2000)), 10256)
    };
    Facts {
        wanted: Wanted {
            dataplane: Plane::Auto,
            scheduler: "mh".to_owned(),
            route_mark: 0x2000,
            masquerade_mark: 0x4000,
            near_marks: 0x7ff0_00ff,
            route_table: 10256,
            rule_priority: 90,
            service_cidrs: [
                "10.96.0.0/16".parse().unwrap(),
                "fd00:96::/112".parse().unwrap(),
            ]
            .into(),
            health_port: 10256,
            metrics_port: 10249,
        },
        release: "6.12.9-cloud".to_owned(),
        modules: Modules {
            loaded: texts(["ip_vs", "xt_ipvs"]),
            built_in: BTreeSet::new(),
            loadable: schedulers
                .iter()
                .map(|name| format!("ip_vs_{name}"))
                .collect(),
            known: true,
            extensions: texts(extensions),
            ip_vs: true,
        },
        set_types: Ok([
            ("hash:ip,port".to_owned(), true),
            ("hash:net".to_owned(), true),
        ]
        .into()),
        sysctls: [
            ("net.ipv4.ip_forward", "1"),
            ("net.ipv6.conf.all.forwarding", "1"),
            ("net.ipv4.vs.conntrack", "1"),
            ("net.ipv4.vs.expire_nodest_conn", "1"),
            ("net.ipv4.vs.expire_quiescent_template", "1"),
            ("net.ipv4.vs.conn_reuse_mode", "1"),
            ("net.ipv4.vs.run_estimation", "1"),
            ("net.bridge.bridge-nf-call-iptables", "1"),
            ("net.bridge.bridge-nf-call-ip6tables", "1"),
            ("net.netfilter.nf_conntrack_count", "1000"),
            ("net.netfilter.nf_conntrack_max", "262144"),
            ("net.netfilter.nf_conntrack_buckets", "65536"),
            (
                "net.netfilter.nf_conntrack_tcp_timeout_established",
                "432000",
            ),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into(),
        sysctls_writable: true,
        interfaces: ["all", "default", "lo", "eth0", "cali1"]
            .map(|name| (name.to_owned(), InterfaceSysctls::default()))
            .into(),
        iptables: vec![
            dump("iptables-nft", Variant::Nft, RULES),
            dump("ip6tables-nft", Variant::Nft, ""),
            dump("iptables-legacy", Variant::Legacy, ""),
            IptablesDump {
                program: "ip6tables-legacy".to_owned(),
                variant: Variant::Legacy,
                saved: Err("not installed".to_owned()),
            },
        ],
        nft_tables: Ok(texts(["filter", "firewalld"])),
        links: Ok(vec![
            link(1, "lo", "", None),
            link(2, "cni0", "bridge", None),
            link(3, "veth1", "veth", Some(2)),
            link(4, "docker0", "bridge", None),
            Link {
                hairpin: Some(false),
                ..link(5, "veth2", "veth", Some(4))
            },
        ]),
        rules: Ok(vec![
            rule(0, None, 255),
            ours,
            rule(100, Some((0x10_0000 >> 4, 0xf_0000)), 100),
            rule(32766, None, 254),
        ]),
        foreign_routes: Ok(0),
        processes: Ok(vec![Process {
            pid: 7,
            name: "ipvs-agent".to_owned(),
        }]),
        listeners: Ok([10249, 10256]
            .map(|port| Listener {
                port,
                process: Some("ipvs-agent".to_owned()),
            })
            .into()),
        health: Some(Ok(Health {
            status: 200,
            body: "{}".to_owned(),
        })),
        ipvs: Some(Ok(Ipvs {
            servers: vec![
                server("-t 10.96.0.1:443", "10.96.0.1", true),
                server("-t 192.0.2.9:80", "192.0.2.9", false),
            ],
            tcp_timeout: 86_400,
            connection_table: 4096,
        })),
        api_servers: Some(Ok(vec![ApiServer {
            name: "192.0.2.10:6443".to_owned(),
            addresses: ["192.0.2.10".parse().unwrap()].into(),
            cluster_ip: false,
            reached: Ok(()),
        }])),
        capabilities: Ok(1 << 12 | 1 << 13),
        processors: 4,
    }
}

fn findings(facts: &Facts) -> BTreeMap<&'static str, Finding> {
    let findings = Report::of(facts).findings.into_iter();
    findings.map(|finding| (finding.check, finding)).collect()
}

#[test]
fn a_fit_node_passes_every_check() {
    let report = Report::of(&fit());
    assert_eq!(report.findings.len(), CHECKS.len());
    for finding in &report.findings {
        assert_eq!(
            (finding.level, &finding.remedy),
            (Level::Ok, &None),
            "{finding:?}"
        );
    }
    assert_eq!(report.result, Level::Ok);
    assert!(report.only_not_ok().findings.is_empty());
}

/// What somebody did to the node, which check says so, how loud, and a word of it.
type Mistake = (&'static str, fn(&mut Facts), Level, &'static str);

fn set(facts: &mut Facts, name: &str, value: &str) {
    facts.sysctls.insert(name.to_owned(), value.to_owned());
}

fn old_kernel(facts: &mut Facts, release: &str) {
    facts.release = release.to_owned();
    facts.sysctls.remove("net.ipv4.vs.conn_reuse_mode");
}

fn interface<'a>(facts: &'a mut Facts, name: &str) -> &'a mut InterfaceSysctls {
    facts.interfaces.get_mut(name).unwrap()
}

fn add_rules(facts: &mut Facts, text: &str) {
    facts.iptables[0] = dump("iptables-nft", Variant::Nft, &format!("{RULES}{text}"));
}

fn ipvs(facts: &mut Facts) -> &mut Ipvs {
    facts.ipvs.as_mut().unwrap().as_mut().unwrap()
}

fn api_server(facts: &mut Facts) -> &mut ApiServer {
    &mut facts.api_servers.as_mut().unwrap().as_mut().unwrap()[0]
}

const MISTAKES: &[Mistake] = &[
    (
        "capabilities",
        |f| f.capabilities = Ok(1 << 12),
        Level::Warn,
        "CAP_NET_RAW",
    ),
    (
        "capabilities",
        |f| f.capabilities = Err("hidden".to_owned()),
        Level::Warn,
        "hidden",
    ),
    (
        "kernel",
        |f| old_kernel(f, "4.19.0-26"),
        Level::Warn,
        "4.19",
    ),
    (
        "kernel",
        |f| old_kernel(f, "3.10.0-1160.el7"),
        Level::Fail,
        "3.10",
    ),
    (
        "schedulers",
        |f| _ = f.modules.loadable.remove("ip_vs_mh"),
        Level::Warn,
        "ip_vs_mh",
    ),
    (
        "schedulers",
        |f| f.modules.known = false,
        Level::Warn,
        "/lib/modules",
    ),
    (
        "ip-set",
        |f| f.set_types = Ok([("hash:net".to_owned(), false)].into()),
        Level::Fail,
        "hash:net",
    ),
    (
        "ip-set",
        |f| f.set_types = Err("refused".to_owned()),
        Level::Warn,
        "refused",
    ),
    (
        "xtables",
        |f| _ = f.modules.extensions.remove("conntrack"),
        Level::Fail,
        "conntrack",
    ),
    (
        "xtables",
        |f| _ = f.modules.loaded.remove("xt_ipvs"),
        Level::Fail,
        "ipvs",
    ),
    (
        "connection-table",
        |f| ipvs(f).connection_table = 64,
        Level::Warn,
        "64",
    ),
    (
        "iptables",
        |f| _ = f.iptables.remove(1),
        Level::Warn,
        "only iptables-nft",
    ),
    (
        "iptables-mixture",
        |f| {
            f.iptables[2] = dump(
                "iptables-legacy",
                Variant::Legacy,
                "*filter\n-A INPUT -j ACCEPT\nCOMMIT\n",
            );
        },
        Level::Warn,
        "1 rule in legacy",
    ),
    (
        "forward-policy",
        |f| {
            add_rules(
                f,
                "*filter\n:FORWARD DROP [0:0]\n:DOCKER-FORWARD - [0:0]\n-A FORWARD -j DOCKER-FORWARD\n-A DOCKER-FORWARD -i docker0 -j ACCEPT\nCOMMIT\n",
            );
        },
        Level::Fail,
        "DROP in iptables-nft",
    ),
    (
        "ip-forward",
        |f| set(f, "net.ipv4.ip_forward", "0"),
        Level::Warn,
        "ip_forward=0",
    ),
    (
        "ip-forward",
        |f| {
            set(f, "net.ipv4.ip_forward", "0");
            f.sysctls_writable = false;
        },
        Level::Fail,
        "cannot be written",
    ),
    (
        "ipv6-forward",
        |f| {
            set(f, "net.ipv6.conf.all.forwarding", "0");
            f.sysctls_writable = false;
        },
        Level::Warn,
        "forwarding=0",
    ),
    (
        "ipvs-sysctls",
        |f| set(f, "net.ipv4.vs.conntrack", "0"),
        Level::Warn,
        "conntrack=0",
    ),
    (
        "conn-reuse",
        |f| set(f, "net.ipv4.vs.conn_reuse_mode", "0"),
        Level::Warn,
        "conn_reuse_mode=0",
    ),
    (
        "counters",
        |f| set(f, "net.ipv4.vs.run_estimation", "0"),
        Level::Warn,
        "run_estimation=0",
    ),
    (
        "conn-reuse",
        |f| f.release = "5.4.0".to_owned(),
        Level::Warn,
        "5.9",
    ),
    (
        "bridge-nf",
        |f| set(f, "net.bridge.bridge-nf-call-iptables", "0"),
        Level::Fail,
        "cni0",
    ),
    (
        "bridge-nf",
        |f| f.sysctls.retain(|name, _| !name.contains("bridge")),
        Level::Fail,
        "br_netfilter",
    ),
    (
        "hairpin",
        |f| f.links.as_mut().unwrap()[2].hairpin = Some(false),
        Level::Warn,
        "veth1",
    ),
    (
        "rp-filter",
        |f| interface(f, "eth0").rp_filter = 1,
        Level::Warn,
        "eth0",
    ),
    (
        "rp-filter",
        |f| interface(f, "all").rp_filter = 1,
        Level::Warn,
        "eth0",
    ),
    (
        "route-localnet",
        |f| interface(f, "eth0").route_localnet = 1,
        Level::Fail,
        "eth0",
    ),
    (
        "route-localnet",
        |f| interface(f, "all").route_localnet = 1,
        Level::Fail,
        "all",
    ),
    (
        "arp",
        |f| interface(f, "all").arp_ignore = 1,
        Level::Warn,
        "strictARP",
    ),
    (
        "other-proxy",
        |f| {
            f.processes = Ok(vec![Process {
                pid: 9,
                name: "kube-proxy".to_owned(),
            }]);
        },
        Level::Fail,
        "process 9",
    ),
    (
        "other-proxy",
        |f| {
            f.processes = Ok(vec![Process {
                pid: 9,
                name: "kube-router".to_owned(),
            }]);
        },
        Level::Warn,
        "kube-router",
    ),
    (
        "leftover-rules",
        |f| add_rules(f, "*nat\n:KUBE-SVC-ABC - [0:0]\nCOMMIT\n"),
        Level::Warn,
        "KUBE-SVC-ABC",
    ),
    (
        "leftover-rules",
        |f| {
            add_rules(
                f,
                "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n-A PREROUTING -j KUBE-SERVICES\nCOMMIT\n",
            );
        },
        Level::Fail,
        "still meet",
    ),
    (
        "leftover-nftables",
        |f| f.nft_tables = Ok(texts(["kube-proxy"])),
        Level::Fail,
        "kube-proxy",
    ),
    (
        "leftover-interfaces",
        |f| {
            f.links
                .as_mut()
                .unwrap()
                .push(link(9, "kube-ipvs0", "dummy", None))
        },
        Level::Warn,
        "kube-ipvs0",
    ),
    (
        "foreign-virtual-servers",
        |f| {
            ipvs(f)
                .servers
                .push(server("-t 10.96.7.7:80", "10.96.7.7", false))
        },
        Level::Fail,
        "10.96.7.7:80",
    ),
    (
        "foreign-virtual-servers",
        |f| f.wanted.service_cidrs.clear(),
        Level::Warn,
        "not known",
    ),
    (
        "mark-bits",
        |f| {
            add_rules(
                f,
                "*mangle\n-A cali-PREROUTING -j MARK --set-xmark 0x2000/0x2000\nCOMMIT\n",
            )
        },
        Level::Fail,
        "--route-mark: Calico",
    ),
    (
        "mark-bits",
        |f| {
            add_rules(
                f,
                "*mangle\n-A ts-forward -m mark --mark 0x40/0xf0 -j ACCEPT\nCOMMIT\n",
            )
        },
        Level::Warn,
        "--near-marks: Tailscale",
    ),
    (
        "mark-bits",
        |f| {
            add_rules(
                f,
                "*nat\n-A CNI-HOSTPORT-MASQ -m mark --mark 0x4000/0x4000 -j MASQUERADE\nCOMMIT\n",
            )
        },
        Level::Warn,
        "--masquerade-mark: a CNI plugin",
    ),
    (
        "mark-bits",
        |f| {
            add_rules(
                f,
                "*mangle\n-A INPUT -j MARK --set-xmark 0x1/0xffffffff\nCOMMIT\n",
            )
        },
        Level::Warn,
        "whole mark",
    ),
    (
        "mark-bits",
        |f| {
            f.rules
                .as_mut()
                .unwrap()
                .push(rule(200, Some((0x2000, 0x6000)), 77))
        },
        Level::Fail,
        "ip rule 200",
    ),
    (
        "rule-priority",
        |f| {
            f.rules
                .as_mut()
                .unwrap()
                .push(rule(90, Some((0x10_0000 >> 4, 0xf_0000)), 77))
        },
        Level::Warn,
        "priority 90",
    ),
    (
        "rule-priority",
        |f| f.rules.as_mut().unwrap().push(rule(50, None, 77)),
        Level::Fail,
        "priority 50",
    ),
    (
        "route-table",
        |f| {
            f.rules
                .as_mut()
                .unwrap()
                .push(rule(300, Some((0x10_0000 >> 4, 0xf_0000)), 10256))
        },
        Level::Fail,
        "10256",
    ),
    (
        "route-table",
        |f| f.foreign_routes = Ok(2),
        Level::Warn,
        "2 routes",
    ),
    (
        "conntrack-fill",
        |f| set(f, "net.netfilter.nf_conntrack_count", "200000"),
        Level::Warn,
        "76 %",
    ),
    (
        "conntrack-fill",
        |f| set(f, "net.netfilter.nf_conntrack_count", "262000"),
        Level::Fail,
        "99 %",
    ),
    (
        "conntrack-size",
        |f| set(f, "net.netfilter.nf_conntrack_max", "65536"),
        Level::Warn,
        "131072",
    ),
    (
        "conntrack-size",
        |f| f.processors = 16,
        Level::Warn,
        "524288",
    ),
    (
        "conntrack-size",
        |f| set(f, "net.netfilter.nf_conntrack_buckets", "16384"),
        Level::Warn,
        "buckets",
    ),
    (
        "idle-timeouts",
        |f| ipvs(f).tcp_timeout = 900,
        Level::Warn,
        "900 s",
    ),
    (
        "connection-table",
        |f| ipvs(f).connection_table = 256,
        Level::Warn,
        "256",
    ),
    (
        "api-server",
        |f| api_server(f).addresses = ["10.96.0.1".parse().unwrap()].into(),
        Level::Fail,
        "Service's address",
    ),
    (
        "api-server",
        |f| api_server(f).addresses = ["192.0.2.9".parse().unwrap()].into(),
        Level::Fail,
        "Service's address",
    ),
    (
        "api-server",
        |f| api_server(f).cluster_ip = true,
        Level::Fail,
        "Service's address",
    ),
    (
        "api-server",
        |f| api_server(f).reached = Err("refused".to_owned()),
        Level::Fail,
        "refused",
    ),
    (
        "api-server",
        |f| f.api_servers = Some(Err("no file".to_owned())),
        Level::Fail,
        "no file",
    ),
    (
        "ports",
        |f| f.listeners.as_mut().unwrap()[0].process = Some("nginx".to_owned()),
        Level::Fail,
        "10249 is taken by nginx",
    ),
    (
        "agent",
        |f| {
            f.health = Some(Ok(Health {
                status: 503,
                body: r#"{"reason":"ipset is gone"}"#.to_owned(),
            }))
        },
        Level::Fail,
        "503: ipset is gone",
    ),
    (
        "agent",
        |f| f.health = Some(Err("timed out".to_owned())),
        Level::Fail,
        "timed out",
    ),
    (
        "agent",
        |f| {
            f.health = None;
            f.listeners = Ok(Vec::new());
            f.processes = Ok(Vec::new());
        },
        Level::Warn,
        "its rules are there",
    ),
];

#[test]
fn each_mistake_turns_the_check_of_its_name_and_none_else() {
    let fit = fit();
    let mut wrong = Vec::new();
    for (check, mistake, level, word) in MISTAKES {
        let mut facts = fit.clone();
        mistake(&mut facts);
        for finding in Report::of(&facts).findings {
            let its = finding.check == *check;
            let wanted = if its { *level } else { Level::Ok };
            let told = finding.remedy.is_some() == (finding.level > Level::Ok)
                && (!its || finding.found.contains(word));
            if finding.level != wanted || !told {
                wrong.push(format!("{check} ({word}): {finding:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // A kernel without IPVS changes the answers of several.
    let told: BTreeSet<&str> = MISTAKES
        .iter()
        .map(|(check, ..)| *check)
        .chain(["ip-vs"])
        .collect();
    assert_eq!(told, CHECKS.iter().map(|check| check.name).collect());
}

#[test]
fn without_ip_vs_iptables_is_what_counts() {
    let mut facts = fit();
    facts.modules.ip_vs = false;
    facts.modules.loaded.clear();
    facts.modules.loadable.clear();
    facts.ipvs = None;
    facts.sysctls.retain(|name, _| !name.contains(".vs."));
    facts
        .modules
        .extensions
        .extend(texts(["DNAT", "statistic", "sctp"]));
    let found = findings(&facts);
    let not_ok: Vec<_> = found
        .values()
        .filter(|finding| finding.level > Level::Ok)
        .map(|finding| (finding.check, finding.level))
        .collect();
    assert_eq!(not_ok, [("ip-vs", Level::Warn)]);
    facts.modules.known = false;
    assert!(findings(&facts)["ip-vs"].found.contains("/lib/modules"));
    facts.modules.known = true;
    facts.wanted.dataplane = Plane::Ipvs;
    assert_eq!(findings(&facts)["ip-vs"].level, Level::Fail);
    facts.wanted.dataplane = Plane::Iptables;
    assert_eq!(findings(&facts)["ip-vs"].level, Level::Ok);
    for (gone, level) in [("sctp", Level::Warn), ("statistic", Level::Fail)] {
        facts.modules.extensions.remove(gone);
        assert_eq!(findings(&facts)["xtables"].level, level, "{gone}");
    }
}

#[test]
fn what_cannot_be_read_is_told_and_fails_nothing_but_what_is_needed() {
    let mut facts = fit();
    let why = || "permission denied".to_owned();
    for dump in &mut facts.iptables {
        dump.saved = Err(why());
    }
    assert_eq!(findings(&facts)["iptables"].level, Level::Fail);
    facts.capabilities = Ok(0);
    facts.set_types = Err(why());
    facts.nft_tables = Err(why());
    facts.ipvs = Some(Err(why()));
    facts.links = Err(why());
    facts.rules = Err(why());
    facts.foreign_routes = Err(why());
    facts.processes = Err(why());
    facts.listeners = Err(why());
    let found = findings(&facts);
    for check in [
        "ip-set",
        "iptables",
        "iptables-mixture",
        "forward-policy",
        "leftover-rules",
        "leftover-nftables",
        "leftover-interfaces",
        "foreign-virtual-servers",
        "mark-bits",
        "rule-priority",
        "route-table",
        "hairpin",
        "bridge-nf",
        "other-proxy",
        "ports",
        "idle-timeouts",
        "connection-table",
    ] {
        let finding = &found[check];
        assert_eq!(finding.level, Level::Warn, "{finding:?}");
        assert!(finding.found.contains("permission denied"), "{finding:?}");
    }
}

/// Cilium moves the kernel's own rule for its own addresses back; others' marks are none of ours.
#[test]
fn rules_that_do_not_take_our_packets_may_come_first() {
    let mut facts = fit();
    let local = rule(10, None, 255);
    let cilium = rule(9, Some((0x200, 0xf00)), 2004);
    facts.rules.as_mut().unwrap().extend([local, cilium]);
    assert_eq!(findings(&facts)["rule-priority"].level, Level::Ok);
}

#[test]
fn a_policy_of_drop_is_well_where_something_accepts() {
    let mut facts = fit();
    add_rules(
        &mut facts,
        "*filter\n:FORWARD DROP [0:0]\n:cali-FORWARD - [0:0]\n-A FORWARD -j cali-FORWARD\n-A cali-FORWARD -i cali+ -j ACCEPT\nCOMMIT\n",
    );
    assert_eq!(findings(&facts)["forward-policy"].level, Level::Ok);
}

#[test]
fn strict_filters_that_are_meant_are_left_alone() {
    for change in [
        (|f: &mut Facts| interface(f, "cali1").rp_filter = 1) as fn(&mut Facts),
        |f| interface(f, "eth0").rp_filter = 2,
        |f| {
            interface(f, "eth0").rp_filter = 1;
            interface(f, "all").src_valid_mark = 1;
        },
        |f| {
            interface(f, "eth0").rp_filter = 1;
            interface(f, "all").rp_filter = 2;
        },
    ] {
        let mut facts = fit();
        change(&mut facts);
        assert_eq!(
            findings(&facts)["rp-filter"].level,
            Level::Ok,
            "{:?}",
            facts.interfaces
        );
    }
}

#[test]
fn a_table_is_aligned_and_coloured_only_if_wanted() {
    let mut facts = fit();
    set(&mut facts, "net.ipv4.ip_forward", "0");
    let report = Report::of(&facts);
    let plain = table::render(&report, false);
    assert!(plain.contains(
        "warn  ip-forward               net.ipv4.ip_forward=0\n                               → the agent sets it"
    ), "{plain}");
    assert!(!plain.contains('\u{1b}'));
    assert!(table::render(&report, true).contains("\u{1b}[33mwarn\u{1b}[0m  ip-forward "));
    assert_eq!(table::summary(&report), "33 ok, 1 to look at, 0 failed\n");
}

/// Every check is in the guide with the reason that the code gives, and none else.
#[test]
fn the_guide_lists_every_check() {
    let guide =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/shell.md")).unwrap();
    let part = guide
        .split("\n## ")
        .find(|part| part.starts_with("check"))
        .unwrap();
    let rows = part.lines().filter_map(|line| line.strip_prefix("| `"));
    let rows: Vec<(&str, &str)> = rows
        .map(|row| {
            let (name, rest) = row.split_once("` | ").unwrap();
            (name, rest.split(" | ").next().unwrap())
        })
        .collect();
    let wanted: Vec<(&str, &str)> = CHECKS.iter().map(|check| (check.name, check.why)).collect();
    assert_eq!(rows, wanted);
}
