//! Rules that are rendered, restored, saved and parsed are the same rules: the agent's constant
//! rules with generated settings, both families, both variants of iptables.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Write;

use ipvs_agent::dataplane::ClusterNetwork;
use ipvs_agent::dataplane::ipvs::settings::NEAR_MARKS;
use ipvs_agent::dataplane::ipvs::target::TargetBase;
use ipvs_agent::dataplane::ipvs::{Settings, rules};
use ipvs_agent::dataplane::policy::PolicySettings;
use ipvs_agent::dataplane::policy::sets::SetKind;
use ipvs_agent::model::Family;
use ipvs_agent::netfilter::exec::{Error, Iptables};
use ipvs_agent::netfilter::parse::parse;
use ipvs_agent::netfilter::render::{expected, plan};
use ipvs_agent::netfilter::ruleset::{Chain, Match, Table};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::namespace::{feed, in_namespace, run};

/// Which iptables: both keep tables of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    Legacy,
    Nft,
}

/// A family's tables of a variant, in a namespace where the agent's sets are.
#[derive(Clone, Copy)]
pub struct Tables {
    pub variant: Variant,
    pub family: Family,
}

impl Tables {
    /// `ip6tables-nft` and what follows.
    pub fn program(self, rest: &str) -> String {
        let name = match self.family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        match self.variant {
            Variant::Legacy => format!("{name}-legacy{rest}"),
            Variant::Nft => format!("{name}-nft{rest}"),
        }
    }

    /// Runs `iptables` with arguments.
    pub fn change(self, arguments: &str) {
        run(&self.program(&format!(" -w {arguments}")));
    }

    pub fn save(self) -> String {
        run(&self.program("-save"))
    }

    pub fn restore(self, text: &str) {
        feed(&self.program("-restore --noflush -w"), text);
    }

    /// The rules of a base chain, in order.
    pub fn rules_of(self, table: Table, base: &str) -> Vec<String> {
        let text = run(&self.program(&format!("-save -t {table}")));
        let rules = text
            .lines()
            .filter_map(|line| line.strip_prefix(&format!("-A {base} ")));
        rules.map(str::to_owned).collect()
    }
}

/// Runs a test for every variant and family, each in a namespace of its own with our sets and
/// kubelet's hint, by which the agent finds the variant.
pub fn for_all_tables(test: impl Fn(Tables, &mut Iptables) + Sync) {
    for variant in [Variant::Legacy, Variant::Nft] {
        for family in Family::ALL {
            let tables = Tables { variant, family };
            in_namespace(|| {
                let mut text = String::new();
                for set in SetKind::IPVS {
                    let kind = match set {
                        SetKind::Hairpin => "hash:ip,port,ip",
                        SetKind::Pods | SetKind::NodePods | SetKind::Marks => "hash:net",
                        SetKind::Sources => "hash:ip,port,net",
                        SetKind::HealthPorts => "bitmap:port",
                        _ => "hash:ip,port",
                    };
                    let word = if family == Family::V6 {
                        "inet6"
                    } else {
                        "inet"
                    };
                    let with = if set == SetKind::Near { " skbinfo" } else { "" };
                    let name = set.name(family);
                    let shape = match set {
                        SetKind::HealthPorts => "range 0-65535".to_owned(),
                        _ => format!("family {word}{with}"),
                    };
                    let _ = writeln!(text, "create {name} {kind} {shape}");
                }
                feed("ipset restore", &text);
                hint(variant);
                let mut iptables = Iptables::detect().unwrap();
                test(tables, &mut iptables);
            });
        }
    }
}

/// Leaves the hint where kubelet leaves it.
pub fn hint(variant: Variant) {
    let family = Family::V4;
    Tables { variant, family }.change("-t mangle -N KUBE-IPTABLES-HINT");
}

/// The agent's chains without the match `ipvs`, which this machine's kernel need not have.
pub fn chains(base: &TargetBase, family: Family) -> Vec<Chain> {
    let mut chains = rules::chains(base, family);
    for rule in chains.iter_mut().flat_map(|chain| &mut chain.rules) {
        rule.matches.retain(|condition| *condition != Match::Ipvs);
    }
    chains
}

/// Any two mark bits, with and without pods, all masquerading.
fn base() -> impl Strategy<Value = TargetBase> {
    let bits = (0..32_u32, 1..32_u32).prop_map(|(one, step)| (1 << one, 1 << ((one + step) % 32)));
    let pods = prop::collection::btree_set(
        prop_oneof![Just("10.244.0.0/16"), Just("fd00:10:244::/56")],
        0..=2,
    );
    (bits, pods, any::<bool>()).prop_map(|((route_mark, masquerade_mark), pods, masquerade_all)| {
        TargetBase {
            settings: Settings {
                route_mark,
                policy: PolicySettings {
                    masquerade_mark,
                    masquerade_all,
                    ..PolicySettings::default()
                },
                near_marks: NEAR_MARKS & !(route_mark | masquerade_mark),
                ..Settings::default()
            },
            network: ClusterNetwork {
                service_cidrs: BTreeSet::new(),
                pod_cidrs: pods.into_iter().map(|net| net.parse().unwrap()).collect(),
                node_pod_cidrs: BTreeSet::new(),
            },
        }
    })
}

/// Settings as they are unless an operator chose others.
pub fn default_base() -> TargetBase {
    let nets = ["10.244.0.0/16", "fd00:10:244::/56"];
    TargetBase {
        settings: Settings::default(),
        network: ClusterNetwork {
            service_cidrs: BTreeSet::new(),
            pod_cidrs: nets.map(|net| net.parse().unwrap()).into(),
            node_pod_cidrs: BTreeSet::new(),
        },
    }
}

/// From any settings to any others: one restore, after which `iptables-save` shows what we meant.
fn round_trip(cases: u32, of: fn(&TargetBase, Family) -> Vec<Chain>) {
    for_all_tables(|tables, iptables| {
        let iptables = RefCell::new(iptables);
        let config = Config {
            cases,
            failure_persistence: None,
            ..Config::default()
        };
        TestRunner::new(config)
            .run(&base(), |base| {
                let chains = of(&base, tables.family);
                let before = iptables.borrow_mut().observe(tables.family).unwrap();
                if let Some(text) = plan(&chains, &before) {
                    iptables.borrow_mut().restore(tables.family, &text).unwrap();
                }
                let saved = parse(&tables.save());
                prop_assert_eq!(&saved, &expected(&chains));
                prop_assert_eq!(plan(&chains, &saved), None);
                Ok::<(), TestCaseError>(())
            })
            .unwrap();
        let before = iptables.borrow_mut().observe(tables.family).unwrap();
        let text = plan(&[], &before).unwrap();
        iptables.borrow_mut().restore(tables.family, &text).unwrap();
        assert!(!tables.save().contains("IPVS-AGENT"));
    });
}

#[test]
fn what_is_restored_is_saved_and_parsed_as_it_was_meant() {
    round_trip(10, chains);
}

#[test]
#[ignore = "needs a kernel with IPVS: make test-rules runs it in a guest"]
fn so_are_the_rules_that_ask_ipvs() {
    round_trip(4, rules::chains);
}

#[test]
fn the_text_of_a_plan_is_what_the_tool_saves() {
    for_all_tables(|tables, iptables| {
        let chains = chains(&default_base(), tables.family);
        let text = plan(&chains, &iptables.observe(tables.family).unwrap()).unwrap();
        tables.restore(&text);
        let saved = tables.save();
        for line in text.lines().filter(|line| line.starts_with("-A")) {
            assert!(
                saved.lines().any(|one| one == line),
                "{line} is not in\n{saved}"
            );
        }
    });
}

#[test]
fn the_variant_is_found_by_kubelets_hint_and_else_by_the_number_of_rules() {
    for (variant, other, expected) in [
        (Variant::Legacy, Variant::Nft, "iptables-legacy"),
        (Variant::Nft, Variant::Legacy, "iptables-nft"),
    ] {
        let tables = |variant| Tables {
            variant,
            family: Family::V4,
        };
        in_namespace(|| {
            assert_eq!(Iptables::detect().unwrap().name(), "iptables");
            tables(variant).change("-A INPUT -s 192.0.2.1 -j ACCEPT");
            assert_eq!(Iptables::detect().unwrap().name(), expected);
            for _ in 0..3 {
                tables(other).change("-A INPUT -s 192.0.2.1 -j ACCEPT");
            }
            assert_ne!(Iptables::detect().unwrap().name(), expected);
            hint(variant);
            assert_eq!(Iptables::detect().unwrap().name(), expected);
        });
    }
}

#[test]
fn a_refused_text_changes_nothing_and_the_error_names_the_rule() {
    for_all_tables(|tables, iptables| {
        let first = plan(
            &chains(&default_base(), tables.family),
            &iptables.observe(tables.family).unwrap(),
        );
        tables.restore(&first.unwrap());
        let saved = parse(&tables.save());
        let wrong = "-A IPVS-AGENT-INPUT -m set --match-set ABSENT dst,dst -j ACCEPT";
        let text = format!("*filter\n:IPVS-AGENT-INPUT - [0:0]\n{wrong}\nCOMMIT\n");
        match iptables.restore(tables.family, &text) {
            Err(Error::Failed { line, message, .. }) => {
                assert_eq!(line.as_deref(), Some(wrong), "{message}");
                assert!(message.contains("ABSENT"), "{message}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(parse(&tables.save()), saved);
    });
}
