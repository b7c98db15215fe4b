//! The iptables dataplane on the kernel of this machine: what it writes is what it believes to have
//! written, also where the kernel refuses a part.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipvs_agent::dataplane::iptables::{IptablesDataplane, Observed, Step};
use ipvs_agent::dataplane::policy::PolicySettings;
use ipvs_agent::dataplane::policy::kernel::SetId;
use ipvs_agent::dataplane::{ClusterNetwork, Dataplane, Scope, remove_all};
use ipvs_agent::model::{
    Family, HostPort, Moment, ObjectName, Persistence, Protocol, RealServer, Scheduler,
    ServicePortName, ServiceSpec, TrafficPolicy, Tuning, Unserved, VipKind, VipPort, VirtualServer,
};
use ipvs_agent::resolve::{DesiredState, Resolved};

use super::namespace::{in_namespace, run};
use super::rules::{Variant, hint};

/// Services with the tuples of each, two endpoints, and affinity where `sticky` says so.
fn desired(tuples: &[Vec<VipPort>], sticky: impl Fn(usize) -> bool) -> DesiredState {
    let mut desired = DesiredState::default();
    for (number, tuples) in tuples.iter().enumerate() {
        let name = ObjectName::new("ns", &format!("s{number}"));
        let server = |vip: &VipPort| VirtualServer {
            owner: ServicePortName {
                service: name.clone(),
                port: "".into(),
                protocol: vip.protocol,
            },
            kind: VipKind::ClusterIp,
            scheduler: Scheduler::named("rr"),
            persistence: sticky(number).then_some(Persistence {
                timeout_seconds: 60,
            }),
            tuning: Tuning::default(),
            policy: TrafficPolicy::Cluster,
            real_servers: endpoints(vip.family()),
            near: None,
            unserved: Unserved::Refuse,
            health_check_node_port: 0,
            source_ranges: BTreeSet::new(),
        };
        let resolved = Resolved {
            virtual_servers: tuples.iter().map(|vip| (*vip, server(vip))).collect(),
            ..Resolved::default()
        };
        desired.replace(&name, &ServiceSpec::default(), resolved, &mut |_| {});
    }
    desired
}

fn endpoints(family: Family) -> BTreeMap<HostPort, RealServer> {
    let addrs: [IpAddr; 2] = match family {
        Family::V4 => [[10, 244, 0, 1].into(), [10, 244, 1, 1].into()],
        Family::V6 => ["fd00:244::1", "fd00:244:1::1"].map(|addr| addr.parse().unwrap()),
    };
    addrs
        .map(|addr| (HostPort { addr, port: 8080 }, RealServer::serving(false, 1)))
        .into()
}

/// Plans everything against a kernel as read, without the steps that `leave_out` picks, and does it.
/// Gives the kernel as believed, and the steps that failed.
fn sync(
    plane: &mut IptablesDataplane,
    desired: &DesiredState,
    leave_out: impl Fn(&Step) -> bool,
) -> (Observed, Vec<String>) {
    let mut observed = plane.observe(None).unwrap();
    let network = ClusterNetwork::default();
    let target = IptablesDataplane::target(&PolicySettings::default(), &network, desired);
    let mut scope = IptablesDataplane::everything(desired, &target, &observed);
    scope.extend(Scope::base());
    let now = Moment::default();
    let mut steps = IptablesDataplane::plan(desired, &target, &observed, &scope, now);
    steps.retain(|step| !leave_out(step));
    let report = plane.apply(steps, &mut observed, now);
    let failed = report.failed.iter().map(|failure| failure.step.to_string());
    (observed, failed.collect())
}

fn in_both_variants(test: impl Fn() + Sync) {
    for variant in [Variant::Legacy, Variant::Nft] {
        in_namespace(|| {
            hint(variant);
            test();
        });
    }
}

fn tuples(count: u8) -> Vec<Vec<VipPort>> {
    let tuple = |number: u8| VipPort {
        addr: Ipv4Addr::new(10, 96, number % 7, number).into(),
        protocol: Protocol::Tcp,
        port: 80,
    };
    (1..=count).map(|number| vec![tuple(number)]).collect()
}

/// The kernel refuses a chain that asks for a set which is not there. Wherever that chain stands among the
/// others, they are in, whole, and it alone is told of.
#[test]
fn one_refused_chain_costs_the_others_nothing() {
    in_both_variants(|| {
        for refused in [0, 7, 19] {
            let desired = desired(&tuples(20), |number| number == refused);
            let mut plane = IptablesDataplane::open().unwrap();
            let (believed, failed) = sync(&mut plane, &desired, |step| {
                matches!(step, Step::CreateSet(SetId::Affinity(_)))
            });
            assert_eq!(failed.len(), 1, "{failed:?}");
            assert!(failed[0].contains(&format!("ns/s{refused})")), "{failed:?}");
            let real = plane.observe(Some(&believed)).unwrap();
            let differ = real
                .chains
                .iter()
                .filter(|(key, content)| believed.chains.get(key) != Some(content));
            // The refused one is there, empty, since branches lead to it.
            assert_eq!(differ.count(), 1);
            assert_eq!(real.chains.len(), believed.chains.len() + 1);
            assert_eq!(real.endpoints(), 2 * 19);

            // With its set it goes in, and nothing else is written.
            let (believed, failed) = sync(&mut plane, &desired, |_| false);
            assert_eq!(failed, [""; 0]);
            let real = plane.observe(Some(&believed)).unwrap();
            assert_eq!(real.chains, believed.chains);
            remove_all(&mut plane, false).unwrap();
            assert_eq!(run("ipset list -n"), "");
        }
    });
}

/// nf_tables refuses what goes more than fifteen jumps deep. These tuples differ from one in every bit of
/// theirs, and crowd around it.
#[test]
fn no_tuples_are_too_deep_for_the_kernel() {
    in_both_variants(|| {
        for one in ["10.96.16.17:80/TCP", "[fd00:96::1111]:80/TCP"] {
            let one: VipPort = one.parse().unwrap();
            let mut all: BTreeSet<VipPort> =
                (80..100).map(|port| VipPort { port, ..one }).collect();
            all.extend((0..16).map(|bit| VipPort {
                port: one.port ^ (1 << bit),
                ..one
            }));
            all.insert(VipPort {
                protocol: Protocol::Udp,
                ..one
            });
            all.extend((0..one.family().host_prefix()).map(|bit| VipPort {
                addr: match one.addr {
                    IpAddr::V4(addr) => Ipv4Addr::from_bits(addr.to_bits() ^ 1 << bit).into(),
                    IpAddr::V6(addr) => Ipv6Addr::from_bits(addr.to_bits() ^ 1 << bit).into(),
                },
                ..one
            }));
            let desired = desired(&[all.into_iter().collect()], |_| false);
            let mut plane = IptablesDataplane::open().unwrap();
            let (believed, failed) = sync(&mut plane, &desired, |_| false);
            assert_eq!(failed, [""; 0]);
            let real = plane.observe(Some(&believed)).unwrap();
            assert_eq!(real.chains, believed.chains);
            assert_eq!(real.rules, believed.rules);
        }
    });
}

/// kube-proxy's rules, Docker's and the host ports' translate addresses too: who stands first decides.
#[test]
fn a_jump_goes_before_those_of_others_who_translate() {
    in_both_variants(|| {
        let desired = desired(&tuples(1), |_| false);
        let mut plane = IptablesDataplane::open().unwrap();
        sync(&mut plane, &desired, |_| false);
        let name = plane.iptables().name();
        for other in ["KUBE-SERVICES", "DOCKER", "MY-OWN"] {
            run(&format!("{name} -t nat -N {other}"));
            run(&format!("{name} -t nat -I PREROUTING -j {other}"));
        }
        sync(&mut plane, &desired, |_| false);
        let rules = run(&format!("{name} -t nat -S PREROUTING"));
        let order: Vec<&str> = rules
            .lines()
            .filter_map(|rule| rule.rsplit(' ').next())
            .collect();
        assert_eq!(
            order,
            [
                "ACCEPT",
                "IPVS-AGENT-IPT-PRE",
                "MY-OWN",
                "DOCKER",
                "KUBE-SERVICES"
            ]
        );
        let (_, failed) = sync(&mut plane, &desired, |step| {
            panic!("there is nothing left to do: {step}")
        });
        assert_eq!(failed, [""; 0]);
    });
}
