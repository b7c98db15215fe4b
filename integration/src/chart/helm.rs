//! A Helm, with folders of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::server::Server;

pub struct Helm {
    program: PathBuf,
    home: PathBuf,
    kubeconfig: PathBuf,
}

/// What a Helm said.
pub struct Said {
    pub succeeded: bool,
    pub out: String,
    pub err: String,
}

impl Helm {
    pub fn new(program: &Path, work: &Path, server: &Server) -> Self {
        Self {
            program: program.to_owned(),
            home: work.join("helm"),
            kubeconfig: server.kubeconfig.clone(),
        }
    }

    /// Runs it, whatever comes of it.
    pub fn say(&self, args: &[&str]) -> Result<Said> {
        let output = Command::new(&self.program)
            .args(args)
            .env("HOME", &self.home)
            .env("KUBECONFIG", &self.kubeconfig)
            .output()
            .with_context(|| format!("cannot run {}", self.program.display()))?;
        Ok(Said {
            succeeded: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs it to success.
    pub fn run(&self, args: &[&str]) -> Result<Said> {
        let said = self.say(args)?;
        if !said.succeeded {
            bail!("helm {}: {}{}", args.join(" "), said.err, said.out);
        }
        Ok(said)
    }

    /// What is rendered with a file of values, hooks and tests included.
    pub fn template(&self, chart: &Path, values: &Path, more: &[&str]) -> Result<String> {
        let (chart, values) = (text(chart)?, text(values)?);
        let args = [
            "template",
            RELEASE,
            chart,
            "--namespace",
            NAMESPACE,
            "--values",
            values,
        ];
        Ok(self.run(&[&args[..], more].concat())?.out)
    }

    /// The same as objects.
    pub fn objects(&self, chart: &Path, values: &Path, more: &[&str]) -> Result<Vec<Value>> {
        objects(&self.template(chart, values, more)?)
    }
}

/// The objects of a rendered text.
pub fn objects(text: &str) -> Result<Vec<Value>> {
    let all: Vec<Value> =
        serde_saphyr::from_multiple(text).context("what was rendered is no YAML")?;
    Ok(all.into_iter().filter(|object| !object.is_null()).collect())
}

/// The one object of a kind and name.
pub fn one<'a>(objects: &'a [Value], kind: &str, name: &str) -> Result<&'a Value> {
    let found = objects
        .iter()
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.with_context(|| format!("no {kind} {name} was rendered"))
}

pub fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is no text")
}

pub const RELEASE: &str = "ipvs-agent";
pub const NAMESPACE: &str = "kube-system";
