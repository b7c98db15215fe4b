//! `ipvs-agent diff` beside what ipvsadm, ipset, iptables and ip say themselves.

use std::collections::BTreeSet;
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::{Lab, answered_by, at};
use crate::dataplane::Dataplane;
use crate::guest::agent::socket_of;
use crate::guest::cluster::State::Ready;
use crate::guest::probe::Transport::Tcp;
use crate::guest::sh_in;
use crate::guest::state::{differences, state};
use crate::guest::topology::{P11, P21};
use crate::guest::wait::eventually;

/// Before an installation, after it, and when somebody has changed something.
pub fn diff(lab: &mut Lab) -> Result<()> {
    let dataplane = lab.program.dataplane;
    let vips = lab.cluster.service("web", json!({}), json!({}))?;
    lab.cluster
        .endpoints("web", &[(P11, Ready), (P21, Ready)])?;
    for vip in &vips {
        answered_by("p12", Tcp, at(vip, 80)?, &["p11", "p21"])?;
    }
    says_nothing(lab)?;
    lab.stop_agent("n1")?;
    let held = state(dataplane, "n1")?;
    lab.agent_command("n1", "cleanup")?;

    // What it says before an installation is what the tools say after it.
    let bare = state(dataplane, "n1")?;
    let announced = offline(lab)?;
    ensure!(announced.status.code() == Some(1), "{announced:?}");
    let unchanged = state(dataplane, "n1")?;
    ensure!(
        unchanged == bare,
        "asking has changed the node\n{}",
        differences(("before", &bare), ("after", &unchanged))
    );
    let announced = lines(&announced, '+')?;
    let awaited = awaited(held.difference(&bare))?;
    ensure!(
        announced == awaited,
        "announced and not made: {:#?}\nmade and not announced: {:#?}",
        announced.difference(&awaited).collect::<Vec<_>>(),
        awaited.difference(&announced).collect::<Vec<_>>()
    );
    // One that does not repair meanwhile.
    lab.start_agent_with("n1", &["--audit-interval", "1h"])?;
    for vip in &vips {
        answered_by("n1", Tcp, at(vip, 80)?, &["p11", "p21"])?;
    }
    says_nothing(lab)?;
    damages_are_told(lab)?;
    lab.stop_agent("n1")?;

    // Nobody to be asked: an error that says what to do.
    let output = asked(lab, &["diff", "--socket", &socket_of("n1")])?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(2) && told.contains("--manifests DIR"),
        "{output:?}"
    );
    Ok(())
}

fn says_nothing(lab: &Lab) -> Result<()> {
    eventually("nothing differs", || {
        let output = asked(lab, &["diff", "--socket", &socket_of("n1")])?;
        let well = output.status.success() && output.stdout.is_empty();
        Ok(if well {
            Ok(())
        } else {
            Err(format!("{output:?}"))
        })
    })
}

/// Each damage takes something away, which the tool that shows it tells before; diff tells the same.
fn damages_are_told(lab: &Lab) -> Result<()> {
    let dataplane = lab.program.dataplane;
    let damages: &[(&str, &str)] = match dataplane {
        Dataplane::Ipvs => &[
            ("ipvsadm -Sn", "ipvsadm -d -t {vip} -r {real}"),
            ("ipset save", "ipset flush IPVS-AGENT-4-LIVE"),
            (
                "iptables-save -t raw",
                "iptables -t raw -F IPVS-AGENT-ROUTE",
            ),
            ("ip route show table 10256", "ip route flush table 10256"),
            ("ip rule", "ip rule del pref 90"),
        ],
        Dataplane::Iptables => &[
            ("ipset save", "ipset flush IPVS-AGENT-4-BALANCED"),
            (
                "iptables-save -t nat",
                "iptables -t nat -D PREROUTING -j IPVS-AGENT-IPT-PRE",
            ),
        ],
    };
    let mut gone = BTreeSet::new();
    for (shown_by, damage) in damages {
        let before = state(dataplane, "n1")?;
        let damage = match damage.contains('{') {
            false => (*damage).to_owned(),
            true => delete_first_real_server()?,
        };
        sh_in("n1", &damage)?;
        let after = state(dataplane, "n1")?;
        let lost = awaited(before.difference(&after))?;
        ensure!(!lost.is_empty(), "{damage} took nothing of {shown_by}");
        gone.extend(lost);
    }
    let output = asked(lab, &["diff", "--socket", &socket_of("n1")])?;
    ensure!(output.status.code() == Some(1), "{output:?}");
    let told = lines(&output, '+')?;
    ensure!(told == gone, "told: {told:#?}\ngone: {gone:#?}\n{output:?}");
    Ok(())
}

/// The command that takes the first real server out of ipvsadm's own list.
fn delete_first_real_server() -> Result<String> {
    let rules = sh_in("n1", "ipvsadm -Sn")?;
    let rule = rules.lines().find(|line| line.starts_with("-a -t "));
    let rule = rule.with_context(|| format!("no real server:\n{rules}"))?;
    let words: Vec<&str> = rule.split(' ').take(5).collect();
    Ok(words.join(" ").replacen("-a", "ipvsadm -d", 1))
}

fn offline(lab: &Lab) -> Result<Output> {
    let kubeconfig = lab.cluster.kubeconfig.display().to_string();
    let mut words = vec!["diff", "--kubeconfig", &kubeconfig, "--node-name", "n1"];
    words.extend(["--cluster-cidr", "10.244.0.0/16,fd00:244::/32"]);
    words.extend(["--external-ip-cidr", "192.168.61.0/24,fd00:61::/64"]);
    words.extend(lab.program.dataplane.arguments());
    asked(lab, &words)
}

fn asked(lab: &Lab, words: &[&str]) -> Result<Output> {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", "n1"]).arg(&lab.program.path);
    command.args(words).output().context("cannot run the agent")
}

/// Its lines with a sign, each without the tool's name and without what the tools' own dumps do not
/// have in one line: a set's options, a rule's table.
fn lines(output: &Output, sign: char) -> Result<BTreeSet<String>> {
    let text = String::from_utf8(output.stdout.clone())?;
    let start = format!("{sign} ");
    let signed = text.lines().filter_map(|line| line.strip_prefix(&start));
    // A sysctl had a value before.
    let comparable = signed.filter(|line| !line.contains(" = "));
    Ok(comparable.map(str::to_owned).collect())
}

/// What the tools show, in the words of a diff.
fn awaited<'a>(shown: impl Iterator<Item = &'a String>) -> Result<BTreeSet<String>> {
    let mut lines = BTreeSet::new();
    for line in shown {
        let (by, told) = line.split_once(": ").context("a line without a tool")?;
        let mut words = by.split(' ');
        let tool = words.next().unwrap_or_default();
        let line = match tool {
            "ipvsadm" => told.to_owned(),
            "ipset" if told.starts_with("create ") => {
                told.split(' ').take(2).collect::<Vec<_>>().join(" ")
            }
            "ipset" => told.to_owned(),
            "iptables-save" | "ip6tables-save" if told.starts_with("-A ") => {
                let table = words.next().context("a rule without a table")?;
                let tool = tool.trim_end_matches("-save");
                format!("{tool} -t {table} {told}")
            }
            // A chain comes with its rules.
            "iptables-save" | "ip6tables-save" => continue,
            "ip" => {
                let told = told.split(" proto ").next().unwrap_or_default();
                let object = match words.find(|word| *word != "-6") {
                    Some(object) => object,
                    None => bail!("ip of what: {line}"),
                };
                let tool = if by.contains(" -6 ") { "ip -6" } else { "ip" };
                // The table is in the command, not in its lines.
                format!("{tool} {object} {}", told.replace('\t', " "))
            }
            // Set and kept, and another test's.
            "sysctl" => continue,
            other => bail!("{other} is not known here: {line}"),
        };
        lines.insert(line);
    }
    Ok(lines)
}
