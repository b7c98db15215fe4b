//! What promtool says of the rules and the dashboard's queries.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::Bench;
use super::helm::{one, text};

/// The rules are right, each with a severity, a summary and its place in the runbook.
pub fn rules(bench: &Bench) -> Result<()> {
    for set in ["monitored", "full"] {
        let groups = rendered(bench, set)?;
        let path = bench.work.join(format!("rules-{set}.json"));
        fs::write(&path, groups.to_string())?;
        promtool(bench, &["check", "rules", "--lint-fatal", text(&path)?])?;
    }
    for rule in alert_rules(bench)? {
        let name = rule["alert"].as_str().context("no name")?;
        for part in ["summary", "description", "runbook_url"] {
            let there = rule["annotations"][part]
                .as_str()
                .is_some_and(|text| text.len() > 10);
            ensure!(there, "{name} has no {part}");
        }
        let known = ["critical", "warning", "info"].map(Value::from);
        ensure!(
            known.contains(&rule["labels"]["severity"]),
            "{name}: {}",
            rule["labels"]
        );
    }
    Ok(())
}

/// Each alert fires when it should and is quiet when all is well; the cases are in `tests/alerts.yaml`.
pub fn tests(bench: &Bench) -> Result<()> {
    let path = bench.work.join("rules.json");
    fs::write(&path, rendered(bench, "monitored")?.to_string())?;
    let cases = bench.read("tests/alerts.yaml")?;
    let cases_path = bench.work.join("alerts.yaml");
    fs::write(
        &cases_path,
        format!("rule_files: [{}]\n{cases}", text(&path)?),
    )?;
    promtool(bench, &["test", "rules", text(&cases_path)?])?;
    let cases: Value = serde_saphyr::from_str(&cases)?;
    let mut fired = BTreeSet::new();
    let mut quiet = BTreeSet::new();
    for test in cases["tests"].as_array().context("no tests")? {
        for case in test["alert_rule_test"].as_array().into_iter().flatten() {
            let name = case["alertname"].as_str().unwrap_or_default().to_owned();
            let fires = case["exp_alerts"]
                .as_array()
                .is_some_and(|alerts| !alerts.is_empty());
            if fires {
                fired.insert(name)
            } else {
                quiet.insert(name)
            };
        }
    }
    let names = alert_names(bench)?;
    ensure!(fired == names, "{fired:?} are tested to fire, of {names:?}");
    ensure!(
        quiet == names,
        "{quiet:?} are tested to be quiet, of {names:?}"
    );
    Ok(())
}

/// Prometheus can read each of the dashboard's queries; each panel has one, a title and a place of its own.
pub fn dashboard(bench: &Bench) -> Result<()> {
    let (mut cells, mut ids) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels(bench)? {
        let title = panel["title"].as_str().context("a panel without a title")?;
        ensure!(ids.insert(panel["id"].as_u64()), "{title} has another's id");
        let place = |name: &str| panel["gridPos"][name].as_u64().context("no place");
        let (left, top) = (place("x")?, place("y")?);
        let (right, bottom) = (left + place("w")?, top + place("h")?);
        ensure!(right <= 24, "{title} does not fit in");
        for cell in (left..right).flat_map(|x| (top..bottom).map(move |y| (x, y))) {
            ensure!(cells.insert(cell), "{title} lies on another panel");
        }
        let mut letters = BTreeSet::new();
        for target in panel["targets"].as_array().into_iter().flatten() {
            let letter = target["refId"].as_str().context("no refId")?;
            ensure!(letters.insert(letter), "{title}: two queries {letter}");
            for asks in [&panel, target] {
                let source = &asks["datasource"];
                ensure!(
                    source["type"] == "prometheus" && source["uid"] == "${datasource}",
                    "{title} asks {source}"
                );
            }
        }
    }
    let queries = queries(bench)?.into_iter().enumerate();
    let rules: Vec<Value> = queries
        .map(|(number, (_, query))| json!({ "record": format!("panel:{number}"), "expr": query }))
        .collect();
    ensure!(rules.len() >= 10, "only {} queries", rules.len());
    let path = bench.work.join("queries.json");
    let groups = json!({ "groups": [{ "name": "dashboard", "rules": rules }] });
    fs::write(&path, groups.to_string())?;
    promtool(bench, &["check", "rules", text(&path)?])
}

/// The dashboard's queries, each with its panel's title, as they are once somebody looks at everything.
pub fn queries(bench: &Bench) -> Result<Vec<(String, String)>> {
    let mut queries = Vec::new();
    for panel in panels(bench)? {
        if panel["type"] == "row" {
            continue;
        }
        let title = panel["title"].as_str().context("a panel without a title")?;
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        ensure!(!targets.is_empty(), "{title} asks nothing");
        for target in targets {
            let query = target["expr"].as_str().context("no expr")?;
            queries.push((title.to_owned(), without_variables(query)));
        }
    }
    // What variables are chosen from: the values of a label.
    for variable in variables(bench)? {
        let name = variable["name"].as_str().context("no name")?;
        if let Some(query) = variable["query"].as_str()
            && let Some(inner) = query.strip_prefix("label_values(")
        {
            let (series, label) = inner.rsplit_once(',').context("no label")?;
            let label = label.trim().trim_end_matches(')');
            let asked = format!("count by ({label}) ({})", without_variables(series));
            queries.push((format!("the variable {name}"), asked));
        }
    }
    Ok(queries)
}

/// The metrics that alerts and panels ask for.
pub fn names_in_queries(bench: &Bench) -> Result<BTreeSet<String>> {
    let mut queries = Vec::new();
    for rule in alert_rules(bench)? {
        queries.push(rule["expr"].as_str().unwrap_or_default().to_owned());
    }
    for panel in panels(bench)? {
        for target in panel["targets"].as_array().into_iter().flatten() {
            queries.push(target["expr"].as_str().unwrap_or_default().to_owned());
        }
    }
    let mut names = BTreeSet::new();
    for query in queries {
        let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let ours = words.filter(|word| OURS.iter().any(|prefix| word.starts_with(prefix)));
        names.extend(ours.map(str::to_owned));
    }
    ensure!(names.len() > 10, "{names:?}");
    Ok(names)
}

/// All alerts by name.
pub fn alert_names(bench: &Bench) -> Result<BTreeSet<String>> {
    let rules = alert_rules(bench)?.into_iter();
    Ok(rules
        .filter_map(|rule| Some(rule["alert"].as_str()?.to_owned()))
        .collect())
}

pub fn alert_rules(bench: &Bench) -> Result<Vec<Value>> {
    let groups = rendered(bench, "monitored")?;
    let rules = groups["groups"][0]["rules"].as_array().cloned();
    rules.context("no rules were rendered")
}

fn panels(bench: &Bench) -> Result<Vec<Value>> {
    let panels = whole(bench)?["panels"].as_array().cloned();
    panels.context("no panels")
}

fn variables(bench: &Bench) -> Result<Vec<Value>> {
    let list = whole(bench)?["templating"]["list"].as_array().cloned();
    list.context("no variables")
}

fn whole(bench: &Bench) -> Result<Value> {
    Ok(serde_json::from_str(
        &bench.read("dashboards/ipvs-agent.json")?,
    )?)
}

/// How the names of metrics begin that may be asked for.
const OURS: [&str; 3] = ["ipvs_agent_", "kubeproxy_", "rest_client_"];

fn without_variables(query: &str) -> String {
    query
        .replace("$__rate_interval", "20s")
        .replace("$job", "ipvs-agent")
        .replace("$instance", ".*")
}

fn rendered(bench: &Bench, set: &str) -> Result<Value> {
    let values = bench.chart().join(format!("ci/{set}-values.yaml"));
    let objects = bench.helms[0].objects(&bench.chart(), &values, &[])?;
    let name = if set == "full" { "proxy" } else { "ipvs-agent" };
    Ok(one(&objects, "PrometheusRule", name)?["spec"].clone())
}

fn promtool(bench: &Bench, args: &[&str]) -> Result<()> {
    let output = Command::new(&bench.promtool)
        .args(args)
        .output()
        .context("cannot run promtool")?;
    if !output.status.success() {
        let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        bail!("promtool {}: {out}{err}", args.join(" "));
    }
    Ok(())
}
