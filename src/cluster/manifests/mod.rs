//! Services from files: a directory of manifests in place of an API server.
//!
//! `parse` reads one file, pure; `run` here reads the directory again and again. It asks for the
//! contents once a second instead of for notifications: a ConfigMap's files change by a swap of
//! symbolic links, which a watch on files does not see. Costs one read of the directory; files
//! are read only when name, length or time of change differ.

mod parse;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc::Sender;
use tracing::{error, info, warn};

use super::board::SourceBoard;
use super::event::{Event, Kind};
use crate::model::{EndpointSlice, NodeInfo, ObjectName, ServiceSpec};
pub use parse::{ManifestError, Objects, parse_file};

/// Reads the directory until the receiver of events is gone.
pub async fn run(directory: PathBuf, node_name: String, events: Sender<Event>, board: SourceBoard) {
    let mut files = BTreeMap::new();
    let mut known = Objects::default();
    let mut listed = false;
    while !events.is_closed() {
        // Large files take long to parse; health checks are answered meanwhile.
        let (path, mut held) = (directory.clone(), std::mem::take(&mut files));
        let read = tokio::task::spawn_blocking(move || (scan(&path, &mut held), held));
        let Ok((result, held)) = read.await else {
            error!("reading the manifests panicked");
            return;
        };
        files = held;
        match result {
            Err(error) => {
                let text = format!("cannot read {}: {error}", directory.display());
                board.failed(Kind::Services, &text);
            }
            Ok(changed) => {
                match complaint(&files) {
                    None => board.good(Kind::Services, true),
                    Some(complaint) => board.complains(Kind::Services, &complaint),
                }
                if changed || !listed {
                    let merged = merge(&files);
                    let changes = diff(&known, &merged, &node_name);
                    known = merged;
                    for event in changes {
                        if events.send(event).await.is_err() {
                            return;
                        }
                    }
                }
                // Of a file that was never read nobody knows what it wants served: an earlier run may have
                // programmed it.
                if !listed && files.values().all(|file| file.read_once) {
                    for kind in Kind::ALL {
                        let _ = events.send(Event::Listed(kind)).await;
                    }
                    listed = true;
                }
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

/// One file: what it looked like when it was read, and the last good state of it.
#[derive(Debug, Default)]
struct File {
    seen: Option<(u64, SystemTime)>,
    objects: Objects,
    read_once: bool,
    /// Why it could not be read as it is now.
    problem: Option<String>,
}

/// What is wrong with the files, for the board; it tells of it when it changes.
fn complaint(files: &BTreeMap<PathBuf, File>) -> Option<String> {
    let problems: Vec<&str> = files
        .values()
        .filter_map(|file| file.problem.as_deref())
        .collect();
    let waits = files.values().any(|file| !file.read_once);
    let so = match waits {
        true => "nothing is programmed or removed before every file was read once",
        false => "the last good state stays",
    };
    (!problems.is_empty()).then(|| format!("{}; {so}", problems.join("; ")))
}

/// Reads files that changed. A broken one keeps its last good state.
fn scan(directory: &Path, files: &mut BTreeMap<PathBuf, File>) -> std::io::Result<bool> {
    let mut present = BTreeSet::new();
    let mut changed = false;
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let wanted = path
            .extension()
            .and_then(|extension| extension.to_str())
            .is_some_and(|extension| ["yaml", "yml", "json"].contains(&extension));
        // The target of a link, as in a ConfigMap; one that vanished meanwhile is not there.
        let Ok(metadata) = std::fs::metadata(&path) else {
            continue;
        };
        if !wanted || !metadata.is_file() {
            continue;
        }
        present.insert(path.clone());
        let file = files.entry(path.clone()).or_default();
        let modified = metadata.modified()?;
        let seen = Some((metadata.len(), modified));
        if file.seen == seen {
            continue;
        }
        // One changed a moment ago may change again without a new time: it is read once more.
        file.seen = seen.filter(|_| is_settled(modified));
        // One unreadable file (no UTF-8, no permission) must not keep the others from being read.
        let read = std::fs::read_to_string(&path)
            .map_err(|error| format!("{}: {error}", path.display()))
            .and_then(|text| {
                parse_file(&path.display().to_string(), &text).map_err(|error| error.to_string())
            });
        match read {
            Ok(objects) => {
                file.problem = None;
                file.read_once = true;
                if file.objects != objects {
                    for notice in &objects.notices {
                        warn!(file = %path.display(), notice, "manifest");
                    }
                    info!(file = %path.display(), services = objects.services.len(), slices = objects.slices.len(), "read");
                    file.objects = objects;
                    changed = true;
                }
            }
            Err(problem) => file.problem = Some(problem),
        }
    }
    let before = files.len();
    files.retain(|path, _| present.contains(path));
    Ok(changed || files.len() != before)
}

/// Whether a file's time of change tells it from any later change. Times of one tick of the
/// kernel's clock (at most 10 ms) are the same, and those of network file systems are coarser.
#[expect(clippy::disallowed_methods, reason = "compared with a file's time")]
fn is_settled(modified: SystemTime) -> bool {
    SystemTime::now()
        .duration_since(modified)
        .is_ok_and(|age| age > SETTLED)
}

/// All files as one; of an object that two files have, the first by name wins.
fn merge(files: &BTreeMap<PathBuf, File>) -> Objects {
    let mut all = Objects::default();
    for (path, file) in files {
        let twice = |kind: &str, name: &ObjectName| {
            warn!(file = %path.display(), object = format!("{kind} {name}"), "an earlier file has it too; left out here");
        };
        for (name, spec) in &file.objects.services {
            if all.services.contains_key(name) {
                twice("Service", name);
            } else {
                all.services.insert(name.clone(), spec.clone());
            }
        }
        for (name, slice) in &file.objects.slices {
            if all.slices.contains_key(name) {
                twice("EndpointSlice", name);
            } else {
                all.slices.insert(name.clone(), slice.clone());
            }
        }
        for (name, node) in &file.objects.nodes {
            all.nodes
                .entry(name.clone())
                .or_insert_with(|| node.clone());
        }
    }
    all
}

/// What changed, as the API server would have told it.
fn diff(old: &Objects, new: &Objects, node_name: &str) -> Vec<Event> {
    let mut events = Vec::new();
    changes(&old.services, &new.services, &mut |name,
                                                spec: Option<
        &ServiceSpec,
    >| {
        events.push(match spec {
            Some(spec) => Event::ServiceApplied(name, Box::new(spec.clone())),
            None => Event::ServiceDeleted(name),
        });
    });
    changes(&old.slices, &new.slices, &mut |name,
                                            slice: Option<
        &EndpointSlice,
    >| {
        events.push(match slice {
            Some(slice) => Event::SliceApplied(name, Box::new(slice.clone())),
            None => Event::SliceDeleted(name),
        });
    });
    let node = |objects: &Objects| -> Option<NodeInfo> { objects.nodes.get(node_name).cloned() };
    match (node(old), node(new)) {
        (Some(_), None) => events.push(Event::NodeDeleted),
        (before, Some(info)) if before.as_ref() != Some(&info) => {
            events.push(Event::NodeApplied(Box::new(info)));
        }
        _ => {}
    }
    events
}

fn changes<V: PartialEq>(
    old: &BTreeMap<ObjectName, V>,
    new: &BTreeMap<ObjectName, V>,
    tell: &mut dyn FnMut(ObjectName, Option<&V>),
) {
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        tell(name.clone(), None);
    }
    for (name, value) in new
        .iter()
        .filter(|(name, value)| old.get(*name) != Some(*value))
    {
        tell(name.clone(), Some(value));
    }
}

const POLL: Duration = Duration::from_secs(1);
const SETTLED: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
