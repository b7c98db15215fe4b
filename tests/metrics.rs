//! The reference of the metrics, and those who ask for them: what is written is what the registry has.

#![allow(clippy::unwrap_used, reason = "tests")]

mod generated;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ipvs_agent::metrics::traffic::Told;
use ipvs_agent::metrics::{ApiRequests, Entry, Families};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn entries() -> Vec<Entry> {
    let families = Families::new(0.0, &ApiRequests::default(), Told::default());
    families.catalogue.entries().to_vec()
}

/// The part of the reference that a metric is in.
fn part(name: &str) -> &'static str {
    let is_traffic = ["traffic", "service", "backend"]
        .iter()
        .any(|of| name.starts_with(&format!("ipvs_agent_{of}_")));
    match name.split('_').next() {
        _ if is_traffic => "traffic",
        Some("kubeproxy" | "rest") => "kube-proxy",
        Some("process") => "process",
        _ => "own",
    }
}

/// The tables of `docs/metrics.md` are the registry's. `UPDATE_DOCS=1` writes them.
#[test]
fn the_reference_is_the_registrys() {
    let tables = ["own", "traffic", "kube-proxy", "process"].map(|name| {
        let mut table =
            "| metric | type | labels | unit | meaning |\n|---|---|---|---|---|\n".to_owned();
        for entry in entries().iter().filter(|entry| part(&entry.name) == name) {
            let labels: Vec<String> = entry.labels.iter().map(|l| format!("`{l}`")).collect();
            table += &format!(
                "| `{}` | {} | {} | {} | {} |\n",
                entry.name,
                entry.kind,
                labels.join(", "),
                entry.unit().unwrap_or_default(),
                entry.help.replace('|', "\\|"),
            );
        }
        (name, table)
    });
    generated::hold("docs/metrics.md", &tables, "metrics");
}

/// Names as PromQL may have them.
fn series() -> BTreeSet<String> {
    let names = entries().into_iter().flat_map(|entry| {
        let suffixes: &[&str] = match entry.kind {
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        let series = suffixes
            .iter()
            .map(|suffix| format!("{}{suffix}", entry.name));
        series.collect::<Vec<_>>()
    });
    names.collect()
}

/// Every series that a text names.
fn asked_for(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| {
        ["ipvs_agent_", "kubeproxy_", "rest_client_", "process_"]
            .iter()
            .any(|prefix| word.starts_with(prefix))
    });
    ours.map(str::to_owned).collect()
}

/// Alerts, panels, and the cases that alerts are tried with.
#[test]
fn what_is_asked_for_is_there() {
    let series = series();
    let chart = root().join("charts/ipvs-agent");
    for (file, at_least) in [
        ("alerts.yaml", 8),
        ("dashboards/ipvs-agent.json", 15),
        ("tests/alerts.yaml", 8),
    ] {
        let text = fs::read_to_string(chart.join(file)).unwrap();
        let asked = asked_for(&text);
        assert!(asked.len() >= at_least, "{file}: {asked:?}");
        let missing: Vec<_> = asked.difference(&series).collect();
        assert!(missing.is_empty(), "{file} asks for {missing:?}");
    }
}

/// What the documents tell people to look for.
#[test]
fn what_documents_name_is_there() {
    let names: BTreeSet<String> = entries().into_iter().map(|entry| entry.name).collect();
    let names: BTreeSet<String> = names.union(&series()).cloned().collect();
    let mut files = vec![root().join("README.md")];
    files.extend(
        fs::read_dir(root().join("docs"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "md")),
    );
    for file in files {
        let asked = asked_for(&fs::read_to_string(&file).unwrap());
        let missing: Vec<_> = asked
            .iter()
            .filter(|name| !name.ends_with('_') && !names.contains(*name))
            .collect();
        assert!(missing.is_empty(), "{} names {missing:?}", file.display());
    }
}

/// No quotes, which the two forms of the exposition escape differently, and no line breaks.
#[test]
fn a_help_text_is_one_line_that_reads_alike_in_both_forms() {
    for Entry { name, help, .. } in entries() {
        assert!(
            help.len() > 5 && !help.contains(['"', '\\', '\n']) && !help.ends_with('.'),
            "{name}: {help}"
        );
    }
}
