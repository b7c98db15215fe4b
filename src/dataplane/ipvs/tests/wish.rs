//! What may be wished: generated, as desired state, and as what a kernel must then hold.

use super::*;

/// Real servers: whether they drain, and whether they are local.
pub type Reals = BTreeMap<HostPort, (bool, bool)>;

/// What is wished at one tuple.
#[derive(Debug, Clone, PartialEq)]
pub struct Wished {
    pub kind: VipKind,
    pub affinity: bool,
    pub reals: Reals,
    /// For clients on this node.
    pub near: Option<Reals>,
    pub ranged: bool,
    pub tuned: bool,
}

impl Wished {
    pub fn new(kind: VipKind, reals: Reals) -> Self {
        Self {
            kind,
            affinity: false,
            reals,
            near: None,
            ranged: false,
            tuned: false,
        }
    }

    /// What clients on this node are wished to meet.
    pub fn here(&self) -> &Reals {
        self.near.as_ref().unwrap_or(&self.reals)
    }

    pub fn unserved(&self) -> SetKind {
        if self.near.as_ref().is_some_and(any_serves) {
            SetKind::Dropped
        } else {
            SetKind::Refused
        }
    }
}

pub fn any_serves(reals: &Reals) -> bool {
    reals.values().any(|(draining, _)| !draining)
}

/// A few Services over a few addresses, so that they overlap.
pub type Wish = BTreeMap<VipPort, Wished>;

pub fn wish() -> impl Strategy<Value = Wish> {
    let vip = (0..3_u8, 0..2_usize, prop_oneof![Just(80), Just(53)]).prop_map(|(n, p, port)| {
        let protocol = [Protocol::Tcp, Protocol::Udp][p];
        let addr = [[10, 96, 0, 1], [192, 0, 2, 1], [192, 0, 2, 2]][usize::from(n)];
        VipPort {
            addr: addr.into(),
            protocol,
            port,
        }
    });
    let kind = prop_oneof![
        Just(VipKind::ClusterIp),
        Just(VipKind::LoadBalancer),
        Just(VipKind::NodePort)
    ];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    let wished = (kind, any::<bool>(), reals(), flags);
    let wish = prop::collection::btree_map(vip, wished, 0..6);
    // All tuples of one Service port share what clients on this node meet.
    let near = prop::collection::vec(reals(), 4);
    (wish, near).prop_map(|(wish, near)| {
        let of_port = |vip: &VipPort| {
            let number = usize::from(vip.port == 53) * 2;
            near[number + usize::from(vip.protocol == Protocol::Udp)].clone()
        };
        let whole = |(vip, (kind, affinity, reals, (local, ranged, tuned))): (VipPort, _)| {
            let near = (local && kind != VipKind::ClusterIp).then(|| of_port(&vip));
            let wished = Wished {
                kind,
                affinity,
                reals,
                near,
                ranged,
                tuned,
            };
            (vip, wished)
        };
        wish.into_iter().map(whole).collect()
    })
}

pub fn reals() -> impl Strategy<Value = Reals> {
    let real = (1..5_u8).prop_map(|n| HostPort {
        addr: [10, 244, 0, n].into(),
        port: 8080,
    });
    prop::collection::btree_map(real, (any::<bool>(), any::<bool>()), 0..4)
}

pub fn desired(wish: &Wish) -> DesiredState {
    let service = ObjectName::new("ns", "all");
    let servers = |reals: &Reals| -> RealServers {
        let real = |(key, (draining, local)): (&HostPort, &(bool, bool))| {
            let make = if *draining {
                RealServer::draining(*local)
            } else {
                RealServer::serving(*local, 1)
            };
            (*key, make)
        };
        reals.iter().map(real).collect()
    };
    let server = |vip: &VipPort, wished: &Wished| VirtualServer {
        owner: ServicePortName {
            service: service.clone(),
            port: vip.port.to_string().into(),
            protocol: vip.protocol,
        },
        kind: wished.kind,
        policy: crate::model::TrafficPolicy::default(),
        scheduler: Scheduler::named(if wished.tuned { "wlc" } else { "rr" }),
        persistence: wished.affinity.then_some(crate::model::Persistence {
            timeout_seconds: 60,
        }),
        tuning: if wished.tuned {
            Tuning {
                one_packet: vip.protocol == Protocol::Udp,
                thresholds: Thresholds {
                    upper: 100,
                    lower: 50,
                },
                slow_start: Some(Duration::from_secs(30)),
            }
        } else {
            Tuning::default()
        },
        real_servers: servers(&wished.reals),
        near: wished.near.as_ref().map(servers),
        unserved: if wished.unserved() == SetKind::Dropped {
            Unserved::Drop
        } else {
            Unserved::Refuse
        },
        health_check_node_port: if wished.ranged { 32_000 } else { 0 },
        source_ranges: if wished.ranged {
            BTreeSet::from(["198.51.100.0/24".parse().unwrap()])
        } else {
            BTreeSet::new()
        },
    };
    let mut state = DesiredState::default();
    let resolved = Resolved {
        virtual_servers: wish
            .iter()
            .map(|(vip, wished)| (*vip, server(vip, wished)))
            .collect(),
        ..Resolved::default()
    };
    state.replace(&service, &ServiceSpec::default(), resolved, &mut |_| {});
    state
}

/// What the kernel must hold for a wish, said without the plan's own words.
pub fn check(kernel: &Observed, wish: &Wish) {
    let serving = |reals: &Reals| -> BTreeSet<HostPort> {
        let serving = reals.iter().filter(|(_, (draining, _))| !draining);
        serving.map(|(key, _)| *key).collect()
    };
    let held = |key: &ServerKey| -> Option<BTreeSet<HostPort>> {
        let server = kernel.virtual_servers.get(key)?;
        Some(server.real_servers.keys().copied().collect())
    };
    let mut marks = BTreeSet::new();
    for (vip, wished) in wish {
        let serves = serving(&wished.reals);
        let have = held(&ServerKey::Tuple(*vip));
        assert_eq!(have.is_none(), serves.is_empty(), "{vip}");
        assert_eq!(have.unwrap_or_default(), serves, "{vip}");
        let member = |set| {
            kernel.members.contains(&Member {
                set,
                element: Element::VipPort(*vip),
            })
        };
        assert_eq!(member(SetKind::Owned), !serves.is_empty(), "{vip}");
        for set in [SetKind::Refused, SetKind::Dropped] {
            let turned_away = serves.is_empty() && wished.unserved() == set;
            assert_eq!(member(set), turned_away, "{vip} {set}");
        }
        let masqueraded = wished.kind != VipKind::ClusterIp && wished.near.is_none();
        assert_eq!(member(SetKind::External), masqueraded, "{vip}");
        assert_eq!(member(SetKind::Ranged), wished.ranged, "{vip}");
        let limited = wished.tuned && !serves.is_empty();
        assert_eq!(member(SetKind::Limited), limited, "{vip}");

        let mut near = kernel
            .members
            .iter()
            .filter_map(|member| match member.element {
                Element::Near { vip: of, mark } if of == *vip => Some(mark),
                _ => None,
            });
        let here = wished.near.as_ref().map(serving).unwrap_or_default();
        let mark = near.next();
        assert!(near.next().is_none(), "{vip} has two marks");
        assert_eq!(mark.is_none(), here.is_empty(), "{vip}");
        if let Some(mark) = mark {
            let family = vip.family();
            let key = ServerKey::Mark { family, mark };
            assert_eq!(held(&key), Some(here.clone()), "{vip} by mark");
            marks.insert(key);
        }
        let served = !serves.is_empty() || !here.is_empty();
        let live = wished.kind != VipKind::NodePort && (vip.protocol == Protocol::Tcp || served);
        assert_eq!(member(SetKind::Live), live, "{vip}");
        let routed = kernel.routes.iter().any(|net| net.contains(&vip.addr));
        assert!(
            routed || wished.kind == VipKind::NodePort,
            "{vip} has no route"
        );
    }
    for server in kernel.virtual_servers.keys() {
        let tuple = server.tuple().is_some_and(|vip| wish.contains_key(&vip));
        assert!(tuple || marks.contains(server), "{server} is not wished");
    }
    let mut tuples = kernel.members.iter().filter_map(Member::vip);
    assert!(tuples.all(|vip| wish.contains_key(&vip)));
}
