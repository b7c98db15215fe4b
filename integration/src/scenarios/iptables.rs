//! What iptables must do in its own way: hashing schedulers, a lock that somebody holds, a chain that the
//! kernel refuses.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};

use super::{Lab, answered_by, at, route_from_client};
use crate::guest::cluster::State::Ready;
use crate::guest::http::{HEALTH_PORT, get, metrics, sum};
use crate::guest::namespace::inside;
use crate::guest::probe::{Transport::Tcp, probe};
use crate::guest::sh_in;
use crate::guest::topology::{CLIENT, P11, P12, P21, P31, Pod};
use crate::guest::wait::eventually;

/// `sh`, `mh` and `dh` promise that a client stays with its endpoint.
pub fn client_stays(lab: &mut Lab) -> Result<()> {
    let sources = sources()?;
    let result = ["sh", "mh", "dh"].into_iter().try_for_each(|scheduler| {
        stays(lab, scheduler, &sources).with_context(|| scheduler.to_owned())
    });
    // Others would be asked from these addresses too.
    for source in &sources {
        let length = if source.is_ipv4() { 24 } else { 64 };
        sh_in(CLIENT, &format!("ip addr del {source}/{length} dev eth0"))?;
    }
    result
}

fn stays(lab: &mut Lab, scheduler: &str, sources: &[IpAddr]) -> Result<()> {
    let annotations = json!({ "ipvs-agent.io/scheduler": scheduler });
    let vips = lab.cluster.service("stay", annotations, json!({}))?;
    for vip in &vips {
        route_from_client(vip, "n1")?;
    }
    let mut who = BTreeMap::new();
    // One comes, one goes.
    for (step, pods) in [
        &[P11, P21, P31][..],
        &[P11, P12, P21, P31],
        &[P11, P12, P21],
    ]
    .iter()
    .enumerate()
    {
        let ready: Vec<_> = pods.iter().map(|pod| (*pod, Ready)).collect();
        lab.cluster.endpoints("stay", &ready)?;
        n1_has_seen_it(lab)?;
        let now = asked_by_all(&vips, sources)?;
        for (asker, name) in &now {
            let before: Option<&String> = who.get(asker);
            // He leaves only whom is gone, or for the one that came.
            let may_move = before
                .is_none_or(|before| !pods.iter().any(|pod| pod.name() == *before))
                || (step == 1 && *name == P12.name());
            ensure!(
                may_move || before == Some(name),
                "{asker:?} left {before:?} for {name} with {pods:?}"
            );
        }
        for vip in &vips {
            let of_vip = now.iter().filter(|((at, _), _)| at == vip);
            let names: BTreeSet<&String> = of_vip.map(|(_, name)| name).collect();
            let spread = names.len() > 1;
            // By the destination all clients go to one.
            ensure!(spread == (scheduler != "dh"), "{vip}: {names:?}");
        }
        who = now;
    }
    for vip in &vips {
        let (source, to) = (of_family(sources, vip)[0], at(vip, 80)?);
        let wanted = &who[&(vip.clone(), source)];
        for _ in 0..50 {
            let name = ask_as(source, to)?;
            ensure!(name == *wanted, "{source}: {wanted}, then {name}");
        }
    }
    lab.cluster.delete("Service", "stay")
}

/// Slices arrive in the order in which they were written.
fn n1_has_seen_it(lab: &mut Lab) -> Result<()> {
    let vips = lab.cluster.service("mark", json!({}), json!({}))?;
    lab.cluster.endpoints("mark", &[(P11, Ready)])?;
    for vip in &vips {
        answered_by("p12", Tcp, at(vip, 80)?, &["p11"])?;
    }
    lab.cluster.delete("Service", "mark")
}

/// Who answers each address of the client at each VIP.
fn asked_by_all(vips: &[String], sources: &[IpAddr]) -> Result<BTreeMap<(String, IpAddr), String>> {
    let mut who = BTreeMap::new();
    for vip in vips {
        for source in of_family(sources, vip) {
            let name = ask_as(source, at(vip, 80)?)?;
            ensure!(name.starts_with('p'), "{source} asks {vip}: {name}");
            who.insert((vip.clone(), source), name);
        }
    }
    Ok(who)
}

fn of_family(sources: &[IpAddr], vip: &str) -> Vec<IpAddr> {
    let is_of = |source: &&IpAddr| source.is_ipv6() == vip.contains(':');
    sources.iter().filter(is_of).copied().collect()
}

/// More addresses for the outside client.
fn sources() -> Result<Vec<IpAddr>> {
    let mut sources = Vec::new();
    for number in 120..132 {
        for (ip, addr, rest) in [
            ("ip", format!("192.168.50.{number}"), "/24"),
            ("ip -6", format!("fd00:50::{number}"), "/64"),
        ] {
            let dad = if rest == "/64" { " nodad" } else { "" };
            sh_in(
                CLIENT,
                &format!("{ip} addr replace {addr}{rest} dev eth0{dad}"),
            )?;
            sources.push(addr.parse()?);
        }
    }
    Ok(sources)
}

/// Who answers one address of the outside client.
fn ask_as(source: IpAddr, to: SocketAddr) -> Result<String> {
    inside(CLIENT, || {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
        socket.connect_timeout(&to.into(), LIMIT)?;
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(LIMIT))?;
        let mut line = [0; 128];
        let length = stream.read(&mut line)?;
        let line = String::from_utf8_lossy(&line[..length]);
        Ok(line.split(' ').next().unwrap_or_default().to_owned())
    })?
}

/// Somebody holds the lock of iptables for longer than the agent waits at a time. The variant nft has no
/// lock: there he disturbs nobody.
pub fn lock_held(lab: &mut Lab) -> Result<()> {
    let legacy = sh_in("n1", "iptables -V")?.contains("legacy");
    let vips = lab.cluster.service("web", json!({}), json!({}))?;
    lab.cluster.endpoints("web", &[(P11, Ready)])?;
    let led_to = |pod: Pod| -> Result<()> {
        for vip in &vips {
            answered_by("p12", Tcp, at(vip, 80)?, &[&pod.name()])?;
        }
        Ok(())
    };
    led_to(P11)?;
    let before = failed_steps()?;
    let holder = Holder::of("/run/xtables.lock")?;
    lab.cluster.endpoints("web", &[(P21, Ready)])?;
    if legacy {
        eventually("failed steps are counted", || {
            let now = failed_steps()?;
            Ok(if now > before {
                Ok(())
            } else {
                Err(format!("{now}"))
            })
        })?;
        eventually("n1 is told as unhealthy", || {
            let page = get("n1", at("127.0.0.1", HEALTH_PORT)?, "/healthz")?;
            Ok(match page {
                Some(page) if page.status == 503 => Ok(()),
                other => Err(format!("{other:?}")),
            })
        })?;
        let log = lab.agent("n1")?.log();
        let told = log
            .lines()
            .any(|line| line.contains("WARN") && line.contains("xtables lock"));
        ensure!(told, "no line of the log names the lock");
        // What was there serves meanwhile.
        for vip in &vips {
            let who = probe("p12", Tcp, at(vip, 80)?)?.who();
            ensure!(who == "p11", "{vip}: {who}, while the lock is held");
        }
    } else {
        led_to(P21)?;
        ensure!(
            failed_steps()? == before,
            "steps failed by a lock that is none"
        );
    }
    drop(holder);
    led_to(P21)?;
    eventually("n1 is healthy again", || {
        let page = get("n1", at("127.0.0.1", HEALTH_PORT)?, "/healthz")?;
        Ok(match page {
            Some(page) if page.status == 200 => Ok(()),
            other => Err(format!("{other:?}")),
        })
    })
}

/// Who holds a lock until he is dropped.
struct Holder(Child);

impl Holder {
    fn of(path: &str) -> Result<Self> {
        let child = Command::new("flock")
            .args(["--no-fork", path, "sleep", "600"])
            .spawn()
            .context("cannot start flock")?;
        let holder = Self(child);
        eventually("the lock is held", || {
            let free = Command::new("flock")
                .args(["--nonblock", path, "true"])
                .status()?
                .success();
            Ok(if free {
                Err("it is free".to_owned())
            } else {
                Ok(())
            })
        })?;
        Ok(holder)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The kernel refuses the chain of one Service, for somebody leads to it from where nothing may be translated:
/// those of others are written, once, and who reads the log learns which one was not.
pub fn bad_chain(lab: &mut Lab) -> Result<()> {
    let vips = lab.cluster.service("bad", json!({}), json!({}))?;
    lab.cluster.endpoints("bad", &[(P11, Ready)])?;
    for vip in &vips {
        answered_by("p12", Tcp, at(vip, 80)?, &["p11"])?;
    }
    lab.stop_agent("n1")?;
    for vip in &vips {
        let tool = tool_of(vip);
        let rules = sh_in("n1", &format!("{tool}-save -t nat"))?;
        let leads = rules
            .lines()
            .find(|rule| rule.contains(&format!(" -d {vip}/")));
        let chain = leads.and_then(|rule| rule.rsplit(' ').next());
        let chain = chain.with_context(|| format!("nothing leads to {vip}:\n{rules}"))?;
        for line in [
            format!("-F {chain}"),
            "-N THEIRS".to_owned(),
            format!("-A THEIRS -j {chain}"),
            "-A THEIRS -j RETURN".to_owned(),
            "-A POSTROUTING -j THEIRS".to_owned(),
        ] {
            sh_in("n1", &format!("{tool} -w -t nat {line}"))?;
        }
    }
    let mut good = Vec::new();
    for number in 0..GOOD {
        let name = format!("good{number}");
        good.extend(lab.cluster.service(&name, json!({}), json!({}))?);
        lab.cluster.endpoints(&name, &[(P21, Ready)])?;
    }
    lab.start_agent("n1")?;
    for vip in &good {
        answered_by("p12", Tcp, at(vip, 80)?, &["p21"])?;
    }
    // What leads to a chain of the agent's goes, and then it is written.
    for vip in &vips {
        answered_by("p12", Tcp, at(vip, 80)?, &["p11"])?;
    }
    let log = lab.agent("n1")?.log();
    let refused = log
        .lines()
        .filter(|line| line.contains("WARN step failed") && line.contains("default/"));
    let refused: Vec<&str> = refused.collect();
    ensure!(
        refused.len() >= 2 && refused.iter().all(|line| line.contains("default/bad")),
        "refused: {refused:#?}"
    );
    ensure!(failed_steps()? >= 2.0, "no failed step is counted");
    for number in 0..GOOD {
        let name = format!(" default/good{number}:http)");
        let written = log
            .lines()
            .filter(|line| line.contains("DEBUG step") && line.contains(&name));
        let written = written.count();
        ensure!(
            written == 2,
            "good{number} was written {written} times in two families"
        );
    }
    for vip in &vips {
        for line in [
            "-D POSTROUTING -j THEIRS",
            "-D THEIRS -j RETURN",
            "-X THEIRS",
        ] {
            sh_in("n1", &format!("{} -w -t nat {line}", tool_of(vip)))?;
        }
    }
    Ok(())
}

fn tool_of(vip: &str) -> &'static str {
    if vip.contains(':') {
        "ip6tables"
    } else {
        "iptables"
    }
}

/// So many steps of n1's agent have failed.
fn failed_steps() -> Result<f64> {
    let (name, label) = ("ipvs_agent_steps_total", "outcome=\"failed\"");
    Ok(sum(&metrics("n1")?, name, label))
}

/// Services beside the bad one.
const GOOD: usize = 10;
const LIMIT: Duration = Duration::from_secs(2);
