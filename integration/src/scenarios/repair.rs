//! Somebody changes what the agent made: it all comes back, and what is his stays.

use anyhow::{Context, Result};
use serde_json::json;

use super::{Lab, answered_by, at};
use crate::dataplane::Dataplane;
use crate::guest::agent::log_of;
use crate::guest::cluster::State::Ready;
use crate::guest::probe::Transport::Tcp;
use crate::guest::state::{differences, state};
use crate::guest::topology::{P11, P21};
use crate::guest::wait::eventually;
use crate::guest::{sh_in, stranger};

pub fn repair(lab: &mut Lab) -> Result<()> {
    let dataplane = lab.program.dataplane;
    let vips = lab.cluster.service("web", json!({}), json!({}))?;
    lab.cluster
        .endpoints("web", &[(P11, Ready), (P21, Ready)])?;
    let works = || -> Result<()> {
        for vip in &vips {
            answered_by("p12", Tcp, at(vip, 80)?, &["p11", "p21"])?;
        }
        Ok(())
    };
    works()?;
    stranger::enter(dataplane, "n1")?;
    let before = state(dataplane, "n1")?;
    let damages = match dataplane {
        Dataplane::Ipvs => IPVS_DAMAGES.map(str::to_owned).to_vec(),
        Dataplane::Iptables => iptables_damages()?,
    };
    for damage in damages {
        let told = drift_told();
        for line in damage.split("; ") {
            sh_in("n1", line)?;
        }
        eventually(&format!("{damage} is noticed"), || {
            let noticed = drift_told() > told;
            Ok(if noticed {
                Ok(())
            } else {
                Err("no log line tells of it".to_owned())
            })
        })?;
        eventually(&format!("{damage} is repaired"), || {
            let now = state(dataplane, "n1")?;
            Ok(if now == before {
                Ok(())
            } else {
                Err(differences(("before", &before), ("now", &now)))
            })
        })?;
        works().with_context(|| format!("after {damage}"))?;
    }
    stranger::leave(dataplane, "n1")
}

/// One rule of a branch and of a Service, all of them, and one too many; then jumps, chains and sets.
fn iptables_damages() -> Result<Vec<String>> {
    let mut damages = Vec::new();
    for tool in ["iptables", "ip6tables"] {
        let rules = sh_in("n1", &format!("{tool}-save -t nat"))?;
        for kind in ["T", "S"] {
            let start = format!("-A IPVS-AGENT-{kind}");
            let rule = rules.lines().find_map(|rule| {
                rule.strip_prefix("-A ")
                    .filter(|_| rule.starts_with(&start))
            });
            let rule = rule.with_context(|| format!("no chain of kind {kind}:\n{rules}"))?;
            let chain = rule.split(' ').next().unwrap_or_default();
            for damage in [
                format!("-D {rule}"),
                format!("-F {chain}"),
                format!("-I {chain} -j RETURN"),
            ] {
                damages.push(format!("{tool} -w -t nat {damage}"));
            }
        }
        damages.extend(
            IPTABLES_DAMAGES
                .iter()
                .map(|line| format!("{tool} -w {line}")),
        );
    }
    damages.extend(WHOLE_DAMAGES.map(str::to_owned));
    Ok(damages)
}

/// How often n1's agent has told that somebody else changed the kernel.
fn drift_told() -> usize {
    log_of("n1").matches("kernel differs").count()
}

const IPTABLES_DAMAGES: [&str; 5] = [
    "-t nat -F IPVS-AGENT-IPT-SERVICES",
    "-t nat -D PREROUTING -j IPVS-AGENT-IPT-PRE",
    "-t nat -D OUTPUT -j IPVS-AGENT-IPT-OUT",
    "-t nat -D POSTROUTING -j IPVS-AGENT-IPT-SNAT",
    "-t filter -F IPVS-AGENT-IPT-FORWARD",
];
const WHOLE_DAMAGES: [&str; 7] = [
    "ipset flush IPVS-AGENT-4-BALANCED",
    "ipset flush IPVS-AGENT-6-BALANCED",
    "ipset flush IPVS-AGENT-4-HAIRPIN",
    "ipset flush IPVS-AGENT-4-PODS",
    "iptables -w -F IPVS-AGENT-IPT-INPUT; ipset destroy IPVS-AGENT-4-HEALTH-PORTS",
    "iptables -w -t nat -F IPVS-AGENT-IPT-SNAT; ipset destroy IPVS-AGENT-4-HAIRPIN",
    "iptables -w -t raw -D PREROUTING -j IPVS-AGENT-IPT-PRE; \
     iptables -w -t raw -F IPVS-AGENT-IPT-PRE; iptables -w -t raw -X IPVS-AGENT-IPT-PRE",
];
const IPVS_DAMAGES: [&str; 11] = [
    // Somebody else's goes too: he makes it again.
    "ipvsadm -C; ipvsadm -A -t 203.0.113.9:80 -s wlc; \
     ipvsadm -a -t 203.0.113.9:80 -r 198.51.100.9:80 -m -w 9",
    "ip rule del pref 90",
    "ip -6 rule del pref 90",
    "ip route flush table 10256",
    "ip -6 route flush table 10256",
    "iptables -t raw -F IPVS-AGENT-ROUTE",
    "iptables -t raw -D PREROUTING -j IPVS-AGENT-ROUTE",
    "ipset flush IPVS-AGENT-4-LIVE",
    "ipset flush IPVS-AGENT-6-LIVE",
    "ipset flush IPVS-AGENT-4-OWNED",
    "sysctl -qw net.ipv4.vs.conntrack=0",
];
