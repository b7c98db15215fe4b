//! One manifest file: YAML or JSON, many documents, lists. Pure.

use std::collections::BTreeMap;

use kube::Resource;
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
        read(&document, &mut found).map_err(|fault| fault.in_file(file, document.before))?;
    }
    Ok(found)
}

/// A document and the number of lines before it in its file.
struct Document {
    before: u64,
    text: String,
}

impl Document {
    /// The line, from 1, of the first that says something.
    fn first_line(&self) -> u64 {
        let empty = self.text.lines().take_while(|line| !says_something(line));
        empty.count() as u64 + 1
    }
}

fn says_something(line: &str) -> bool {
    !line.trim().is_empty() && !line.trim_start().starts_with('#')
}

fn documents(text: &str) -> Vec<Document> {
    let mut documents = vec![Document {
        before: 0,
        text: String::new(),
    }];
    for (number, line) in (1..).zip(text.lines()) {
        if line == "---" || line.starts_with("--- ") {
            documents.push(Document {
                before: number,
                text: String::new(),
            });
        } else if let Some(document) = documents.last_mut() {
            document.text.push_str(line);
            document.text.push('\n');
        }
    }
    documents.retain(|document| document.text.lines().any(says_something));
    documents
}

/// What is wrong in a document, at a line of it.
struct Fault {
    line: u64,
    column: u64,
    field: Option<String>,
    message: String,
}

impl Fault {
    fn missing(line: u64, field: &str, message: &str) -> Self {
        Self {
            line,
            column: 1,
            field: Some(field.to_owned()),
            message: message.to_owned(),
        }
    }

    /// An item of a list has lost its lines: the list's own line and the item's number tell.
    fn of_item(self, number: usize, line: u64) -> Self {
        let item = format!("items[{number}]");
        Self {
            line,
            column: 1,
            field: Some(match self.field {
                Some(field) => format!("{item}.{field}"),
                None => item,
            }),
            ..self
        }
    }

    fn in_file(self, file: &str, lines_before: u64) -> ManifestError {
        ManifestError {
            file: file.to_owned(),
            line: lines_before + self.line,
            column: self.column,
            field: self.field,
            message: self.message,
        }
    }
}

fn read(document: &Document, found: &mut Objects) -> Result<(), Fault> {
    let text = document.text.as_str();
    let header: Header = typed(text)?;
    let mut problems: Vec<Problem> = Vec::new();
    match header.kind.as_deref() {
        Some("Service") => {
            let object: objects::Service = typed(text)?;
            let name = named(document, "Service", convert::object_name(&object))?;
            let converted = convert::service(&object);
            problems = converted.problems;
            found.services.insert(name, converted.value.1);
        }
        Some("EndpointSlice") => {
            let object: objects::EndpointSlice = typed(text)?;
            let name = named(document, "EndpointSlice", convert::object_name(&object))?;
            if is_headless(&object) {
                found.notices.push(headless("EndpointSlice", &name));
                return Ok(());
            }
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
            let object: objects::Endpoints = typed(text)?;
            let name = named(document, "Endpoints", convert::object_name(&object))?;
            if is_headless(&object) {
                found.notices.push(headless("Endpoints", &name));
                return Ok(());
            }
            let converted = convert::endpoints(&object);
            problems = converted.problems;
            found.slices.extend(converted.value);
        }
        Some("Node") => {
            let object: objects::Node = typed(text)?;
            named(document, "Node", convert::object_name(&object))?;
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
            let list: List = typed(text)?;
            let line = document.first_line();
            for (number, item) in list.items.into_iter().enumerate() {
                let item = Document {
                    before: 0,
                    text: item.to_string(),
                };
                read(&item, found).map_err(|fault| fault.of_item(number, line))?;
            }
        }
        Some(other) => found.notices.push(format!(
            "a {other} is left out: known are Service, EndpointSlice, Endpoints, Node and List"
        )),
        None => return Err(Fault::missing(document.first_line(), "kind", "is missing")),
    }
    found
        .notices
        .extend(problems.iter().map(Problem::to_string));
    Ok(())
}

/// What the watch of slices asks the API server to leave out.
fn is_headless(object: &impl Resource) -> bool {
    let labels = object.meta().labels.as_ref();
    labels.is_some_and(|labels| labels.contains_key(objects::HEADLESS_LABEL))
}

fn headless(kind: &str, name: &ObjectName) -> String {
    let label = objects::HEADLESS_LABEL;
    format!("{kind} {name}: left out: it has the label {label}")
}

fn named(document: &Document, kind: &str, name: ObjectName) -> Result<ObjectName, Fault> {
    if name.name.is_empty() {
        let message = format!("is missing in a {kind}");
        return Err(Fault::missing(
            document.first_line(),
            "metadata.name",
            &message,
        ));
    }
    Ok(name)
}

/// One document as a type. JSON is YAML.
fn typed<T: DeserializeOwned>(text: &str) -> Result<T, Fault> {
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
        Fault {
            line: location.map_or(1, |location| location.line()),
            column: location.map_or(1, |location| location.column()),
            field,
            message: message.lines().next().unwrap_or_default().to_owned(),
        }
    })
}
