//! This program's own file: a field for every flag of `run`, by its name in camel case.

use clap::{Arg, ArgMatches, Command, CommandFactory};
use serde_json::Value as Json;

use super::tree::{Field, Node};
use super::{Content, Setting, unknown};
use crate::cli::Cli;

pub const API_VERSION: &str = "ipvs-agent.io/v1alpha1";
pub const KIND: &str = "AgentConfiguration";

/// Flags that are about one start of the program, and no part of a file.
const NOT_FIELDS: [&str; 4] = ["config", "check-config", "help", "version"];

/// `--route-mark` is the field `routeMark`.
pub fn field_of(flag: &str) -> String {
    let mut words = flag.split('-');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| {
        let mut letters = word.chars();
        let initial = letters.next().map(|c| c.to_ascii_uppercase());
        name + &initial.into_iter().chain(letters).collect::<String>()
    })
}

/// The flags of `run` that a file may set.
fn flags(run: &Command) -> impl Iterator<Item = (&str, &Arg)> {
    let flags = run
        .get_arguments()
        .filter_map(|arg| Some((arg.get_long()?, arg)));
    flags.filter(|(flag, _)| !NOT_FIELDS.contains(flag))
}

/// What the fields set. An error comes with its line.
pub fn read(fields: &[Field], run: &Command) -> Result<Content, (u64, String)> {
    let names: Vec<(String, &str, &Arg)> = flags(run)
        .map(|(flag, arg)| (field_of(flag), flag, arg))
        .collect();
    let mut settings = Vec::new();
    for field in fields {
        if matches!(&*field.name, "apiVersion" | "kind") {
            continue;
        }
        let known = names.iter().find(|(name, ..)| *name == field.name);
        let Some((name, flag, arg)) = known else {
            let names = names.iter().map(|(name, ..)| name.as_str());
            return Err((field.line, unknown(&field.name, names)));
        };
        settings.push(Setting {
            flag: (*flag).to_owned(),
            values: values(name, arg, field)?,
            field: name.clone(),
            line: field.line,
        });
    }
    Ok(Content {
        settings,
        warnings: Vec::new(),
    })
}

/// The values of a flag; none for a field that says nothing.
fn values(name: &str, arg: &Arg, field: &Field) -> Result<Vec<String>, (u64, String)> {
    let takes_many = arg.get_value_delimiter().is_some();
    match &field.value.node {
        Node::Null => Ok(Vec::new()),
        Node::List(items) if takes_many => items
            .iter()
            .map(|item| {
                let text = item.node.scalar();
                text.ok_or_else(|| (item.line, format!("{name} takes a list of texts")))
            })
            .collect(),
        node => node.scalar().map(|text| vec![text]).ok_or_else(|| {
            let wanted = if takes_many { "a list" } else { "one value" };
            (
                field.line,
                format!("{name} takes {wanted}, not {}", node.kind()),
            )
        }),
    }
}

/// The values in force, as a file would have them. What the environment and defaults say is among them.
pub fn effective(run: &ArgMatches) -> serde_json::Map<String, Json> {
    let command = Cli::command();
    let mut fields = serde_json::Map::new();
    fields.insert("apiVersion".to_owned(), API_VERSION.into());
    fields.insert("kind".to_owned(), KIND.into());
    let arguments = command.find_subcommand("run").into_iter().flat_map(flags);
    for (flag, arg) in arguments {
        let Ok(Some(raw)) = run.try_get_raw(arg.get_id().as_str()) else {
            continue;
        };
        let mut texts: Vec<String> = raw
            .map(|value| value.to_string_lossy().into_owned())
            .collect();
        let value = if arg.get_value_delimiter().is_some() {
            Json::from(texts)
        } else {
            match texts.pop() {
                Some(text) if text == "true" => true.into(),
                Some(text) if text == "false" => false.into(),
                Some(text) => text.into(),
                None => continue,
            }
        };
        fields.insert(field_of(flag), value);
    }
    fields
}
