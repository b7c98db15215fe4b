//! What somebody else made stays as it is.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{Lab, answered_by, at};
use crate::guest::cluster::State::Ready;
use crate::guest::http::metrics;
use crate::guest::probe::Transport::Tcp;
use crate::guest::sh_in;
use crate::guest::topology::{NODES, P11, P21, P31, POD_PORT};
use crate::guest::wait::eventually;

/// Runs last: the nodes are bare after it.
pub fn cleanup(lab: &mut Lab) -> Result<()> {
    let spec = json!({ "type": "NodePort" });
    let vips = lab.cluster.service("web", json!({}), spec)?;
    lab.cluster
        .endpoints("web", &[(P11, Ready), (P21, Ready)])?;
    for vip in &vips {
        answered_by("p32", Tcp, at(vip, 80)?, &["p11", "p21"])?;
    }
    for line in FOREIGN {
        sh_in("n3", line)?;
    }
    // SIGTERM leaves the node serving.
    lab.agent("n3")?.terminate()?;
    lab.agents.retain(|agent| agent.node != "n3");
    for vip in &vips {
        answered_by("p32", Tcp, at(vip, 80)?, &["p11", "p21"])?;
    }
    let plan = lab.agent_command("n3", "cleanup --dry-run")?;
    let list = sh_in("n3", "ipvsadm -Ln")?;
    for vip in &vips {
        ensure!(
            plan.lines()
                .any(|line| line.contains("ipvsadm -D") && line.contains(vip.as_str())),
            "--dry-run does not name {vip}:\n{plan}"
        );
        ensure!(list.contains(vip.as_str()), "--dry-run removed {vip}");
    }
    lab.agent_command("n3", "cleanup")?;
    only_foreign_is_left()?;
    let again = lab.agent_command("n3", "cleanup")?;
    ensure!(
        again.contains("nothing of ipvs-agent"),
        "a second cleanup: {again}"
    );
    only_foreign_is_left()?;
    for node in NODES {
        lab.stop_agent(node)?;
        lab.agent_command(node, "cleanup")?;
    }
    Ok(())
}

/// What the kernel tells of n3, word for word or by its parts.
fn only_foreign_is_left() -> Result<()> {
    let is = |tool: &str, wanted: &str| -> Result<()> {
        let text = sh_in("n3", tool)?;
        let trimmed: Vec<&str> = text.lines().map(str::trim_end).collect();
        ensure!(
            trimmed.join("\n") == wanted,
            "{tool} after cleanup:\n{text}"
        );
        Ok(())
    };
    is(
        "ipvsadm -Sn",
        "-A -t 10.99.1.1:80 -s rr\n\
         -a -t 10.99.1.1:80 -r 10.99.2.2:80 -m -w 1\n\
         -A -t [fd00:99::1]:80 -s rr\n\
         -a -t [fd00:99::1]:80 -r [fd00:99:2::2]:80 -m -w 1",
    )?;
    is("ipset list -n", "FOREIGN-4\nFOREIGN-6")?;
    is(
        "ip route show table 10256",
        "local 10.99.3.3 dev lo scope host",
    )?;
    is(
        "ip -6 route show table 10256",
        "local fd00:99:3::3 dev lo metric 1024 pref medium",
    )?;
    for (tool, kept) in [
        (
            "ipset save FOREIGN-4",
            vec!["add FOREIGN-4 10.99.1.1,tcp:80"],
        ),
        (
            "ipset save FOREIGN-6",
            vec!["add FOREIGN-6 fd00:99::1,tcp:80"],
        ),
        (
            "iptables-save",
            vec![
                "-A PREROUTING -j FOREIGN",
                "-A POSTROUTING -s 10.99.0.0/16 -j MASQUERADE",
            ],
        ),
        (
            "ip6tables-save",
            vec![
                "-A PREROUTING -j FOREIGN",
                "-A POSTROUTING -s fd00:99::/32 -j MASQUERADE",
            ],
        ),
        ("ip rule", vec!["80:\tfrom all fwmark 0x1/0x1 lookup 77"]),
        ("ip -6 rule", vec!["80:\tfrom all fwmark 0x1/0x1 lookup 77"]),
        (
            "ip addr show dev keepalived",
            vec!["10.99.1.1/32", "fd00:99::1/128"],
        ),
    ] {
        let text = sh_in("n3", tool)?;
        for kept in kept {
            ensure!(text.contains(kept), "{kept:?} is gone from {tool}:\n{text}");
        }
        for ours in ["IPVS-AGENT", "10256"] {
            ensure!(!text.contains(ours), "{ours} is left in {tool}:\n{text}");
        }
    }
    Ok(())
}

/// Between two audits somebody takes a tuple that a Service claims later.
pub fn foreign_claim(lab: &mut Lab) -> Result<()> {
    let rarely = ["--audit-interval", "1h"];
    lab.stop_agent("n1")?;
    lab.start_agent_with("n1", &rarely)?;
    lab.agent("n1")?.synced()?;
    let claimed = ["10.96.77.7", "fd00:96::7777"];
    let theirs = [P31.v4(), format!("[{}]", P31.v6())];
    for (vip, real) in ["10.96.77.7", "[fd00:96::7777]"].iter().zip(&theirs) {
        sh_in("n1", &format!("ipvsadm -A -t {vip}:80 -s wlc"))?;
        sh_in(
            "n1",
            &format!("ipvsadm -a -t {vip}:80 -r {real}:{POD_PORT} -m -w 7"),
        )?;
    }
    let as_made = claimed_rows()?;
    ensure!(as_made.lines().count() == 4, "{as_made}");

    let spec = json!({ "clusterIP": claimed[0], "clusterIPs": claimed });
    lab.cluster.service("claims", json!({}), spec)?;
    lab.cluster.endpoints("claims", &[(P11, Ready)])?;
    // A Service that comes later is programmed: the claim has been dealt with.
    let served = |lab: &mut Lab, name: &str| -> Result<Vec<String>> {
        let vips = lab.cluster.service(name, json!({}), json!({}))?;
        lab.cluster.endpoints(name, &[(P21, Ready)])?;
        for vip in &vips {
            answered_by("n1", Tcp, at(vip, 80)?, &["p21"])?;
        }
        Ok(vips)
    };
    let after = served(lab, "after")?;
    is_still_foreign(&as_made)?;
    are_foreign(2.0)?;
    // Neither a change of the Service's endpoints nor a restart takes them over.
    lab.cluster
        .endpoints("claims", &[(P11, Ready), (P21, Ready)])?;
    served(lab, "after-change")?;
    is_still_foreign(&as_made)?;
    // Nor does what the set says: here that theirs are ours, as after a crash at a bad moment, and that
    // ours are not.
    lab.stop_agent("n1")?;
    for (family, vip) in ["4", "6"].iter().zip(claimed) {
        sh_in("n1", &format!("ipset flush IPVS-AGENT-{family}-OWNED"))?;
        sh_in(
            "n1",
            &format!("ipset add IPVS-AGENT-{family}-OWNED {vip},tcp:80"),
        )?;
    }
    // Who edits one of ours meanwhile makes it his own.
    let edited = after.first().context("a cluster IP")?;
    sh_in("n1", &format!("ipvsadm -E -t {edited}:80 -s wlc"))?;
    lab.start_agent_with("n1", &rarely)?;
    lab.agent("n1")?.synced()?;
    served(lab, "after-restart")?;
    is_still_foreign(&as_made)?;
    are_foreign(3.0)?;
    lab.stop_agent("n1")?;
    lab.agent_command("n1", "cleanup")?;
    is_still_foreign(&as_made)?;
    let left = sh_in("n1", "ipvsadm -Sn")?;
    ensure!(
        left.contains(&format!("-A -t {edited}:80 -s wlc")) && left.lines().count() == 6,
        "{left}"
    );

    // Once they are gone the Services are served.
    for vip in ["10.96.77.7", "[fd00:96::7777]", edited] {
        sh_in("n1", &format!("ipvsadm -D -t {vip}:80"))?;
    }
    lab.start_agent("n1")?;
    for vip in claimed {
        answered_by("n1", Tcp, at(vip, 80)?, &["p11", "p21"])?;
    }
    answered_by("n1", Tcp, at(edited, 80)?, &["p21"])
}

/// So many, and none that the agent made.
fn are_foreign(count: f64) -> Result<()> {
    eventually("the metrics count foreign virtual servers", || {
        let metrics = metrics("n1")?;
        let told = metrics.get("ipvs_agent_foreign_virtual_servers");
        let right = told == Some(&count);
        Ok(right.then_some(()).ok_or(format!("{told:?}, not {count}")))
    })
}

/// What `ipvsadm -Sn` prints of the claimed tuples.
fn claimed_rows() -> Result<String> {
    let all = sh_in("n1", "ipvsadm -Sn")?;
    let rows = all.lines().filter(|row| {
        ["10.96.77.7:80", "[fd00:96::7777]:80"]
            .iter()
            .any(|vip| row.contains(vip))
    });
    Ok(rows.collect::<Vec<_>>().join("\n"))
}

/// Unchanged, and soon in none of the agent's sets. A Service without endpoints is refused at its
/// tuple until the agent learns that somebody else's virtual server stands there.
fn is_still_foreign(as_made: &str) -> Result<()> {
    let now = claimed_rows()?;
    ensure!(now == as_made, "made:\n{as_made}\nnow:\n{now}");
    eventually("the tuples are in none of the agent's sets", || {
        let sets = sh_in("n1", "ipset save")?;
        let held = ["10.96.77.7,tcp:80", "fd00:96::7777,tcp:80"]
            .iter()
            .any(|tuple| sets.contains(tuple));
        Ok(if held { Err(sets) } else { Ok(()) })
    })
}

/// In n3, beside the agent's own and partly in its own table.
const FOREIGN: [&str; 22] = [
    "ipvsadm -A -t 10.99.1.1:80 -s rr",
    "ipvsadm -a -t 10.99.1.1:80 -r 10.99.2.2:80 -m",
    "ipvsadm -A -t [fd00:99::1]:80 -s rr",
    "ipvsadm -a -t [fd00:99::1]:80 -r [fd00:99:2::2]:80 -m",
    "ip link add keepalived type dummy",
    "ip addr add 10.99.1.1/32 dev keepalived",
    "ip -6 addr add fd00:99::1/128 dev keepalived nodad",
    "ipset create FOREIGN-4 hash:ip,port",
    "ipset add FOREIGN-4 10.99.1.1,tcp:80",
    "ipset create FOREIGN-6 hash:ip,port family inet6",
    "ipset add FOREIGN-6 fd00:99::1,tcp:80",
    "iptables -t mangle -N FOREIGN",
    "iptables -t mangle -A PREROUTING -j FOREIGN",
    "iptables -t nat -A POSTROUTING -s 10.99.0.0/16 -j MASQUERADE",
    "ip6tables -t mangle -N FOREIGN",
    "ip6tables -t mangle -A PREROUTING -j FOREIGN",
    "ip6tables -t nat -A POSTROUTING -s fd00:99::/32 -j MASQUERADE",
    "ip rule add pref 80 fwmark 0x1/0x1 lookup 77",
    "ip -6 rule add pref 80 fwmark 0x1/0x1 lookup 77",
    "ip route add local 10.99.3.3/32 dev lo table 10256",
    "ip -6 route add local fd00:99:3::3/128 dev lo table 10256",
    "ip link set keepalived up",
];
