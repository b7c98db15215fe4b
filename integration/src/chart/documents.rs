//! What is written beside the values and the alerts says the same as they do.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Bench;
use super::alerts::alert_names;

/// The table of values in the chart's README is made of `values.yaml`; `--update` writes it.
pub fn readme(bench: &Bench) -> Result<()> {
    let path = bench.chart().join("README.md");
    let readme = fs::read_to_string(&path).context("the chart has no README")?;
    let parts = readme.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) = parts.context("the README has no place for the table")?;
    let table = table(&bench.read("values.yaml")?)?;
    let wanted = format!("{before}{BEGIN}\n{table}{END}{after}");
    if bench.update {
        fs::write(&path, &wanted)?;
        return Ok(());
    }
    ensure!(
        readme == wanted,
        "the README's table is old; `make chart-goldens` writes it"
    );
    Ok(())
}

/// A row for each value with a comment, `# -- …`; a value without one is an error.
fn table(values: &str) -> Result<String> {
    let mut rows = "| value | default | |\n|---|---|---|\n".to_owned();
    let (mut parent, mut comment) = (String::new(), String::new());
    let mut described_block = false;
    for line in values.lines() {
        let text = line.trim();
        if let Some(first) = text.strip_prefix("# -- ") {
            comment = first.to_owned();
        } else if let Some(more) = text.strip_prefix("# ") {
            if !comment.is_empty() {
                comment = format!("{comment} {more}");
            }
        } else if let Some((key, value)) = text.split_once(':') {
            let depth = line.len() - line.trim_start().len();
            let value = value.trim();
            if depth == 0 {
                parent = key.to_owned();
                described_block = value.is_empty() && !comment.is_empty();
            } else if comment.is_empty() {
                // The inside of a value that is described as a whole, or by a deeper level.
                ensure!(
                    described_block || depth > 2,
                    "{parent}.{key} has no comment"
                );
                continue;
            }
            if comment.is_empty() {
                ensure!(value.is_empty(), "{key} has no comment");
                continue;
            }
            let name = if depth == 0 {
                key.to_owned()
            } else {
                format!("{parent}.{key}")
            };
            let default = match value {
                "" => "see values.yaml".to_owned(),
                value => format!("`{value}`"),
            };
            rows += &format!(
                "| `{name}` | {default} | {} |\n",
                comment.replace('|', "\\|")
            );
            comment.clear();
            // What is below a described key of the second level needs no word of its own.
            described_block |= depth > 0 && value.is_empty();
        }
    }
    Ok(rows)
}

/// Every alert has its entry in the runbook, and no entry is of no alert.
pub fn runbook(bench: &Bench) -> Result<()> {
    let runbook = fs::read_to_string(bench.tree.join("docs/runbook.md")).context("no runbook")?;
    let entries = runbook.lines().filter_map(|line| line.strip_prefix("## "));
    let entries = entries.filter(|title| title.starts_with("IpvsAgent"));
    let entries = entries.map(str::to_owned).collect();
    let names = alert_names(bench)?;
    ensure!(names == entries, "alerts {names:?}, entries {entries:?}");
    Ok(())
}

/// The chart installs the agent that it lies beside.
pub fn version(bench: &Bench) -> Result<()> {
    let chart: Value = serde_saphyr::from_str(&bench.read("Chart.yaml")?)?;
    ensure!(chart["appVersion"] == env!("CARGO_PKG_VERSION"), "{chart}");
    Ok(())
}

const BEGIN: &str = "<!-- values: written by make chart-goldens -->";
const END: &str = "<!-- end -->";
