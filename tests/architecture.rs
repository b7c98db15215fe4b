//! Imports go one way: what `docs/design.md` says of each folder is what its files do.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Folder or file of `src` → what it may use, from the table in `docs/design.md`.
fn law() -> BTreeMap<String, BTreeSet<String>> {
    let design = fs::read_to_string(root().join("docs/design.md")).unwrap();
    let rows = design
        .lines()
        .filter(|line| line.starts_with("| `src/"))
        .map(|line| line.split('|').collect::<Vec<_>>());
    let mut law = BTreeMap::new();
    for row in rows {
        let [_, modules, _, may_use, _] = row[..] else {
            panic!("a row with other columns: {row:?}")
        };
        let allowed: BTreeSet<String> = quoted(may_use).collect();
        for module in quoted(modules) {
            let module = module.strip_prefix("src/").unwrap().to_owned();
            law.insert(module, allowed.clone());
        }
    }
    law
}

/// The words in backquotes.
fn quoted(cell: &str) -> impl Iterator<Item = String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned)
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).unwrap();
    entries
        .flat_map(|entry| files(&entry.unwrap().path()))
        .collect()
}

/// Modules of this crate that a text names.
fn used(text: &str) -> BTreeSet<String> {
    let ends = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    text.split("crate::")
        .skip(1)
        .filter_map(|rest| rest.split(ends).next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_module_has_its_place_in_the_design() {
    let law = law();
    for entry in fs::read_dir(root().join("src")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.trim_end_matches(".rs").to_owned();
        if !["lib", "main"].contains(&module.as_str()) {
            assert!(
                law.contains_key(&module),
                "docs/design.md has no row for src/{module}"
            );
        }
    }
}

#[test]
fn imports_go_the_way_that_the_design_says() {
    for (module, allowed) in law() {
        let folder = root().join("src").join(&module);
        let path = if folder.is_dir() {
            folder
        } else {
            folder.with_extension("rs")
        };
        for file in files(&path) {
            let text = fs::read_to_string(&file).unwrap();
            for other in used(&text) {
                assert!(
                    other == module || allowed.contains(&other),
                    "{} uses {other}, which docs/design.md does not grant to {module}",
                    file.display()
                );
            }
        }
    }
}

#[test]
fn what_the_design_grants_has_no_circle() {
    let law = law();
    let mut placed: BTreeSet<&String> = BTreeSet::new();
    while placed.len() < law.len() {
        let next = law.iter().find(|(module, uses)| {
            let below = |other: &String| placed.contains(other) || !law.contains_key(other);
            !placed.contains(module) && uses.iter().all(below)
        });
        let Some((module, _)) = next else {
            panic!(
                "a circle among {:?}",
                law.keys()
                    .filter(|m| !placed.contains(m))
                    .collect::<Vec<_>>()
            )
        };
        placed.insert(module);
    }
}

/// Numbers of `7`, `7, 9` and `7–9`.
fn numbers(cell: &str) -> Vec<usize> {
    let ranges = cell.split(", ").map(|range| {
        let (first, last) = range.split_once('–').unwrap_or((range, range));
        first.parse().unwrap()..=last.parse().unwrap()
    });
    ranges.flatten().collect()
}

#[test]
fn the_checklist_is_whole_and_its_tests_exist() {
    let list = fs::read_to_string(root().join("docs/checklist.md")).unwrap();
    let code: String = ["src", "tests"]
        .iter()
        .flat_map(|folder| files(&root().join(folder)))
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let mut items = Vec::new();
    for line in list.lines().filter(|line| line.starts_with("| ")) {
        let [_, item, _, tests, remark, _] = line.split('|').map(str::trim).collect::<Vec<_>>()[..]
        else {
            panic!("a row with other columns: {line}")
        };
        if item == "item" {
            continue;
        }
        items.extend(numbers(item));
        assert!(!tests.is_empty() || !remark.is_empty(), "{line}");
        for test in quoted(tests) {
            assert!(code.contains(&format!("fn {test}(")), "no test {test}");
        }
    }
    items.sort_unstable();
    assert_eq!(items, (1..=108).collect::<Vec<_>>());
}
