//! Kubernetes and manifests in: sources, and the index of what they told.
//!
//! * `objects` API objects, slim; `convert` (pure) makes model values of them
//! * `connect`, `watch` the API server, `requests` how many it is asked; `manifests` a directory of files
//! * `track` (pure) what a watch saw, as events
//! * `event` what both tell; `index` (pure) what has been told
//! * `board` how the sources are doing

pub mod board;
pub mod connect;
pub mod convert;
pub mod event;
pub mod index;
pub mod manifests;
pub mod objects;
pub mod requests;
pub mod track;
pub mod watch;

pub use board::SourceBoard;
pub use connect::ApiAccess;
pub use event::{Event, Kind};
pub use index::Index;

#[cfg(test)]
mod tests;
