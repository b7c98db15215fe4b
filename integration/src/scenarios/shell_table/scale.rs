//! How long the shell's commands take beside `ipvsadm`, at 5,000 virtual servers × 10 real servers on one
//! kernel in one run. It prints figures; nothing here judges a time.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::clear;
use super::run::{Output, run};
use crate::guest::sh_in;
use crate::scenarios::Lab;

/// `list`, `save` and `restore`, each against its peer.
pub fn scale(lab: &mut Lab) -> Result<()> {
    let agent = lab.program.path.display().to_string();
    let rules = rules();
    clear()?;
    let (theirs, loaded) = timed("n1", &["ipvsadm", "-R"], &rules)?;
    ensure!(
        loaded.code == Some(0) && loaded.errors.is_empty(),
        "{loaded:?}"
    );
    let (ours, restored) = timed("n2", &[&agent, "restore"], &rules)?;
    ensure!(restored.code == Some(0), "{restored:?}");
    let [one, other] = ["n1", "n2"].map(|node| run(node, &["ipvsadm", "-Sn"], ""));
    let (one, other) = (one?, other?);
    ensure!(one == other, "{}", other.beside(&one));
    ensure!(
        one.text == rules,
        "{}",
        one.beside(&Output {
            text: rules.clone(),
            ..loaded
        })
    );
    tell("restore", "ipvsadm -R", ours, theirs);
    // A node has one table. The kernel finds its place in the file by counting all namespaces' entries.
    sh_in("n2", "ipvsadm -C")?;
    for (name, words, peer) in [
        ("list", &["list"][..], &["-Ln"][..]),
        (
            "list --stats",
            &["list", "--stats"],
            &["-Ln", "--stats", "--exact"],
        ),
        ("save", &["save"], &["-Sn"]),
    ] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (time, text) = timed("n1", &[&[&*agent][..], words].concat(), "")?;
            ours.push(time);
            let (time, their_text) = timed("n1", &[&["ipvsadm"][..], peer].concat(), "")?;
            theirs.push(time);
            ensure!(
                text == their_text || name.contains("stats"),
                "{}",
                text.beside(&their_text)
            );
        }
        let peer = format!("ipvsadm {}", peer.join(" "));
        tell(name, &peer, median(ours), median(theirs));
    }
    // The load of the other tools on this machine, and of starting a process at all.
    let (nothing, _) = timed("n1", &[&agent, "--version"], "")?;
    println!("    starting the program alone: {nothing:.1?}");
    let (frame, shown) = timed("n1", &[&agent, "top", "--once", "--interval", "2s"], "")?;
    let header = shown.text.lines().next().unwrap_or_default();
    println!("    top --once: {frame:.1?}; {header}");
    clear()
}

fn tell(name: &str, peer: &str, ours: Duration, theirs: Duration) {
    let ratio = theirs.as_secs_f64() / ours.as_secs_f64();
    println!("    {name}: {ours:.1?}; {peer}: {theirs:.1?}; {ratio:.1} times as fast");
}

fn timed(node: &str, words: &[&str], input: &str) -> Result<(Duration, Output)> {
    let begun = Instant::now();
    let output = run(node, words, input)?;
    let taken = begun.elapsed();
    ensure!(output.code == Some(0), "{words:?}: {output:?}");
    Ok((taken, output))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// In the order in which `ipvsadm -Sn` prints them.
fn rules() -> String {
    let mut rules = String::new();
    for n in 0..SERVICES {
        let vip = format!("10.96.{}.{}:80", n / 250, n % 250 + 1);
        let _ = writeln!(rules, "-A -t {vip} -s rr");
        for m in 0..REAL_SERVERS {
            let _ = writeln!(
                rules,
                "-a -t {vip} -r 10.244.{}.{}:8080 -m -w 1",
                n / 25 % 250,
                n % 25 * 10 + m + 1
            );
        }
    }
    rules
}

const SERVICES: usize = 5000;
const REAL_SERVERS: usize = 10;
const ROUNDS: usize = 5;
