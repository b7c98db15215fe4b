//! Somebody else who has rules, sets and, where there is IPVS, a virtual server on a node.

use anyhow::Result;

use super::sh_in;
use crate::dataplane::Dataplane;

/// What he makes, all of it with his name or one of his addresses.
pub fn enter(dataplane: Dataplane, node: &str) -> Result<()> {
    run(dataplane, node, &ENTER, &ENTER_IPVS)
}

/// He goes with all that is his; an error if something of it is not there any more.
pub fn leave(dataplane: Dataplane, node: &str) -> Result<()> {
    run(dataplane, node, &LEAVE, &LEAVE_IPVS)
}

/// Whether a line that a tool prints is about him.
pub fn is_his(line: &str) -> bool {
    ["THEIRS", "203.0.113.9", "2001:db8::9"]
        .iter()
        .any(|his| line.contains(his))
}

fn run(dataplane: Dataplane, node: &str, lines: &[&str], of_ipvs: &[&str]) -> Result<()> {
    let of_ipvs = of_ipvs.iter().filter(|_| dataplane == Dataplane::Ipvs);
    for line in lines.iter().chain(of_ipvs) {
        sh_in(node, line)?;
    }
    Ok(())
}

const ENTER: [&str; 9] = [
    "ipset create THEIRS hash:ip",
    "ipset add THEIRS 203.0.113.9",
    "iptables -w -A FORWARD -d 203.0.113.9 -j ACCEPT",
    "iptables -w -t nat -N THEIRS",
    "iptables -w -t nat -A THEIRS -m set --match-set THEIRS dst -j ACCEPT",
    "iptables -w -t nat -A PREROUTING -j THEIRS",
    "ip6tables -w -t nat -N THEIRS",
    "ip6tables -w -t nat -A THEIRS -d 2001:db8::9 -j ACCEPT",
    "ip6tables -w -t nat -A PREROUTING -j THEIRS",
];
const LEAVE: [&str; 9] = [
    "iptables -w -D FORWARD -d 203.0.113.9 -j ACCEPT",
    "iptables -w -t nat -D PREROUTING -j THEIRS",
    "iptables -w -t nat -D THEIRS -m set --match-set THEIRS dst -j ACCEPT",
    "iptables -w -t nat -X THEIRS",
    "ip6tables -w -t nat -D PREROUTING -j THEIRS",
    "ip6tables -w -t nat -D THEIRS -d 2001:db8::9 -j ACCEPT",
    "ip6tables -w -t nat -X THEIRS",
    "ipset del THEIRS 203.0.113.9",
    "ipset destroy THEIRS",
];
const ENTER_IPVS: [&str; 2] = [
    "ipvsadm -A -t 203.0.113.9:80 -s wlc",
    "ipvsadm -a -t 203.0.113.9:80 -r 198.51.100.9:80 -m -w 9",
];
const LEAVE_IPVS: [&str; 2] = [
    "ipvsadm -d -t 203.0.113.9:80 -r 198.51.100.9:80",
    "ipvsadm -D -t 203.0.113.9:80",
];
