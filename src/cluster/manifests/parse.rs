//! One manifest file: YAML or JSON, many documents, lists. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::cluster::convert::{self, Problem};
use crate::cluster::objects;
use crate::model::{EndpointSlice, NodeInfo, ObjectName, ServiceSpec};

/// What a file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Objects {
    pub services: BTreeMap<ObjectName, ServiceSpec>,
    pub slices: BTreeMap<ObjectName, EndpointSlice>,
    pub nodes: BTreeMap<String, NodeInfo>,
    /// Things that were left out, and why.
    pub notices: Vec<String>,
}

/// A file that cannot be taken, with the place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {}{message}", field.as_ref().map(|f| format!("{f}: ")).unwrap_or_default())]
pub struct ManifestError {
    pub file: String,
    /// From 1.
    pub line: u64,
    pub column: u64,
    /// `spec.ports[0].port`, if a field is at fault.
    pub field: Option<String>,
    pub message: String,
}

#[derive(Deserialize)]
struct Header {
    kind: Option<String>,
}

/// Reads one file.
pub fn parse_file(file: &str, text: &str) -> Result<Objects, ManifestError> {
    let mut found = Objects::default();
    for document in documents(text) {
        read(file, &document, &mut found)?;
    }
    Ok(found)
}

/// The documents of a file, each with as many empty lines before it as it has lines before it
/// there, so that a parser counts lines rightly.
fn documents(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for (number, line) in text.lines().enumerate() {
        if line == "---" || line.starts_with("--- ") {
            documents.push("\n".repeat(number + 1));
        } else if let Some(document) = documents.last_mut() {
            document.push_str(line);
            document.push('\n');
        }
    }
    let says_something = |document: &String| {
        document
            .lines()
            .any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
    };
    documents.retain(says_something);
    documents
}

fn read(file: &str, text: &str, found: &mut Objects) -> Result<(), ManifestError> {
    let header: Header = typed(file, text)?;
    let mut problems: Vec<Problem> = Vec::new();
    match header.kind.as_deref() {
        Some("Service") => {
            let object: objects::Service = typed(file, text)?;
            let name = named(file, text, "Service", convert::object_name(&object))?;
            let converted = convert::service(&object);
            problems = converted.problems;
            found.services.insert(name, converted.value.1);
        }
        Some("EndpointSlice") => {
            let object: objects::EndpointSlice = typed(file, text)?;
            let name = named(file, text, "EndpointSlice", convert::object_name(&object))?;
            let converted = convert::endpoint_slice(&object);
            problems = converted.problems;
            match converted.value {
                Some((name, slice)) => {
                    found.slices.insert(name, slice);
                }
                None => found.notices.push(format!(
                    "EndpointSlice {name}: left out: it has no label kubernetes.io/service-name \
                     or holds no IP addresses"
                )),
            }
        }
        Some("Endpoints") => {
            let object: objects::Endpoints = typed(file, text)?;
            named(file, text, "Endpoints", convert::object_name(&object))?;
            let converted = convert::endpoints(&object);
            problems = converted.problems;
            found.slices.extend(converted.value);
        }
        Some("Node") => {
            let object: objects::Node = typed(file, text)?;
            named(file, text, "Node", convert::object_name(&object))?;
            let converted = convert::node(&object);
            problems = converted.problems;
            found
                .nodes
                .insert(converted.value.name.clone(), converted.value);
        }
        Some("List") => {
            #[derive(Deserialize)]
            struct List {
                items: Vec<serde_json::Value>,
            }
            let list: List = typed(file, text)?;
            for item in list.items {
                // An item has lost its lines: the list's first line stands for it.
                let first = text
                    .lines()
                    .take_while(|line| line.trim().is_empty())
                    .count();
                read(file, &format!("{}{item}", "\n".repeat(first)), found)?;
            }
        }
        Some(other) => found.notices.push(format!(
            "a {other} is left out: known are Service, EndpointSlice, Endpoints, Node and List"
        )),
        None => return Err(missing(file, text, "kind", "is missing")),
    }
    found
        .notices
        .extend(problems.iter().map(Problem::to_string));
    Ok(())
}

fn named(
    file: &str,
    text: &str,
    kind: &str,
    name: ObjectName,
) -> Result<ObjectName, ManifestError> {
    if name.name.is_empty() {
        let message = format!("is missing in a {kind}");
        return Err(missing(file, text, "metadata.name", &message));
    }
    Ok(name)
}

fn missing(file: &str, text: &str, field: &str, message: &str) -> ManifestError {
    let before = text
        .lines()
        .take_while(|line| line.trim().is_empty())
        .count();
    ManifestError {
        file: file.to_owned(),
        line: before as u64 + 1,
        column: 1,
        field: Some(field.to_owned()),
        message: message.to_owned(),
    }
}

/// One document as a type. JSON is YAML.
fn typed<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, ManifestError> {
    let mut field = None;
    let result = serde_saphyr::with_deserializer_from_str(text, |deserializer| {
        serde_path_to_error::deserialize::<_, T>(deserializer).map_err(|error| {
            let path = error.path().to_string();
            field = (path != ".").then_some(path);
            error.into_inner()
        })
    });
    result.map_err(|error| {
        let location = error.location();
        let message = error.without_snippet().to_string();
        ManifestError {
            file: file.to_owned(),
            line: location.map_or(0, |location| location.line()),
            column: location.map_or(0, |location| location.column()),
            field,
            message: message.lines().next().unwrap_or_default().to_owned(),
        }
    })
}
