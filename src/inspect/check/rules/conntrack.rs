//! The tables of connections: conntrack's and IPVS's.

use super::counted;
use crate::inspect::check::Verdict;
use crate::inspect::check::facts::Facts;

const COUNT: &str = "net.netfilter.nf_conntrack_count";
const MAX: &str = "net.netfilter.nf_conntrack_max";
const BUCKETS: &str = "net.netfilter.nf_conntrack_buckets";
const ESTABLISHED: &str = "net.netfilter.nf_conntrack_tcp_timeout_established";

pub fn fill(facts: &Facts) -> Verdict {
    let (Some(count), Some(max)) = (facts.number(COUNT), facts.number(MAX)) else {
        return Verdict::ok("conntrack is not at work yet");
    };
    let percent = count.saturating_mul(100) / max.max(1);
    let found = format!("{count} of {max} entries ({percent} %)");
    // 0: as many as there is memory for.
    if max == 0 || percent < 75 {
        return Verdict::ok(found);
    }
    let remedy = format!(
        "`sysctl -w {MAX}={}`, and see who has so many (`conntrack -S`, `conntrack -L`)",
        max.saturating_mul(2)
    );
    if percent < 95 {
        Verdict::warn(found, remedy)
    } else {
        Verdict::fail(
            format!("{found}: new connections are dropped when it is full"),
            remedy,
        )
    }
}

pub fn size(facts: &Facts) -> Verdict {
    let Some(max) = facts.number(MAX).filter(|max| *max > 0) else {
        return Verdict::ok("conntrack is not at work yet, or has no bound");
    };
    // What kube-proxy sets unless told otherwise: --conntrack-max-per-core, --conntrack-min.
    let wanted = (32_768 * facts.processors as u64).max(131_072);
    let buckets = facts.number(BUCKETS).unwrap_or(0);
    if max < wanted {
        return Verdict::warn(
            format!(
                "{max} entries; kube-proxy would have {wanted} with {}",
                counted(facts.processors, "processor")
            ),
            format!("`sysctl -w {MAX}={wanted}`, and in /etc/sysctl.d"),
        );
    }
    if buckets > 0 && max / buckets > 8 {
        return Verdict::warn(
            format!(
                "{max} entries in {buckets} buckets: chains of {} when it is full",
                max / buckets
            ),
            format!("`sysctl -w {BUCKETS}={}`", max / 4),
        );
    }
    Verdict::ok(format!("{max} entries in {buckets} buckets"))
}

pub fn idle_timeouts(facts: &Facts) -> Verdict {
    let ipvs = match &facts.ipvs {
        None => return Verdict::ok("IPVS is not at work"),
        Some(Err(why)) => return Verdict::unread("the timeouts of IPVS", why),
        Some(Ok(ipvs)) => ipvs,
    };
    let Some(conntrack) = facts.number(ESTABLISHED) else {
        return Verdict::ok("conntrack is not at work yet");
    };
    // A day is the longest that the agent sets.
    let wanted = conntrack.min(86_400);
    let tcp = u64::from(ipvs.tcp_timeout);
    if tcp >= wanted {
        return Verdict::ok(format!(
            "IPVS keeps idle TCP connections {tcp} s, conntrack {conntrack} s"
        ));
    }
    Verdict::warn(
        format!(
            "IPVS forgets idle TCP connections after {tcp} s, conntrack after {conntrack} s: in between they are reset"
        ),
        format!(
            "the agent sets it at its start, unless --ipvs-tcp-timeout says otherwise; by hand: `ipvsadm --set {wanted} 0 0`"
        ),
    )
}

pub fn connection_table(facts: &Facts) -> Verdict {
    match &facts.ipvs {
        None => Verdict::ok("IPVS is not at work"),
        Some(Err(why)) => Verdict::unread("the connection table of IPVS", why),
        Some(Ok(ipvs)) => match ipvs.connection_table {
            // From Linux 7.1 on it grows by itself.
            0 => Verdict::ok("sized by the kernel as it fills"),
            small @ 1..4096 => Verdict::warn(
                format!("{small} buckets"),
                "`options ip_vs conn_tab_bits=16` in /etc/modprobe.d, and load the module anew",
            ),
            size => Verdict::ok(format!("{size} buckets")),
        },
    }
}
