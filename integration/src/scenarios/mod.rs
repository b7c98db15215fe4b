//! The stories. Each reads from top to bottom, waits on conditions, and holds over IPv4 and IPv6.

mod changes;
pub mod demo;
mod events;
mod expect;
mod foreign;
mod health_check;
mod history;
mod icmp;
mod lifecycle;
mod matrix;
mod neighbours;
mod node;
mod node_addresses;
mod operator;
mod policies;
mod reach;
mod regressions;
mod run;
mod scale;
mod services;
mod tuning;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::guest::agent::Agent;
use crate::guest::cluster::{ApiServer, Cluster};
use crate::guest::sh_in;
use crate::guest::topology::{NODES, Topology};

pub use run::run;

use expect::{answered_by, at, node_addresses, refused, route_from_client, seen_client, silence};

/// One story.
pub struct Scenario {
    pub name: &'static str,
    pub about: &'static str,
    pub run: fn(&mut Lab) -> Result<()>,
    /// Runs without agents.
    pub bare: bool,
    /// Runs only when named.
    pub on_demand: bool,
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
        bare: false,
        on_demand: false,
    }
}

/// All stories, in the order in which they run.
pub const ALL: &[Scenario] = &[
    Scenario {
        bare: true,
        ..story(
            "lab-selftest",
            "the lab itself, with IPVS programmed by hand",
            node::lab_selftest,
        )
    },
    Scenario {
        bare: true,
        ..story(
            "cost",
            "one more endpoint costs the same at 10 and at 200 Services",
            scale::cost,
        )
    },
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
    story(
        "udp-sctp",
        "UDP and SCTP beside TCP at one port",
        reach::udp_sctp,
    ),
    story(
        "hairpin",
        "a pod reaches itself through its Service",
        reach::hairpin,
    ),
    story(
        "multi-port",
        "each port leads to its own endpoints",
        services::multi_port,
    ),
    story(
        "scheduler",
        "a scheduler by annotation, every one of the kernel's",
        services::scheduler,
    ),
    story(
        "weights",
        "shares by address, node and place",
        tuning::weights,
    ),
    story(
        "slow-start",
        "a new endpoint's share grows",
        tuning::slow_start,
    ),
    story(
        "thresholds",
        "a real server that is full",
        tuning::thresholds,
    ),
    story(
        "one-packet",
        "each datagram of one client balanced anew",
        tuning::one_packet,
    ),
    story(
        "idle-timeouts",
        "how long IPVS keeps an idle connection",
        tuning::timeouts,
    ),
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
    story(
        "topology",
        "hints for zones and nodes, labels that change",
        policies::topology,
    ),
    story(
        "source-ranges",
        "loadBalancerSourceRanges, for pods and nodes too",
        policies::source_ranges,
    ),
    story(
        "detect-local",
        "every way to know this node's pods, and masquerading all",
        policies::detect_local,
    ),
    story("endpoints", "endpoints go 0, 1, 3, 0", services::endpoints),
    story(
        "type-changes",
        "every type of Service after every other, ports that change",
        changes::types,
    ),
    story(
        "family-changes",
        "one family, both, one again",
        changes::families,
    ),
    story(
        "recreated",
        "a Service of the same name with another cluster IP",
        changes::recreated,
    ),
    story(
        "ip-mode",
        "load balancers that want to be asked themselves",
        changes::ip_mode,
    ),
    story(
        "skipped",
        "headless and other proxies' Services",
        services::skipped,
    ),
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
        "ipvsadm -C, rules, sets and the policy rule repaired",
        lifecycle::repair,
    ),
    story(
        "api-outage",
        "the API server goes, changes and comes back",
        lifecycle::api_outage,
    ),
    story(
        "manifests",
        "Services from a directory",
        lifecycle::manifests,
    ),
    story(
        "health",
        "health, metrics and log as an operator reads them",
        operator::health,
    ),
    story(
        "health-check",
        "a load balancer asks which nodes have endpoints",
        health_check::health_check,
    ),
    story(
        "health-check-port",
        "health check ports move, close and are taken by others",
        health_check::ports,
    ),
    story(
        "events",
        "what is wrong with a Service is told as Events, without a flood",
        events::events,
    ),
    story(
        "apiserver-flag",
        "addresses, token and authority on the command line",
        operator::apiserver_flag,
    ),
    story(
        "list",
        "ipvs-agent list is ipvsadm -Ln, byte for byte",
        node::list,
    ),
    story(
        "host-daemon",
        "a daemon of the node does not answer on a VIP",
        node::host_daemon,
    ),
    story(
        "addresses-followed",
        "a node's addresses come and go, NodePorts with them",
        node_addresses::addresses_followed,
    ),
    story(
        "addresses-chosen",
        "--node-port-addresses, with a CIDR and with the Node's own",
        node_addresses::addresses_chosen,
    ),
    story(
        "addresses-never",
        "no NodePort on loopback or a VIP, none when its Service goes",
        node_addresses::never_there,
    ),
    story(
        "claims-refused",
        "a Service claims what the node, its gateway and the API server have",
        node_addresses::claims_refused,
    ),
    story(
        "reverse-path",
        "rp_filter 0/1/2 × src_valid_mark 0/1",
        node::reverse_path,
    ),
    story(
        "foreign-claim",
        "a Service claims what somebody else has taken",
        foreign::foreign_claim,
    ),
    story(
        "plugin-first",
        "a plugin that accepts what is established before our rules",
        neighbours::plugin_first,
    ),
    story(
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
    story(
        "port-shared",
        "one source port to a VIP and to the pod behind it",
        regressions::drain::port_shared,
    ),
    story(
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
    story(
        "shared-ip-lost",
        "two Services at one external IP, and one goes",
        regressions::addresses::shared_lost,
    ),
    story(
        "claimed-twice",
        "the elder has an address and port, then its heir",
        regressions::addresses::claimed_twice,
    ),
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
    story(
        "endpoint-is-vip",
        "an endpoint that is a VIP is left out",
        regressions::addresses::endpoint_is_vip,
    ),
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
        "families-mixed",
        "slices of the other family",
        regressions::neighbours::families_mixed,
    ),
    story(
        "killed-midway",
        "kill -9 in the middle of a sync",
        regressions::sync::killed_midway,
    ),
    story(
        "matrix",
        "every two circumstances of the conformance matrix together",
        matrix::matrix,
    ),
    story(
        "history",
        "after a long random history the kernel is that of a fresh start",
        history::history,
    ),
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
    story(
        "cleanup",
        "cleanup removes what is ours and nothing else",
        foreign::cleanup,
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
        ..story(
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

/// What a story works with.
pub struct Lab {
    pub program: PathBuf,
    pub cluster: Cluster,
    pub agents: Vec<Agent>,
    _topology: Topology,
}

impl Lab {
    pub fn new(program: PathBuf, api: ApiServer) -> Result<Self> {
        let topology = Topology::new()?;
        println!("topology is up; waiting for the API server");
        let mut cluster = Cluster::connect(api)?;
        for node in NODES {
            cluster.node(node)?;
        }
        Ok(Self {
            program,
            cluster,
            agents: Vec::new(),
            _topology: topology,
        })
    }

    /// Starts the agents that a story needs and are not there, or ends those that it cannot have.
    pub fn prepare(&mut self, scenario: &Scenario) -> Result<()> {
        if scenario.bare {
            for agent in std::mem::take(&mut self.agents) {
                let node = agent.node.clone();
                drop(agent);
                self.agent_command(&node, "cleanup")?;
            }
            return Ok(());
        }
        for node in NODES {
            if !self.agents.iter().any(|agent| agent.node == node) {
                self.start_agent(node)?;
            }
        }
        Ok(())
    }

    pub fn start_agent(&mut self, node: &str) -> Result<()> {
        self.start_agent_with(node, &[])
    }

    /// The same with more on its command line.
    pub fn start_agent_with(&mut self, node: &str, args: &[&str]) -> Result<()> {
        let kubeconfig = self.cluster.kubeconfig.display().to_string();
        let source = ["--kubeconfig", &kubeconfig];
        let agent = Agent::start(&self.program, node, &[&source, args].concat())?;
        self.agents.push(agent);
        Ok(())
    }

    /// The agent at work in a node.
    pub fn agent(&mut self, node: &str) -> Result<&mut Agent> {
        let mut agents = self.agents.iter_mut();
        agents
            .find(|agent| agent.node == node)
            .with_context(|| format!("no agent runs in {node}"))
    }

    pub fn stop_agent(&mut self, node: &str) -> Result<()> {
        for agent in self.agents.iter_mut().filter(|agent| agent.node == node) {
            agent.kill()?;
        }
        self.agents.retain(|agent| agent.node != node);
        Ok(())
    }

    /// After a story: its objects go.
    pub fn tidy(&mut self) {
        self.cluster.tidy();
    }

    /// After a failure: what the kernel and the agents say.
    pub fn diagnose(&self) {
        for node in NODES {
            for line in [
                "ipvsadm -Ln",
                "cat /proc/net/ip_vs",
                "ipset save",
                "ip rule",
                "ip -6 rule",
                "ip route show table 10256",
                "ip -6 route show table 10256",
                "iptables-save",
                "ip6tables-save",
                "conntrack -L",
            ] {
                let text = sh_in(node, line).unwrap_or_else(|error| format!("{error:#}"));
                println!("--- {node}: {line}");
                text.lines()
                    .take(200)
                    .for_each(|line| println!("    {line}"));
            }
        }
        for agent in &self.agents {
            let log = agent.log();
            let lines: Vec<&str> = log.lines().collect();
            println!("--- {}: the agent's log, its end", agent.node);
            lines
                .iter()
                .skip(lines.len().saturating_sub(40))
                .for_each(|l| println!("    {l}"));
        }
    }

    /// Runs a subcommand of the agent in a node.
    pub fn agent_command(&self, node: &str, words: &str) -> Result<String> {
        sh_in(node, &format!("{} {words}", self.program.display()))
    }
}
