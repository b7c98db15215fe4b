//! A container of a pod, from the pod's own words and the image's: what is started, with what in its environment, what
//! is mounted where, and what it may.
//!
//! Pure. A pod that asks for what is not known here is an error: a test must not be laxer than a kubelet.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// What a container runtime is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Program and arguments.
    pub command: Vec<String>,
    pub environment: BTreeMap<String, String>,
    pub mounts: Vec<Mount>,
    /// Without `CAP_`. There are no others.
    pub capabilities: Vec<String>,
}

/// Something of the node, or of the API server, at a path of the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub source: Source,
    pub path: String,
    pub read_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Host { path: String, kind: String },
    ConfigMap(String),
}

impl Container {
    /// By its name in a pod's spec, on this node.
    pub fn of(pod: &Value, name: &str, image: &Value, node: &str) -> Result<Self> {
        let all = ["initContainers", "containers"].map(|list| pod[list].as_array());
        let mut all = all.into_iter().flatten().flatten();
        let container = all
            .find(|container| container["name"] == name)
            .with_context(|| format!("the pod has no container {name}"))?;
        ensure!(pod["hostNetwork"] == true, "not on the host's network");
        Ok(Self {
            command: command(container, &image["config"])?,
            environment: environment(container, &image["config"], node)?,
            mounts: mounts(container, pod)?,
            capabilities: capabilities(&container["securityContext"])?,
        })
    }

    /// The same with other arguments, as `kubectl exec` starts it.
    pub fn with(&self, args: &[&str]) -> Self {
        let program = self.command.iter().take(1).cloned();
        let args = args.iter().map(|arg| (*arg).to_owned());
        Self {
            command: program.chain(args).collect(),
            ..self.clone()
        }
    }
}

/// A pod's `command` replaces the image's entrypoint, and with that its `Cmd`; its `args` replace `Cmd`.
fn command(container: &Value, image: &Value) -> Result<Vec<String>> {
    let entrypoint = match texts(&container["command"])? {
        none if none.is_empty() => texts(&image["Entrypoint"])?,
        own => return Ok([own, texts(&container["args"])?].concat()),
    };
    let args = match texts(&container["args"])? {
        none if none.is_empty() => texts(&image["Cmd"])?,
        own => own,
    };
    Ok([entrypoint, args].concat())
}

fn environment(container: &Value, image: &Value, node: &str) -> Result<BTreeMap<String, String>> {
    let mut environment = BTreeMap::new();
    for pair in texts(&image["Env"])? {
        let (name, value) = pair.split_once('=').context("no = in Env")?;
        environment.insert(name.to_owned(), value.to_owned());
    }
    for variable in container["env"].as_array().into_iter().flatten() {
        let name = variable["name"]
            .as_str()
            .context("a variable without name")?;
        let field = &variable["valueFrom"]["fieldRef"]["fieldPath"];
        let value = match (variable["value"].as_str(), field.as_str()) {
            (Some(value), None) => value,
            (None, Some("spec.nodeName")) => node,
            _ => bail!("a variable of an unknown kind: {variable}"),
        };
        environment.insert(name.to_owned(), value.to_owned());
    }
    Ok(environment)
}

fn mounts(container: &Value, pod: &Value) -> Result<Vec<Mount>> {
    let volumes = pod["volumes"].as_array().map_or(&[][..], Vec::as_slice);
    let mounts = container["volumeMounts"].as_array().into_iter().flatten();
    mounts
        .map(|mount| {
            let volume = volumes
                .iter()
                .find(|volume| volume["name"] == mount["name"])
                .with_context(|| format!("no volume for {mount}"))?;
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let host = &volume["hostPath"];
            let source = match (text(&host["path"]), text(&volume["configMap"]["name"])) {
                (Some(path), None) => Source::Host {
                    path,
                    kind: text(&host["type"]).unwrap_or_default(),
                },
                (None, Some(name)) => Source::ConfigMap(name),
                _ => bail!("a volume of an unknown kind: {volume}"),
            };
            Ok(Mount {
                source,
                path: text(&mount["mountPath"]).context("no mountPath")?,
                read_only: mount["readOnly"] == true,
            })
        })
        .collect()
}

/// What is left, if the context is as strict as the runtime here makes it.
fn capabilities(context: &Value) -> Result<Vec<String>> {
    let strict = context["privileged"] != true
        && context["allowPrivilegeEscalation"] == false
        && context["readOnlyRootFilesystem"] == true
        && context["runAsUser"] == 0
        && texts(&context["capabilities"]["drop"])? == ["ALL"];
    ensure!(strict, "another security context than expected: {context}");
    texts(&context["capabilities"]["add"])
}

fn texts(value: &Value) -> Result<Vec<String>> {
    let items = value.as_array().into_iter().flatten();
    items
        .map(|item| Ok(item.as_str().context("not a text")?.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Value {
        json!({
            "hostNetwork": true,
            "containers": [{
                "name": "agent", "command": ["ipvs-agent"], "args": ["run", "--x"],
                "env": [{ "name": "NODE", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } }],
                "securityContext": {
                    "privileged": false, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                    "runAsUser": 0, "capabilities": { "drop": ["ALL"], "add": ["NET_ADMIN"] },
                },
                "volumeMounts": [{ "name": "run", "mountPath": "/run/x" }, { "name": "c", "mountPath": "/etc/x", "readOnly": true }],
            }],
            "volumes": [
                { "name": "run", "hostPath": { "path": "/run/y", "type": "DirectoryOrCreate" } },
                { "name": "c", "configMap": { "name": "config" } },
            ],
        })
    }

    fn image() -> Value {
        json!({ "config": { "Env": ["PATH=/bin"], "Entrypoint": ["ipvs-agent"], "Cmd": ["help"] } })
    }

    #[test]
    fn a_container_is_what_the_pod_says() {
        let container = Container::of(&pod(), "agent", &image(), "n1").unwrap();
        assert_eq!(container.command, ["ipvs-agent", "run", "--x"]);
        assert_eq!(container.with(&["check"]).command, ["ipvs-agent", "check"]);
        let environment = [("NODE", "n1"), ("PATH", "/bin")];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(container.environment, environment.into());
        assert_eq!(container.capabilities, ["NET_ADMIN"]);
        let host = Source::Host {
            path: "/run/y".to_owned(),
            kind: "DirectoryOrCreate".to_owned(),
        };
        assert_eq!(container.mounts[0].source, host);
        assert!(!container.mounts[0].read_only && container.mounts[1].read_only);
    }

    #[test]
    fn without_a_command_the_images_own_is_started() {
        let mut pod = pod();
        pod["containers"][0]["command"] = Value::Null;
        let command = |pod: &Value| Container::of(pod, "agent", &image(), "n1").unwrap().command;
        assert_eq!(command(&pod), ["ipvs-agent", "run", "--x"]);
        pod["containers"][0]["args"] = Value::Null;
        assert_eq!(command(&pod), ["ipvs-agent", "help"]);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let refused = |path: &str, value: Value| {
            let mut pod = pod();
            *pod.pointer_mut(path).unwrap() = value;
            Container::of(&pod, "agent", &image(), "n1")
                .unwrap_err()
                .to_string()
        };
        let context = "/containers/0/securityContext";
        assert!(refused(&format!("{context}/privileged"), json!(true)).contains("security"));
        assert!(refused(&format!("{context}/capabilities/drop"), json!([])).contains("security"));
        assert!(
            refused("/volumes/0", json!({ "name": "run", "emptyDir": {} })).contains("unknown")
        );
        assert!(refused("/volumes/1/name", json!("other")).contains("no volume"));
        assert!(refused("/hostNetwork", json!(false)).contains("network"));
    }
}
