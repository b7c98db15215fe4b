//! `ipvs-agent check`: a fit node fails nothing; each mistake that somebody makes there turns the check of
//! its name, and no other, until he takes it back.

use std::collections::BTreeMap;
use std::process::{Child, Command};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Lab;
use crate::dataplane::Dataplane;
use crate::guest::server::Server;
use crate::guest::wait::eventually;
use crate::guest::{sh, sh_in};

/// A check's level by its name, and the exit code.
type Told = (BTreeMap<String, String>, i32);

/// What somebody does at a node, what check tells that, how loudly, and how he takes it back.
struct Mistake {
    check: &'static str,
    level: &'static str,
    make: &'static [&'static str],
    undo: &'static [&'static str],
}

const fn mistake(
    check: &'static str,
    level: &'static str,
    make: &'static [&'static str],
    undo: &'static [&'static str],
) -> Mistake {
    Mistake {
        check,
        level,
        make,
        undo,
    }
}

/// Whatever serves. `vp11` is the cable to a pod.
const MISTAKES: [Mistake; 14] = [
    mistake(
        "ip-forward",
        "warn",
        &["sysctl -qw net.ipv4.ip_forward=0"],
        &["sysctl -qw net.ipv4.ip_forward=1"],
    ),
    mistake(
        "rp-filter",
        "warn",
        &["sysctl -qw net.ipv4.conf.vp11.rp_filter=1"],
        &["sysctl -qw net.ipv4.conf.vp11.rp_filter=0"],
    ),
    mistake(
        "route-localnet",
        "fail",
        &["sysctl -qw net.ipv4.conf.vp11.route_localnet=1"],
        &["sysctl -qw net.ipv4.conf.vp11.route_localnet=0"],
    ),
    mistake(
        "arp",
        "warn",
        &["sysctl -qw net.ipv4.conf.all.arp_ignore=1"],
        &["sysctl -qw net.ipv4.conf.all.arp_ignore=0"],
    ),
    mistake(
        "forward-policy",
        "fail",
        &["iptables -w -P FORWARD DROP"],
        &["iptables -w -P FORWARD ACCEPT"],
    ),
    mistake(
        "leftover-rules",
        "warn",
        &["iptables -w -t nat -N KUBE-SVC-ABCDEF"],
        &["iptables -w -t nat -X KUBE-SVC-ABCDEF"],
    ),
    mistake(
        "leftover-rules",
        "fail",
        &[
            "iptables-legacy -w -t nat -N KUBE-SERVICES",
            "iptables-legacy -w -t nat -A PREROUTING -j KUBE-SERVICES",
        ],
        &[
            "iptables-legacy -w -t nat -D PREROUTING -j KUBE-SERVICES",
            "iptables-legacy -w -t nat -X KUBE-SERVICES",
        ],
    ),
    // Not every kernel has dummy interfaces; the name is what counts.
    mistake(
        "leftover-interfaces",
        "warn",
        &["ip link add kube-ipvs0 type bridge"],
        &["ip link del kube-ipvs0"],
    ),
    mistake(
        "mark-bits",
        "fail",
        &["iptables -w -t mangle -A PREROUTING -m mark --mark 0x2000/0x2000 -j ACCEPT"],
        &["iptables -w -t mangle -D PREROUTING -m mark --mark 0x2000/0x2000 -j ACCEPT"],
    ),
    mistake(
        "mark-bits",
        "warn",
        &["ip rule add pref 200 fwmark 0x20/0xf0 lookup 77"],
        &["ip rule del pref 200"],
    ),
    mistake(
        "rule-priority",
        "warn",
        &["ip rule add pref 90 from 198.51.100.0/24 lookup 77"],
        &["ip rule del pref 90"],
    ),
    mistake(
        "rule-priority",
        "fail",
        &["ip -6 rule add pref 50 lookup 77"],
        &["ip -6 rule del pref 50"],
    ),
    mistake(
        "route-table",
        "fail",
        &["ip rule add pref 300 from 198.51.100.0/24 lookup 10256"],
        &["ip rule del pref 300"],
    ),
    mistake(
        "route-table",
        "warn",
        &["ip -6 route add blackhole 2001:db8::/64 table 10256"],
        &["ip -6 route del blackhole 2001:db8::/64 table 10256"],
    ),
];

/// Of IPVS.
const MISTAKES_OF_IPVS: [Mistake; 4] = [
    mistake(
        "ipvs-sysctls",
        "warn",
        &["sysctl -qw net.ipv4.vs.conntrack=0"],
        &["sysctl -qw net.ipv4.vs.conntrack=1"],
    ),
    mistake(
        "conn-reuse",
        "warn",
        &["sysctl -qw net.ipv4.vs.conn_reuse_mode=0"],
        &["sysctl -qw net.ipv4.vs.conn_reuse_mode=1"],
    ),
    mistake(
        "idle-timeouts",
        "warn",
        &["ipvsadm --set 900 0 0"],
        &["ipvsadm --set 86400 0 0"],
    ),
    mistake(
        "foreign-virtual-servers",
        "fail",
        &[
            "ipvsadm -A -t 10.96.7.7:80 -s rr",
            "ipvsadm -A -t [fd00:96::77]:80 -s rr",
        ],
        &[
            "ipvsadm -D -t 10.96.7.7:80",
            "ipvsadm -D -t [fd00:96::77]:80",
        ],
    ),
];

/// Where both variants of iptables work.
const MISTAKES_OF_NFT: [Mistake; 2] = [
    mistake(
        "iptables-mixture",
        "warn",
        &[
            "iptables-legacy -w -A INPUT -j ACCEPT",
            "iptables-nft -w -A INPUT -j ACCEPT",
        ],
        &[
            "iptables-legacy -w -D INPUT -j ACCEPT",
            "iptables-nft -w -D INPUT -j ACCEPT",
        ],
    ),
    mistake(
        "leftover-nftables",
        "fail",
        &["nft add table ip6 kube-proxy"],
        &["nft delete table ip6 kube-proxy"],
    ),
];

/// A node without an agent, as before an installation.
pub fn mistakes(lab: &mut Lab) -> Result<()> {
    let dataplane = lab.program.dataplane;
    if dataplane == Dataplane::Ipvs {
        // As an agent sets them at its start.
        for line in [
            "sysctl -qw net.ipv4.vs.conntrack=1 net.ipv4.vs.expire_nodest_conn=1",
            "sysctl -qw net.ipv4.vs.expire_quiescent_template=1",
            "ipvsadm --set 86400 0 0",
        ] {
            sh_in("n1", line)?;
        }
    }
    let fit = check(lab, &[])?;
    ensure!(fit.1 == 0, "a fit node: exit code {}: {:?}", fit.1, fit.0);
    // What the machine is made of, and which is none of the node's fault.
    let of_machine = ["conntrack-size", "ip-vs", "schedulers", "connection-table"];
    let unwell = fit
        .0
        .iter()
        .filter(|(check, level)| *level != "ok" && !of_machine.contains(&check.as_str()));
    let unwell: Vec<_> = unwell.collect();
    ensure!(unwell.is_empty(), "a fit node: {unwell:?}");

    for mistake in &MISTAKES {
        made(lab, &fit, mistake)?;
    }
    if dataplane == Dataplane::Ipvs {
        for mistake in &MISTAKES_OF_IPVS {
            made(lab, &fit, mistake)?;
        }
        full_conntrack(lab, &fit)?;
    }
    if sh("iptables -V")?.contains("nf_tables") {
        for mistake in &MISTAKES_OF_NFT {
            made(lab, &fit, mistake)?;
        }
    }
    bridge(lab, &fit)?;
    taken_port(lab, &fit)?;
    other_proxy(lab, &fit)?;
    api_server(lab, &fit)?;
    without_capabilities(lab)
}

/// An agent at work, one that was killed, and none.
pub fn agent(lab: &mut Lab) -> Result<()> {
    lab.agent("n1")?.synced()?;
    let told = check(lab, &[])?;
    ensure!(told.1 == 0, "with an agent: {told:?}");
    let words = found(lab, "agent")?;
    ensure!(words.contains("one runs here, and is well"), "{words}");
    lab.stop_agent("n1")?;
    differs(&check(lab, &[])?, &told, &[("agent", "warn")]).context("killed")?;
    lab.agent_command("n1", "cleanup")?;
    differs(&check(lab, &[])?, &told, &[]).context("after cleanup")
}

/// Somebody makes a mistake and takes it back.
fn made(lab: &Lab, fit: &Told, mistake: &Mistake) -> Result<()> {
    let about = || format!("{:?}", mistake.make);
    for line in mistake.make {
        sh_in("n1", line)?;
    }
    let told = check(lab, &[]);
    for line in mistake.undo {
        sh_in("n1", line)?;
    }
    differs(&told?, fit, &[(mistake.check, mistake.level)]).with_context(about)?;
    differs(&check(lab, &[])?, fit, &[])
        .with_context(about)
        .context("taken back")
}

/// What is told is what was told before, but for these; and the exit code is theirs.
fn differs(told: &Told, before: &Told, but_for: &[(&str, &str)]) -> Result<()> {
    let mut wanted = before.0.clone();
    for (check, level) in but_for {
        wanted.insert((*check).to_owned(), (*level).to_owned());
    }
    let wrong: Vec<String> = wanted
        .iter()
        .filter(|(check, level)| told.0.get(*check) != Some(level))
        .map(|(check, level)| format!("{check} is {:?}, not {level}", told.0.get(check)))
        .collect();
    ensure!(wrong.is_empty(), "{wrong:?}");
    let code = i32::from(wanted.values().any(|level| level == "fail"));
    ensure!(told.1 == code, "exit code {}, not {code}", told.1);
    Ok(())
}

/// Runs it on n1.
fn run(lab: &Lab, before: &[&str], args: &[&str]) -> Result<(String, i32)> {
    let output = Command::new("ip")
        .args(["netns", "exec", "n1"])
        .args(before)
        .arg(&lab.program.path)
        .args(["check", "--service-cidr", "10.96.0.0/16,fd00:96::/112"])
        .args(lab.program.dataplane.arguments())
        .args(args)
        .output()?;
    let code = output.status.code().context("it was killed")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(said.is_empty(), "it complains: {said}");
    Ok((String::from_utf8(output.stdout)?, code))
}

fn check(lab: &Lab, args: &[&str]) -> Result<Told> {
    let (text, code) = run(lab, &[], &[&["-o", "json"], args].concat())?;
    let report: Value = serde_json::from_str(&text)?;
    let findings = report["findings"].as_array().context("no findings")?;
    let word = |finding: &Value, name: &str| finding[name].as_str().map(str::to_owned);
    let levels = findings
        .iter()
        .map(|finding| Some((word(finding, "check")?, word(finding, "level")?)));
    let levels: Option<BTreeMap<String, String>> = levels.collect();
    Ok((levels.context("a finding without a level")?, code))
}

/// The line of a check.
fn found(lab: &Lab, check: &str) -> Result<String> {
    let (text, _) = run(lab, &[], &[])?;
    let line = text
        .lines()
        .find(|line| line.split_whitespace().nth(1) == Some(check));
    Ok(line
        .with_context(|| format!("no line about {check}:\n{text}"))?
        .to_owned())
}

/// Pods on a bridge: hairpin, and what crosses it.
fn bridge(lab: &Lab, fit: &Told) -> Result<()> {
    for line in [
        "ip link add cni0 type bridge",
        "ip link add port type veth peer name pod",
        "ip link set port master cni0",
    ] {
        sh_in("n1", line)?;
    }
    let crossing = "net.bridge.bridge-nf-call-iptables";
    // Where the kernel lacks br_netfilter no setting mends that.
    let can_cross = sh_in("n1", &format!("sysctl -n {crossing}")).is_ok();
    let result = (|| -> Result<()> {
        let set = |value: u8| {
            sh_in(
                "n1",
                &format!("sysctl -qw {crossing}={value} net.bridge.bridge-nf-call-ip6tables=1"),
            )
        };
        if can_cross {
            set(1)?;
        }
        let nf = (!can_cross).then_some(("bridge-nf", "fail"));
        let with =
            |more: Option<(&'static str, &'static str)>| Vec::from_iter(nf.into_iter().chain(more));
        differs(&check(lab, &[])?, fit, &with(Some(("hairpin", "warn"))))
            .context("hairpin is off")?;
        sh_in("n1", "ip link set port type bridge_slave hairpin on")?;
        differs(&check(lab, &[])?, fit, &with(None)).context("hairpin is on")?;
        if can_cross {
            set(0)?;
            differs(&check(lab, &[])?, fit, &[("bridge-nf", "fail")])
                .context("bridge-nf is off")?;
            set(1)?;
        }
        Ok(())
    })();
    sh_in("n1", "ip link del port")?;
    sh_in("n1", "ip link del cni0")?;
    result?;
    differs(&check(lab, &[])?, fit, &[]).context("without the bridge")
}

/// Somebody else at the port of the metrics.
fn taken_port(lab: &Lab, fit: &Told) -> Result<()> {
    let server = Server::start("n1", "taken", 10249)?;
    let told = check(lab, &[])?;
    differs(&told, fit, &[("ports", "fail")])?;
    drop(server);
    eventually("the port is free again", || {
        Ok(differs(&check(lab, &[])?, fit, &[]).map_err(|error| error.to_string()))
    })
}

/// A process of that name, killed when dropped.
struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn other_proxy(lab: &Lab, fit: &Told) -> Result<()> {
    for (name, level) in [("kube-proxy", "fail"), ("kube-router", "warn")] {
        let path = format!("/run/{name}");
        std::fs::copy("/bin/sleep", &path)?;
        for (namespace, wanted) in [("n1", Some(("other-proxy", level))), ("n2", None)] {
            let proxy = Command::new("ip")
                .args(["netns", "exec", namespace, &path, "600"])
                .spawn()?;
            let proxy = Proxy(proxy);
            // `ip` becomes it.
            let comm = format!("/proc/{}/comm", proxy.0.id());
            eventually("it runs", || {
                let is = std::fs::read_to_string(&comm)?;
                Ok(if is.trim() == name { Ok(()) } else { Err(is) })
            })?;
            differs(&check(lab, &[])?, fit, wanted.as_slice())
                .with_context(|| format!("{name} in {namespace}"))?;
        }
    }
    differs(&check(lab, &[])?, fit, &[])
}

/// Where it is, where nobody is, and at an address that the agent has to program.
fn api_server(lab: &Lab, fit: &Told) -> Result<()> {
    let kubeconfig = lab.cluster.kubeconfig.display().to_string();
    differs(&check(lab, &["--kubeconfig", &kubeconfig])?, fit, &[]).context("the lab's own")?;
    for url in [
        "https://192.168.50.254:1",
        "https://10.96.0.1",
        "https://[fd00:96::1]:443",
    ] {
        let told = check(lab, &["--apiserver", url, "--kubeconfig", &kubeconfig])?;
        differs(&told, fit, &[("api-server", "fail")]).context(url)?;
    }
    Ok(())
}

/// Root without capabilities: says so, and goes on with the rest.
fn without_capabilities(lab: &Lab) -> Result<()> {
    let (text, code) = run(lab, &["setpriv", "--bounding-set=-net_admin,-net_raw"], &[])?;
    ensure!(code == 0, "exit code {code}: {text}");
    for part in [
        "CAP_NET_ADMIN",
        "cannot read the rules of iptables",
        "net.ipv4.ip_forward=1",
    ] {
        ensure!(text.contains(part), "{part} is not in:\n{text}");
    }
    Ok(())
}

/// A table that has room for few more. The bound is the whole kernel's: only in a guest of its own.
fn full_conntrack(lab: &Lab, fit: &Told) -> Result<()> {
    let bound = "net.netfilter.nf_conntrack_max";
    let before = sh(&format!("sysctl -n {bound}"))?;
    for port in 1..=20 {
        sh_in(
            "n1",
            &format!(
                "conntrack -I -p udp -s 192.0.2.1 -d 192.0.2.2 --sport {port} --dport 53 -t 600"
            ),
        )?;
    }
    let count: u32 = sh_in("n1", "sysctl -n net.netfilter.nf_conntrack_count")?
        .trim()
        .parse()?;
    ensure!(count >= 20, "{count} entries");
    let mut results = Vec::new();
    for (max, level) in [(count, "fail"), (count * 6 / 5, "warn")] {
        sh(&format!("sysctl -qw {bound}={max}"))?;
        // A bound so small is told of too.
        let both = [("conntrack-fill", level), ("conntrack-size", "warn")];
        results.push(check(lab, &[]).and_then(|told| differs(&told, fit, &both)));
    }
    sh(&format!("sysctl -qw {bound}={}", before.trim()))?;
    sh_in("n1", "conntrack -D -p udp -s 192.0.2.1")?;
    results.into_iter().collect::<Result<()>>()?;
    differs(&check(lab, &[])?, fit, &[]).context("with room")
}
