//! JSON and YAML of what a command found, each in an envelope that names the schema.

use serde::Serialize;

/// The schema of every JSON and YAML output. A field that goes or changes its meaning raises it; a new one
/// does not.
pub const SCHEMA: &str = "ipvs-agent.io/v1";

#[derive(Serialize)]
struct Envelope<'a, T> {
    version: &'static str,
    #[serde(flatten)]
    content: &'a T,
}

/// Indented JSON with a line's end.
pub fn json<T: Serialize>(content: &T) -> anyhow::Result<String> {
    let version = SCHEMA;
    let mut text = serde_json::to_string_pretty(&Envelope { version, content })?;
    text.push('\n');
    Ok(text)
}

/// The same as YAML.
pub fn yaml<T: Serialize>(content: &T) -> anyhow::Result<String> {
    let version = SCHEMA;
    Ok(serde_saphyr::to_string(&Envelope { version, content })?)
}
