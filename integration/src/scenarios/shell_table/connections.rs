//! Connections and templates, listed and counted.

use anyhow::{Result, ensure};
use serde_json::Value;

use super::run::run;
use crate::guest::probe::Transport::Tcp;
use crate::guest::sh_in;
use crate::guest::topology::{P11, POD_PORT};
use crate::guest::wait::eventually;
use crate::scenarios::{answered_by, at};

/// Connections and templates in both families.
pub fn listings(agent: &str) -> Result<()> {
    sh_in("n1", "sysctl -qw net.ipv4.vs.conntrack=1")?;
    for (vip, real) in [
        ("192.168.50.11", P11.v4()),
        ("[fd00:50::11]", format!("[{}]", P11.v6())),
    ] {
        sh_in("n1", &format!("ipvsadm -A -t {vip}:7777 -s rr -p 600"))?;
        sh_in(
            "n1",
            &format!("ipvsadm -a -t {vip}:7777 -r {real}:{POD_PORT} -m"),
        )?;
        let vip = vip.trim_matches(['[', ']']);
        answered_by("n1", Tcp, at(vip, 7777)?, &["p11"])?;
    }
    for options in [&["-Lcn"][..], &["-Lcn", "--persistent-conn"]] {
        eventually("connections look alike", || {
            let theirs = || run("n1", &[&["ipvsadm"][..], options].concat(), "");
            let before = theirs()?;
            let ours = run("n1", &[&[agent, "ipvsadm"][..], options].concat(), "")?;
            let after = theirs()?;
            ensure!(ours.code == Some(0), "{ours:?}");
            Ok(between(&before.text, &ours.text, &after.text))
        })?;
    }
    // One may end between two programs.
    eventually("connections are counted", || counted(agent))?;
    sh_in("n1", "ipvsadm -C")?;
    Ok(())
}

/// Connections by backend, beside how many lines each has.
fn counted(agent: &str) -> Result<Result<(), String>> {
    let theirs = run("n1", &["ipvsadm", "-Lcn"], "")?;
    let ours = [agent, "connections", "--by", "backend", "-o", "json"];
    let counts: Value = serde_json::from_str(&run("n1", &ours, "")?.text)?;
    for backend in [
        format!("{}:{POD_PORT}", P11.v4()),
        format!("[{}]:{POD_PORT}", P11.v6()),
    ] {
        let lines = theirs.text.lines();
        let to = lines.filter(|line| line.trim_end().ends_with(&backend));
        // A template has the client's port 0; its state is one kernel's NONE and another's ASSURED.
        let (templates, connections): (Vec<_>, Vec<_>) = to.partition(|line| {
            let client = line.split_whitespace().nth(3);
            client.is_some_and(|client| client.ends_with(":0"))
        });
        let mut counted = counts["counts"].as_array().into_iter().flatten();
        let count = counted.find(|count| count["key"] == *backend);
        let alike = count.is_some_and(|count| {
            count["connections"] == connections.len() && count["templates"] == templates.len()
        });
        if !alike || templates.is_empty() || connections.is_empty() {
            return Ok(Err(format!("{backend}: {counts:#}\n{theirs:?}")));
        }
    }
    Ok(Ok(()))
}

/// Whether a listing is what `ipvsadm` would have printed between two of its own: the same lines byte for byte, but
/// for the time that is left, which runs down meanwhile.
fn between(before: &str, ours: &str, after: &str) -> Result<(), String> {
    let whole = before.lines().count() >= LINES;
    let [earlier, now, later] = [before, ours, after].map(timed_lines);
    let alike = whole
        && [&earlier, &later].iter().all(|theirs| {
            let rest = |lines: &[(Option<u32>, String)]| {
                Vec::from_iter(lines.iter().map(|(_, rest)| rest.clone()))
            };
            rest(theirs) == rest(&now)
        });
    let in_time = earlier.iter().zip(&now).zip(&later).all(
        // A heading has no time.
        |(((earlier, _), (now, _)), (later, _))| earlier >= now && now >= later,
    );
    if alike && in_time {
        Ok(())
    } else {
        Err(format!(
            "ipvsadm before:\n{before}\nthis:\n{ours}\nipvsadm after:\n{after}"
        ))
    }
}

/// Each line's seconds that are left, and the line with zeros in their place.
fn timed_lines(text: &str) -> Vec<(Option<u32>, String)> {
    let timed = |line: &str| {
        let time = line.get(TIME)?;
        let (minutes, seconds) = time.split_once(':')?;
        let left = minutes.parse::<u32>().ok()? * 60 + seconds.parse::<u32>().ok()?;
        Some((Some(left), line.replacen(time, "00:00", 1)))
    };
    let lines = text.lines();
    lines
        .map(|line| timed(line).unwrap_or_else(|| (None, line.to_owned())))
        .collect()
}

/// Headings, and a connection and a template of each family.
const LINES: usize = 6;

/// Where a line has the time that is left, as `MM:SS`.
const TIME: std::ops::Range<usize> = 4..9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_run_down_and_all_else_is_alike() {
        let listing = |left: &str| {
            let line = format!("TCP {left}  TIME_WAIT   10.0.0.1:4014 10.0.0.2:80 10.0.0.3:80\n");
            format!(
                "IPVS connection entries\npro expire state\n{}",
                line.repeat(4)
            )
        };
        let is = |before: &str, ours: &str, after: &str| {
            between(&listing(before), &listing(ours), &listing(after)).is_ok()
        };
        assert!(is("01:00", "01:00", "01:00") && is("01:01", "00:59", "00:58"));
        assert!(!is("01:00", "01:01", "00:58") && !is("01:00", "00:57", "00:58"));
        assert!(!is("01:00", "00:5 ", "00:58") && !is("01:00", " 1:00", "01:00"));
        let other = listing("01:00").replace("TIME_WAIT ", "TIME_WAIT");
        assert!(between(&listing("01:00"), &other, &listing("01:00")).is_err());
    }
}
