//! A stream of connections: one after another, each a new one, from several places at once, and what came of each.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::guest::http;
use crate::guest::namespace::inside;

/// From a network namespace to an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    pub from: String,
    pub to: SocketAddr,
}

/// What came of a line's connections.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Record {
    /// Answers by who gave them.
    pub answers: BTreeMap<String, usize>,
    /// When, since the stream began, and how.
    pub failures: Vec<(Duration, String)>,
}

type Records = Arc<Mutex<BTreeMap<Line, Record>>>;

/// Goes on until dropped.
pub struct Stream {
    records: Records,
    stopped: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    /// What `sent_again` was where its connections are from.
    again: BTreeMap<String, u64>,
}

impl Stream {
    pub fn start(lines: Vec<Line>) -> Result<Self> {
        let again = lines
            .iter()
            .map(|line| Ok((line.from.clone(), sent_again(&line.from)?)));
        let again = again.collect::<Result<_>>()?;
        let records = Records::default();
        let stopped = Arc::new(AtomicBool::new(false));
        let began = Instant::now();
        let thread = |line: Line| {
            let (records, stopped) = (Arc::clone(&records), Arc::clone(&stopped));
            std::thread::spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    let came = ask(&line);
                    let mut records = records.lock().unwrap_or_else(PoisonError::into_inner);
                    let record = records.entry(line.clone()).or_default();
                    match came {
                        Ok(name) => *record.answers.entry(name).or_default() += 1,
                        Err(failure) => record.failures.push((began.elapsed(), failure)),
                    }
                    drop(records);
                    std::thread::sleep(PAUSE);
                }
            })
        };
        let threads = lines.into_iter().map(thread).collect();
        Ok(Self {
            records,
            stopped,
            threads,
            again,
        })
    }

    /// How many first packets of connections were sent again since it began, for nothing came back within a second.
    pub fn sent_again(&self) -> Result<u64> {
        let since = |(from, before): (&String, &u64)| Ok(sent_again(from)? - before);
        self.again.iter().map(since).sum()
    }

    pub fn records(&self) -> BTreeMap<Line, Record> {
        self.records
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// An error if a connection failed between two moments of a stream.
pub fn demand_none_failed(
    before: &BTreeMap<Line, Record>,
    after: &BTreeMap<Line, Record>,
) -> Result<()> {
    let mut failures = Vec::new();
    for (line, record) in after {
        let earlier = before.get(line).map_or(0, |record| record.failures.len());
        for (at, failure) in &record.failures[earlier..] {
            let Line { from, to } = line;
            let at = at.as_millis();
            failures.push(format!("{from} to {to} after {at} ms: {failure}"));
        }
    }
    let shown: Vec<&str> = failures.iter().take(SHOWN).map(String::as_str).collect();
    ensure!(
        failures.is_empty(),
        "{} connections failed: {}",
        failures.len(),
        shown.join("; ")
    );
    Ok(())
}

/// What the connections between two moments of a stream came to: an error if one failed, if a line had none, or if not
/// every server answered. Gives how many there were.
pub fn judge(
    before: &BTreeMap<Line, Record>,
    after: &BTreeMap<Line, Record>,
    servers: &[String],
) -> Result<usize> {
    demand_none_failed(before, after)?;
    let mut total = 0;
    let mut complaints = Vec::new();
    for (line, record) in after {
        let nothing = Record::default();
        let earlier = before.get(line).unwrap_or(&nothing);
        let new = |name: &String| {
            record.answers.get(name).unwrap_or(&0) - earlier.answers.get(name).unwrap_or(&0)
        };
        let who = format!("{} to {}", line.from, line.to);
        for name in record.answers.keys().filter(|name| !servers.contains(name)) {
            complaints.push(format!("{who}: answered by {name:?}"));
        }
        for server in servers.iter().filter(|server| new(server) == 0) {
            complaints.push(format!("{who}: never answered by {server}"));
        }
        total += servers.iter().map(new).sum::<usize>();
    }
    ensure!(!after.is_empty(), "no connection was tried");
    ensure!(complaints.is_empty(), "{}", complaints.join("; "));
    Ok(total)
}

/// How many first packets of connections were sent again from a network namespace, ever.
fn sent_again(namespace: &str) -> Result<u64> {
    let text = inside(namespace, || {
        std::fs::read_to_string("/proc/thread-self/net/netstat")
    })??;
    counter(&text, "TcpExt:", "TCPSynRetrans").context("the kernel does not count them")
}

/// A counter of a text with lines in pairs, names above numbers.
fn counter(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with(group));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let place = names.split(' ').position(|word| word == name)?;
    numbers.split(' ').nth(place)?.parse().ok()
}

/// One connection, and the name that its server gave.
fn ask(line: &Line) -> Result<String, String> {
    match http::get(&line.from, line.to, "/name") {
        Ok(Some(page)) if page.status == 200 => Ok(page.body.trim().to_owned()),
        Ok(Some(page)) => Err(format!("status {}", page.status)),
        Ok(None) => Err("refused".to_owned()),
        Err(error) => Err(format!("{error:#}")),
    }
}

const PAUSE: Duration = Duration::from_millis(10);
/// How many complaints are shown.
const SHOWN: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    fn records(answers: &[(&str, usize)], failures: usize) -> BTreeMap<Line, Record> {
        let line = Line {
            from: "p".to_owned(),
            to: SocketAddr::from(([10, 96, 1, 1], 80)),
        };
        let answers = answers.iter().map(|(name, n)| ((*name).to_owned(), *n));
        let failures = vec![(Duration::ZERO, "refused".to_owned()); failures];
        let record = Record {
            answers: answers.collect(),
            failures,
        };
        BTreeMap::from([(line, record)])
    }

    fn judged(before: &BTreeMap<Line, Record>, after: &BTreeMap<Line, Record>) -> Option<usize> {
        judge(before, after, &["a".to_owned(), "b".to_owned()]).ok()
    }

    #[test]
    fn only_what_came_between_counts() {
        let first = records(&[("a", 3), ("b", 2)], 1);
        let second = records(&[("a", 4), ("b", 5)], 1);
        assert_eq!(judged(&first, &second), Some(4));
        assert_eq!(judged(&BTreeMap::new(), &second), None, "a failure");
        let failed = records(&[("a", 9), ("b", 9)], 2);
        assert_eq!(judged(&second, &failed), None, "a failure");
    }

    #[test]
    fn a_counter_is_below_its_name() {
        let text =
            "TcpExt: SyncookiesSent TCPSynRetrans\nTcpExt: 0 7\nIpExt: InNoRoutes\nIpExt: 1\n";
        assert_eq!(counter(text, "TcpExt:", "TCPSynRetrans"), Some(7));
        assert_eq!(counter(text, "TcpExt:", "InNoRoutes"), None);
    }

    #[test]
    fn silence_and_strangers_are_no_success() {
        let first = records(&[("a", 3), ("b", 2)], 0);
        assert_eq!(judged(&first, &first), None, "nothing came");
        assert_eq!(judged(&first, &records(&[("a", 9), ("b", 2)], 0)), None);
        assert_eq!(
            judged(&first, &records(&[("a", 9), ("b", 9), ("c", 1)], 0)),
            None
        );
        assert_eq!(judged(&BTreeMap::new(), &BTreeMap::new()), None);
    }
}
