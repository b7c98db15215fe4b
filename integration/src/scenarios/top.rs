//! `ipvs-agent top` in a real terminal, beside ipvsadm. The frames are those of `docs/top/`.

use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{Lab, answered_by, at};
use crate::guest::agent::socket_of;
use crate::guest::cluster::State::{Ready, Terminating};
use crate::guest::probe::Transport::Tcp;
use crate::guest::probe::{open_stream, probe};
use crate::guest::sh_in;
use crate::guest::terminal::Terminal;
use crate::guest::topology::{P11, P21, P31};
use crate::guest::wait::eventually;

/// Three Services: one has a backend that drains, one leads every client to one backend, one is quiet.
pub fn top(lab: &mut Lab) -> Result<()> {
    let [web, api] = services(lab)?;
    // Round robin: as many at either.
    let kept = streams(web, WEB_STREAMS)?;
    let of = |name: &str| kept.iter().filter(|(_, served)| served == name).count();
    ensure!(
        of("p11") == WEB_STREAMS / 2 && of("p21") == WEB_STREAMS / 2,
        "not in turn: {} and {}",
        of("p11"),
        of("p21")
    );
    lab.cluster
        .endpoints("web", &[(P11, Ready), (P21, Terminating)])?;
    eventually("p21 drains", || {
        let list = sh_in("n1", &format!("ipvsadm -Ln -t {web}"))?;
        let row = list.lines().find(|row| row.contains("10.244.2.2:8080"));
        let weight = row.and_then(|row| row.split_whitespace().nth(3));
        Ok(if weight == Some("0") {
            Ok(())
        } else {
            Err(list)
        })
    })?;
    rates(lab, api)?;
    let stopped = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Some traffic for the frames.
        scope.spawn(|| {
            while !stopped.load(Ordering::Relaxed) {
                let _ = probe("p12", Tcp, web);
                std::thread::sleep(Duration::from_millis(40));
            }
        });
        let proved = frames(lab, api).and_then(|()| {
            ends_and_restores(lab)?;
            frames_of_a_wide_terminal(lab)
        });
        stopped.store(true, Ordering::Relaxed);
        proved
    })?;
    without_an_agent(lab, web)
}

/// On a node without ip_vs there is nothing to show, and that is said.
pub fn top_without_ipvs(lab: &mut Lab) -> Result<()> {
    let output = top_once(lab, &[])?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(2) && output.stdout.is_empty(),
        "{output:?}"
    );
    for word in ["no ip_vs", "modprobe ip_vs", "iptables-save"] {
        ensure!(told.contains(word), "{word:?} is not in {told:?}");
    }
    Ok(())
}

fn services(lab: &mut Lab) -> Result<[SocketAddr; 2]> {
    let web = lab.cluster.service("web", json!({}), json!({}))?;
    lab.cluster
        .endpoints("web", &[(P11, Ready), (P21, Ready)])?;
    // By source: one client, one backend.
    let by_source = json!({ "ipvs-agent.io/scheduler": "sh" });
    let api = lab.cluster.service("api", by_source, json!({}))?;
    lab.cluster
        .endpoints("api", &[(P11, Ready), (P31, Ready)])?;
    let quiet = lab.cluster.service("quiet", json!({}), json!({}))?;
    lab.cluster.endpoints("quiet", &[(P31, Ready)])?;
    let web = at(&web[0], 80)?;
    let api = at(&api[0], 80)?;
    answered_by("p12", Tcp, web, &["p11", "p21"])?;
    answered_by("p12", Tcp, at(&quiet[0], 80)?, &["p31"])?;
    eventually("both endpoints of api are there", || {
        let list = sh_in("n1", &format!("ipvsadm -Ln -t {api}"))?;
        let rows = list.lines().filter(|row| row.contains("Masq")).count();
        Ok(if rows == 2 { Ok(()) } else { Err(list) })
    })?;
    Ok([web, api])
}

/// Connections that stay open, each with who serves it.
fn streams(to: SocketAddr, number: usize) -> Result<Vec<(TcpStream, String)>> {
    (0..number).map(|_| open_stream("p12", to)).collect()
}

/// So many connections between two readings, whose moments are known from both sides.
fn rates(lab: &Lab, api: SocketAddr) -> Result<()> {
    let counted = || -> Result<usize> {
        let list = sh_in("n1", &format!("ipvsadm -Ln --stats --exact -t {api}"))?;
        let row = list.lines().find(|row| row.starts_with("TCP "));
        let conns = row.and_then(|row| row.split_whitespace().nth(2));
        Ok(conns.with_context(|| list.clone())?.parse()?)
    };
    let before = counted()?;
    let terminal = Terminal::open("rates", 80, 24)?;
    let begun = Instant::now();
    terminal.enter(&command(lab, "--interval 1h --filter api"))?;
    // Not measured before the second reading.
    terminal.shows("api", |screen| {
        cell(screen, "default/api:http", 2).is_some_and(|conns| conns == "-")
    })?;
    let after_first = Instant::now();
    for _ in 0..RATE_CONNECTIONS {
        probe("p12", Tcp, api)?;
    }
    eventually("the kernel has refreshed its counters", || {
        let now = counted()?;
        Ok(if now == before + RATE_CONNECTIONS {
            Ok(())
        } else {
            Err(format!("{before}, and now {now}"))
        })
    })?;
    let before_second = Instant::now();
    // Going on after a pause reads at once.
    terminal.key("p")?;
    terminal.shows("the pause", |screen| screen[0].contains("PAUSED"))?;
    terminal.key("p")?;
    let shown = terminal.shows("a rate", |screen| {
        number(screen, "default/api:http", 2).is_some()
    })?;
    let rate = number(&shown, "default/api:http", 2).unwrap_or_default();
    let per = |time: Duration| RATE_CONNECTIONS as f64 / time.as_secs_f64();
    let bounds = per(begun.elapsed()) - 0.5..=per(before_second - after_first) + 0.5;
    ensure!(bounds.contains(&rate), "{rate} is not in {bounds:?}");
    Ok(())
}

fn frames(lab: &Lab, api: SocketAddr) -> Result<()> {
    let terminal = Terminal::open("top", 80, 24)?;
    terminal.enter(&command(lab, ""))?;
    // Measured: the quiet Service has no traffic, web has.
    let shown = terminal.shows("the overview", |screen| {
        number(screen, "default/web:http", 2).is_some_and(|conns| conns > 0.0)
            && number(screen, "default/quiet:http", 2) == Some(0.0)
    })?;
    // p21 drains where it has connections, over IPv4; theirs and p11's are open.
    demand(&shown, "default/web:http", 1, "2/3")?;
    let active = number(&shown, "default/web:http", 7).unwrap_or_default();
    ensure!(active >= WEB_STREAMS as f64, "{}", shown.join("\n"));
    ensure!(
        shown[0].starts_with("ipvs-agent top  n1  Linux"),
        "{}",
        shown[0]
    );
    print("overview-80x24", &shown);

    // All of these go to one of two backends, while it is looked on.
    let kept = streams(api, API_STREAMS)?;
    let served = &kept[0].1;
    ensure!(kept.iter().all(|(_, by)| by == served), "sh took several");
    terminal.key("8")?;
    let shown = terminal.shows("api is the first by active connections", |screen| {
        screen[4].contains("default/api:http") && screen[4].contains("4!")
    })?;
    demand(&shown, "default/api:http", 7, &API_STREAMS.to_string())?;
    print("sorted-80x24", &shown);

    terminal.key("Enter")?;
    let (busy, idle) = if served == "p11" {
        ("10.244.1.2:8080", "10.244.3.2:8080")
    } else {
        ("10.244.3.2:8080", "10.244.1.2:8080")
    };
    let shown = terminal.shows("api's backends", |screen| {
        cell(screen, busy, 1).is_some_and(|state| state == "uneven")
    })?;
    demand(&shown, busy, 8, &API_STREAMS.to_string())?;
    demand(&shown, idle, 8, "0")?;
    print("backends-80x24", &shown);

    terminal.key("Enter")?;
    let vip = api.to_string();
    let shown = terminal.shows("as many connections as ipvsadm lists", |screen| {
        let table = sh_in("n1", "ipvsadm -Lnc").unwrap_or_default();
        let ours = table.lines().filter(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.len() == 6 && words[4] == vip && words[5] == busy
        });
        let established = screen.iter().filter(|line| line.contains("ESTABLISHED"));
        screen[1].ends_with(&format!("> connections: {}", ours.count())) && established.count() > 0
    })?;
    print("connections-80x24", &shown);

    terminal.key("Escape")?;
    terminal.shows("the backends again", |screen| {
        screen[1].ends_with("> backends, by active")
    })?;
    terminal.key("Escape")?;
    terminal.shows("the overview again", |screen| {
        screen[1] == "Services, by active"
    })?;
    terminal.key("/")?;
    terminal.enter("web")?;
    let shown = terminal.shows("web alone", |screen| {
        cell(screen, "default/api:http", 0).is_none()
            && cell(screen, "default/web:http", 0).is_some()
    })?;
    print("filtered-80x24", &shown);
    terminal.key("Enter")?;
    let shown = terminal.shows("web's backends", |screen| {
        cell(screen, "10.244.2.2:8080", 1).is_some_and(|state| state == "draining")
    })?;
    demand(&shown, "10.244.2.2:8080", 2, "0")?;
    demand(&shown, "10.244.2.2:8080", 8, &(WEB_STREAMS / 2).to_string())?;
    print("draining-80x24", &shown);
    terminal.key("?")?;
    let shown = terminal.shows("the keys", |screen| screen[23] == "any key: back")?;
    print("help-80x24", &shown);
    Ok(())
}

fn frames_of_a_wide_terminal(lab: &Lab) -> Result<()> {
    let terminal = Terminal::open("wide", 120, 40)?;
    terminal.enter(&command(lab, ""))?;
    let measured =
        |screen: &[String]| number(screen, "default/web:http", 3).is_some_and(|conns| conns > 0.0);
    let shown = terminal.shows("the wide overview", measured)?;
    print("overview-120x40", &shown);
    terminal.key("g")?;
    let shown = terminal.shows("virtual servers", |screen| screen[1].starts_with("Virtual"))?;
    let vips = sh_in("n1", "ipvsadm -Ln")?;
    let vips = vips.lines().filter(|line| line.starts_with("TCP ")).count();
    let rows = shown.iter().filter(|line| line.contains("/TCP ")).count();
    ensure!(rows == vips, "{rows} of {vips}:\n{}", shown.join("\n"));
    print("virtual-servers-120x40", &shown);
    terminal.key("g")?;
    terminal.key("/")?;
    terminal.enter("web")?;
    terminal.key("Enter")?;
    let shown = terminal.shows("web's backends, wide", |screen| {
        number(screen, "10.244.1.2:8080", 4).is_some_and(|conns| conns > 0.0)
    })?;
    print("backends-120x40", &shown);
    Ok(())
}

/// The terminal is as it was, after `q` and after SIGTERM.
fn ends_and_restores(lab: &Lab) -> Result<()> {
    let terminal = Terminal::open("ends", 80, 24)?;
    let prompt = |screen: &[String]| {
        let last = screen.iter().rev().find(|line| !line.is_empty());
        last.is_some_and(|line| line == "ready>")
    };
    terminal.shows("a prompt", prompt)?;
    let before = terminal.modes()?;
    for by_signal in [false, true] {
        terminal.enter(&command(lab, "--interval 500ms"))?;
        terminal.shows("it runs", |screen| screen[0].starts_with("ipvs-agent top"))?;
        ensure!(terminal.modes()? != before, "nothing was changed");
        if by_signal {
            let pid = terminal.process("ipvs-agent")?;
            sh_in("n1", &format!("kill -TERM {pid}"))?;
        } else {
            terminal.key("q")?;
        }
        terminal.shows("the shell is back", prompt)?;
        let after = terminal.modes()?;
        ensure!(after == before, "it was {before}, and is {after}");
    }
    // What is no terminal gets no control sequences.
    terminal.enter(&command(lab, "> /run/top.txt; echo rc=$?"))?;
    terminal.shows("an error", |screen| {
        screen.iter().any(|line| line.contains("--once"))
            && screen.iter().any(|line| line == "rc=2")
    })?;
    Ok(())
}

/// Names go, numbers stay, and standard error says why.
fn without_an_agent(lab: &mut Lab, web: SocketAddr) -> Result<()> {
    lab.stop_agent("n1")?;
    let output = top_once(lab, &["--width", "80"])?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{text}");
    ensure!(text.contains(&format!("{web}/TCP")), "{text}");
    ensure!(!text.contains("default/"), "{text}");
    ensure!(text.lines().all(|line| line.len() <= 80), "{text}");
    let told = String::from_utf8(output.stderr)?;
    ensure!(told.contains("no agent answers at"), "{told}");
    Ok(())
}

fn command(lab: &Lab, flags: &str) -> String {
    let (program, socket) = (lab.program.path.display(), socket_of("n1"));
    format!("ip netns exec n1 {program} top --socket {socket} {flags}")
}

fn top_once(lab: &Lab, flags: &[&str]) -> Result<Output> {
    let output = Command::new("ip")
        .args(["netns", "exec", "n1"])
        .arg(&lab.program.path)
        .args(["top", "--once", "--socket", &socket_of("n1")])
        .args(flags)
        .output();
    output.context("cannot start it")
}

/// A word of the line that has this name: the name is word 0, whether or not it is selected.
fn cell(screen: &[String], name: &str, number: usize) -> Option<String> {
    screen.iter().find_map(|line| {
        let mut words = line.trim_start_matches("> ").split_whitespace();
        let first = words.next()?;
        (first == name).then(|| match number {
            0 => Some(first.to_owned()),
            number => words.nth(number - 1).map(str::to_owned),
        })?
    })
}

fn number(screen: &[String], name: &str, number: usize) -> Option<f64> {
    cell(screen, name, number)?.parse().ok()
}

fn demand(screen: &[String], name: &str, number: usize, wanted: &str) -> Result<()> {
    let found = cell(screen, name, number);
    ensure!(
        found.as_deref() == Some(wanted),
        "word {number} of {name} is {found:?} and not {wanted}:\n{}",
        screen.join("\n")
    );
    Ok(())
}

/// For `make frames`.
fn print(name: &str, screen: &[String]) {
    for line in screen {
        println!("FRAME {name}|{line}");
    }
}

const WEB_STREAMS: usize = 6;
const API_STREAMS: usize = 24;
const RATE_CONNECTIONS: usize = 60;
