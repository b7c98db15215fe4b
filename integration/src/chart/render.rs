//! What the chart renders for each set of values.

use std::fs;

use anyhow::{Context, Result, bail, ensure};

use super::Bench;
use super::helm::text;

/// Both Helms lint it, strictly, with every set of values.
pub fn lint(bench: &Bench) -> Result<()> {
    let chart = bench.chart();
    for helm in &bench.helms {
        helm.run(&["lint", "--strict", text(&chart)?])?;
        for (_, values) in bench.value_sets()? {
            helm.run(&[
                "lint",
                "--strict",
                text(&chart)?,
                "--values",
                text(&values)?,
            ])?;
        }
    }
    Ok(())
}

/// Both render what the golden of the set says; `--update` writes Helm 4's.
pub fn goldens(bench: &Bench) -> Result<()> {
    let folder = bench.chart().join("tests/golden");
    let mut known = Vec::new();
    for (name, values) in bench.value_sets()? {
        let golden = folder.join(format!("{name}.yaml"));
        known.push(golden.clone());
        for (number, helm) in bench.helms.iter().enumerate() {
            // Neither Helm's own idea of a cluster's version may matter.
            let rendered = helm.template(&bench.chart(), &values, &["--kube-version", "1.36.3"])?;
            let rendered = plain(&rendered);
            if bench.update && number == 0 {
                fs::write(&golden, &rendered)?;
            }
            let want = fs::read_to_string(&golden)
                .with_context(|| format!("no golden {}", golden.display()))?;
            if let Some(line) = first_difference(&want, &rendered) {
                bail!("{name}, line {line}; `make chart-goldens` writes them anew");
            }
        }
    }
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        ensure!(known.contains(&path), "{} is of no set", path.display());
    }
    Ok(())
}

/// Without blank lines, whose number the Helms do not agree on, and their order of documents kept.
fn plain(rendered: &str) -> String {
    let lines = rendered.lines().map(str::trim_end);
    let lines = lines.filter(|line| !line.is_empty());
    lines.map(|line| format!("{line}\n")).collect()
}

fn first_difference(want: &str, have: &str) -> Option<String> {
    let (mut want, mut have) = (want.lines(), have.lines());
    let mut number = 0;
    loop {
        number += 1;
        match (want.next(), have.next()) {
            (None, None) => return None,
            (want, have) if want == have => {}
            (want, have) => {
                let [want, have] = [want, have].map(|line| line.unwrap_or("(nothing)").to_owned());
                return Some(format!("{number}: the golden has {want:?}, Helm {have:?}"));
            }
        }
    }
}
