//! Laws over random histories: what the chains say, read as the kernel reads them, is what is desired,
//! and a change leaves nothing for the audit to find.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::chain::ChainKey;
use super::step::Step;
use super::tree::Prefix;
use super::{IptablesDataplane, Observed, Scope, Target, plan};
use crate::dataplane::policy::PolicySettings;
use crate::dataplane::{ClusterNetwork, Dataplane, Scope as _};
use crate::model::{
    Family, HostPort, ObjectName, Persistence, Protocol, RealServer, RealServers, Scheduler,
    ServicePortName, ServiceSpec, TrafficPolicy, Tuning, Unserved, VipKind, VipPort, VirtualServer,
};
use crate::resolve::{DesiredState, Resolved};

/// An agent beside a kernel that does what it is told: the mirror is the kernel.
struct Bench {
    desired: DesiredState,
    target: Target,
    kernel: Observed,
    /// The rules themselves, of which the mirror keeps digests.
    chains: BTreeMap<ChainKey, Vec<String>>,
    pending: Scope,
}

/// One Service as it is wished for: its tuples, and who serves them.
#[derive(Debug, Clone)]
struct Wish {
    service: u8,
    tuples: Vec<(VipPort, bool)>,
    endpoints: BTreeMap<u8, (bool, bool)>,
    affinity: bool,
    scheduler: &'static str,
}

impl Bench {
    fn new() -> Self {
        let network = ClusterNetwork {
            pod_cidrs: ["10.244.0.0/16".parse().unwrap()].into(),
            ..ClusterNetwork::default()
        };
        let desired = DesiredState::default();
        let mut kernel = Observed::default();
        kernel.families = Family::ALL.into();
        for family in Family::ALL {
            kernel.rules.insert(family, Default::default());
        }
        Self {
            target: Target::of(PolicySettings::default(), network, &desired),
            desired,
            kernel,
            chains: BTreeMap::new(),
            pending: Scope::base(),
        }
    }

    fn take(&mut self, wish: &Wish) {
        let name = ObjectName::new("ns", &wish.service.to_string());
        let resolved = Resolved {
            virtual_servers: wish.servers(&name),
            ..Resolved::default()
        };
        let (target, scope) = (&mut self.target, &mut self.pending);
        let spec = ServiceSpec {
            created_seconds: wish.service.into(),
            ..ServiceSpec::default()
        };
        self.desired.replace(&name, &spec, resolved, &mut |change| {
            target.replace(change, scope);
        });
    }

    /// A pass in which all steps but those that `fails` picks go well.
    fn pass(&mut self, mut fails: impl FnMut(usize) -> bool) {
        let scope = std::mem::take(&mut self.pending);
        let steps = plan::plan(&self.desired, &self.target, &self.kernel, &scope);
        let mut failed = false;
        for (number, step) in steps.iter().enumerate() {
            if fails(number) {
                failed = true;
                continue;
            }
            self.kernel.record(step);
            match step {
                Step::PutChain { key, lines, .. } => {
                    self.chains.insert(*key, lines.clone());
                }
                Step::DelChain(key) => {
                    self.chains.remove(key);
                }
                _ => {}
            }
        }
        if failed {
            self.pending = scope;
        }
    }

    /// Where a first packet to a tuple may be led, by the rules' own words.
    fn led(&self, vip: VipPort, near: bool) -> BTreeSet<HostPort> {
        let mut found = BTreeSet::new();
        let mut at = Prefix::root(vip.family()).key().to_string();
        'chains: loop {
            let key = ChainKey::of_name(vip.family(), &at).unwrap();
            for line in self.chains.get(&key).into_iter().flatten() {
                let words: Vec<&str> = line.split(' ').collect();
                let after = |word: &str| {
                    let place = words.iter().position(|other| *other == word)?;
                    words.get(place + 1).copied()
                };
                let net: Option<ipnet::IpNet> = after("-d").map(|net| net.parse().unwrap());
                let ports = after("--dport").map(|ports| {
                    let (first, last) = ports.split_once(':').unwrap_or((ports, ports));
                    first.parse::<u16>().unwrap()..=last.parse().unwrap()
                });
                let protocol = vip.protocol.to_string().to_lowercase();
                let from_near = line.contains("NODE-PODS src") || line.contains("--src-type LOCAL");
                let matches = net.is_none_or(|net| net.contains(&vip.addr))
                    && after("-p").is_none_or(|name| name == protocol)
                    && ports.is_none_or(|ports| ports.contains(&vip.port))
                    && (near || !from_near);
                match (matches, after("-g"), after("--to-destination")) {
                    (true, Some(chain), _) => {
                        at = chain.to_owned();
                        continue 'chains;
                    }
                    (true, None, Some(to)) => {
                        found.insert(to.parse().unwrap());
                    }
                    _ => {}
                }
            }
            return found;
        }
    }

    /// What should be found instead.
    fn served(&self, vip: VipPort, near: bool) -> BTreeSet<HostPort> {
        let Some(server) = self.desired.virtual_server(&vip) else {
            return BTreeSet::new();
        };
        let serving = |servers: &RealServers| -> BTreeSet<HostPort> {
            let serving = servers.iter().filter(|(_, real)| !real.draining);
            serving.map(|(key, _)| *key).collect()
        };
        let near = server.near.as_ref().filter(|_| near).map(serving);
        // Where no endpoint is ready anywhere nobody is led.
        near.filter(|near| !near.is_empty())
            .unwrap_or_else(|| serving(&server.real_servers))
    }
}

impl Wish {
    fn servers(&self, name: &ObjectName) -> BTreeMap<VipPort, VirtualServer> {
        let all: RealServers = self
            .endpoints
            .iter()
            .map(|(number, (local, draining))| {
                let key = HostPort {
                    addr: IpAddr::from(Ipv4Addr::new(10, 244, 0, *number)),
                    port: 8080,
                };
                let real = if *draining {
                    RealServer::draining(*local)
                } else {
                    RealServer::serving(*local, 1 + u32::from(*number))
                };
                (key, real)
            })
            .collect();
        let here: RealServers = all
            .iter()
            .filter(|(_, real)| real.local)
            .map(|(key, real)| (*key, *real))
            .collect();
        let server = |vip: &VipPort, local: bool| VirtualServer {
            owner: ServicePortName {
                service: name.clone(),
                port: "".into(),
                protocol: vip.protocol,
            },
            kind: VipKind::LoadBalancer,
            scheduler: Scheduler::named(self.scheduler),
            persistence: self.affinity.then_some(Persistence {
                timeout_seconds: 60,
            }),
            tuning: Tuning::default(),
            policy: if local {
                TrafficPolicy::Local
            } else {
                TrafficPolicy::Cluster
            },
            real_servers: if local { here.clone() } else { all.clone() },
            near: local.then(|| all.clone()),
            unserved: Unserved::Drop,
            health_check_node_port: 0,
            source_ranges: BTreeSet::new(),
        };
        let tuples = self.tuples.iter();
        tuples
            .map(|(vip, local)| (*vip, server(vip, *local)))
            .collect()
    }
}

/// Few tuples, so that Services meet at one; enough that the tree branches.
fn tuple() -> impl Strategy<Value = VipPort> {
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
    (0..24_u32, protocol, 80..83_u16).prop_map(|(number, protocol, port)| VipPort {
        addr: Ipv4Addr::from_bits(0x0a60_0000 + number * 5).into(),
        protocol,
        port,
    })
}

fn wish() -> impl Strategy<Value = Wish> {
    let schedulers = vec!["rr", "wrr", "wlc", "mh", "dh"];
    (
        0..6_u8,
        prop::collection::vec((tuple(), any::<bool>()), 0..12),
        prop::collection::btree_map(1..6_u8, any::<(bool, bool)>(), 0..4),
        any::<bool>(),
        prop::sample::select(schedulers),
    )
        .prop_map(|(service, tuples, endpoints, affinity, scheduler)| Wish {
            service,
            tuples,
            endpoints,
            affinity,
            scheduler,
        })
}

proptest! {
    #[test]
    fn packets_are_led_to_those_who_serve(wishes in prop::collection::vec(wish(), 1..12)) {
        let mut bench = Bench::new();
        for wish in &wishes {
            bench.take(wish);
            bench.pass(|_| false);
        }
        let tuples = wishes.iter().flat_map(|wish| &wish.tuples).map(|(vip, _)| *vip);
        for vip in tuples {
            for near in [true, false] {
                let (led, served) = (bench.led(vip, near), bench.served(vip, near));
                let scheduler = bench.desired.virtual_server(&vip).map(|s| s.scheduler.name.clone());
                match scheduler.as_deref() {
                    // One of them, whoever asks.
                    Some("dh") if bench.desired.virtual_server(&vip).unwrap().persistence.is_none() => {
                        prop_assert!(led.is_subset(&served) && led.is_empty() == served.is_empty());
                    }
                    _ => prop_assert_eq!(led, served, "{} near {}", vip, near),
                }
            }
        }
    }

    #[test]
    fn a_change_leaves_nothing_for_the_audit(wishes in prop::collection::vec(wish(), 1..12)) {
        let mut bench = Bench::new();
        for wish in &wishes {
            bench.take(wish);
            bench.pass(|_| false);
            let all = IptablesDataplane::everything(&bench.desired, &bench.target, &bench.kernel);
            let steps = plan::plan(&bench.desired, &bench.target, &bench.kernel, &all);
            prop_assert!(steps.is_empty(), "{:?}", steps.first().map(ToString::to_string));
        }
    }

    #[test]
    fn what_fails_is_made_up_for(
        wishes in prop::collection::vec((wish(), 0..8_usize), 1..10),
    ) {
        let mut bench = Bench::new();
        for (wish, every) in &wishes {
            bench.take(wish);
            bench.pass(|number| *every > 0 && number % every == 0);
        }
        bench.pass(|_| false);
        let all = IptablesDataplane::everything(&bench.desired, &bench.target, &bench.kernel);
        let steps = plan::plan(&bench.desired, &bench.target, &bench.kernel, &all);
        prop_assert!(steps.is_empty(), "{:?}", steps.first().map(ToString::to_string));
        prop_assert_eq!(bench.kernel.balanced(), bench.target.tree.len());
    }

    #[test]
    fn cleanup_leaves_nothing(wishes in prop::collection::vec(wish(), 0..6)) {
        let mut bench = Bench::new();
        for wish in &wishes {
            bench.take(wish);
        }
        bench.pass(|_| false);
        bench.desired = DesiredState::default();
        bench.target = IptablesDataplane::nothing();
        bench.pending =
            IptablesDataplane::everything(&bench.desired, &bench.target, &bench.kernel);
        bench.pass(|_| false);
        let kernel = &bench.kernel;
        prop_assert!(kernel.chains.is_empty() && kernel.members.is_empty());
        prop_assert!(kernel.sets.is_empty() && kernel.affinity_sets.is_empty());
        prop_assert!(kernel.rules.values().all(crate::netfilter::ObservedRules::is_empty));
    }
}

/// What leads somewhere is there before, and goes after what leads to it.
#[test]
fn make_before_break() {
    let mut bench = Bench::new();
    let vip: VipPort = "10.96.0.1:80/TCP".parse().unwrap();
    let mut wish = Wish {
        service: 1,
        tuples: vec![(vip, false)],
        endpoints: BTreeMap::from([(1, (true, false))]),
        affinity: true,
        scheduler: "rr",
    };
    bench.take(&wish);
    let steps = plan::plan(&bench.desired, &bench.target, &bench.kernel, &bench.pending);
    let place = |text: &str| {
        let texts: Vec<String> = steps.iter().map(ToString::to_string).collect();
        let place = texts.iter().position(|step| step.contains(text));
        place.unwrap_or_else(|| panic!("{text}: {texts:#?}"))
    };
    let order = [
        "ipset create IPVS-AGENT-4-C",
        "ns/1)",
        "iptables-restore",
        "ipset add IPVS-AGENT-4-BALANCED",
        // Who came before is led anew.
        "conntrack -D -p tcp --orig-dst 10.96.0.1:80/TCP (to 10.96.0.1:80)",
    ]
    .map(place);
    assert!(order.is_sorted(), "{order:?}");

    bench.pass(|_| false);
    wish.tuples.clear();
    bench.take(&wish);
    let steps = plan::plan(&bench.desired, &bench.target, &bench.kernel, &bench.pending);
    let texts: Vec<String> = steps.iter().map(ToString::to_string).collect();
    let place = |text: &str| texts.iter().position(|step| step.contains(text)).unwrap();
    let branch = place("chain IPVS-AGENT-T");
    let (chain, set) = (place("-X IPVS-AGENT-S"), place("ipset destroy"));
    assert!(branch < chain && chain < set, "{texts:#?}");
}
