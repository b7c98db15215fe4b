//! How long IPVS keeps connections on which nothing moves.
//!
//! IPVS forgets an idle TCP connection after 15 minutes, conntrack after days: a client that is silent
//! for longer loses a connection that both ends hold for good. By default IPVS keeps them as long as
//! conntrack does. Like sysctls, timeouts are not set back.

use ipvs_sys::Timeouts;

use super::settings::{TcpTimeout, TimeoutSettings};
use super::step::Step;

/// Longer is of no use: kube-proxy has conntrack forget after a day too.
const LONGEST: u32 = 86_400;

/// The step that sets them, if they differ. `conntrack`: seconds for which it keeps an established
/// connection.
pub fn plan(wanted: TimeoutSettings, have: Timeouts, conntrack: Option<u32>) -> Option<Step> {
    let tcp = match wanted.tcp {
        TcpTimeout::AsConntrack => conntrack.map(|seconds| seconds.min(LONGEST)),
        TcpTimeout::Seconds(seconds) => Some(seconds),
        TcpTimeout::Keep => None,
    };
    let wanted = Timeouts {
        tcp: tcp.unwrap_or(have.tcp),
        tcp_fin: wanted.tcp_fin.unwrap_or(have.tcp_fin),
        udp: wanted.udp.unwrap_or(have.udp),
    };
    (wanted != have).then_some(Step::SetTimeouts(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: Timeouts = Timeouts {
        tcp: 900,
        tcp_fin: 120,
        udp: 300,
    };

    fn planned(wanted: TimeoutSettings, conntrack: Option<u32>) -> Option<(u32, u32, u32)> {
        match plan(wanted, KERNEL, conntrack)? {
            Step::SetTimeouts(Timeouts { tcp, tcp_fin, udp }) => Some((tcp, tcp_fin, udp)),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn idle_connections_live_as_long_as_in_conntrack_up_to_a_day() {
        let default = TimeoutSettings::default();
        assert_eq!(planned(default, Some(432_000)), Some((86_400, 120, 300)));
        assert_eq!(planned(default, Some(3_600)), Some((3_600, 120, 300)));
        assert_eq!(planned(default, Some(900)), None);
        assert_eq!(planned(default, None), None);
    }

    #[test]
    fn what_is_asked_for_is_set_and_the_rest_kept() {
        let wanted = TimeoutSettings {
            tcp: TcpTimeout::Keep,
            tcp_fin: Some(30),
            udp: None,
        };
        assert_eq!(planned(wanted, Some(432_000)), Some((900, 30, 300)));
        let wanted = TimeoutSettings {
            tcp: TcpTimeout::Seconds(7_200),
            tcp_fin: None,
            udp: Some(10),
        };
        assert_eq!(planned(wanted, Some(432_000)), Some((7_200, 120, 10)));
    }
}
