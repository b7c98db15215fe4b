//! Requests without end, to see whether one fails.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};

use super::probe::{Answer, Transport::Tcp, probe};
use super::wait::eventually;

/// A client for each address, each asking one connection after another. They end with it.
pub struct Load {
    stop: Arc<AtomicBool>,
    good: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Result<Vec<String>>>>,
}

impl Load {
    /// Asks from a pod or node.
    pub fn start(from: &'static str, to: impl IntoIterator<Item = SocketAddr>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let good = Arc::new(AtomicUsize::new(0));
        let clients = to.into_iter().map(|to| {
            let (stop, good) = (stop.clone(), good.clone());
            std::thread::spawn(move || {
                let mut bad = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match probe(from, Tcp, to)? {
                        Answer::From { .. } => _ = good.fetch_add(1, Ordering::Relaxed),
                        other => bad.push(format!("{to}: {other}")),
                    }
                    // Less than all the processor time there is.
                    std::thread::sleep(Duration::from_millis(2));
                }
                Ok(bad)
            })
        });
        Self {
            clients: clients.collect(),
            stop,
            good,
        }
    }

    /// Waits for so many more that succeed.
    pub fn goes_on(&self, requests: usize) -> Result<()> {
        let before = self.good.load(Ordering::Relaxed);
        eventually("requests go on", || {
            let now = self.good.load(Ordering::Relaxed);
            Ok(if now >= before + requests {
                Ok(())
            } else {
                Err(format!("{now} succeeded"))
            })
        })
    }

    /// Ends it; an error if any request failed.
    pub fn end(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let mut bad = Vec::new();
        for client in self.clients.drain(..) {
            bad.extend(client.join().map_err(|_| anyhow!("a client panicked"))??);
        }
        let good = self.good.load(Ordering::Relaxed);
        let all = good + bad.len();
        ensure!(
            bad.is_empty(),
            "{} of {all} requests failed: {bad:?}",
            bad.len()
        );
        Ok(())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
