//! When a real server that should take no new connections goes.

use std::time::Duration;

use super::observed::ObservedRealServer;
use crate::model::{Moment, Protocol, RealServer};

/// What to do with a real server that serves no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Set its weight to 0, or note that its endpoint is gone now.
    Drain,
    /// Leave it as it is.
    Keep,
    Delete,
}

/// `listed`: what its endpoint is to be, if there is one. Then the pod itself says how long it lives
/// and only idleness ends the drain; once it is gone, `timeout` does too. One that was not ready and
/// then is gone was never told to end: its node is lost, and it goes at once. UDP has no end of a
/// connection to wait for, and an SCTP association moves by itself: both go at once.
pub fn fate(
    protocol: Protocol,
    real: &ObservedRealServer,
    listed: Option<&RealServer>,
    now: Moment,
    timeout: Duration,
) -> Fate {
    if protocol != Protocol::Tcp {
        return Fate::Delete;
    }
    let Some(draining) = real.draining else {
        return Fate::Drain;
    };
    match listed {
        None if draining.unready => return Fate::Delete,
        Some(listed) if listed.unready != draining.unready => return Fate::Drain,
        _ => {}
    }
    if real.weight != 0 || listed.is_some() == draining.gone_since.is_some() {
        return Fate::Drain;
    }
    let idle = draining.connections == Some(0);
    let overdue = draining
        .gone_since
        .is_some_and(|since| now.since(since) >= timeout);
    if idle || overdue {
        Fate::Delete
    } else {
        Fate::Keep
    }
}

/// Item 102 of `docs/checklist.md`.
#[cfg(test)]
mod tests {
    use super::super::observed::Draining;
    use super::*;
    use crate::model::Thresholds;

    const TIMEOUT: Duration = Duration::from_secs(60);
    /// A listed endpoint that terminates.
    const ENDS: RealServer = RealServer {
        weight: 0,
        local: false,
        draining: true,
        unready: false,
    };

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    fn real(weight: u32, draining: Option<Draining>) -> ObservedRealServer {
        ObservedRealServer {
            weight,
            masquerade: true,
            thresholds: Thresholds::default(),
            draining,
            ramps_since: None,
        }
    }

    #[test]
    fn a_serving_one_is_drained_first_even_if_it_looks_idle() {
        assert_eq!(
            fate(Protocol::Tcp, &real(1, None), None, at(0), TIMEOUT),
            Fate::Drain
        );
    }

    #[test]
    fn an_idle_one_goes_and_a_busy_one_stays_until_the_deadline() {
        let gone = |connections| {
            real(
                0,
                Some(Draining {
                    gone_since: Some(at(10)),
                    unready: false,
                    connections: Some(connections),
                }),
            )
        };
        assert_eq!(
            fate(Protocol::Tcp, &gone(0), None, at(11), TIMEOUT),
            Fate::Delete
        );
        assert_eq!(
            fate(Protocol::Tcp, &gone(3), None, at(69), TIMEOUT),
            Fate::Keep
        );
        assert_eq!(
            fate(Protocol::Tcp, &gone(3), None, at(70), TIMEOUT),
            Fate::Delete
        );
    }

    #[test]
    fn connections_not_yet_read_are_not_taken_for_none() {
        let unread = real(
            0,
            Some(Draining {
                gone_since: Some(at(0)),
                unready: false,
                connections: None,
            }),
        );
        assert_eq!(
            fate(Protocol::Tcp, &unread, None, at(1), TIMEOUT),
            Fate::Keep
        );
    }

    #[test]
    fn a_terminating_one_has_no_deadline_until_it_is_gone() {
        let listed = real(
            0,
            Some(Draining {
                gone_since: None,
                unready: false,
                connections: Some(2),
            }),
        );
        assert_eq!(
            fate(Protocol::Tcp, &listed, Some(&ENDS), at(9999), TIMEOUT),
            Fate::Keep
        );
        // Now it leaves the slices: that moment is noted.
        assert_eq!(
            fate(Protocol::Tcp, &listed, None, at(9999), TIMEOUT),
            Fate::Drain
        );
    }

    #[test]
    fn one_that_was_not_ready_and_is_gone_is_lost() {
        let unready = RealServer::unready(false);
        let noted = real(
            0,
            Some(Draining {
                gone_since: None,
                unready: true,
                connections: Some(7),
            }),
        );
        let fate = |listed| fate(Protocol::Tcp, &noted, listed, at(5), TIMEOUT);
        assert_eq!(fate(Some(&unready)), Fate::Keep);
        assert_eq!(fate(None), Fate::Delete);
        // It was told to end after all: from here on it ends as others do.
        assert_eq!(fate(Some(&ENDS)), Fate::Drain);
    }

    #[test]
    fn udp_and_sctp_go_at_once() {
        for protocol in [Protocol::Udp, Protocol::Sctp] {
            assert_eq!(
                fate(protocol, &real(1, None), Some(&ENDS), at(0), TIMEOUT),
                Fate::Delete
            );
        }
    }
}
