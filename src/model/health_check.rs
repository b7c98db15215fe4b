//! What a load balancer in front of the cluster is told of this node: whether a Service has
//! endpoints here (`spec.healthCheckNodePort`).

use std::collections::BTreeMap;

use super::addr::Family;
use super::service::ObjectName;

/// The health check that one Service wants on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// `spec.healthCheckNodePort`.
    pub port: u16,
    /// Ready endpoints on this node, for each family that the Service has: different addresses,
    /// over all its ports.
    pub local_endpoints: BTreeMap<Family, usize>,
}

impl HealthCheck {
    /// What a client of `family` is told: the endpoints that its connections would reach. One that
    /// asks over a family which the Service does not have is told of the other.
    pub fn count(&self, family: Family) -> usize {
        let counts = &self.local_endpoints;
        let other = || counts.values().next();
        counts.get(&family).or_else(other).copied().unwrap_or(0)
    }
}

/// A Service wants another health check than before, or none any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheckChange {
    pub service: ObjectName,
    /// `metadata.uid`.
    pub uid: Box<str>,
    pub check: Option<HealthCheck>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(counts: &[(Family, usize)]) -> HealthCheck {
        HealthCheck {
            port: 30_100,
            local_endpoints: counts.iter().copied().collect(),
        }
    }

    #[test]
    fn each_family_is_told_its_own_endpoints() {
        let check = check(&[(Family::V4, 2), (Family::V6, 0)]);
        assert_eq!(check.count(Family::V4), 2);
        assert_eq!(check.count(Family::V6), 0);
    }

    #[test]
    fn a_family_that_the_service_lacks_is_told_of_the_other() {
        assert_eq!(check(&[(Family::V6, 3)]).count(Family::V4), 3);
        assert_eq!(check(&[]).count(Family::V4), 0);
    }
}
