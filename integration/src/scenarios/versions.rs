//! What an agent of another version left: chains and jumps of its names, some with names that this
//! version has too and other rules. The next start makes this version's state of it.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::json;

use super::history::settled;
use super::{Lab, answered_by, at};
use crate::guest::cluster::State::Ready;
use crate::guest::probe::Transport::Tcp;
use crate::guest::state::{differences, state};
use crate::guest::topology::{P11, P21};
use crate::guest::{sh_in, stranger};

pub fn other_version(lab: &mut Lab) -> Result<()> {
    let dataplane = lab.program.dataplane;
    stranger::enter(dataplane, NODE)?;
    let vips = lab
        .cluster
        .service("web", json!({}), json!({ "type": "NodePort" }))?;
    lab.cluster
        .endpoints("web", &[(P11, Ready), (P21, Ready)])?;
    let answered = || -> Result<()> {
        for vip in &vips {
            answered_by("p12", Tcp, at(vip, 80)?, &["p11", "p21"])?;
        }
        Ok(())
    };
    answered()?;
    let fresh = settled(dataplane)?;

    lab.stop_agent(NODE)?;
    lab.agent_command(NODE, "cleanup")?;
    let names = names(&fresh);
    ensure!(names.len() > 2, "{fresh:#?}");
    // Chains of today with another content.
    for (tool, table, chain) in &names {
        sh_in(NODE, &format!("{tool} -w -t {table} -N {chain}"))?;
        if table != "nat" {
            let rule = "-p tcp --dport 80 -j DROP";
            sh_in(NODE, &format!("{tool} -w -t {table} -A {chain} {rule}"))?;
        }
    }
    // Names of another day, and a jump that would take every connection.
    for (tool, elsewhere) in [("iptables", "192.0.2.9"), ("ip6tables", "2001:db8::77")] {
        for line in [
            "-N IPVS-AGENT-OLD",
            "-N IPVS-AGENT-OLDER",
            "-A IPVS-AGENT-OLD -j IPVS-AGENT-OLDER",
            &format!("-A IPVS-AGENT-OLDER -p tcp --dport 80 -j DNAT --to-destination {elsewhere}"),
            "-I PREROUTING -j IPVS-AGENT-OLD",
            "-I OUTPUT -j IPVS-AGENT-OLD",
        ] {
            sh_in(NODE, &format!("{tool} -w -t nat {line}"))?;
        }
    }
    let found = state(dataplane, NODE)?;
    ensure!(found != fresh, "nothing of another version is there");

    lab.start_agent(NODE)?;
    lab.agent(NODE)?.synced()?;
    let after = settled(dataplane)?;
    let differs = differences(("after a first start", &fresh), ("after another", &after));
    ensure!(differs.is_empty(), "{differs}");
    answered()?;
    stranger::leave(dataplane, NODE)
}

/// The chains of a state that are ours: by which tool, in which table.
fn names(state: &BTreeSet<String>) -> BTreeSet<(&'static str, String, String)> {
    let mut names = BTreeSet::new();
    for line in state {
        let words: Vec<&str> = line.split(' ').collect();
        let [save, table, chain, "-"] = *words else {
            continue;
        };
        let tool = match save {
            "iptables-save" => "iptables",
            "ip6tables-save" => "ip6tables",
            _ => continue,
        };
        if chain.starts_with(OURS) {
            let table = table.trim_end_matches(':').to_owned();
            names.insert((tool, table, chain.to_owned()));
        }
    }
    names
}

const NODE: &str = "n1";
const OURS: &str = "IPVS-AGENT-";
