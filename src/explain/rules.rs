//! What Kubernetes asks of a service proxy, in a sentence each, and where it is written.

/// A sentence and its source.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    pub text: &'static str,
    pub see: &'static str,
}

const VIRTUAL_IPS: &str = "https://kubernetes.io/docs/reference/networking/virtual-ips/";

pub const CLIENTS: Rule = Rule {
    text: "a proxy tells pods of its node, processes of its node and everybody else apart",
    see: "KEP-2450 (detect-local-mode)",
};
pub const TUPLE: Rule = Rule {
    text: "a Service answers at its addresses, each with its ports and their protocols, and nowhere else",
    see: VIRTUAL_IPS,
};
pub const NODE_PORT: Rule = Rule {
    text: "NodePorts answer on the node's addresses that are chosen for them, never on loopback or on a \
           Service's address",
    see: "KEP-3866 (NodePort addresses)",
};
pub const HEALTH_CHECK: Rule = Rule {
    text: "the health check port tells load balancers whether the node has endpoints of the Service",
    see: "Service API, spec.healthCheckNodePort",
};
pub const SHADOWED: Rule = Rule {
    text: "somebody else's virtual server is never touched",
    see: "docs/design.md (sets and ownership)",
};
pub const RANGES: Rule = Rule {
    text: "clients outside the ranges get no answer at a load balancer's address, pods and nodes included",
    see: "Service API, spec.loadBalancerSourceRanges",
};
pub const CLUSTER: Rule = Rule {
    text: "policy Cluster: every ready endpoint, narrowed by topology hints alone",
    see: VIRTUAL_IPS,
};
pub const INTERNAL_LOCAL: Rule = Rule {
    text: "internalTrafficPolicy Local: endpoints of this node alone",
    see: "KEP-2086",
};
pub const EXTERNAL_LOCAL: Rule = Rule {
    text: "externalTrafficPolicy Local: clients from elsewhere reach endpoints of this node alone",
    see: VIRTUAL_IPS,
};
pub const SHORT_CIRCUIT: Rule = Rule {
    text: "externalTrafficPolicy is about clients from elsewhere: pods and processes of this node reach \
           every endpoint",
    see: VIRTUAL_IPS,
};
pub const REFUSE: Rule = Rule {
    text: "where no endpoint anywhere is ready, or terminating and serving, clients are told so",
    see: "kube-proxy's iptables mode (REJECT)",
};
pub const DROP: Rule = Rule {
    text: "where there are endpoints and the policy permits none here, clients hear nothing",
    see: VIRTUAL_IPS,
};
pub const EXTERNAL_MASQUERADED: Rule = Rule {
    text: "traffic from outside under policy Cluster is masqueraded, so that answers come back this way",
    see: VIRTUAL_IPS,
};
pub const POD_KEEPS: Rule = Rule {
    text: "pods keep their address towards cluster IPs",
    see: "KEP-2450 (detect-local-mode)",
};
pub const MASQUERADE_OTHERS: Rule = Rule {
    text: "whoever is no pod is masqueraded towards cluster IPs",
    see: "KEP-2450 (detect-local-mode)",
};
pub const MASQUERADE_ALL: Rule = Rule {
    text: "--masquerade-all: all traffic to cluster IPs is masqueraded",
    see: "KubeProxyConfiguration, masqueradeAll",
};
pub const NO_PODS_KNOWN: Rule = Rule {
    text: "where nothing tells pods from others (no --cluster-cidr, no pod CIDRs), nobody is masqueraded \
           towards cluster IPs",
    see: "KEP-2450 (detect-local-mode)",
};
pub const LOCAL_KEEPS: Rule = Rule {
    text: "externalTrafficPolicy Local keeps the client's address",
    see: VIRTUAL_IPS,
};
pub const NODE_MASQUERADED: Rule = Rule {
    text: "a process of the node may be led to another node: masqueraded, so that answers come back to it",
    see: "kube-proxy's iptables mode (src-type LOCAL)",
};
pub const HAIRPIN: Rule = Rule {
    text: "a pod that is led to itself is masqueraded: it would not take its own address for a client's",
    see: "kube-proxy's iptables mode (hairpin)",
};
pub const HANDED_OVER: Rule = Rule {
    text: "what does not leave the node is not masqueraded on leaving it",
    see: "docs/conformance.md",
};
pub const AFFINITY: Rule = Rule {
    text: "sessionAffinity ClientIP: a client stays with its endpoint until it has been idle that long",
    see: VIRTUAL_IPS,
};
