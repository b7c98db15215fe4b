//! What Prometheus' own tool says of the metrics: of those that an agent tells, and of all in the reference.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::Bench;
use super::permissions::{Installed, is_served};
use crate::guest::tool;

/// An agent's metrics in both forms, and the reference as if it were told, please promtool; and what is told is in
/// the reference, with the same type and meaning.
pub fn exposition(bench: &Bench) -> Result<()> {
    let mut installed = Installed::new(bench, "exposition")?;
    installed.start()?;
    is_served(&installed)?;
    let plain = scrape("*/*")?;
    lint(bench, &plain)?;
    let open = scrape("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")?;
    ensure!(
        open.ends_with("\n# EOF\n") && open.contains("\n# UNIT "),
        "no OpenMetrics: {open}"
    );
    ensure!(!plain.contains("# EOF"), "no Prometheus text: {plain}");
    let series = |text: &str| -> BTreeSet<String> {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        samples
            .filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned()))
            .collect()
    };
    let missing: Vec<_> = series(&plain).difference(&series(&open)).cloned().collect();
    ensure!(missing.is_empty(), "not told in OpenMetrics: {missing:?}");
    let reference = reference(bench)?;
    lint(bench, &as_told(&reference))?;
    let told = families(&plain);
    ensure!(told.len() > 30, "only {} metrics", told.len());
    for (name, (kind, help)) in told {
        let row = reference.get(&name);
        let row = row.with_context(|| format!("docs/metrics.md has no {name}"))?;
        ensure!(
            row.kind == kind && format!("{}.", row.help) == help,
            "docs/metrics.md says of {name}: {row:?}, and the agent: {kind}, {help}"
        );
    }
    Ok(())
}

fn scrape(accept: &str) -> Result<String> {
    let header = format!("Accept: {accept}");
    let url = "http://127.0.0.1:10249/metrics";
    tool(
        "busybox",
        &["wget", "-q", "-O", "-", "--header", &header, url],
    )
}

/// `promtool check metrics` finds nothing but kube-proxy's own lapse.
fn lint(bench: &Bench, text: &str) -> Result<()> {
    let mut child = Command::new(&bench.promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run promtool")?;
    let mut input = child.stdin.take().context("promtool has no input")?;
    input.write_all(text.as_bytes())?;
    drop(input);
    let output = child.wait_with_output()?;
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    let said: Vec<&str> = out.lines().chain(err.lines()).collect();
    let found: Vec<&&str> = said
        .iter()
        .filter(|line| !line.starts_with(KUBE_PROXYS))
        .collect();
    // 3: there is something to be said of it; 1: it cannot be read.
    ensure!(
        found.is_empty() && [Some(0), Some(3)].contains(&output.status.code()),
        "promtool check metrics: {said:?}"
    );
    ensure!(
        said.len() == usize::from(text.contains(KUBE_PROXYS)),
        "promtool did not look at it: {said:?}"
    );
    Ok(())
}

/// Type and help of each metric, from Prometheus text.
fn families(text: &str) -> BTreeMap<String, (String, String)> {
    let mut help = BTreeMap::new();
    let mut families = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.splitn(4, ' ').skip(1);
        let (Some(what), Some(name), Some(rest)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        match what {
            "HELP" => {
                help.insert(name.to_owned(), rest.to_owned());
            }
            "TYPE" => {
                let help = help.remove(name).unwrap_or_default();
                families.insert(name.to_owned(), (rest.to_owned(), help));
            }
            _ => {}
        }
    }
    families
}

/// A row of `docs/metrics.md`.
#[derive(Debug)]
struct Row {
    kind: String,
    labels: Vec<String>,
    help: String,
}

fn reference(bench: &Bench) -> Result<BTreeMap<String, Row>> {
    let text = std::fs::read_to_string(bench.tree.join("docs/metrics.md"))?;
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let mut reference = BTreeMap::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, _, help] = cells[..] else {
            anyhow::bail!("a row with other columns: {row}");
        };
        let labels = labels.split(", ").filter(|label| !label.is_empty());
        let row = Row {
            kind: kind.to_owned(),
            labels: labels
                .map(|label| label.trim_matches('`').to_owned())
                .collect(),
            help: help.to_owned(),
        };
        reference.insert(name.trim_matches('`').to_owned(), row);
    }
    Ok(reference)
}

/// One sample of each.
fn as_told(reference: &BTreeMap<String, Row>) -> String {
    let mut text = String::new();
    for (name, Row { kind, labels, help }) in reference {
        text += &format!("# HELP {name} {help}.\n# TYPE {name} {kind}\n");
        let labels: Vec<String> = labels
            .iter()
            .map(|label| format!("{label}=\"x\""))
            .collect();
        let set = |more: &str| {
            let labels = labels.iter().map(String::as_str);
            let all: Vec<&str> = labels.chain((!more.is_empty()).then_some(more)).collect();
            format!("{{{}}}", all.join(","))
        };
        if kind == "histogram" {
            let (bucket, own) = (set("le=\"+Inf\""), set(""));
            text += &format!("{name}_bucket{bucket} 1\n{name}_sum{own} 1\n{name}_count{own} 1\n");
        } else {
            text += &format!("{name}{} 1\n", set(""));
        }
    }
    text
}

/// A gauge, whatever its name says.
const KUBE_PROXYS: &str = "kubeproxy_sync_proxy_rules_no_local_endpoints_total";
