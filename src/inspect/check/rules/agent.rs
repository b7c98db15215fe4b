//! The agent itself: what it may do, who it asks, whether it is at work.

use super::some;
use crate::inspect::check::Verdict;
use crate::inspect::check::facts::{ApiServer, Facts, NET_ADMIN, NET_RAW};

/// The names of the processes that this program runs as.
const AGENT: &str = "ipvs-agent";

pub fn capabilities(facts: &Facts) -> Verdict {
    let have = match &facts.capabilities {
        Ok(have) => *have,
        Err(why) => return Verdict::unread("the capabilities", why),
    };
    let missing: Vec<&str> = [("CAP_NET_ADMIN", NET_ADMIN), ("CAP_NET_RAW", NET_RAW)]
        .into_iter()
        .filter(|(_, bit)| have & (1 << bit) == 0)
        .map(|(name, _)| name)
        .collect();
    if missing.is_empty() {
        return Verdict::ok("CAP_NET_ADMIN and CAP_NET_RAW");
    }
    Verdict::warn(
        format!(
            "{} missing here: some of what follows cannot be read",
            some(&missing)
        ),
        "run it as root; the agent itself needs both (securityContext.capabilities.add: NET_ADMIN, NET_RAW)",
    )
}

pub fn api_server(facts: &Facts) -> Verdict {
    let servers = match &facts.api_servers {
        None => return Verdict::ok("not asked: no --kubeconfig or --apiserver was given"),
        Some(Err(why)) => {
            return Verdict::fail(
                format!("it is not known where the API server is: {why}"),
                "give --kubeconfig or --apiserver as to `ipvs-agent run`",
            );
        }
        Some(Ok(servers)) => servers,
    };
    let is_vip = |server: &ApiServer| {
        let inside = |addr| {
            facts
                .wanted
                .service_cidrs
                .iter()
                .any(|cidr| cidr.contains(addr))
        };
        let balanced = |addr| match &facts.ipvs {
            Some(Ok(ipvs)) => ipvs
                .servers
                .iter()
                .any(|virtual_server| virtual_server.addr == Some(addr)),
            _ => false,
        };
        let addresses = server.addresses.iter();
        server.cluster_ip
            || addresses
                .into_iter()
                .any(|addr| inside(addr) || balanced(*addr))
    };
    if let Some(server) = servers.iter().find(|server| is_vip(server)) {
        return Verdict::fail(
            format!(
                "{} is a Service's address, which the agent must program before it can reach it",
                server.name
            ),
            "give the API server's own addresses by --apiserver",
        );
    }
    let reached: Vec<&str> = servers
        .iter()
        .filter(|server| server.reached.is_ok())
        .map(|server| server.name.as_str())
        .collect();
    let unreached: Vec<String> = servers
        .iter()
        .filter_map(|server| {
            Some(format!(
                "{}: {}",
                server.name,
                server.reached.as_ref().err()?
            ))
        })
        .collect();
    let remedy = "see that it runs, that a firewall lets this node through, and that --apiserver says where it is";
    match (reached.is_empty(), unreached.is_empty()) {
        (false, true) => Verdict::ok(format!("{} accepts connections", some(&reached))),
        (false, false) => Verdict::warn(
            format!(
                "{} accepts connections; {}",
                some(&reached),
                some(&unreached)
            ),
            remedy,
        ),
        (true, _) => Verdict::fail(format!("no connection to {}", some(&unreached)), remedy),
    }
}

pub fn ports(facts: &Facts) -> Verdict {
    if let Err(why) = &facts.listeners {
        return Verdict::unread("the listeners", why);
    }
    let ports = [
        ("--health-address", facts.wanted.health_port),
        ("--metrics-address", facts.wanted.metrics_port),
    ];
    for (flag, port) in ports {
        match facts.listens_at(port) {
            None | Some(Some(AGENT)) => {}
            Some(None) if answers_as_agent(facts) => {}
            Some(who) => {
                return Verdict::fail(
                    format!(
                        "port {port} is taken by {}",
                        who.unwrap_or("a process that cannot be seen from here")
                    ),
                    format!("stop it, or give the agent another {flag}"),
                );
            }
        }
    }
    Verdict::ok(format!(
        "{} and {} are free or the agent's",
        ports[0].1, ports[1].1
    ))
}

/// By what it says at its health port, where its process cannot be seen.
fn answers_as_agent(facts: &Facts) -> bool {
    let seen = facts
        .processes
        .as_ref()
        .is_ok_and(|processes| processes.iter().any(|process| process.name == AGENT));
    seen && matches!(&facts.health, Some(Ok(_)))
}

pub fn agent(facts: &Facts) -> Verdict {
    let at_port = facts.listens_at(facts.wanted.health_port);
    let theirs = !matches!(at_port, None | Some(None | Some(AGENT)));
    let left = facts.saved().any(|(_, saved)| saved.has_ours());
    let none = || {
        if left {
            Verdict::warn(
                "none runs here, and its rules are there: the node serves what it knew then",
                "start it, or `ipvs-agent cleanup`",
            )
        } else {
            Verdict::ok("none runs here")
        }
    };
    if theirs {
        return none();
    }
    match &facts.health {
        None => none(),
        Some(Err(why)) => Verdict::fail(
            format!("port {} does not answer: {why}", facts.wanted.health_port),
            "see the agent's log",
        ),
        Some(Ok(health)) if health.status == 200 => Verdict::ok("one runs here, and is well"),
        Some(Ok(health)) => Verdict::fail(
            format!("/healthz says {}: {}", health.status, reason(&health.body)),
            "see the agent's log, and its metrics at --metrics-address",
        ),
    }
}

/// What the body says is wrong, or its beginning.
fn reason(body: &str) -> String {
    let parsed: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let reason = parsed.and_then(|body| Some(body.get("reason")?.as_str()?.to_owned()));
    reason.unwrap_or_else(|| body.chars().take(120).collect())
}
