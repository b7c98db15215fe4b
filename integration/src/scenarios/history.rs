//! A long random history of objects: the kernel is that of a fresh start on the last of them, read by
//! the kernel's own tools.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{Lab, answered_by, at};
use crate::dataplane::Dataplane;
use crate::guest::cluster::State::{self, NotReady, Ready, Terminating};
use crate::guest::probe::Transport::Tcp;
use crate::guest::state::{differences, state};
use crate::guest::stranger;
use crate::guest::topology::{P11, Pod, pods};
use crate::guest::wait::eventually;

pub fn history(lab: &mut Lab) -> Result<()> {
    let dataplane = lab.program.dataplane;
    stranger::enter(dataplane, NODE)?;
    let made = state(dataplane, NODE)?;
    let made = made.iter().filter(|line| stranger::is_his(line)).count();
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
    let lived = settled(dataplane)?;
    let served = lab.served(NODE)?.tuples.len();
    let members = lived
        .iter()
        .filter(|line| line.contains("add IPVS-"))
        .count();
    println!("     {served} tuples served, {members} set entries; {refused} changes refused");
    ensure!(served > 10, "only {served} tuples are left to compare");

    lab.stop_agent(NODE)?;
    lab.agent_command(NODE, "cleanup")?;
    let bare = state(dataplane, NODE)?;
    let ours = bare.iter().find(|line| line.contains("IPVS-AGENT"));
    ensure!(ours.is_none(), "cleanup has left {ours:?}");
    lab.start_agent(NODE)?;
    lab.agent(NODE)?.synced()?;
    let fresh = settled(dataplane)?;
    let differs = differences(
        ("after the history", &lived),
        ("after a fresh start", &fresh),
    );
    ensure!(differs.is_empty(), "{differs}");
    let theirs = bare.iter().filter(|line| stranger::is_his(line)).count();
    let stayed = lived.iter().filter(|line| stranger::is_his(line)).count();
    ensure!(
        (theirs, stayed) == (made, made),
        "of {made} lines of somebody else {stayed} stayed, and {theirs} after cleanup"
    );
    stranger::leave(dataplane, NODE)?;
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
pub(super) fn settled(dataplane: Dataplane) -> Result<BTreeSet<String>> {
    let mut before = BTreeSet::new();
    eventually("the kernel changes no more", || {
        let now = state(dataplane, NODE)?;
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
