//! What a running agent is asked by the other commands on its node.
//!
//! ```text
//!  ipvs-agent list, top, explain … ── HTTP over a Unix socket ──→ server ── Question ──→ sync::Loop
//!                                  ←───────── JSON ─────────────        ←── Answer ────
//! ```
//! * `table`, `explain` and `Diff` the answers: values with a documented JSON form
//! * `server` the agent's side: a socket that only root may open
//! * `client` the other commands' side
//!
//! The thread that owns the kernel answers between two turns, from what it knows already; only
//! [`Ask::Diff`] reads the kernel.

pub mod client;
pub mod explain;
pub mod server;
pub mod table;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

pub use client::{AskError, ask, ask_within};
pub use table::{EndpointState, NamedRealServer, NamedServer, ServerKey, Table};

use crate::model::Drift;
use explain::{Asked, Explained};

/// Where the agent listens unless told otherwise.
pub const SOCKET: &str = "/run/ipvs-agent/agent.sock";

/// What names of Services end in unless told otherwise.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// What may be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// What every virtual server is for. Costs all virtual servers.
    Table,
    /// What the kernel lacks or has too much of. Reads the whole kernel state, as an audit does.
    Diff,
    /// Why a Service is served as it is, or what becomes of a packet.
    Explain(Asked),
}

/// `GET /v1/diff`: the kernel against what the agent wants.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Diff {
    /// In the order in which an agent would carry them out; empty: there is no drift.
    pub drift: Vec<Drift>,
}

/// What is answered, or why not.
#[derive(Debug)]
pub enum Answer {
    Table(Table),
    Diff(Diff),
    Explained(Explained),
    /// It cannot be told now; the text says why.
    NotNow(String),
}

/// One question on its way to the loop.
#[derive(Debug)]
pub struct Question {
    pub ask: Ask,
    pub reply: oneshot::Sender<Answer>,
}

/// The way to the loop. A few wait at most: who asks more is told to come again.
pub fn channel() -> (mpsc::Sender<Question>, mpsc::Receiver<Question>) {
    mpsc::channel(QUESTIONS_AT_ONCE)
}

const QUESTIONS_AT_ONCE: usize = 16;
