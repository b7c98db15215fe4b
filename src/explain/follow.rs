//! One packet, from who sends it to where it ends. Only first packets are followed: what belongs to a
//! connection goes where its first packet went.

use std::net::IpAddr;

use super::Facts;
use super::rules::{self, Rule};
use crate::ask::explain::{ClientKind, ClientSeen, Led, Packet, Refusal, Step, Trace, Verdict};
use crate::dataplane::policy::settings::{ClusterMasquerade, DetectLocal};
use crate::model::{
    Family, Protocol, RealServers, TrafficPolicy, Unserved, VipKind, VipPort, VirtualServer,
};

/// What becomes of the first packet of a connection on this node.
pub fn follow(facts: &Facts<'_>, packet: Packet) -> Trace {
    let mut walk = Walk {
        facts,
        packet,
        vip: VipPort {
            addr: packet.to,
            protocol: packet.protocol.into(),
            port: packet.port,
        },
        client: ClientKind::NodeProcess,
        steps: Vec::new(),
    };
    let verdict = walk.go();
    Trace {
        node: facts.node.name.clone(),
        dataplane: facts.dataplane.to_owned(),
        packet,
        client: walk.client,
        steps: walk.steps,
        verdict,
    }
}

struct Walk<'a, 'f> {
    facts: &'a Facts<'f>,
    packet: Packet,
    vip: VipPort,
    client: ClientKind,
    steps: Vec<Step>,
}

/// Why the source is kept or not, unless the endpoint says otherwise.
type Source = (ClientSeen, Rule, &'static str);

impl<'a> Walk<'a, '_> {
    fn tell(&mut self, about: &str, finding: impl Into<String>, rule: Rule) {
        self.steps.push(Step {
            about: about.to_owned(),
            finding: finding.into(),
            rule: rule.text.to_owned(),
            see: rule.see.to_owned(),
        });
    }

    fn go(&mut self) -> Verdict {
        self.client = self.who();
        let facts: &'a Facts<'_> = self.facts;
        let Some(server) = facts.desired.virtual_server(&self.vip) else {
            let (finding, rule) = self.nothing_here();
            self.tell("destination", finding, rule);
            return Verdict::NotOurs;
        };
        let owner = &server.owner;
        let finding = format!(
            "{} is the {} of {owner}, policy {}",
            self.vip, server.kind, server.policy
        );
        let rule = match server.kind {
            VipKind::NodePort => rules::NODE_PORT,
            _ => rules::TUPLE,
        };
        self.tell("destination", finding, rule);
        if facts.foreign.contains(&self.vip) {
            let finding =
                "somebody else's virtual server stands there, and decides: see ipvsadm -Ln";
            self.tell("destination", finding, rules::SHADOWED);
            return Verdict::NotOurs;
        }
        if !self.is_in_ranges(server) {
            return Verdict::Dropped;
        }
        let chosen = self.choose(server);
        let serving: Vec<_> = chosen.iter().filter(|(_, real)| !real.draining).collect();
        if serving.is_empty() {
            return self.turn_away(server.unserved);
        }
        let source = self.source(server);
        let led: Vec<Led> = serving
            .into_iter()
            .map(|(key, real)| {
                let hairpin = real.local && self.packet.from == Some(key.addr);
                let here = facts.is_own(key.addr);
                Led {
                    address: key.addr,
                    port: key.port,
                    local: real.local,
                    weight: real.weight,
                    hairpin: hairpin && !here,
                    client_seen: match source.0 {
                        _ if here => ClientSeen::Kept,
                        _ if hairpin => ClientSeen::Masqueraded,
                        seen => seen,
                    },
                }
            })
            .collect();
        self.tell_source(&source, &led);
        if let Some(persistence) = server.persistence {
            let seconds = persistence.timeout_seconds;
            let finding = format!(
                "ClientIP, {seconds} s: a client that was here within that time goes where it went"
            );
            self.tell("affinity", finding, rules::AFFINITY);
        }
        Verdict::Balanced { endpoints: led }
    }

    /// Who sends it, as the rules in the kernel see it.
    fn who(&mut self) -> ClientKind {
        let facts = self.facts;
        let Some(from) = self.packet.from else {
            self.tell("client", "a process of this node", rules::CLIENTS);
            return ClientKind::NodeProcess;
        };
        let within = |nets: &std::collections::BTreeSet<ipnet::IpNet>| {
            nets.iter().find(|net| net.contains(&from)).copied()
        };
        let by_interface = match &facts.settings.detect_local {
            DetectLocal::Sources => None,
            DetectLocal::Interface(name) => Some(name),
        };
        let (kind, finding) = if facts.is_own(from) {
            let text = format!("{from} is this node's own address: a process of this node");
            (ClientKind::NodeProcess, text)
        } else if let Some(net) = within(&facts.network.pods_of_this_node()) {
            let text = match by_interface {
                None => format!("{from} lies in {net}: a pod of this node"),
                Some(name) => format!(
                    "{from} lies in {net}: a pod of this node, if it comes in by {name}, by which pods are known"
                ),
            };
            (ClientKind::PodOfThisNode, text)
        } else if let Some(net) = within(&facts.network.pod_cidrs) {
            let mut text = format!("{from} lies in {net}: a pod of another node");
            if !self.is_at_this_node() {
                text += ". Its own node's proxy serves it: ask there. Here it is followed as if it came";
            }
            (ClientKind::PodElsewhere, text)
        } else {
            let text = format!("{from} is neither this node's nor a pod's: from outside");
            (ClientKind::Outside, text)
        };
        self.tell("client", finding, rules::CLIENTS);
        kind
    }

    /// The address that is asked is one of this node's: whoever asks, the packet comes here.
    fn is_at_this_node(&self) -> bool {
        self.facts.is_own(self.packet.to)
    }

    /// What stands at a tuple that no Service has.
    fn nothing_here(&self) -> (String, Rule) {
        let facts = self.facts;
        let vip = self.vip;
        let desired = || facts.desired.iter();
        let at_address: Vec<String> = desired()
            .filter(|(other, _)| other.addr == vip.addr)
            .map(|(other, server)| format!("{}/{} of {}", other.port, other.protocol, server.owner))
            .take(TOLD)
            .collect();
        let same_port = |(other, server): &(&VipPort, &VirtualServer)| {
            server.kind == VipKind::NodePort
                && (other.port, other.protocol) == (vip.port, vip.protocol)
                && other.family() == vip.family()
        };
        if facts.is_own(vip.addr) {
            if let Some((_, server)) = desired().find(|(_, server)| {
                vip.protocol == Protocol::Tcp
                    && server.health_check_node_port != 0
                    && server.health_check_node_port == vip.port
            }) {
                let service = &server.owner.service;
                let text = format!(
                    "the health check port of {service}: the agent answers it, not an endpoint"
                );
                return (text, rules::HEALTH_CHECK);
            }
            if let Some((other, server)) = desired().find(same_port) {
                let text = format!(
                    "a NodePort of {}, which does not answer on {} but on {} (--node-port-addresses)",
                    server.owner, vip.addr, other.addr
                );
                return (text, rules::NODE_PORT);
            }
            let text = format!(
                "no Service has {vip}: the node itself answers, or nobody does. The firewall of the node \
                 and its processes decide"
            );
            return (text, rules::NODE_PORT);
        }
        let text = if !at_address.is_empty() {
            format!(
                "{} is a Service's, which has no such port; it has {}. No interface has the address: the \
                 packet goes on along the node's routes",
                vip.addr,
                at_address.join(", ")
            )
        } else if facts.reserved.is_cluster_ip(vip.addr) {
            format!(
                "{} lies in a range of cluster IPs, and no Service has it here: the packet goes on along \
                 the node's routes",
                vip.addr
            )
        } else {
            format!("no Service that this node serves has {vip}: the packet goes on as any other")
        };
        (text, rules::TUPLE)
    }

    fn is_in_ranges(&mut self, server: &VirtualServer) -> bool {
        if server.source_ranges.is_empty() {
            return true;
        }
        let ranges: Vec<String> = server
            .source_ranges
            .iter()
            .map(ToString::to_string)
            .collect();
        let ranges = ranges.join(", ");
        let family = Family::of(self.packet.to);
        let from = self.packet.from.or_else(|| self.facts.sends_from(family));
        let inside = |addr: IpAddr| {
            server
                .source_ranges
                .iter()
                .any(|range| range.contains(&addr))
        };
        let (finding, permitted) = match from {
            Some(from) if inside(from) => (format!("{from} lies in {ranges}: it may come"), true),
            Some(from) => (format!("{from} lies in none of {ranges}"), false),
            None => ("no address of the node is known".to_owned(), false),
        };
        let finding = match self.packet.from {
            Some(_) => finding,
            None => {
                format!("{finding}; another address that it sends from may be judged otherwise")
            }
        };
        self.tell("source ranges", finding, rules::RANGES);
        permitted
    }

    /// The endpoints that are there for such a client.
    fn choose<'s>(&mut self, server: &'s VirtualServer) -> &'s RealServers {
        let here = matches!(
            self.client,
            ClientKind::NodeProcess | ClientKind::PodOfThisNode
        );
        let (set, finding, rule) = match (&server.near, server.policy) {
            (Some(near), _) if here => (near, "of all nodes", rules::SHORT_CIRCUIT),
            (Some(_), _) => (&server.real_servers, "of this node", rules::EXTERNAL_LOCAL),
            (None, TrafficPolicy::Cluster) => {
                (&server.real_servers, "of all nodes", rules::CLUSTER)
            }
            (None, TrafficPolicy::Local) => {
                (&server.real_servers, "of this node", rules::INTERNAL_LOCAL)
            }
        };
        let serving: Vec<_> = set.iter().filter(|(_, real)| !real.draining).collect();
        let names: Vec<String> = serving.iter().map(|(key, _)| key.to_string()).collect();
        let found = match names.len() {
            0 => "none takes new connections".to_owned(),
            count if count > TOLD => {
                format!("{} and {} more", names[..TOLD].join(", "), count - TOLD)
            }
            _ => names.join(", "),
        };
        let mut finding = format!("endpoints {finding}: {found}");
        if !serving.is_empty() {
            finding = format!("{finding}; chosen by {}", server.scheduler);
        }
        self.tell("endpoints", finding, rule);
        set
    }

    fn turn_away(&mut self, unserved: Unserved) -> Verdict {
        match unserved {
            Unserved::Drop => {
                let finding = "there are endpoints, none of them for this client: no answer";
                self.tell("endpoints", finding, rules::DROP);
                Verdict::Dropped
            }
            Unserved::Refuse => {
                let (by, finding) = match self.vip.protocol {
                    Protocol::Tcp => (
                        Refusal::TcpReset,
                        "no endpoint anywhere: the client gets a reset",
                    ),
                    _ => (
                        Refusal::IcmpPortUnreachable,
                        "no endpoint anywhere: the client gets an ICMP error, port unreachable",
                    ),
                };
                self.tell("endpoints", finding, rules::REFUSE);
                Verdict::Refused { by }
            }
        }
    }

    /// Whether the rules let the client keep its address, before the endpoint is looked at.
    fn source(&self, server: &VirtualServer) -> Source {
        use ClientSeen::{Kept, Masqueraded};
        let node = "masqueraded, since it comes from the node itself";
        let kept = "the client's address is kept";
        if server.kind.is_external() {
            return match (&server.near, self.client) {
                (None, _) => (Masqueraded, rules::EXTERNAL_MASQUERADED, "masqueraded"),
                (Some(_), ClientKind::NodeProcess) => (Masqueraded, rules::NODE_MASQUERADED, node),
                (Some(_), _) => (Kept, rules::LOCAL_KEEPS, kept),
            };
        }
        let family = Family::of(self.packet.to);
        let facts = self.facts;
        match facts.settings.cluster_masquerade(facts.network, family) {
            ClusterMasquerade::All => (Masqueraded, rules::MASQUERADE_ALL, "masqueraded"),
            ClusterMasquerade::Never => (Kept, rules::NO_PODS_KNOWN, kept),
            ClusterMasquerade::UnlessFromPod => match self.client {
                ClientKind::PodOfThisNode => (Kept, rules::POD_KEEPS, kept),
                // An interface tells this node's pods alone.
                ClientKind::PodElsewhere if facts.settings.detect_local == DetectLocal::Sources => {
                    (Kept, rules::POD_KEEPS, kept)
                }
                ClientKind::NodeProcess => (Masqueraded, rules::MASQUERADE_OTHERS, node),
                _ => (Masqueraded, rules::MASQUERADE_OTHERS, "masqueraded"),
            },
        }
    }

    /// Tells of the source address, and of endpoints that are an exception.
    fn tell_source(&mut self, source: &Source, led: &[Led]) {
        let own: Vec<IpAddr> = led
            .iter()
            .map(|led| led.address)
            .filter(|addr| self.facts.is_own(*addr))
            .collect();
        let is_exception = |led: &Led| led.hairpin || own.contains(&led.address);
        let (seen, rule, text) = source;
        if !led.iter().all(is_exception) {
            let finding = match seen {
                ClientSeen::Kept => (*text).to_owned(),
                ClientSeen::Masqueraded => format!(
                    "{text}: the endpoint sees the address of this node by which the packet leaves"
                ),
            };
            self.tell("source address", finding, *rule);
        }
        if let Some(itself) = led.iter().find(|led| led.hairpin) {
            let finding = format!(
                "if it is led to itself ({}) it is masqueraded",
                itself.address
            );
            self.tell("source address", finding, rules::HAIRPIN);
        }
        if let Some(addr) = own.first() {
            let finding =
                format!("to {addr}, a process of this node, the client's address is kept");
            self.tell("source address", finding, rules::HANDED_OVER);
        }
    }
}

/// Of many endpoints or ports a few tell the story.
const TOLD: usize = 5;
