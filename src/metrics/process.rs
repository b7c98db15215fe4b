//! Memory, time and files of this process, under the names that Prometheus' own libraries use.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use rustix::process::{Resource, getrlimit};

use super::catalogue::{DescribedCollector, Entry, entry};

/// Reads `/proc/self` when it is asked.
#[derive(Debug)]
pub(super) struct Process {
    /// Seconds since 1970.
    pub(super) started: f64,
}

/// What `/proc/self/stat` tells.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    virtual_bytes: u64,
}

impl DescribedCollector for Process {
    fn entries() -> Vec<Entry> {
        use MetricType::{Counter, Gauge};
        vec![
            entry("process_cpu_seconds", Counter, &[], CPU),
            entry("process_resident_memory_bytes", Gauge, &[], RESIDENT),
            entry("process_virtual_memory_bytes", Gauge, &[], VIRTUAL),
            entry("process_open_fds", Gauge, &[], OPEN),
            entry("process_max_fds", Gauge, &[], MOST_OPEN),
            entry("process_start_time_seconds", Gauge, &[], STARTED),
        ]
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let read = |name| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        if let Some(stat) = stat(&read("stat")) {
            let cpu = ConstCounter::new(stat.cpu_seconds);
            let seconds = Unit::Seconds;
            let help = sentence(CPU);
            let of = MetricType::Counter;
            cpu.encode(encoder.encode_descriptor("process_cpu", &help, Some(&seconds), of)?)?;
            gauge(
                &mut encoder,
                "process_virtual_memory_bytes",
                VIRTUAL,
                stat.virtual_bytes,
            )?;
        }
        if let Some(bytes) = resident(&read("status")) {
            gauge(
                &mut encoder,
                "process_resident_memory_bytes",
                RESIDENT,
                bytes,
            )?;
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            gauge(&mut encoder, "process_open_fds", OPEN, files.count() as u64)?;
        }
        if let Some(most) = getrlimit(Resource::Nofile).current {
            gauge(&mut encoder, "process_max_fds", MOST_OPEN, most)?;
        }
        let started = ConstGauge::new(self.started);
        let (help, unit) = (sentence(STARTED), Unit::Seconds);
        let of = MetricType::Gauge;
        started.encode(encoder.encode_descriptor("process_start_time", &help, Some(&unit), of)?)
    }
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let (name, unit) = match name.strip_suffix("_bytes") {
        Some(rest) => (rest, Some(Unit::Bytes)),
        None => (name, None),
    };
    let (help, of) = (sentence(help), MetricType::Gauge);
    let value = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    value.encode(encoder.encode_descriptor(name, &help, unit.as_ref(), of)?)
}

/// As the registry writes those of the other metrics.
pub(in crate::metrics) fn sentence(help: &str) -> String {
    format!("{help}.")
}

/// The fields after the name, which may hold anything (`proc_pid_stat(5)`).
fn stat(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    let field = |number: usize| fields.get(number - 3)?.trim().parse::<u64>().ok();
    let ticks = field(14)?.checked_add(field(15)?)?;
    Some(Stat {
        cpu_seconds: ticks as f64 / USER_HZ,
        virtual_bytes: field(23)?,
    })
}

/// `VmRSS`, which has kB.
fn resident(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// Of x86-64 and arm64; the kernel's own clock may tick otherwise.
const USER_HZ: f64 = 100.0;

const CPU: &str = "Processor time used, by the program and for it in the kernel";
const RESIDENT: &str = "Memory in use";
const VIRTUAL: &str = "Address space in use";
const OPEN: &str = "Open files";
const MOST_OPEN: &str = "Files that may be open";
const STARTED: &str = "Seconds since 1970 of the start";

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields 14, 15 and 23 of `proc_pid_stat(5)`, behind a name with a bracket and blanks.
    #[test]
    fn the_kernels_numbers_are_found_behind_any_name() {
        let fields: Vec<String> = (4..=52).map(|number| (number * 100).to_string()).collect();
        let text = format!("7 (a) S (b) S {}\n", fields.join(" "));
        let read = stat(&text).unwrap();
        assert_eq!(read.cpu_seconds, 14.0 + 15.0);
        assert_eq!(read.virtual_bytes, 2300);
        assert_eq!(stat("7 (a) S 1 2"), None);
        assert_eq!(resident("VmPeak:\t 9 kB\nVmRSS:\t    12 kB\n"), Some(12288));
        assert_eq!(resident("VmPeak:\t 9 kB\n"), None);
    }
}
