//! The side of who asks: one request over the agent's socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens: names and reasons are missing, nothing else.
    #[error("no agent answers at {}: is `ipvs-agent run` at work on this node?", .0.display())]
    NoAgent(PathBuf),
    #[error("{} is root's: run this as root", .0.display())]
    NotPermitted(PathBuf),
    /// The agent's own words.
    #[error("the agent does not answer: {0}")]
    NotNow(String),
    /// Its words to a question that has no answer.
    #[error("{0}")]
    NoSuch(String),
    /// Another version may be at work.
    #[error("the agent's answer is not understood")]
    Unreadable(#[from] serde_json::Error),
    #[error("the agent broke off")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl AskError {
    fn broken(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Broken(error.into())
    }
}

/// Asks the agent at `socket` for `path`, and waits for as long as it may take to read a kernel.
pub fn ask<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T, AskError> {
    ask_within(socket, path, PATIENCE)
}

/// The same with a patience of one's own.
pub fn ask_within<T: DeserializeOwned>(
    socket: &Path,
    path: &str,
    patience: Duration,
) -> Result<T, AskError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(AskError::broken)?;
    let got = runtime.block_on(async { tokio::time::timeout(patience, get(socket, path)).await });
    let (status, body) = got.map_err(|_| {
        let seconds = patience.as_secs();
        AskError::NotNow(format!(
            "it has not for {seconds} s; does it hang? (its log, /livez)"
        ))
    })??;
    let text = || String::from_utf8_lossy(&body).into_owned();
    match status {
        StatusCode::OK => Ok(serde_json::from_slice(&body)?),
        StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST => Err(AskError::NoSuch(text())),
        _ => Err(AskError::NotNow(text())),
    }
}

/// Longer than the agent itself waits for its loop.
const PATIENCE: Duration = Duration::from_secs(35);

async fn get(socket: &Path, path: &str) -> Result<(StatusCode, Bytes), AskError> {
    let stream = UnixStream::connect(socket).await.map_err(|error| {
        let socket = socket.to_owned();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => AskError::NoAgent(socket),
            io::ErrorKind::PermissionDenied => AskError::NotPermitted(socket),
            _ => AskError::broken(error),
        }
    })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(AskError::broken)?;
    tokio::spawn(connection);
    let request = Request::get(path)
        .header("host", "agent")
        .body(Empty::<Bytes>::new())
        .map_err(AskError::broken)?;
    let response = sender
        .send_request(request)
        .await
        .map_err(AskError::broken)?;
    let status = response.status();
    let body = response.into_body().collect().await;
    Ok((status, body.map_err(AskError::broken)?.to_bytes()))
}
