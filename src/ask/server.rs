//! The agent's side: HTTP over a Unix socket that only root may open.
//!
//! An operator may ask it by hand: `curl --unix-socket /run/ipvs-agent/agent.sock http://agent/v1/table`.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::explain::{Asked, Explained, Packet};
use super::{Answer, Ask, CLUSTER_DOMAIN, Question};
use crate::model::ObjectName;

/// A socket that is listened on; its file goes with it.
#[derive(Debug)]
pub struct AskSocket {
    listener: UnixListener,
    file: SocketFile,
}

#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // One that is gone already is what is wanted.
        let _ = fs::remove_file(&self.0);
    }
}

impl AskSocket {
    /// Listens at `path`, in place of an agent that ended without removing it. Its folder is made if it
    /// is not there, for root alone.
    pub fn open(path: &std::path::Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(0o700).create(folder)?;
        }
        if UnixStream::connect(path).is_ok() {
            let text = "another agent answers there";
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        }
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(found) if found.file_type().is_socket() => fs::remove_file(path)?,
            Ok(_) => {
                let text = "a file that is no socket is there";
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
            }
        }
        let listener = UnixListener::bind(path)?;
        let file = SocketFile(path.to_owned());
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        Ok(Self { listener, file })
    }

    /// Answers until shut down.
    pub async fn serve(
        self,
        questions: mpsc::Sender<Question>,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        let Self { listener, file } = self;
        let served = axum::serve(listener, router(questions))
            .with_graceful_shutdown(shutdown.cancelled_owned())
            .await;
        drop(file);
        served
    }
}

fn router(questions: mpsc::Sender<Question>) -> Router {
    Router::new()
        .route("/v1/table", get(table))
        .route("/v1/diff", get(diff))
        .route("/v1/explain/service/{namespace}/{name}", get(service))
        .route("/v1/explain/packet", get(packet))
        .with_state(questions)
}

type Questions = State<mpsc::Sender<Question>>;

async fn table(State(questions): Questions) -> Response {
    respond(&questions, Ask::Table).await
}

async fn diff(State(questions): Questions) -> Response {
    respond(&questions, Ask::Diff).await
}

#[derive(Deserialize)]
struct Names {
    #[serde(rename = "cluster-domain")]
    cluster_domain: Option<String>,
}

async fn service(
    State(questions): Questions,
    Path((namespace, name)): Path<(String, String)>,
    Query(names): Query<Names>,
) -> Response {
    let name = ObjectName::new(&namespace, &name);
    let domain = names
        .cluster_domain
        .unwrap_or_else(|| CLUSTER_DOMAIN.to_owned());
    respond(&questions, Ask::Explain(Asked::Service { name, domain })).await
}

async fn packet(State(questions): Questions, Query(packet): Query<Packet>) -> Response {
    respond(&questions, Ask::Explain(Asked::Packet(packet))).await
}

/// Hands a question on and waits for the loop to have time for it.
async fn respond(questions: &mpsc::Sender<Question>, ask: Ask) -> Response {
    let (reply, answered) = oneshot::channel();
    let question = Question { ask, reply };
    if questions.try_send(question).is_err() {
        return not_now("others are asking already; ask again".to_owned());
    }
    match tokio::time::timeout(PATIENCE, answered).await {
        Ok(Ok(Answer::Table(table))) => Json(table).into_response(),
        Ok(Ok(Answer::Diff(diff))) => Json(diff).into_response(),
        Ok(Ok(Answer::Explained(Explained::Service(service)))) => Json(service).into_response(),
        Ok(Ok(Answer::Explained(Explained::Packet(trace)))) => Json(trace).into_response(),
        Ok(Ok(Answer::Explained(Explained::NoSuch(text)))) => {
            (StatusCode::NOT_FOUND, text).into_response()
        }
        Ok(Ok(Answer::NotNow(why))) => not_now(why),
        Ok(Err(_)) => not_now("the agent ends".to_owned()),
        Err(_) => not_now(format!(
            "the agent has been at work for {} s; see its log",
            PATIENCE.as_secs()
        )),
    }
}

fn not_now(why: String) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
}

/// Longer than a first pass over a large cluster.
const PATIENCE: Duration = Duration::from_secs(30);
