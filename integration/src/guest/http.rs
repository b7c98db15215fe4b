//! HTTP of the plainest kind: one GET, one answer.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result};

use super::namespace::inside;

/// What a server answered.
#[derive(Debug)]
pub struct Page {
    pub status: u16,
    pub content_type: String,
    /// By name in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

/// Asks from a namespace. Nothing if nobody listens there.
pub fn get(from: &str, server: SocketAddr, path: &str) -> Result<Option<Page>> {
    let asked = inside(from, || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&server, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {server}\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    })?;
    match asked {
        Ok(text) => page(&text)
            .with_context(|| format!("no HTTP: {text:?}"))
            .map(Some),
        // One that closes while it is asked is as good as gone.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| format!("{from} asks http://{server}{path}")),
    }
}

/// Asks over a socket that is a file.
pub fn get_at(socket: &str, path: &str) -> Result<Page> {
    let mut stream = UnixStream::connect(socket).with_context(|| format!("connect to {socket}"))?;
    stream.set_read_timeout(Some(AGENT_LIMIT))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: agent\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    page(&text).with_context(|| format!("no HTTP: {text:?}"))
}

/// The metrics of a node's agent by name and labels; none while it does not listen.
pub fn metrics(node: &str) -> Result<BTreeMap<String, f64>> {
    let server = SocketAddr::from(([127, 0, 0, 1], METRICS_PORT));
    let text = get(node, server, "/metrics")?.map(|page| page.body);
    let text = text.unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    });
    Ok(pairs.collect())
}

/// The sum of a metric over those of its series that have `label`.
pub fn sum(metrics: &BTreeMap<String, f64>, name: &str, label: &str) -> f64 {
    let series = metrics.iter().filter(|(series, _)| {
        let of = series.strip_prefix(name);
        of.is_some_and(|rest| rest.is_empty() || (rest.starts_with('{') && rest.contains(label)))
    });
    series.map(|(_, value)| value).sum()
}

fn page(text: &str) -> Option<Page> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: BTreeMap<_, _> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    Some(Page {
        status,
        content_type: headers.get("content-type").cloned().unwrap_or_default(),
        headers,
        body: body.to_owned(),
    })
}

/// Where the agent's health is asked, at every address of the node.
pub const HEALTH_PORT: u16 = 10256;
/// Where its metrics are, at 127.0.0.1 only.
pub const METRICS_PORT: u16 = 10249;
/// The agent answers between two turns of its loop, and gives up itself.
const AGENT_LIMIT: Duration = Duration::from_secs(60);
const LIMIT: Duration = Duration::from_secs(10);
