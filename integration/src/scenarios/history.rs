//! A long random history of objects: the kernel is that of a fresh start on the last of them, read by
//! the kernel's own tools.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{Lab, answered_by, at};
use crate::guest::cluster::State::{self, NotReady, Ready, Terminating};
use crate::guest::probe::Transport::Tcp;
use crate::guest::sh_in;
use crate::guest::topology::{P11, Pod, pods};
use crate::guest::wait::eventually;

pub fn history(lab: &mut Lab) -> Result<()> {
    for line in FOREIGN {
        sh_in(NODE, line)?;
    }
    let mut chance = Chance(SEED);
    println!("     {CHANGES} changes, seed {SEED:#x}");
    let refused = (0..CHANGES).filter(|_| change(lab, &mut chance).is_err());
    let refused = refused.count();
    ensure!(
        refused < CHANGES / 4,
        "the API server refused {refused} of {CHANGES} changes"
    );
    // Answered on the node once it has come through what was before.
    let last = lab.cluster.service("last", json!({}), json!({}))?;
    lab.cluster.endpoints("last", &[(P11, Ready)])?;
    for vip in &last {
        answered_by("p12", Tcp, at(vip, 80)?, &["p11"])?;
    }
    let lived = settled()?;
    let servers = lived.iter().filter(|line| line.contains("-A -")).count();
    let members = lived
        .iter()
        .filter(|line| line.contains("add IPVS-"))
        .count();
    println!("     {servers} virtual servers, {members} set entries; {refused} changes refused");
    ensure!(
        servers > 10,
        "only {servers} virtual servers are left to compare"
    );

    lab.stop_agent(NODE)?;
    lab.agent_command(NODE, "cleanup")?;
    let bare = state()?;
    let ours = bare.iter().find(|line| line.contains("IPVS-AGENT"));
    ensure!(ours.is_none(), "cleanup has left {ours:?}");
    lab.start_agent(NODE)?;
    lab.agent(NODE)?.synced()?;
    let fresh = settled()?;
    let differs: Vec<String> = lived
        .difference(&fresh)
        .map(|line| format!("only after the history: {line}"))
        .chain(
            fresh
                .difference(&lived)
                .map(|line| format!("only after a fresh start: {line}")),
        )
        .collect();
    ensure!(differs.is_empty(), "{}", differs.join("\n"));
    let theirs = lived.iter().filter(|line| line.contains("203.0.113.9"));
    let theirs = theirs.count();
    ensure!(theirs == 4, "of 4 foreign entries {theirs} are left");
    for line in UNDO_FOREIGN {
        sh_in(NODE, line)?;
    }
    lab.cluster.label_node(NODE, ZONE, None)
}

/// One change of a Service, its endpoints or the Node.
fn change(lab: &mut Lab, chance: &mut Chance) -> Result<()> {
    let number = chance.below(SERVICES);
    let name = format!("h{number}");
    match chance.below(20) {
        0..7 => {
            let (annotations, spec) = (annotations(chance), spec(number, chance));
            lab.cluster.service(&name, annotations, spec).map(drop)
        }
        7..9 => {
            let ips = chance.some(&["192.168.61.1", "192.168.61.3", "fd00:61::1"]);
            lab.cluster.load_balancer_ips(&name, &ips)
        }
        // One that is not there is refused, and that is all.
        9 => lab.cluster.delete("Service", &name),
        10 => {
            let zone = chance.one(&[None, Some("z1"), Some("z2")]);
            lab.cluster.label_node(NODE, ZONE, zone)
        }
        _ => {
            let slice = format!("{name}-{}", chance.below(2));
            let endpoints = endpoints(chance);
            let hints = |(pod, state): &(Pod, State)| {
                let zones = json!({ "forZones": [{ "name": chance.one(&["z1", "z2"]) }] });
                (
                    *pod,
                    *state,
                    if chance.below(2) == 0 {
                        zones
                    } else {
                        json!(null)
                    },
                )
            };
            let endpoints: Vec<_> = endpoints.iter().map(hints).collect();
            lab.cluster.hinted_slice(
                &name,
                &slice,
                &endpoints,
                &[("t", "TCP"), ("u", "UDP"), ("s", "SCTP")],
            )
        }
    }
}

fn endpoints(chance: &mut Chance) -> Vec<(Pod, State)> {
    let mut endpoints = Vec::new();
    for pod in pods() {
        if chance.below(3) == 0 {
            endpoints.push((pod, chance.one(&[Ready, Ready, Terminating, NotReady])));
        }
    }
    endpoints
}

fn spec(number: usize, chance: &mut Chance) -> Value {
    let of_type = chance.one(&["ClusterIP", "NodePort", "LoadBalancer", "LoadBalancer"]);
    let mut ports = Vec::new();
    let wanted = chance.some(&[("t", "TCP", 80), ("u", "UDP", 53), ("s", "SCTP", 9)]);
    for (name, protocol, port) in wanted {
        let mut entry =
            json!({ "name": name, "protocol": protocol, "port": port, "targetPort": 8080 });
        if of_type != "ClusterIP" {
            entry["nodePort"] = json!(30_200 + 100 * number + port);
        }
        ports.push(entry);
    }
    if ports.is_empty() {
        ports.push(json!({ "name": "t", "protocol": "TCP", "port": 81, "targetPort": 8080 }));
    }
    let mut spec = json!({
        "type": of_type,
        "ports": ports,
        "internalTrafficPolicy": chance.one(&["Cluster", "Cluster", "Local"]),
        // Shared between Services: the oldest gets them.
        "externalIPs": chance.some(&["192.168.61.2", "192.168.61.3", "fd00:61::2"]),
        "sessionAffinity": chance.one(&["None", "None", "ClientIP"]),
    });
    if of_type != "ClusterIP" {
        spec["externalTrafficPolicy"] = json!(chance.one(&["Cluster", "Local"]));
    }
    if of_type == "LoadBalancer" {
        spec["loadBalancerSourceRanges"] = json!(chance.some(&["192.168.50.0/24", "fd00:50::/64"]));
    }
    if chance.below(4) == 0 {
        spec["ipFamilyPolicy"] = json!("SingleStack");
        spec["ipFamilies"] = json!(["IPv4"]);
    }
    spec
}

fn annotations(chance: &mut Chance) -> Value {
    let mut all = json!({});
    for (key, values) in [
        ("scheduler", ["wrr", "sh"]),
        ("one-packet", ["true", "maybe"]),
        ("upper-threshold", ["100", "-1"]),
        ("slow-start", ["2s", "never"]),
        ("weights", ["node/n1=3,*=2", "x"]),
    ] {
        if chance.below(4) == 0 {
            all[format!("ipvs-agent.io/{key}")] = json!(chance.one(&values));
        }
    }
    all
}

/// What the kernel's tools print once it changes no more: nothing drains, no weight grows, and an
/// audit has found nothing.
fn settled() -> Result<BTreeSet<String>> {
    let mut before = BTreeSet::new();
    eventually("the kernel changes no more", || {
        let now = state()?;
        let same = now == before;
        before = now;
        if !same {
            std::thread::sleep(AUDIT_AND_RAMP);
        }
        Ok(if same {
            Ok(())
        } else {
            Err("it does".to_owned())
        })
    })?;
    Ok(before)
}

/// Each line with the command that printed it. Counters and the seeds of hashes are left out.
fn state() -> Result<BTreeSet<String>> {
    let mut lines = BTreeSet::new();
    for command in [
        "ipvsadm -Sn",
        "ipset save",
        "iptables-save",
        "ip6tables-save",
        "ip rule",
        "ip -6 rule",
        "ip route show table 10256",
        "ip -6 route show table 10256",
    ] {
        let ordered = command.ends_with("tables-save");
        for (number, line) in sh_in(NODE, command)?.lines().enumerate() {
            if line.starts_with('#') {
                continue;
            }
            let stop = if line.starts_with(':') {
                " ["
            } else {
                " initval "
            };
            let told = line.split(stop).next().unwrap_or(line);
            // Rules have an order; whatever else there is has none.
            lines.insert(if ordered {
                format!("{command} {number}: {told}")
            } else {
                format!("{command}: {told}")
            });
        }
    }
    Ok(lines)
}

/// Numbers that come again with the same seed (a linear congruential generator, its upper half).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % limit
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn some<T: Copy>(&mut self, of: &[T]) -> Vec<T> {
        of.iter().copied().filter(|_| self.below(2) == 0).collect()
    }
}

const NODE: &str = "n1";
const ZONE: &str = "topology.kubernetes.io/zone";
const SEED: u64 = 0x5eed_0004;
const CHANGES: usize = 300;
const SERVICES: usize = 6;
/// Longer than the audit's interval here, and than a step of a weight that grows.
const AUDIT_AND_RAMP: std::time::Duration = std::time::Duration::from_millis(2500);
const FOREIGN: [&str; 5] = [
    "ipvsadm -A -t 203.0.113.9:80 -s wlc",
    "ipvsadm -a -t 203.0.113.9:80 -r 198.51.100.9:80 -m -w 9",
    "ipset create theirs hash:ip",
    "ipset add theirs 203.0.113.9",
    "iptables -A FORWARD -d 203.0.113.9 -j ACCEPT",
];
const UNDO_FOREIGN: [&str; 3] = [
    "ipvsadm -D -t 203.0.113.9:80",
    "ipset destroy theirs",
    "iptables -D FORWARD -d 203.0.113.9 -j ACCEPT",
];
