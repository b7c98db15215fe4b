//! The only place that starts processes: `iptables-save` and `iptables-restore`.
//!
//! No shell is involved; rules go in by standard input. Every process has a deadline.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::parse::{ObservedRules, parse};
use super::probe;
use super::ruleset::CHAIN_PREFIX;
use crate::model::Family;

/// The iptables of this node: legacy or nft. Both keep rules of their own, so the agent must use
/// the one that the node's other software uses.
#[derive(Debug)]
pub struct Iptables {
    variant: Variant,
    processes: u64,
    restore_failures: BTreeMap<Family, u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variant {
    /// Whatever `iptables` is linked to.
    Default,
    Legacy,
    Nft,
}

/// A run of iptables that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot run {program}; is iptables installed?")]
    Start {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("{program} did not end within {} s", DEADLINE.as_secs())]
    Deadline { program: String },
    /// `line` is the rule that it refused, if it named one.
    #[error("{program} failed: {message}{}", line.as_ref().map(|l| format!(" (rule: {l})")).unwrap_or_default())]
    Failed {
        program: String,
        message: String,
        line: Option<String>,
    },
}

impl Error {
    /// Whether what was to be written was refused, and not the writing: by a rule, or at the end of a
    /// table, where the kernel does not tell which one.
    pub fn is_about_rules(&self) -> bool {
        matches!(self, Self::Failed { line: Some(_), .. })
    }
}

impl Iptables {
    /// Finds out which variant to use: the one that has our chains from an earlier run, else the one
    /// where kubelet left its hint, else the one with more rules, else the default; legacy, should that be
    /// nft in a kernel that has no such tables.
    pub fn detect() -> Result<Self, Error> {
        let mut this = Self {
            variant: Variant::Default,
            processes: 0,
            restore_failures: BTreeMap::new(),
        };
        let mut has_legacy = false;
        let mut rules = |variant| {
            let program = program(variant, Family::V4, "save");
            this.processes += 1;
            let text = run(&program, &[], "");
            has_legacy |= variant == Variant::Legacy && text.is_ok();
            let ours = format!(":{CHAIN_PREFIX}");
            let text = text.unwrap_or_default();
            (
                text.lines().any(|line| line.starts_with(&ours)),
                text.contains(KUBELET_HINT),
                text.lines().filter(|l| l.starts_with("-A")).count(),
            )
        };
        let (nft, legacy) = (rules(Variant::Nft), rules(Variant::Legacy));
        this.variant = match nft.cmp(&legacy) {
            Ordering::Greater => Variant::Nft,
            Ordering::Less => Variant::Legacy,
            Ordering::Equal => {
                let takes_nft = probe::takes_nft_tables(Family::V4);
                if has_legacy && matches!(takes_nft, Ok(false)) {
                    Variant::Legacy
                } else {
                    Variant::Default
                }
            }
        };
        Ok(this)
    }

    /// Every variant that is installed: rules of ours may be left in any.
    pub fn installed() -> Vec<Self> {
        let variants = [Variant::Nft, Variant::Legacy].into_iter();
        let found: Vec<Self> = variants
            .filter(|variant| run(&program(*variant, Family::V4, "save"), &[], "").is_ok())
            .map(|variant| Self {
                variant,
                processes: 1,
                restore_failures: BTreeMap::new(),
            })
            .collect();
        if found.is_empty() {
            return vec![Self {
                variant: Variant::Default,
                processes: 0,
                restore_failures: BTreeMap::new(),
            }];
        }
        found
    }

    /// `iptables`, `iptables-legacy` or `iptables-nft`.
    pub fn name(&self) -> &'static str {
        prefix(self.variant)
    }

    /// Processes started since the agent's start.
    pub fn processes(&self) -> u64 {
        self.processes
    }

    /// Failed runs of `iptables-restore`.
    pub fn restore_failures(&self) -> &BTreeMap<Family, u64> {
        &self.restore_failures
    }

    /// Our chains of a family. Costs one process that prints all rules of the node.
    pub fn observe(&mut self, family: Family) -> Result<ObservedRules, Error> {
        self.processes += 1;
        Ok(parse(&run(
            &program(self.variant, family, "save"),
            &[],
            "",
        )?))
    }

    /// All rules of a family as each variant prints them, by the name of its program; an error where
    /// it is not installed or refused.
    pub fn dumps() -> Vec<(String, Result<String, Error>)> {
        let variants = [Variant::Nft, Variant::Legacy].into_iter();
        variants
            .flat_map(|variant| Family::ALL.map(|family| program(variant, family, "save")))
            .map(|program| {
                let text = run(&program, &[], "");
                (program.trim_end_matches("-save").to_owned(), text)
            })
            .collect()
    }

    /// Carries out a text of `render::plan`.
    pub fn restore(&mut self, family: Family, text: &str) -> Result<(), Error> {
        self.processes += 1;
        let program = program(self.variant, family, "restore");
        // -w: the lock is shared with everything else that writes rules.
        let result = run(&program, &["--noflush", "-w", "5"], text);
        if result.is_err() {
            *self.restore_failures.entry(family).or_default() += 1;
        }
        result.map(|_| ())
    }
}

fn prefix(variant: Variant) -> &'static str {
    match variant {
        Variant::Default => "iptables",
        Variant::Legacy => "iptables-legacy",
        Variant::Nft => "iptables-nft",
    }
}

fn program(variant: Variant, family: Family, verb: &str) -> String {
    let name = prefix(variant);
    let name = if family == Family::V6 {
        name.replace("iptables", "ip6tables")
    } else {
        name.to_owned()
    };
    format!("{name}-{verb}")
}

fn run(program: &str, args: &[&str], input: &str) -> Result<String, Error> {
    let start = |source| Error::Start {
        program: program.to_owned(),
        source,
    };
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    let stdin = child.stdin.take();
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let (sender, receiver) = mpsc::channel();
    let input = input.to_owned();
    let text = input.clone();
    std::thread::spawn(move || {
        // A program that ends before it has read everything says why on standard error.
        if let Some(mut stdin) = stdin {
            let _ = stdin.write_all(input.as_bytes());
        }
        let _ = sender.send(Child::wait_with_output(child));
    });
    let Ok(output) = receiver.recv_timeout(DEADLINE) else {
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::KILL);
        }
        return Err(Error::Deadline {
            program: program.to_owned(),
        });
    };
    let Output {
        status,
        stdout,
        stderr,
    } = output.map_err(start)?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    let message = String::from_utf8_lossy(&stderr).trim().replace('\n', "; ");
    let line = refused_line(&message).and_then(|number| text.lines().nth(number - 1));
    Err(Error::Failed {
        program: program.to_owned(),
        line: line.map(str::to_owned),
        message,
    })
}

/// The number in `iptables-restore: line 3 failed` or `Error occurred at line: 3`.
fn refused_line(message: &str) -> Option<usize> {
    message.split("line").skip(1).find_map(|after| {
        let digits: String = after
            .trim_start_matches([':', ' '])
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        digits.parse().ok().filter(|number| *number > 0)
    })
}

/// Chain that kubelet makes for exactly this purpose (KEP-3178).
const KUBELET_HINT: &str = "KUBE-IPTABLES-HINT";
const DEADLINE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refused_line_is_found_in_both_variants_words() {
        assert_eq!(refused_line("iptables-restore: line 3 failed"), Some(3));
        assert_eq!(
            refused_line("Error occurred at line: 12; Try `iptables-restore -h'"),
            Some(12)
        );
        assert_eq!(
            refused_line("the node is offline; iptables-restore: line 4 failed"),
            Some(4)
        );
        assert_eq!(
            refused_line("Another app is currently holding the xtables lock"),
            None
        );
    }
}
