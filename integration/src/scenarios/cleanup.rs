//! `cleanup` leaves a node as it was before the agent: what somebody else has stays to the word, also what
//! he has in the agent's own routing table.

use anyhow::{Result, ensure};
use serde_json::json;

use super::{Lab, answered_by, at};
use crate::dataplane::Dataplane;
use crate::guest::cluster::State::Ready;
use crate::guest::probe::Transport::Tcp;
use crate::guest::state::{differences, state};
use crate::guest::topology::{NODES, P11, P21};
use crate::guest::{sh_in, stranger};

/// Runs last: the nodes are bare after it.
pub fn cleanup(lab: &mut Lab) -> Result<()> {
    let dataplane = lab.program.dataplane;
    // A node without the agent, with all that is somebody else's.
    lab.stop_agent("n3")?;
    lab.agent_command("n3", "cleanup")?;
    stranger::enter(dataplane, "n3")?;
    for line in FOREIGN {
        sh_in("n3", line)?;
    }
    if dataplane == Dataplane::Ipvs {
        for line in FOREIGN_IPVS {
            sh_in("n3", line)?;
        }
    }
    let before = told(dataplane)?;
    let theirs = before.iter().filter(|line| line.contains("FOREIGN"));
    ensure!(theirs.count() >= 8, "{before:#?}");

    lab.start_agent("n3")?;
    let spec = json!({ "type": "NodePort", "sessionAffinity": "ClientIP" });
    let vips = lab.cluster.service("web", json!({}), json!({}))?;
    let sticky = lab.cluster.service("sticky", json!({}), spec)?;
    for name in ["web", "sticky"] {
        lab.cluster.endpoints(name, &[(P11, Ready), (P21, Ready)])?;
    }
    let works = || -> Result<()> {
        for vip in &vips {
            answered_by("p32", Tcp, at(vip, 80)?, &["p11", "p21"])?;
        }
        Ok(())
    };
    works()?;
    for vip in &sticky {
        let answer = crate::guest::probe::probe("p32", Tcp, at(vip, 80)?)?;
        ensure!(answer.who().starts_with('p'), "{vip}: {answer}");
    }
    // SIGTERM leaves the node serving.
    lab.agent("n3")?.terminate()?;
    lab.agents.retain(|agent| agent.node != "n3");
    works()?;

    let serving = told(dataplane)?;
    let plan = lab.agent_command("n3", "cleanup --dry-run")?;
    for part in to_be_named(dataplane, &vips) {
        ensure!(
            plan.lines()
                .any(|line| part.iter().all(|word| line.contains(word.as_str()))),
            "--dry-run does not name {part:?}:\n{plan}"
        );
    }
    let now = told(dataplane)?;
    ensure!(
        now == serving,
        "--dry-run:\n{}",
        differences(("before", &serving), ("after", &now))
    );
    for again in [false, true] {
        let said = lab.agent_command("n3", "cleanup")?;
        ensure!(
            said.contains("nothing of ipvs-agent") == again,
            "cleanup, again: {again}: {said}"
        );
        let after = told(dataplane)?;
        ensure!(
            after == before,
            "cleanup, again: {again}:\n{}",
            differences(("before the agent", &before), ("after cleanup", &after))
        );
    }
    stranger::leave(dataplane, "n3")?;
    for node in NODES {
        lab.stop_agent(node)?;
        lab.agent_command(node, "cleanup")?;
    }
    Ok(())
}

/// Words that a line of `cleanup --dry-run` has.
fn to_be_named(dataplane: Dataplane, vips: &[String]) -> Vec<Vec<String>> {
    let words = |vip: &String| match dataplane {
        Dataplane::Ipvs => vec!["ipvsadm -D".to_owned(), vip.clone()],
        Dataplane::Iptables => vec!["ipset d".to_owned(), "BALANCED".to_owned()],
    };
    let chains = match dataplane {
        Dataplane::Ipvs => Vec::new(),
        Dataplane::Iptables => [
            "iptables -t nat -X IPVS-AGENT-S",
            "ip6tables -t nat -X IPVS-AGENT-T",
        ]
        .map(|word| vec![word.to_owned()])
        .to_vec(),
    };
    vips.iter().map(words).chain(chains).collect()
}

/// What the tools tell of n3, of addresses too.
fn told(dataplane: Dataplane) -> Result<std::collections::BTreeSet<String>> {
    let mut lines = state(dataplane, "n3")?;
    let addresses = sh_in("n3", "ip -o addr show")?;
    let sysctl = |line: &String| line.starts_with("sysctl ");
    // The module's own settings go back only with the module.
    lines.retain(|line| !sysctl(line));
    lines.extend(
        addresses
            .lines()
            // Duplicate address detection ends in its own time.
            .map(|line| format!("ip addr: {}", line.replace(" tentative", "").trim_end())),
    );
    Ok(lines)
}

const FOREIGN: [&str; 16] = [
    "ip link add keepalived type bridge",
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
    "ip link set keepalived up",
];
/// Partly in the table that the agent uses.
const FOREIGN_IPVS: [&str; 6] = [
    "ipvsadm -A -t 10.99.1.1:80 -s rr",
    "ipvsadm -a -t 10.99.1.1:80 -r 10.99.2.2:80 -m",
    "ipvsadm -A -t [fd00:99::1]:80 -s rr",
    "ipvsadm -a -t [fd00:99::1]:80 -r [fd00:99:2::2]:80 -m",
    "ip route add local 10.99.3.3/32 dev lo table 10256",
    "ip -6 route add local fd00:99:3::3/128 dev lo table 10256",
];
