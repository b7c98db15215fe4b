//! What people look at: renderers of kernel state, pure but for the readers.

pub mod check;
pub mod connections;
pub mod diff;
pub mod explain;
pub mod modules;
pub mod plain;
pub mod rules;
pub mod structured;
pub mod table;
pub mod top;
