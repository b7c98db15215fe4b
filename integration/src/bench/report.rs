//! The tables, as `docs/performance.md` has them.

use std::fmt::Write;
use std::fs;
use std::time::Duration;

use anyhow::Result;

use super::measure::{CHANGE_LIMIT, CHANGES, Connect, Cost, Measured, SYNC_LIMIT};
use super::packets::Latency;
use super::peer::{Mode, Peer, Proxy};
use crate::guest::kernel::release;
use crate::guest::sh;

/// Where it was measured.
#[derive(Debug)]
pub struct Machine {
    kernel: String,
    processors: usize,
    tools: String,
    load_before: String,
}

impl Machine {
    pub fn read() -> Result<Self> {
        let tools = [sh("iptables-legacy --version")?, sh("nft --version")?];
        Ok(Self {
            kernel: release()?,
            processors: std::thread::available_parallelism()?.get(),
            tools: tools.map(|tool| two_words(&tool)).join(", "),
            load_before: load_average()?,
        })
    }
}

/// Name and version.
fn two_words(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().take(2).collect();
    words.join(" ")
}

/// Of the last minute, five and fifteen.
pub fn load_average() -> Result<String> {
    let text = fs::read_to_string("/proc/loadavg")?;
    let three: Vec<&str> = text.split_whitespace().take(3).collect();
    Ok(three.join(", "))
}

/// One peer at one number of Services; or why it could not be measured.
#[derive(Debug)]
pub struct Row {
    pub services: usize,
    pub peer: Peer,
    pub outcome: Result<Measured, String>,
}

impl Row {
    /// As the table has it.
    pub fn line(&self) -> String {
        let start = format!("{:>8}  {:<27}", self.services, self.peer.name());
        match &self.outcome {
            Err(error) => format!("{start}  failed: {error}"),
            Ok(measured) => {
                let [sync, sync_cpu] = cost(measured.first_sync, SYNC_LIMIT);
                let [change, change_cpu] = match measured.first_sync {
                    Some(_) => cost(measured.change, CHANGE_LIMIT),
                    None => ["-", "-"].map(str::to_owned),
                };
                let mut line =
                    format!("{start}  {sync:>10} {sync_cpu:>9}  {change:>10} {change_cpu:>9}");
                match measured.connect {
                    Some(connect) => line.push_str(&connects(connect)),
                    None => line.push_str("        -"),
                }
                line
            }
        }
    }
}

fn connects(connect: Connect) -> String {
    let mut text = String::new();
    for of in connect.service {
        let _ = write!(text, "  {:>7} {:>7}", micros(of.median), micros(of.p99));
    }
    let _ = write!(text, "  {:>7}", micros(connect.straight.median));
    let lost: usize = connect.service.iter().map(|of| of.lost).sum();
    if lost + connect.straight.lost > 0 {
        let _ = write!(text, "  lost: {lost} + {}", connect.straight.lost);
    }
    text
}

fn cost(cost: Option<Cost>, limit: Duration) -> [String; 2] {
    match cost {
        Some(Cost { wall, cpu }) => [millis(wall), millis(cpu)],
        None => [format!("> {} s", limit.as_secs()), "-".to_owned()],
    }
}

fn millis(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1e3;
    let digits = usize::from(millis < 100.0);
    format!("{millis:.digits$}")
}

fn micros(time: Duration) -> String {
    format!("{:.0}", time.as_secs_f64() * 1e6)
}

/// All that one run measured.
#[derive(Debug)]
pub struct Report {
    pub machine: Machine,
    /// Without a proxy.
    pub straight: Latency,
    pub rows: Vec<Row>,
    pub load_after: String,
}

impl Report {
    pub fn render(&self) -> String {
        let mut text = INTRODUCTION.replace("{CHANGES}", &CHANGES.to_string());
        let Machine {
            kernel,
            processors,
            tools,
            load_before,
        } = &self.machine;
        let _ = write!(
            text,
            "\nLinux {kernel}, {processors} processors, {tools}; load average {load_before} before and \
             {}\nafter. Straight to an endpoint, without a proxy, a connection takes {} µs (99th percentile {} µs).\n",
            self.load_after,
            micros(self.straight.median),
            micros(self.straight.p99)
        );
        let _ = write!(text, "\n```\n{HEAD}");
        let mut services = 0;
        for row in &self.rows {
            if row.services != services {
                text.push('\n');
                services = row.services;
            }
            let _ = writeln!(text, "{}", row.line());
        }
        let _ = write!(text, "```\n\n## Ratios\n\n```\n{}```\n", self.ratios());
        text
    }

    /// How connections grow with the table, and what the others' changes cost in the agent's.
    fn ratios(&self) -> String {
        let mut text = String::new();
        let (Some(few), Some(many)) = (self.rows.first(), self.rows.last()) else {
            return text;
        };
        let (few, many) = (few.services, many.services);
        let _ = writeln!(
            text,
            "first packet (median) at {many} Services over that at {few}      first    last"
        );
        for peer in Peer::ALL {
            let connect = |services| Some(self.of(services, peer)?.connect?.service);
            let ratios = connect(many).zip(connect(few)).map(|(many, few)| {
                [0, 1].map(|end| many[end].median.as_secs_f64() / few[end].median.as_secs_f64())
            });
            let ratios = ratios.map(|both| both.map(|ratio| format!("{ratio:.2}")));
            let [first, last] = ratios.unwrap_or_else(|| ["-", "-"].map(str::to_owned));
            let _ = writeln!(text, "  {:<27} {first:>34} {last:>7}", peer.name());
        }
        let _ = writeln!(
            text,
            "\nprocessor time of one change at {many} Services, kube-proxy's over ipvs-agent's"
        );
        for mode in [Mode::Legacy, Mode::Nft] {
            let agent = Peer::of(Proxy::Agent, mode);
            for theirs in [Mode::Legacy, Mode::Nft, Mode::Nftables] {
                let other = Peer::of(Proxy::KubeProxy, theirs);
                let cpu = |peer| Some(self.of(many, peer)?.change?.cpu.as_secs_f64());
                let ratio = match (cpu(other), cpu(agent)) {
                    (Some(other), Some(agent)) if agent > 0.0 => format!("{:.1}", other / agent),
                    _ => "-".to_owned(),
                };
                let names = format!("{} / {}", other.name(), agent.name());
                let _ = writeln!(text, "  {names:<60} {ratio:>9}");
            }
        }
        text
    }

    fn of(&self, services: usize, peer: Peer) -> Option<&Measured> {
        let is_it = |row: &&Row| row.services == services && row.peer == peer;
        self.rows.iter().find(is_it)?.outcome.as_ref().ok()
    }
}

const INTRODUCTION: &str = "\
# Performance of the iptables dataplane

Made by `make bench`: ipvs-agent and kube-proxy 1.36 (Kubernetes v1.36.3) in one run on one machine's own kernel, each
on a node of its own that nothing else has programmed. Services have ten endpoints each, all of which answer; they
come from a real kube-apiserver.

* **first sync**: from the start of the process until a sample of 50 Services answers a client pod, the last one
  among them, and the processor time that the process and its children have used once they rest.
* **one change**: a slice's tenth endpoint is replaced by another. The time is from before the write to the API
  server until a new connection of the client is answered by the new endpoint (median of {CHANGES}; the search takes
  some milliseconds of that: one answer of ten is the new endpoint's). The processor time is that of the process and
  its children over all {CHANGES}, the rest after them included, divided by their number; it is known to 10 ms
  in all.
* **first packet**: the time of a TCP connect of the client pod, of which the first packet's way through the rules is
  the part that differs: 2,000 connections to the first and 2,000 to the last Service that a packet meets in the
  table, in turns (for kube-proxy's iptables mode by the order of its rules in the kernel; by number otherwise),
  and between them as many straight to an address that no Service has, which shows how busy the machine was. The word lost counts those that did
  not come about within two seconds, to Services and straight.

The agent runs with `--audit-interval 1h`, kube-proxy with `--iptables-sync-period 1h`, so that no periodic work falls
into the measurement; what else bears on it is by default.
";

const HEAD: &str = concat!(
    "                                        first sync (ms)       one change (ms)   first packet (µs)\n",
    "                                                                                 to the first     to the last  straight\n",
    "Services  peer                               time       cpu        time       cpu   median     p99   median     p99   median\n",
);

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let latency = |micros| Latency {
            median: Duration::from_micros(micros),
            p99: Duration::from_micros(2 * micros),
            lost: 0,
        };
        let cost = |millis| Cost {
            wall: Duration::from_millis(2 * millis),
            cpu: Duration::from_millis(millis),
        };
        let row = |services, proxy, micros, change| Row {
            services,
            peer: Peer::of(proxy, Mode::Nft),
            outcome: Ok(Measured {
                first_sync: Some(cost(500)),
                connect: Some(Connect {
                    service: [latency(micros), latency(2 * micros)],
                    straight: latency(20),
                }),
                change,
            }),
        };
        Report {
            machine: Machine {
                kernel: "6.1".to_owned(),
                processors: 2,
                tools: "iptables v1".to_owned(),
                load_before: "0, 0, 0".to_owned(),
            },
            straight: latency(20),
            rows: vec![
                row(100, Proxy::Agent, 40, Some(cost(2))),
                row(100, Proxy::KubeProxy, 40, Some(cost(9))),
                row(5000, Proxy::Agent, 42, Some(cost(4))),
                row(5000, Proxy::KubeProxy, 400, Some(cost(900))),
            ],
            load_after: "1, 1, 1".to_owned(),
        }
    }

    #[test]
    fn columns_stand_below_their_heads() {
        let report = report();
        let widths = HEAD.lines().last().map(|line| line.chars().count());
        for row in &report.rows {
            assert_eq!(Some(row.line().chars().count()), widths, "{}", row.line());
        }
    }

    #[test]
    fn ratios_are_of_the_most_and_the_fewest_services() {
        let ratios = report().ratios();
        let line = |begin: &str| {
            let line = ratios.lines().find(|line| line.trim().starts_with(begin));
            line.map(|line| line.split_whitespace().rev().take(2).collect::<Vec<_>>())
        };
        assert_eq!(line("ipvs-agent, iptables-nft"), Some(vec!["1.05", "1.05"]));
        assert_eq!(
            line("kube-proxy, iptables-nft  "),
            Some(vec!["10.00", "10.00"])
        );
        let change = line("kube-proxy, iptables-nft / ipvs-agent, iptables-nft");
        assert_eq!(
            change.and_then(|words| words.first().copied()),
            Some("225.0")
        );
        let unknown = line("kube-proxy, iptables-legacy /");
        assert_eq!(unknown.and_then(|words| words.first().copied()), Some("-"));
    }

    #[test]
    fn what_took_too_long_and_what_failed_say_so() {
        let mut row = report().rows.remove(0);
        row.outcome = Ok(Measured::default());
        assert!(row.line().contains("> 90 s"));
        row.outcome = Err("it ended by itself".to_owned());
        assert!(row.line().ends_with("failed: it ended by itself"));
    }
}
