//! What a real server is given.

use crate::model::Thresholds;

/// What a real server takes of new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    pub weight: u32,
    pub thresholds: Thresholds,
    /// The weight goes on growing.
    pub ramps: bool,
}

impl Share {
    /// Nothing, and nothing is limited.
    pub const NONE: Self = Self {
        weight: 0,
        thresholds: Thresholds { upper: 0, lower: 0 },
        ramps: false,
    };
}
