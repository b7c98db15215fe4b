//! The kernel's tables at the shell, with `ipvsadm` beside it on the same kernel.
//!
//! * `run` both programs
//! * `connections` listed and counted
//! * `generate` tables with every feature
//! * `scale` figures beside ipvsadm

mod connections;
mod generate;
mod run;
mod scale;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{Lab, answered_by, at};
use crate::guest::agent::socket_of;
use crate::guest::cluster::State::Ready;
use crate::guest::probe::Transport::Tcp;
use crate::guest::sh_in;
use crate::guest::topology::{P11, P21, POD_PORT};
use crate::guest::wait::eventually;
use run::{Output, run};
pub use scale::scale;

/// Every listing of generated tables, and of connections, is `ipvsadm`'s.
pub fn listings(lab: &mut Lab) -> Result<()> {
    let agent = lab.program.path.display().to_string();
    let mut met = String::new();
    clear()?;
    for seed in 1..=TABLES {
        let rules = generate::rules(seed);
        let restored = run("n1", &["ipvsadm", "-R"], &rules)?;
        ensure!(
            restored.code == Some(0) && restored.errors.is_empty(),
            "{restored:?}"
        );
        let mut listings: Vec<String> = LISTINGS.iter().map(|line| (*line).to_owned()).collect();
        let services = rules.lines().filter(|line| line.starts_with("-A"));
        for line in services.take(8) {
            let words: Vec<&str> = line.split(' ').collect();
            let ipv6 = if line.contains(" -6 ") { " -6" } else { "" };
            listings.push(format!("-Ln {} {}{ipv6} --thresholds", words[1], words[2]));
        }
        for line in &listings {
            let words: Vec<&str> = line.split(' ').collect();
            let theirs = run("n1", &[&["ipvsadm"][..], &words].concat(), "")?;
            let ours = run("n1", &[&[&*agent, "ipvsadm"][..], &words].concat(), "")?;
            ensure!(
                theirs.code == Some(0) && !theirs.text.is_empty(),
                "{line}: {theirs:?}"
            );
            ensure!(
                ours == theirs,
                "seed {seed}, {line}:\n{}",
                ours.beside(&theirs)
            );
            if let Some(options) = line.strip_prefix("-L") {
                let options = options.trim_start_matches('n').trim();
                let words: Vec<&str> = options.split_whitespace().collect();
                let ours = run("n1", &[&[&*agent, "list"][..], &words].concat(), "")?;
                ensure!(
                    ours == theirs,
                    "seed {seed}, list {options}:\n{}",
                    ours.beside(&theirs)
                );
            }
        }
        met += &run("n1", &["ipvsadm", "-Sn"], "")?.text;
        sh_in("n1", "ipvsadm -C")?;
    }
    for feature in generate::FEATURES {
        ensure!(met.contains(feature), "no table had {feature:?}:\n{met}");
    }
    connections::listings(&agent)
}

fn clear() -> Result<()> {
    for node in ["n1", "n2"] {
        sh_in(node, "ipvsadm -C")?;
    }
    Ok(())
}

/// Every verb does what `ipvsadm`'s does: one in n1, the other in n2, the tables alike after each.
pub fn verbs(lab: &mut Lab) -> Result<()> {
    let agent = lab.program.path.display().to_string();
    for node in ["n1", "n2"] {
        sh_in(node, "ip link add dummy7 type dummy")?;
        sh_in(node, "ip addr add 10.2.255.1/16 dev dummy7")?;
        sh_in(node, "ip addr add fd00:2::ffff/64 dev dummy7")?;
        sh_in(node, "ip link set dummy7 up")?;
    }
    clear()?;
    let mut done = 0;
    for line in VERBS
        .lines()
        .chain(REFUSED.lines())
        .filter(|line| line.starts_with('-'))
    {
        let line = line.replace("dummy0", "dummy7");
        let words: Vec<&str> = line.split(' ').collect();
        let theirs = run("n1", &[&["ipvsadm"][..], &words].concat(), "")?;
        let ours = run("n2", &[&[&*agent, "ipvsadm"][..], &words].concat(), "")?;
        ensure!(
            ours.code == theirs.code,
            "{line}:\n{}",
            ours.beside(&theirs)
        );
        ensure!(
            ours.code == Some(0) || !ours.errors.is_empty(),
            "{line}: no word of it"
        );
        for look in ["-Sn", "-Ln --thresholds", "-L --daemon", "-L --timeout"] {
            let look: Vec<&str> = look.split(' ').collect();
            let [theirs, ours] =
                ["n1", "n2"].map(|node| run(node, &[&["ipvsadm"][..], &look].concat(), ""));
            let (theirs, ours) = (theirs?, ours?);
            ensure!(
                ours == theirs,
                "after {line}, {look:?}:\n{}",
                ours.beside(&theirs)
            );
        }
        done += 1;
    }
    ensure!(done > 90, "only {done} commands");
    for node in ["n1", "n2"] {
        sh_in(node, "ip link del dummy7")?;
    }
    Ok(())
}

/// What one saves the other restores, and a mistake in a line leaves the kernel as it was.
pub fn rules(lab: &mut Lab) -> Result<()> {
    let agent = lab.program.path.display().to_string();
    let saved = |node: &str| run(node, &["ipvsadm", "-Sn"], "");
    clear()?;
    names(&agent)?;
    for seed in 11..11 + TABLES {
        let rules = generate::rules(seed);
        let restored = run("n1", &[&agent, "restore"], &rules)?;
        ensure!(restored.code == Some(0), "{restored:?}");
        let theirs = run("n2", &["ipvsadm", "-R"], &rules)?;
        ensure!(theirs.code == Some(0), "{theirs:?}");
        for look in [
            &["ipvsadm", "-Sn"][..],
            &["ipvsadm", "-Ln", "--thresholds"],
            &["ipvsadm", "-Ln", "--tun-info"],
        ] {
            let (ours, theirs) = (run("n1", look, "")?, run("n2", look, "")?);
            ensure!(ours == theirs, "seed {seed}: {}", ours.beside(&theirs));
        }
        // What the agent saves ipvsadm restores, with thresholds.
        let ours = run("n1", &[&agent, "save"], "")?;
        let before = run("n2", &["ipvsadm", "-Ln", "--thresholds"], "")?;
        sh_in("n2", "ipvsadm -C")?;
        let theirs = run("n2", &["ipvsadm", "-R"], &ours.text)?;
        ensure!(
            theirs.code == Some(0) && theirs.errors.is_empty(),
            "{theirs:?}"
        );
        let after = run("n2", &["ipvsadm", "-Ln", "--thresholds"], "")?;
        ensure!(before == after, "{}", after.beside(&before));
        // What ipvsadm saves the agent restores, but for what it leaves out or cannot read itself.
        let theirs = run("n1", &["ipvsadm-save", "-n"], "")?;
        sh_in("n2", "ipvsadm -C")?;
        let ours = run("n2", &[&agent, "restore"], &theirs.text)?;
        ensure!(ours.code == Some(0), "{ours:?}");
        let (ours, theirs) = (saved("n2")?, saved("n1")?);
        ensure!(ours == theirs, "{}", ours.beside(&theirs));
        mistakes(&agent, &rules)?;
        clear()?;
    }
    replacement(&agent)
}

/// `ipvsadm -S` without `-n` writes names of ports.
fn names(agent: &str) -> Result<()> {
    let rules = "-A -t 192.168.50.11:80 -s rr\n-a -t 192.168.50.11:80 -r 10.2.0.2:443 -m -w 1\n";
    run("n1", &["ipvsadm", "-R"], rules)?;
    let theirs = run("n1", &["ipvsadm", "-S"], "")?;
    ensure!(
        theirs.text.contains(":http ") && theirs.text.contains(":https "),
        "{theirs:?}"
    );
    let ours = run("n2", &[agent, "restore"], &theirs.text)?;
    ensure!(ours.code == Some(0), "{ours:?}");
    let saved = run("n2", &["ipvsadm", "-Sn"], "")?;
    ensure!(saved.text == rules, "{saved:?}");
    clear()
}

fn mistakes(agent: &str, rules: &str) -> Result<()> {
    let before = run("n1", &["ipvsadm", "-Sn"], "")?;
    let lines = rules.lines().count();
    let broken =
        format!("-A -t 10.222.0.1:80 -s rr\n{rules}-a -t 10.222.0.1:80 -r 10.2.0.2 -m -w many\n");
    for command in [&[agent, "restore"][..], &[agent, "ipvsadm", "-R"]] {
        let refused = run("n1", command, &broken)?;
        let told = format!("line {}, column 39: -w cannot be \"many\"", lines + 2);
        ensure!(refused.errors.contains(&told), "{refused:?}");
        ensure!(refused.code != Some(0), "{refused:?}");
        let after = run("n1", &["ipvsadm", "-Sn"], "")?;
        ensure!(before == after, "{}", after.beside(&before));
    }
    Ok(())
}

/// The difference is shown, then made; under ipvsadm's own names too.
fn replacement(agent: &str) -> Result<()> {
    let (first, second) = (generate::rules(21), generate::rules(22));
    run("n1", &["ipvsadm", "-R"], &first)?;
    run("n2", &["ipvsadm", "-R"], &second)?;
    let wanted = run("n2", &["ipvsadm", "-Ln", "--thresholds"], "")?;
    let shown = run("n1", &[agent, "restore", "--replace", "--dry-run"], &second)?;
    let [plus, minus] =
        ["+ -", "- -"].map(|sign| shown.text.lines().filter(|l| l.starts_with(sign)).count());
    ensure!(
        plus == second.lines().count() && minus == first.lines().count(),
        "{shown:?}"
    );
    ensure!(
        run("n1", &["ipvsadm", "-Ln", "--thresholds"], "")? != wanted,
        "it was no dry run"
    );
    let link = "/run/by-name";
    std::fs::create_dir_all(link)?;
    for name in ["ipvsadm", "ipvsadm-save", "ipvsadm-restore"] {
        std::os::unix::fs::symlink(agent, format!("{link}/{name}"))?;
    }
    let restored = run("n1", &[&format!("{link}/ipvsadm-restore")], &second)?;
    ensure!(restored.code == Some(0), "{restored:?}");
    let found = run(
        "n1",
        &[&format!("{link}/ipvsadm"), "-Ln", "--thresholds"],
        "",
    )?;
    ensure!(found == wanted, "{}", found.beside(&wanted));
    let saved = run("n1", &[&format!("{link}/ipvsadm-save"), "-n"], "")?;
    ensure!(saved == run("n2", &["ipvsadm", "-Sn"], "")?, "{saved:?}");
    clear()?;
    std::fs::remove_dir_all(link)?;
    Ok(())
}

/// What an agent made is not harmed by accident, and has names as long as it runs.
pub fn owned(lab: &mut Lab) -> Result<()> {
    let agent = lab.program.path.display().to_string();
    let vips = lab.cluster.service("web", json!({}), json!({}))?;
    lab.cluster
        .endpoints("web", &[(P11, Ready), (P21, Ready)])?;
    for vip in &vips {
        answered_by("p12", Tcp, at(vip, 80)?, &["p11", "p21"])?;
    }
    let vip = at(&vips[0], 80)?.to_string();
    let foreign = "-A -t 10.99.0.9:80 -s wlc\n-a -t 10.99.0.9:80 -r 10.244.3.9:80 -m -w 7\n";
    run("n1", &["ipvsadm", "-R"], foreign)?;
    let before = run("n1", &["ipvsadm", "-Sn"], "")?;
    for words in [
        &["-C"][..],
        &["-D", "-t", &vip],
        &["-E", "-t", &vip, "-s", "wlc"],
        &["-a", "-t", &vip, "-r", "10.244.3.9:80", "-m"],
        &["-d", "-t", &vip, "-r", &format!("{}:{POD_PORT}", P11.v4())],
    ] {
        let refused = run("n1", &[&[&*agent, "ipvsadm"][..], words].concat(), "")?;
        is_protected(&refused)?;
        let refused = run("n1", &[&agent, "restore", "--merge"], &words.join(" "))?;
        is_protected(&refused)?;
    }
    // The others' part is saved alone, and replaced alone.
    let saved = run("n1", &[&agent, "save", "--foreign"], "")?;
    ensure!(saved.text == foreign, "{saved:?}");
    let replaced = run("n1", &[&agent, "restore", "--replace"], foreign)?;
    ensure!(replaced.code == Some(0), "{replaced:?}");
    let whole = run("n1", &[&agent, "save"], "")?;
    let again = run("n1", &[&agent, "restore", "--dry-run"], &whole.text)?;
    ensure!(again.code == Some(0) && again.text.is_empty(), "{again:?}");
    let after = run("n1", &["ipvsadm", "-Sn"], "")?;
    ensure!(before == after, "{}", after.beside(&before));
    // By force it goes, and the agent makes it again.
    let forced = run("n1", &[&agent, "ipvsadm", "--force", "-D", "-t", &vip], "")?;
    ensure!(forced.code == Some(0), "{forced:?}");
    eventually("the agent makes it again", || {
        let now = run("n1", &["ipvsadm", "-Sn"], "")?;
        Ok(if now == before {
            Ok(())
        } else {
            Err(now.beside(&before))
        })
    })?;
    named(lab, &agent, &vip)
}

fn is_protected(refused: &Output) -> Result<()> {
    let told = refused.errors.contains("belongs to an agent on this node");
    ensure!(told && refused.code != Some(0), "{refused:?}");
    Ok(())
}

/// Names and states, and what is left of them without an agent.
fn named(lab: &mut Lab, agent: &str, vip: &str) -> Result<()> {
    let socket = socket_of("n1");
    let list = |more: &[&str]| {
        let words = [&[agent, "list", "--socket", &socket][..], more].concat();
        run("n1", &words, "")
    };
    let wide = list(&["-o", "wide", "--service", "default/web"])?;
    let (line, rest) = wide.text.split_once(vip).unwrap_or_default();
    let line_end = rest.lines().next().unwrap_or_default();
    ensure!(
        !line.is_empty() && line_end.contains("default/web") && line_end.contains("ClusterIP"),
        "{wide:?}"
    );
    ensure!(
        rest.contains(" ready ") && !wide.text.contains("10.99.0.9"),
        "{wide:?}"
    );
    let document: Value = serde_json::from_str(&list(&["-o", "json"])?.text)?;
    let servers = document["virtualServers"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let ours = servers
        .iter()
        .find(|server| server["service"]["name"] == "web");
    ensure!(
        ours.is_some_and(|server| server["agent"] == true
            && server["realServers"][0]["endpoint"]["state"] == "ready"),
        "{document:#}"
    );
    let theirs = servers
        .iter()
        .find(|server| server["address"] == "10.99.0.9");
    ensure!(
        theirs.is_some_and(|server| server["agent"] == false && server["service"].is_null()),
        "{document:#}"
    );
    // Those of before went with the virtual server that was deleted by force.
    answered_by("p12", Tcp, vip.parse()?, &["p11", "p21"])?;
    let connections = run(
        "n1",
        &[
            agent,
            "connections",
            "--socket",
            &socket,
            "--service",
            "default/web",
            "--by",
            "service",
        ],
        "",
    )?;
    ensure!(connections.text.contains("default/web"), "{connections:?}");
    lab.stop_agent("n1")?;
    let wide = list(&["-o", "wide"])?;
    ensure!(wide.code == Some(0) && wide.text.contains(vip), "{wide:?}");
    ensure!(
        wide.errors.lines().count() == 1 && wide.errors.contains("names of Services are missing"),
        "{wide:?}"
    );
    ensure!(!wide.text.contains("default/web"), "{wide:?}");
    sh_in("n1", "ipvsadm -D -t 10.99.0.9:80")?;
    Ok(())
}

/// What every generated table is listed by. The counters of both programs come from the same kernel.
const LISTINGS: [&str; 16] = [
    "-Ln",
    "-Ln --sort",
    "-Ln --nosort",
    "-Ln --stats",
    "-Ln --stats --exact",
    "-Ln --rate",
    "-Ln --rate --exact",
    "-Ln --thresholds",
    "-Ln --persistent-conn",
    "-Ln --tun-info",
    "-Ln --tun-info --nosort",
    "-Ln --stats --rate --tun-info",
    "-Ln --thresholds --persistent-conn --tun-info",
    "-Ln --persistent-conn --tun-info",
    "-L --timeout",
    "-Sn",
];

/// Every command, each succeeding after those above it.
const VERBS: &str = include_str!("../../../../ipvs-sys/tests/captures/ipvsadm-requests.commands");

/// What both refuse, with the same exit code.
const REFUSED: &str = "\
-A -t 10.96.0.1:443 -s rr
-A -t 10.96.0.1:443 -s rr
-A -t 10.96.0.99:443 -s nosuch
-D -t 10.96.0.99:443
-a -t 10.96.0.99:443 -r 1.2.3.4 -m
-a -t 10.96.0.1:443 -r 10.2.0.2:6443 -m
-a -t 10.96.0.1:443 -r 10.2.0.2:6443 -m
-d -t 10.96.0.1:443 -r 10.2.0.9:6443
-A -t 10.96.0.99:0 -s rr
-A -t 10.96.0.99:80 -o
-a -t 10.96.0.1:443 -r [fd00::9]:6443 -m
-Lon
-Lcn --stats
-A -f 0xff -s rr
-Ln -t 10.96.9.9:1
--stop-daemon backup
-a -f 7 -r 10.2.0.2:81 -g
-A -f 7 -s rr
-a -f 7 -r 10.2.0.2:81 -g -w 2147483647
-a -t 10.96.0.1:443 -r 10.2.0.3:81 -g
-D -f 7
-D -t 10.96.0.1:443
";

const TABLES: u64 = 4;
