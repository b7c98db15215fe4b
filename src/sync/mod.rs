//! The loop: events and time in, plans carried out.
//!
//! * `engine` pure: index, desired state, mirror and scope; says what to do next
//! * `place` pure: where the node stands, and which of its addresses Services answer on
//! * `pace` pure: when the audit, a retry or a look at draining real servers is due
//! * `run` the shell: one thread that owns the engine and the kernel's sockets
//! * `answers` pure: what the other commands are told of it
//! * `programming` pure: how long changes of endpoints take
//! * `alarm` pure: when a person is told that retries do not help
//! * `health` pure: what is well and what is not, by family
//! * `board` what the loop tells metrics and health; `outlets` what it hands on to tasks

mod alarm;
mod answers;
pub mod board;
pub mod engine;
pub mod health;
pub mod outlets;
pub mod pace;
pub mod place;
pub mod programming;
pub mod run;

pub use board::{Board, Pass, Trigger};
pub use engine::Engine;
pub use outlets::Outlets;
pub use run::{Clock, Loop, Memory, Retire, Timing};
