//! ipvs-agent.

pub mod cluster;
pub mod model;
