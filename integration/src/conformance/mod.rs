//! What a Service must do, apart from the agent: pure.
//!
//! * `cell` the dimensions of the matrix and the cells that they make
//! * `law` what each cell must give, by a table
//! * `pairwise` a choice of cells for every change
//! * `items` what a Service means, and which stories prove it
//! * `upstream` which story replays which test of Kubernetes
//! * `report` what was proved, for people

pub mod cell;
mod items;
pub mod law;
pub mod pairwise;
pub mod report;
mod upstream;
