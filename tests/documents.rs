//! What the documents promise is there: every link and anchor, every command with its flags, every
//! test that is named as a proof.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};
use ipvs_agent::cli::Cli;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All that is below a folder and ends so, relative to the project.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let path = entry.unwrap().path();
        let relative = path.strip_prefix(root()).unwrap();
        if path.is_dir() {
            found.extend(files(relative.to_str().unwrap(), extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(relative.to_owned());
        }
    }
    found
}

/// What people read.
fn documents() -> Vec<PathBuf> {
    let readmes = [
        "README.md",
        "charts/ipvs-agent/README.md",
        "ipvs-sys/README.md",
    ];
    let mut all: Vec<PathBuf> = readmes.iter().map(PathBuf::from).collect();
    all.extend(files("docs", "md"));
    assert!(all.len() > 15, "{all:?}");
    all
}

/// The lines outside of code blocks, and those inside.
fn prose_and_code(text: &str) -> (Vec<&str>, Vec<&str>) {
    let (mut prose, mut code) = (Vec::new(), Vec::new());
    let mut inside = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if inside {
            code.push(line);
        } else {
            prose.push(line);
        }
    }
    (prose, code)
}

/// Text between backquotes.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Targets of `[…](target)`, which code has none of.
fn links(line: &str) -> Vec<String> {
    let plain: String = line.split('`').step_by(2).collect();
    let ends = plain.split("](").skip(1);
    ends.filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target.to_owned())
        .collect()
}

/// The anchors of a document's headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let (prose, _) = prose_and_code(text);
    let headings = prose.iter().filter(|line| line.starts_with('#'));
    let mut anchors = BTreeSet::new();
    for heading in headings {
        let kept = heading.trim_start_matches('#').trim().to_lowercase();
        let slug: String = kept
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        let times = seen.entry(slug.clone()).or_default();
        anchors.insert(match times {
            0 => slug,
            _ => format!("{slug}-{times}"),
        });
        *times += 1;
    }
    anchors
}

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    let mut count = 0;
    for document in documents() {
        let text = read(&document);
        let (prose, _) = prose_and_code(&text);
        for link in prose.iter().flat_map(|line| links(line)) {
            if link.contains("://") {
                continue;
            }
            count += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match file {
                "" => root().join(&document),
                _ => root().join(&document).parent().unwrap().join(file),
            };
            let leads =
                target.exists() && (anchor.is_empty() || anchors(&read(&target)).contains(anchor));
            if !leads {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(count > 50, "only {count} links were found");
}

#[test]
fn the_readme_leads_to_every_document() {
    let text = read("README.md");
    let (prose, _) = prose_and_code(&text);
    let index: BTreeSet<String> = prose.iter().flat_map(|line| links(line)).collect();
    for document in documents().into_iter().skip(1) {
        let name = document.to_str().unwrap();
        assert!(index.contains(name), "README.md does not link {name}");
    }
}

/// What a command line asks of the program that it has not. `words` begin with the subcommand.
fn unknown(command: &Command, words: &[&str]) -> Option<String> {
    let name = words.first()?;
    let Some(subcommand) = command.find_subcommand(name) else {
        return Some(format!("no command {name}"));
    };
    let mut flags = words.iter().filter(|word| word.starts_with('-'));
    let missing = flags.find(|word| {
        let word = word.split('=').next().unwrap();
        let is = |arg: &clap::Arg| match word.strip_prefix("--") {
            Some(long) => arg.get_long() == Some(long),
            None => {
                let mut letters = word.chars().skip(1);
                letters.all(|letter| arg.get_short() == Some(letter))
            }
        };
        !["--help", "-h"].contains(&word) && !subcommand.get_arguments().any(is)
    });
    missing.map(|word| format!("{name} has no {word}"))
}

/// The words of a command line after the program's name, up to what the shell does with the output. What stands
/// between quotes is no flag.
fn words(line: &str) -> Vec<&str> {
    let ends = ["|", ">", "#", "&&"];
    let words = line.split('\'').step_by(2).flat_map(str::split_whitespace);
    let words = words.take_while(|word| !ends.contains(word));
    words.map(|word| word.trim_end_matches(';')).collect()
}

#[test]
fn every_command_that_is_told_exists_with_its_flags() {
    let mut command = Cli::command();
    command.build();
    let mut count = 0;
    for document in documents() {
        let text = read(&document);
        let (prose, code) = prose_and_code(&text);
        let quoted = prose.iter().flat_map(|line| quoted(line));
        let lines = code.iter().copied().chain(quoted);
        let here = document.ends_with("troubleshooting.md");
        for line in lines {
            let told = match line.split_once("ipvs-agent ") {
                Some((before, rest)) if before.is_empty() || before.ends_with(' ') => {
                    // Its own name may be that of a chart, an image, a file or an object.
                    let is = rest.starts_with(|c: char| c.is_ascii_lowercase());
                    let runs = !["helm", "ds", "upgrade", "install", "cargo"]
                        .iter()
                        .any(|word| before.contains(word));
                    (is && runs).then_some(rest)
                }
                // There the program's name is left out.
                None if here => {
                    let first = line.split(' ').next().unwrap();
                    command.find_subcommand(first).map(|_| line)
                }
                _ => None,
            };
            let Some(told) = told else { continue };
            let words = words(told);
            // Its flags are ipvsadm's.
            if words[0] == "ipvsadm" {
                continue;
            }
            count += 1;
            let wrong = unknown(&command, &words);
            assert!(
                wrong.is_none(),
                "{}: {line:?}: {wrong:?}",
                document.display()
            );
        }
    }
    assert!(count > 60, "only {count} commands were found");
}

/// Tests that the tables of `docs/security.md` name in their last column are stories, checks of the chart or unit tests.
#[test]
fn what_is_said_to_prove_security_is_there() {
    let mut code: String = ["src", "ipvs-sys/src", "tests"]
        .iter()
        .flat_map(|folder| files(folder, "rs"))
        .map(read)
        .collect();
    let lists = read("integration/src/scenarios/all.rs") + &read("integration/src/chart/mod.rs");
    code += &lists;
    let text = read("docs/security.md");
    let mut proofs = BTreeSet::new();
    let mut proving = false;
    for line in text.lines() {
        if !line.starts_with('|') {
            proving = false;
        } else if line.ends_with("| proved by |") {
            proving = true;
        } else if proving {
            let cell = line.trim_end_matches(" |").rsplit(" | ").next().unwrap();
            proofs.extend(quoted(cell));
        }
    }
    // Elsewhere a name of so many words is a test's.
    let (prose, _) = prose_and_code(&text);
    let names = prose.iter().flat_map(|line| quoted(line));
    proofs.extend(names.filter(|name| {
        let is_name = name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        is_name && name.matches('_').count() > 2
    }));
    assert!(proofs.len() > 25, "{proofs:?}");
    for name in proofs {
        let listed = lists.contains(&format!("\"{name}\""));
        let function = code.contains(&format!("fn {name}("));
        let file = name.contains('/') && root().join(name).exists();
        assert!(listed || function || file, "nothing is named {name}");
    }
}
