//! `ipvs-agent top`: a live view of virtual servers, their backends and their connections.
//!
//! ```text
//!  kernel ─→ reading ─→ sample (rates) ─┐
//!  agent  ─→ names ─────────────────────┼→ rows ─→ view ─→ terminal
//!  keys   ─→ state ─────────────────────┘
//! ```
//! All of it is pure but for the one reader of the kernel's table: the clock, the keys and the terminal
//! are `commands::top`'s.

mod columns;
pub mod connections;
pub mod names;
pub mod reading;
pub mod rows;
pub mod sample;
pub mod state;
mod units;
pub mod view;

#[cfg(test)]
mod tests;

pub use connections::Connections;
pub use names::Names;
pub use reading::{Reading, Whole};
pub use rows::Data;
pub use sample::Meter;
pub use state::{Column, Effect, Input, State};
pub use view::{Content, View};
