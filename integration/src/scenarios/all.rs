//! The table of all stories, in the order in which they run.

use anyhow::{Result, bail};

use crate::dataplane::Dataplane;

use super::{
    Lab, changes, check, choice, cleanup, diff, events, explain, foreign, health_check, history,
    icmp, iptables, lifecycle, matrix, neighbours, node, node_addresses, node_leaving, one_family,
    operator, policies, reach, regressions, repair, scale, services, shell_table, top, traffic,
    tuning, versions,
};

/// One story.
pub struct Scenario {
    pub name: &'static str,
    pub about: &'static str,
    pub run: fn(&mut Lab) -> Result<()>,
    /// What it is about. Most hold whichever the agent serves by.
    pub dataplanes: &'static [Dataplane],
    /// Asks over SCTP, and proves nothing where the kernel has none.
    pub sctp: bool,
    /// Runs without agents.
    pub bare: bool,
    /// Runs only when named.
    pub on_demand: bool,
    /// About the agent's own doing, or long: not where all is emulated and slow, but in a whole run or when it is named.
    pub once: bool,
}

const fn story(
    name: &'static str,
    about: &'static str,
    run: fn(&mut Lab) -> Result<()>,
) -> Scenario {
    Scenario {
        name,
        about,
        run,
        dataplanes: Dataplane::ALL,
        sctp: false,
        bare: false,
        on_demand: false,
        once: false,
    }
}

/// One about IPVS itself: schedulers and weights, or how its table looks.
const fn ipvs(
    name: &'static str,
    about: &'static str,
    run: fn(&mut Lab) -> Result<()>,
) -> Scenario {
    Scenario {
        dataplanes: &[Dataplane::Ipvs],
        ..story(name, about, run)
    }
}

/// One about rules: what IPVS does by itself, or has no part in.
const fn by_rules(
    name: &'static str,
    about: &'static str,
    run: fn(&mut Lab) -> Result<()>,
) -> Scenario {
    Scenario {
        dataplanes: &[Dataplane::Iptables],
        ..story(name, about, run)
    }
}

/// One that the kernel's version has little part in.
const fn once(story: Scenario) -> Scenario {
    Scenario {
        once: true,
        ..story
    }
}

/// All stories, in the order in which they run.
pub const ALL: &[Scenario] = &[
    Scenario {
        bare: true,
        ..story(
            "lab-network",
            "the lab itself: everybody reaches the pods, without any proxy",
            node::lab_network,
        )
    },
    Scenario {
        bare: true,
        ..ipvs(
            "lab-selftest",
            "the lab itself, with IPVS programmed by hand",
            node::lab_selftest,
        )
    },
    once(Scenario {
        bare: true,
        ..story(
            "cost",
            "one more endpoint costs the same at 10 and at 200 Services",
            scale::cost,
        )
    }),
    // Long ones early, so that no guest works alone at the end.
    story(
        "matrix",
        "every two circumstances of the conformance matrix together",
        matrix::matrix,
    ),
    once(story(
        "history",
        "after a long random history the kernel is that of a fresh start",
        history::history,
    )),
    once(story(
        "other-version",
        "what an agent of another version left becomes what this one makes",
        versions::other_version,
    )),
    once(story(
        "killed-midway",
        "kill -9 in the middle of a sync",
        regressions::sync::killed_midway,
    )),
    story(
        "cluster-ip",
        "a cluster IP from pods, nodes and outside",
        reach::cluster_ip,
    ),
    story("node-port", "a NodePort on every node", reach::node_port),
    story(
        "external-ips",
        "LoadBalancer and external IPs",
        reach::external_ips,
    ),
    Scenario {
        sctp: true,
        ..story(
            "udp-sctp",
            "UDP and SCTP beside TCP at one port",
            reach::udp_sctp,
        )
    },
    story(
        "hairpin",
        "a pod reaches itself through its Service",
        reach::hairpin,
    ),
    once(story(
        "multi-port",
        "each port leads to its own endpoints",
        services::multi_port,
    )),
    ipvs(
        "scheduler",
        "a scheduler by annotation, every one of the kernel's",
        services::scheduler,
    ),
    ipvs(
        "weights",
        "shares by address, node and place",
        tuning::weights,
    ),
    ipvs(
        "another-scheduler",
        "a change of scheduler refuses nobody outside",
        tuning::another_scheduler,
    ),
    ipvs(
        "slow-start",
        "a new endpoint's share grows",
        tuning::slow_start,
    ),
    ipvs(
        "thresholds",
        "a real server that is full",
        tuning::thresholds,
    ),
    ipvs(
        "one-packet",
        "each datagram of one client balanced anew",
        tuning::one_packet,
    ),
    ipvs(
        "idle-timeouts",
        "how long IPVS keeps an idle connection",
        tuning::timeouts,
    ),
    by_rules(
        "client-stays",
        "sh, mh and dh: a client stays with its endpoint while others come and go",
        iptables::client_stays,
    ),
    once(by_rules(
        "fallback",
        "no ip_vs: iptables, and the log, an Event and a metric say why",
        choice::fallback,
    )),
    by_rules(
        "lock-held",
        "somebody holds the lock of iptables",
        iptables::lock_held,
    ),
    by_rules(
        "bad-chain",
        "the kernel refuses one Service's chain: the others are written, once",
        iptables::bad_chain,
    ),
    ipvs(
        "scheduler-missing",
        "a scheduler that the kernel has not: rr, and the log and an Event say so",
        choice::scheduler_missing,
    ),
    once(ipvs(
        "move-back",
        "from iptables to IPVS and back under load",
        choice::move_back,
    )),
    story(
        "affinity",
        "session affinity, on, moving on and off",
        services::affinity,
    ),
    story(
        "internal-local",
        "internalTrafficPolicy: Local",
        policies::internal_local,
    ),
    story(
        "external-local",
        "externalTrafficPolicy: Local, by who asks",
        policies::external_local,
    ),
    once(story(
        "topology",
        "hints for zones and nodes, labels that change",
        policies::topology,
    )),
    story(
        "source-ranges",
        "loadBalancerSourceRanges, for pods and nodes too",
        policies::source_ranges,
    ),
    once(story(
        "detect-local",
        "every way to know this node's pods, and masquerading all",
        policies::detect_local,
    )),
    once(story(
        "node-leaving",
        "a Node that is tainted, being deleted, gone and back",
        node_leaving::run,
    )),
    story("endpoints", "endpoints go 0, 1, 3, 0", services::endpoints),
    once(story(
        "type-changes",
        "every type of Service after every other, ports that change",
        changes::types,
    )),
    once(story(
        "family-changes",
        "one family, both, one again",
        changes::families,
    )),
    once(story(
        "recreated",
        "a Service of the same name with another cluster IP",
        changes::recreated,
    )),
    once(story(
        "ip-mode",
        "load balancers that want to be asked themselves",
        changes::ip_mode,
    )),
    once(story(
        "skipped",
        "headless and other proxies' Services",
        services::skipped,
    )),
    story(
        "rolling-update",
        "a stream survives its pod's drain, UDP moves on",
        lifecycle::rolling_update,
    ),
    story(
        "restart",
        "kill -9 and restart under load",
        lifecycle::restart,
    ),
    story(
        "repair",
        "virtual servers, rules, jumps, sets and the policy rule repaired",
        repair::repair,
    ),
    // It takes two and a half minutes, whatever serves.
    once(by_rules(
        "quiet-sources",
        "what never changes is not taken for stale",
        lifecycle::quiet,
    )),
    once(story(
        "api-outage",
        "the API server goes, changes and comes back",
        lifecycle::api_outage,
    )),
    once(story(
        "manifests",
        "Services from a directory",
        lifecycle::manifests,
    )),
    once(story(
        "health",
        "health, metrics and log as an operator reads them",
        operator::health,
    )),
    once(story(
        "one-family-ill",
        "what fails in one family is told of it alone, and the other one goes on",
        one_family::one_family_ill,
    )),
    once(story(
        "health-check",
        "a load balancer asks which nodes have endpoints",
        health_check::health_check,
    )),
    once(story(
        "health-check-port",
        "health check ports move, close and are taken by others",
        health_check::ports,
    )),
    once(story(
        "events",
        "what is wrong with a Service is told as Events, without a flood",
        events::events,
    )),
    once(story(
        "kube-proxy-metrics",
        "how long endpoints take, and who lacks them here, under kube-proxy's names",
        operator::kube_proxy_metrics,
    )),
    ipvs(
        "traffic-metrics",
        "what the kernel counts for Services and endpoints, where it is asked for",
        traffic::metrics,
    ),
    once(story(
        "apiserver-flag",
        "addresses, token and authority on the command line",
        operator::apiserver_flag,
    )),
    ipvs(
        "list",
        "ipvs-agent list is ipvsadm -Ln, byte for byte",
        node::list,
    ),
    Scenario {
        bare: true,
        on_demand: true,
        ..ipvs(
            "shell-list",
            "every listing of generated tables is ipvsadm's, byte for byte",
            shell_table::listings,
        )
    },
    Scenario {
        bare: true,
        on_demand: true,
        ..ipvs(
            "shell-verbs",
            "each verb of ipvsadm does what ipvsadm does",
            shell_table::verbs,
        )
    },
    once(Scenario {
        bare: true,
        ..ipvs(
            "shell-rules",
            "what one saves the other restores; a mistake leaves the kernel as it was",
            shell_table::rules,
        )
    }),
    once(Scenario {
        ..ipvs(
            "shell-owned",
            "what an agent made is not harmed by accident, and has names while it runs",
            shell_table::owned,
        )
    }),
    story(
        "host-daemon",
        "a daemon of the node does not answer on a VIP",
        node::host_daemon,
    ),
    once(story(
        "addresses-followed",
        "a node's addresses come and go, NodePorts with them",
        node_addresses::addresses_followed,
    )),
    once(story(
        "addresses-chosen",
        "--node-port-addresses, with a CIDR and with the Node's own",
        node_addresses::addresses_chosen,
    )),
    once(story(
        "addresses-never",
        "no NodePort on loopback or a VIP, none when its Service goes",
        node_addresses::never_there,
    )),
    once(story(
        "claims-refused",
        "a Service claims what the node, its gateway and the API server have",
        node_addresses::claims_refused,
    )),
    story(
        "reverse-path",
        "rp_filter 0/1/2 × src_valid_mark 0/1",
        node::reverse_path,
    ),
    ipvs(
        "foreign-claim",
        "a Service claims what somebody else has taken",
        foreign::foreign_claim,
    ),
    story(
        "plugin-first",
        "a plugin that accepts what is established before our rules",
        neighbours::plugin_first,
    ),
    ipvs(
        "firewall",
        "the node's firewall has the last word, but for health check ports",
        neighbours::firewall,
    ),
    story(
        "udp-black-hole",
        "a client's one port finds each endpoint that comes",
        regressions::udp::black_hole,
    ),
    story(
        "udp-black-hole-local",
        "the same when only its own node's pods may answer",
        regressions::udp::black_hole_local,
    ),
    story(
        "fragments-lost",
        "requests larger than a packet",
        regressions::udp::fragments,
    ),
    story(
        "port-reused",
        "one source port again and again, while pods drain",
        regressions::drain::port_reused,
    ),
    // Lost now and then where IPVS serves (docs/regressions.md).
    Scenario {
        on_demand: true,
        ..story(
            "port-shared",
            "one source port to a VIP and to the pod behind it",
            regressions::drain::port_shared,
        )
    },
    ipvs(
        "weight-zero-left",
        "what a run left at weight 0 serves or goes",
        regressions::drain::weight_zero_left,
    ),
    story(
        "node-lost",
        "connections to a lost node end, new ones go elsewhere",
        regressions::drain::node_lost,
    ),
    story(
        "deleted-draining",
        "a Service goes while its pods drain, and comes again",
        regressions::drain::deleted_while_draining,
    ),
    story(
        "outside-rolling",
        "no outside client fails while pods are replaced",
        regressions::drain::outside_rolling,
    ),
    story(
        "affinity-outlives",
        "a sticky client leaves the pod that goes",
        regressions::affinity::outlives_endpoint,
    ),
    story(
        "affinity-expires",
        "a shorter timeout holds, and ends",
        regressions::affinity::never_expires,
    ),
    once(story(
        "shared-ip-lost",
        "two Services at one external IP, and one goes",
        regressions::addresses::shared_lost,
    )),
    once(story(
        "claimed-twice",
        "the elder has an address and port, then its heir",
        regressions::addresses::claimed_twice,
    )),
    story(
        "arp-answered",
        "no node says that a load balancer's IP is its own",
        regressions::addresses::arp_answered,
    ),
    story(
        "vip-as-source",
        "the node asks from an address of its own",
        regressions::addresses::vip_as_source,
    ),
    story(
        "host-port-steals",
        "a host port takes no VIP's requests",
        regressions::addresses::host_port_steals,
    ),
    once(story(
        "endpoint-is-vip",
        "an endpoint that is a VIP is left out",
        regressions::addresses::endpoint_is_vip,
    )),
    story(
        "ping-answered",
        "a ping of a VIP: nobody answers for a Service",
        regressions::addresses::ping_answered,
    ),
    story(
        "forward-policy",
        "FORWARD has the policy DROP",
        regressions::neighbours::forward_policy,
    ),
    story(
        "loopback-reached",
        "nobody reaches a node's loopback",
        regressions::neighbours::loopback_reached,
    ),
    story(
        "window-left",
        "a packet from outside the window of its connection",
        regressions::window::left,
    ),
    once(story(
        "families-mixed",
        "slices of the other family",
        regressions::neighbours::families_mixed,
    )),
    story(
        "path-mtu",
        "a smaller MTU on either side is learnt through a VIP",
        icmp::path_mtu,
    ),
    story(
        "fragments",
        "datagrams in pieces through a VIP",
        icmp::fragments,
    ),
    once(Scenario {
        bare: true,
        ..story(
            "check-mistakes",
            "check tells each mistake made on a fit node, until it is taken back",
            check::mistakes,
        )
    }),
    once(story(
        "check-agent",
        "check tells an agent at work, one that was killed, and none",
        check::agent,
    )),
    once(story(
        "explain",
        "why Services are served as they are, and names that are not there",
        explain::explain,
    )),
    once(story(
        "diff",
        "what an agent would change, and what somebody has changed",
        diff::diff,
    )),
    once(Scenario {
        ..ipvs(
            "top",
            "the live view in a real terminal, against ipvsadm",
            top::top,
        )
    }),
    once(by_rules(
        "top-without-ipvs",
        "the live view where there is no ip_vs",
        top::top_without_ipvs,
    )),
    story(
        "cleanup",
        "cleanup removes what is ours and nothing else",
        cleanup::cleanup,
    ),
    Scenario {
        on_demand: true,
        ..story(
            "matrix-full",
            "every cell of the conformance matrix",
            matrix::matrix_full,
        )
    },
    Scenario {
        on_demand: true,
        bare: true,
        ..ipvs(
            "shell-scale",
            "list, save and restore at 5,000 × 10: figures, against ipvsadm",
            shell_table::scale,
        )
    },
    Scenario {
        on_demand: true,
        bare: true,
        ..ipvs(
            "scale",
            "5,000 Services × 10: figures, against ipvsadm -R",
            scale::scale,
        )
    },
];

/// An error for a name that no story has.
pub fn known(names: &[String]) -> Result<()> {
    for name in names {
        if !ALL.iter().any(|scenario| scenario.name == name) {
            bail!("there is no scenario {name}; `lab list` names them");
        }
    }
    Ok(())
}
