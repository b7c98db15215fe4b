//! Work inside a network namespace, without starting a process.

use std::fs::File;

use anyhow::{Context, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Runs `work` on a thread of its own in the namespace. Sockets opened there stay there.
pub fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> Result<T> {
    let path = format!("/run/netns/{namespace}");
    let file = File::open(&path).with_context(|| format!("no namespace {namespace}"))?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || -> Result<T> {
            use std::os::fd::AsFd;
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(work())
        });
        thread
            .join()
            .map_err(|_| anyhow!("the thread in {namespace} panicked"))?
    })
}
