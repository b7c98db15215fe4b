//! What people look at: renderers of kernel state, pure but for the one reader.

pub mod check;
pub mod diff;
pub mod list;
pub mod modules;
pub mod structured;
pub mod top;
