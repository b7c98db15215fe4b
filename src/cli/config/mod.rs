//! Configuration files: what they say becomes flags, before those of the command line, which override it.
//!
//! * `tree` a YAML file as values with their lines
//! * `own` this program's file: a field for every flag of `run`
//! * `kube_proxy` kube-proxy's file, read as it is
//!
//! One schema for both ways: a value in a file is checked by the same parser as a flag's.

mod kube_proxy;
mod own;
mod tree;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{ArgMatches, Command, CommandFactory, FromArgMatches};

use super::Cli;
use tree::Node;

pub use kube_proxy::described as fields_of_kube_proxy;
pub use own::{API_VERSION, KIND, effective, field_of};

/// A flag that a file sets.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting {
    /// Without its dashes: `route-mark`.
    flag: String,
    values: Vec<String>,
    /// As the file calls it: `ipvs.scheduler`.
    field: String,
    line: u64,
}

/// What a file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Content {
    settings: Vec<Setting>,
    warnings: Vec<String>,
}

/// A file that cannot be used, with the line and what is allowed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    #[error("{file}: cannot read it: {error}")]
    Unreadable { file: String, error: String },
    #[error("{file}:{line}: {text}")]
    At {
        file: String,
        line: u64,
        text: String,
    },
    #[error("{file}: {text}")]
    Whole { file: String, text: String },
}

/// Why a command line was not taken: clap's own words, or those about a file.
#[derive(Debug)]
pub enum Refusal {
    Clap(clap::Error),
    Config(ConfigError),
}

/// A parsed command line.
pub struct Parsed {
    pub cli: Cli,
    /// Every flag of `run` with its value in force, for `/configz`; empty for other commands.
    pub effective: serde_json::Map<String, serde_json::Value>,
    /// What a file says that is not done, and what to do instead.
    pub warnings: Vec<String>,
}

/// Parses a command line, with what the file after `--config` says below it. `read` gives a file's text.
pub fn parse(
    words: Vec<OsString>,
    read: impl Fn(&Path) -> std::io::Result<String>,
) -> Result<Parsed, Refusal> {
    let command = Cli::command();
    let first = command
        .clone()
        .ignore_errors(true)
        .try_get_matches_from(&words);
    let file = first.ok().and_then(|matches| named(&matches));
    let Some(Reader {
        name,
        path,
        flags: known,
        given,
    }) = file
    else {
        return finish(command.try_get_matches_from(words), Vec::new());
    };
    let file = path.display().to_string();
    let content = read(&path).map_err(|error| ConfigError::Unreadable {
        file: file.clone(),
        error: error.to_string(),
    });
    let content = content.and_then(|text| interpret(&file, &text));
    let Content { settings, warnings } = content.map_err(Refusal::Config)?;
    let settings: Vec<Setting> = settings
        .into_iter()
        .filter(|setting| known.contains(&setting.flag) && !given.contains(&setting.flag))
        .collect();
    // After the name of the command, before its own flags.
    let at = words.iter().position(|word| *word == *name);
    let at = at.map_or(words.len(), |at| at + 1);
    let mut all = words;
    all.splice(at..at, settings.iter().flat_map(flags));
    let matches = command.try_get_matches_from(all);
    let matches = matches.map_err(|error| match blamed(&error, &settings) {
        Some((line, text)) => Refusal::Config(ConfigError::At {
            file: file.clone(),
            line,
            text,
        }),
        None => Refusal::Clap(error),
    })?;
    finish(Ok(matches), warnings)
}

/// A command that reads a file.
struct Reader {
    name: String,
    path: PathBuf,
    /// Those that it has; what else a file says is for others.
    flags: BTreeSet<String>,
    /// On the command line or by the environment.
    given: BTreeSet<String>,
}

/// The command that is to read a file, if it is to.
fn named(matches: &ArgMatches) -> Option<Reader> {
    let (name, matches) = matches.subcommand()?;
    let path: &PathBuf = matches.try_get_one("config").ok().flatten()?;
    let set = |id: &str| {
        let source = matches.value_source(id);
        matches!(
            source,
            Some(ValueSource::CommandLine | ValueSource::EnvVariable)
        )
    };
    let command = Cli::command();
    let arguments = command.find_subcommand(name)?.get_arguments();
    let (mut flags, mut given) = (BTreeSet::new(), BTreeSet::new());
    for arg in arguments {
        if let Some(flag) = arg.get_long() {
            flags.insert(flag.to_owned());
            if set(arg.get_id().as_str()) {
                given.insert(flag.to_owned());
            }
        }
    }
    Some(Reader {
        name: name.to_owned(),
        path: path.clone(),
        flags,
        given,
    })
}

fn finish(
    matches: Result<ArgMatches, clap::Error>,
    warnings: Vec<String>,
) -> Result<Parsed, Refusal> {
    let matches = matches.map_err(Refusal::Clap)?;
    let cli = Cli::from_arg_matches(&matches).map_err(Refusal::Clap)?;
    let run = matches.subcommand_matches("run");
    Ok(Parsed {
        effective: run.map(effective).unwrap_or_default(),
        cli,
        warnings,
    })
}

fn flags(setting: &Setting) -> Vec<OsString> {
    let Setting { flag, values, .. } = setting;
    let flags = values
        .iter()
        .map(|value| format!("--{flag}={value}").into());
    flags.collect()
}

/// What a file says, by its kind.
fn interpret(file: &str, text: &str) -> Result<Content, ConfigError> {
    let whole = |text: String| ConfigError::Whole {
        file: file.to_owned(),
        text,
    };
    let root = tree::parse(text).map_err(|(line, text)| match line {
        Some(line) => ConfigError::At {
            file: file.to_owned(),
            line,
            text,
        },
        None => whole(text),
    })?;
    let Node::Map(fields) = root.node else {
        return Err(whole(
            "it takes an object with apiVersion and kind".to_owned(),
        ));
    };
    let text_of = |name: &str| {
        let field = fields.iter().find(|field| field.name == name)?;
        match &field.value.node {
            Node::Text(text) => Some(text.as_str()),
            _ => None,
        }
    };
    let kinds = (text_of("apiVersion"), text_of("kind"));
    let read = match kinds {
        (Some(API_VERSION), Some(KIND)) => own::read(&fields, &run_command()),
        (Some(kube_proxy::API_VERSION), Some(kube_proxy::KIND)) => kube_proxy::read(&fields),
        (version, kind) => {
            let said = |word: Option<&str>| word.unwrap_or("none").to_owned();
            return Err(whole(format!(
                "apiVersion {} with kind {} is not known: it takes {} {} or {} {}",
                said(version),
                said(kind),
                API_VERSION,
                KIND,
                kube_proxy::API_VERSION,
                kube_proxy::KIND
            )));
        }
    };
    read.map_err(|(line, text)| ConfigError::At {
        file: file.to_owned(),
        line,
        text,
    })
}

fn run_command() -> Command {
    let mut command = Cli::command();
    // Defaults and the environment are no part of a file's schema.
    command
        .find_subcommand_mut("run")
        .map(std::mem::take)
        .unwrap_or_default()
}

/// The line of the file whose value clap refuses, and why, in the file's words.
fn blamed(error: &clap::Error, settings: &[Setting]) -> Option<(u64, String)> {
    let text = |kind| match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => Some(texts.join(", ")),
        _ => None,
    };
    let flag = text(ContextKind::InvalidArg)?;
    let flag = flag.trim_start_matches('-');
    let flag = flag.split([' ', '=', '[']).next()?;
    let setting = settings.iter().find(|setting| setting.flag == flag)?;
    let value = text(ContextKind::InvalidValue).unwrap_or_else(|| setting.values.join(","));
    let why = std::error::Error::source(error).map(ToString::to_string);
    let allowed = text(ContextKind::ValidValue).map(|valid| format!("allowed are {valid}"));
    let why = why.or(allowed).unwrap_or_else(|| error.kind().to_string());
    Some((setting.line, format!("{} {value:?}: {why}", setting.field)))
}

/// The name among `known` that somebody may have meant.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.map(|known| {
        (
            strsim::damerau_levenshtein(&name.to_lowercase(), &known.to_lowercase()),
            known,
        )
    });
    let (distance, known) = scored.min()?;
    (distance <= 1 + name.len() / 4).then_some(known)
}

/// What is said of a field that nobody knows.
fn unknown<'a>(field: &str, known: impl Iterator<Item = &'a str>) -> String {
    match nearest(field, known) {
        Some(near) => format!("there is no field {field:?}; is {near:?} meant?"),
        None => format!("there is no field {field:?}"),
    }
}

#[cfg(test)]
mod tests;
