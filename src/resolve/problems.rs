//! What of a resolved Service a person must fix.

use std::collections::BTreeSet;

use super::desired::LostClaim;
use super::{ExclusionReason, Finding, Resolved};
use crate::model::{Problem, Reason};

impl Resolved {
    /// Values that were refused or replaced by a default, and endpoints that may not be used.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<_> = self.findings.iter().map(Finding::problem).collect();
        let refused: BTreeSet<_> = self
            .excluded
            .iter()
            .filter(|excluded| excluded.reason == ExclusionReason::RefusedAddress)
            .map(|excluded| (excluded.endpoint, excluded.reason))
            .collect();
        let more = refused.len().saturating_sub(REFUSED_TOLD);
        problems.extend(
            refused
                .into_iter()
                .take(REFUSED_TOLD)
                .map(|(endpoint, reason)| Problem {
                    reason: Reason::RefusedEndpoint,
                    text: format!("endpoint {endpoint}: refused: {reason}"),
                }),
        );
        if more > 0 {
            problems.push(Problem {
                reason: Reason::RefusedEndpoint,
                text: format!("{more} more endpoints are refused for such reasons"),
            });
        }
        problems
    }
}

impl Finding {
    fn problem(&self) -> Problem {
        let reason = match self.field.as_str() {
            "spec.externalIPs" => Reason::RefusedExternalIp,
            "status.loadBalancer.ingress" => Reason::RefusedLoadBalancerIp,
            field if field.starts_with("metadata.annotations") => Reason::InvalidAnnotation,
            field if field.starts_with("endpoint") => Reason::RefusedEndpoint,
            _ => Reason::InvalidField,
        };
        Problem {
            reason,
            text: self.to_string(),
        }
    }
}

impl LostClaim {
    /// What the loser is told.
    pub fn problem(&self) -> Problem {
        let Self { vip, winner } = self;
        Problem {
            reason: Reason::AddressConflict,
            text: format!(
                "{vip} belongs to the older Service {winner}; give one of them another address or port"
            ),
        }
    }
}

/// A slice may list a thousand; a few tell the story.
const REFUSED_TOLD: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ObjectName, Protocol, ServicePortName};
    use crate::resolve::Excluded;

    fn finding(field: &str) -> Finding {
        Finding {
            field: field.to_owned(),
            value: "bad".to_owned(),
            advice: "allowed are good ones".to_owned(),
        }
    }

    fn refused(count: u8) -> Resolved {
        let port = ServicePortName {
            service: ObjectName::new("ns", "web"),
            port: "".into(),
            protocol: Protocol::Tcp,
        };
        let excluded = (1..=count).map(|n| Excluded {
            port: port.clone(),
            policy: None,
            endpoint: format!("127.0.0.{n}:80").parse().unwrap(),
            reason: ExclusionReason::RefusedAddress,
        });
        Resolved {
            excluded: excluded.collect(),
            ..Resolved::default()
        }
    }

    #[test]
    fn the_reason_is_that_of_the_field() {
        let cases = [
            ("spec.externalIPs", "RefusedExternalIP"),
            ("status.loadBalancer.ingress", "RefusedLoadBalancerIP"),
            (
                "metadata.annotations[ipvs-agent.io/scheduler]",
                "InvalidAnnotation",
            ),
            ("spec.loadBalancerSourceRanges", "InvalidField"),
        ];
        for (field, reason) in cases {
            let problem = finding(field).problem();
            assert_eq!(problem.reason.to_string(), reason);
            assert_eq!(
                problem.text,
                format!("{field} \"bad\": allowed are good ones")
            );
        }
    }

    #[test]
    fn few_of_many_refused_endpoints_are_told() {
        assert_eq!(refused(3).problems().len(), 3);
        let told = refused(200).problems();
        assert_eq!(told.len(), 4);
        assert!(told[0].text.contains("127.0.0.1:80"), "{told:?}");
        assert!(told[3].text.starts_with("197 more"), "{told:?}");
    }
}
