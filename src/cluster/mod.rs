//! Kubernetes in.

pub mod event;
pub use event::{Event, Kind};
