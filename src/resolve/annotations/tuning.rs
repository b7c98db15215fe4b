//! How a Service's real servers take connections: one packet at a time, up to a number, slowly at
//! first.
//!
//! * `ipvs-agent.io/one-packet: "true"` each datagram of a UDP port is balanced anew. For protocols
//!   without answers (syslog, StatsD, NetFlow): IPVS keeps nothing by which it could give an answer the
//!   virtual address back, so one comes from the endpoint's own (measured on Linux 6.1)
//! * `ipvs-agent.io/upper-threshold: "100"` a real server with so many connections gets no more, until
//!   it has fewer than `ipvs-agent.io/lower-threshold` (three quarters of the upper one, if absent)
//! * `ipvs-agent.io/slow-start: 30s` a new endpoint's share grows over that time

use std::time::Duration;

use jiff::SignedDuration;

use super::{Finding, finding, value};
use crate::model::{Protocol, Scheduler, ServiceSpec, Thresholds, Tuning};

const ONE_PACKET: &str = "ipvs-agent.io/one-packet";
const UPPER: &str = "ipvs-agent.io/upper-threshold";
const LOWER: &str = "ipvs-agent.io/lower-threshold";
const SLOW_START: &str = "ipvs-agent.io/slow-start";

/// Schedulers that share connections out by weight, and by no hash of the client.
const RAMPED: [&str; 2] = ["wrr", "wlc"];
/// Longer, and an endpoint might as well not be there.
const LONGEST_START: Duration = Duration::from_secs(3600);

pub(super) fn read(
    spec: &ServiceSpec,
    scheduler: &Scheduler,
    tunable: bool,
    findings: &mut Vec<Finding>,
) -> Tuning {
    if !tunable {
        let wishes = [ONE_PACKET, UPPER, LOWER, SLOW_START].into_iter();
        let wishes = wishes.filter_map(|key| Some((key, spec.annotations.get(key)?)));
        findings.extend(wishes.map(|(key, value)| {
            let advice = "it needs IPVS, which this node does without; load ip_vs to have it";
            finding(key, value, advice.to_owned())
        }));
        return Tuning::default();
    }
    Tuning {
        one_packet: one_packet(spec, findings),
        thresholds: thresholds(spec, findings),
        slow_start: value(spec, SLOW_START, findings, |text| {
            slow_start(text, scheduler)
        }),
    }
}

fn one_packet(spec: &ServiceSpec, findings: &mut Vec<Finding>) -> bool {
    let has_udp = spec.ports.iter().any(|port| port.protocol == Protocol::Udp);
    value(spec, ONE_PACKET, findings, |text| match text {
        "true" if !has_udp => {
            Err("the Service has no UDP port, which alone can have it".to_owned())
        }
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("allowed are true and false; false is used".to_owned()),
    })
    .unwrap_or(false)
}

fn thresholds(spec: &ServiceSpec, findings: &mut Vec<Finding>) -> Thresholds {
    let parse = |text: &str| match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(
            "allowed is a number of connections above 0; there is no limit without it".to_owned(),
        ),
    };
    let upper = value(spec, UPPER, findings, parse);
    let lower = value(spec, LOWER, findings, parse);
    let whole = Thresholds {
        upper: upper.unwrap_or(0),
        lower: lower.unwrap_or(0),
    };
    if whole.lower > whole.upper {
        let text = &spec.annotations[LOWER];
        let advice = format!(
            "it must not be above {UPPER}, which is {}; three quarters of that are used",
            whole.upper
        );
        findings.push(finding(LOWER, text, advice));
        return Thresholds { lower: 0, ..whole };
    }
    whole
}

fn slow_start(text: &str, scheduler: &Scheduler) -> Result<Duration, String> {
    let wanted =
        "allowed is a time such as 30s or 2m, up to 1h; new endpoints start in full without it";
    let duration: SignedDuration = text.parse().map_err(|_| wanted.to_owned())?;
    let duration = Duration::try_from(duration).map_err(|_| wanted.to_owned())?;
    if duration.is_zero() || duration > LONGEST_START {
        return Err(wanted.to_owned());
    }
    if !RAMPED.contains(&scheduler.name.as_str()) {
        return Err(format!(
            "it goes with the schedulers {} only, and this Service has {}",
            RAMPED.join(" and "),
            scheduler.name
        ));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ServicePort;

    /// The tuning of a Service with a UDP port or a TCP one, and the values that were not taken.
    fn read_of(
        protocol: Protocol,
        scheduler: &str,
        annotations: &[(&str, &str)],
    ) -> (Tuning, Vec<String>) {
        let mut spec = ServiceSpec::default();
        spec.ports.push(ServicePort {
            name: "".into(),
            protocol,
            port: 53,
            node_port: 0,
        });
        for (key, value) in annotations {
            spec.annotations.insert((*key).into(), (*value).into());
        }
        let mut findings = Vec::new();
        let tuning = read(&spec, &Scheduler::named(scheduler), true, &mut findings);
        let told = findings.into_iter().map(|finding| finding.value).collect();
        (tuning, told)
    }

    #[test]
    fn good_values_are_taken() {
        let (tuning, told) = read_of(
            Protocol::Udp,
            "wlc",
            &[
                (ONE_PACKET, "true"),
                (UPPER, "100"),
                (LOWER, "80"),
                (SLOW_START, "1m30s"),
            ],
        );
        let expected = Tuning {
            one_packet: true,
            thresholds: Thresholds {
                upper: 100,
                lower: 80,
            },
            slow_start: Some(Duration::from_secs(90)),
        };
        assert_eq!((tuning, told), (expected, Vec::new()));
        assert_eq!(
            read_of(Protocol::Tcp, "rr", &[(ONE_PACKET, "false")]).1,
            [""; 0]
        );
    }

    #[test]
    fn bad_values_are_told_and_the_default_holds() {
        for (scheduler, key, value) in [
            ("rr", ONE_PACKET, "true"),
            ("rr", ONE_PACKET, "yes"),
            ("rr", UPPER, "0"),
            ("rr", UPPER, "-1"),
            ("rr", UPPER, "many"),
            ("rr", LOWER, "5"),
            ("rr", SLOW_START, "30s"),
            ("wrr", SLOW_START, "0s"),
            ("wrr", SLOW_START, "-5s"),
            ("wrr", SLOW_START, "2h"),
            ("wrr", SLOW_START, "soon"),
        ] {
            let (tuning, told) = read_of(Protocol::Tcp, scheduler, &[(key, value)]);
            assert_eq!(
                (tuning, told),
                (Tuning::default(), vec![value.to_owned()]),
                "{key}"
            );
        }
        let (tuning, told) = read_of(Protocol::Tcp, "rr", &[(UPPER, "5"), (LOWER, "6")]);
        assert_eq!((tuning.thresholds.upper, tuning.thresholds.lower), (5, 0));
        assert_eq!(told, ["6"]);
    }
}
