//! Which of our stories replays which of Kubernetes' own end-to-end tests.

use super::report::FULL;

/// The test's name there, and the story's here.
pub const TESTS: &[(&str, &str)] = &[
    (
        "Services should serve a basic endpoint from pods",
        "endpoints",
    ),
    (
        "Services should serve multiport endpoints from pods",
        "multi-port",
    ),
    (
        "Services should preserve source pod IP for traffic thru service cluster IP",
        FULL,
    ),
    (
        "Services should allow pods to hairpin back to themselves through services",
        "hairpin",
    ),
    (
        "Services should work after restarting kube-proxy",
        "restart",
    ),
    (
        "Services should work after restarting apiserver",
        "api-outage",
    ),
    (
        "Services should be able to create a functioning NodePort service",
        "node-port",
    ),
    (
        "Services should release NodePorts on delete",
        "addresses-never",
    ),
    (
        "Services should be possible to connect to a service via ExternalIP when the external IP is not assigned to a node",
        "external-ips",
    ),
    (
        "Services should have session affinity work for service with type clusterIP",
        "affinity",
    ),
    (
        "Services should be able to switch session affinity for service with type clusterIP",
        "affinity",
    ),
    (
        "Services should implement service.kubernetes.io/service-proxy-name",
        "skipped",
    ),
    (
        "Services should implement service.kubernetes.io/headless",
        "skipped",
    ),
    ("Services should be rejected when no endpoints exist", FULL),
    (
        "Services should be rejected for evicted pods (no endpoints exist)",
        FULL,
    ),
    (
        "Services should respect internalTrafficPolicy=Local Pod to Pod",
        FULL,
    ),
    (
        "Services should respect internalTrafficPolicy=Local Pod (hostNetwork: true) to Pod",
        FULL,
    ),
    (
        "Services should respect internalTrafficPolicy=Local Pod and Node, to Pod (hostNetwork: true)",
        FULL,
    ),
    (
        "Services should fallback to terminating endpoints when there are no ready endpoints with internalTrafficPolicy=Cluster",
        FULL,
    ),
    (
        "Services should fallback to local terminating endpoints when there are no ready endpoints with internalTrafficPolicy=Local",
        FULL,
    ),
    (
        "Services should fallback to terminating endpoints when there are no ready endpoints with externallTrafficPolicy=Cluster",
        FULL,
    ),
    (
        "Services should fallback to local terminating endpoints when there are no ready endpoints with externalTrafficPolicy=Local",
        FULL,
    ),
    (
        "Services should serve endpoints on same port and different protocols",
        "udp-sctp",
    ),
    (
        "Networking Granular Checks: Services should function for pod-Service: http, udp, sctp",
        FULL,
    ),
    (
        "Networking Granular Checks: Services should function for node-Service: http, udp",
        FULL,
    ),
    (
        "Networking Granular Checks: Services should function for endpoint-Service: http, udp",
        FULL,
    ),
    (
        "Networking Granular Checks: Services should function for service endpoints using hostNetwork",
        FULL,
    ),
    (
        "Networking Granular Checks: Services should function for client IP based session affinity",
        "affinity",
    ),
    ("Networking should check kube-proxy urls", "health"),
    (
        "Networking should recreate its iptables rules if they are deleted",
        "repair",
    ),
    (
        "Services should fail health check node port if there are only terminating endpoints",
        "health-check",
    ),
    (
        "LoadBalancers ESIPP should only target nodes with endpoints",
        "health-check",
    ),
    (
        "LoadBalancers should only allow access from service loadbalancer source ranges",
        "source-ranges",
    ),
    (
        "Traffic Distribution should route traffic to an endpoint that is close to the client when using PreferClose",
        "topology",
    ),
    (
        "LoadBalancers ESIPP should work for type=LoadBalancer",
        FULL,
    ),
    ("LoadBalancers ESIPP should work for type=NodePort", FULL),
    ("LoadBalancers ESIPP should work from pods", FULL),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios::ALL;

    #[test]
    fn every_story_that_is_named_is_there() {
        for (test, story) in TESTS {
            assert!(
                ALL.iter().any(|known| known.name == *story),
                "{test}: {story}"
            );
        }
    }
}
