//! Stories shared among guests that run side by side. Each guest has a network and a control plane of its
//! own and takes the next story that none has taken: by making a directory of its name, which on the one
//! file system that all of them see succeeds once.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::console::Console;
use super::control_plane::ControlPlane;
use super::follow::Listener;
use super::guest::{Boot, IPVS_MODULES};
use super::network::{self, LabNetwork};
use super::signals::Signals;
use super::{Platform, Work, boot_and_follow, record, sibling, this_program};
use crate::dataplane::Dataplane;
use crate::protocol::{Proof, Verdict};
use crate::scenarios::{ALL, Scenario};

/// Which stories a run is to be about.
pub struct Wanted {
    /// These and none other; or, without a name, all that are not on demand.
    pub names: Vec<String>,
    /// Of all, those too which a quicker kernel is asked.
    pub whole: bool,
}

/// Runs the stories that are wanted, in so many guests.
pub fn run(platform: Platform, guests: Option<usize>, wanted: &Wanted) -> Result<()> {
    let signals = Signals::watch()?;
    let work = Work::new()?;
    let has_sctp = platform.has_sctp();
    let Choice {
        stories,
        left_out,
        elsewhere,
    } = choose(wanted, platform, has_sctp)?;
    for story in &left_out {
        println!("left out: {}, for this kernel has no SCTP", story.name);
    }
    if elsewhere > 0 {
        println!("{elsewhere} stories are left to a quicker kernel; --whole runs them here too");
    }
    let guests = guests.unwrap_or_else(|| platform.kernel.guests());
    let guests = guests.clamp(1, stories.len().max(1));
    let shared = Shared {
        platform,
        guests,
        has_sctp,
        queue: work.path.join("taken"),
        names: stories.iter().map(|story| story.name).collect(),
        signals: &signals,
        limit: limit(&stories, wanted.whole),
    };
    fs::create_dir_all(&shared.queue)?;
    let ends: Vec<End> = std::thread::scope(|scope| {
        let shared = &shared;
        let work = &work.path;
        let threads: Vec<_> = (1..=guests)
            .map(|number| {
                let console = if guests > 1 {
                    Console::held()
                } else {
                    Console::live()
                };
                scope.spawn(move || shared.guest(number, &work.join(number.to_string()), console))
            })
            .collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, End>| {
            thread.join().unwrap_or_else(|_| End {
                proofs: Vec::new(),
                verdict: Err(anyhow!("its thread panicked")),
            })
        };
        threads.into_iter().map(join).collect()
    });
    let (mut proofs, mut deaths) = (Vec::new(), Vec::new());
    for (number, end) in (1..).zip(ends) {
        proofs.extend(end.proofs);
        if let Err(error) = end.verdict {
            deaths.push(format!("guest {number}: {error:#}"));
        }
    }
    let tally = tally(&shared.names, &proofs, deaths.len());
    // What failed counts too.
    proofs.extend(left_out.iter().map(|story| Proof {
        story: story.name.to_owned(),
        subject: Proof::STORY.to_owned(),
        passed: 0,
        of: 0,
        left_out: 1,
    }));
    record::keep(platform, proofs)?;
    signals.check()?;
    for death in deaths {
        eprintln!("{death}");
    }
    if !tally.unfinished.is_empty() {
        eprintln!("no guest ended: {}", tally.unfinished.join(", "));
    }
    let Verdict { passed, failed } = tally.verdict;
    if failed > 0 || passed == 0 {
        bail!("{passed} passed, {failed} failed");
    }
    println!("{passed} passed, 0 failed");
    Ok(())
}

/// What the guests of one run have in common.
struct Shared<'a> {
    platform: Platform,
    has_sctp: bool,
    /// Where a guest makes a directory for the story that it takes.
    queue: PathBuf,
    names: Vec<&'static str>,
    guests: usize,
    signals: &'a Signals,
    limit: Duration,
}

/// How a guest ended.
struct End {
    proofs: Vec<Proof>,
    verdict: Result<Verdict>,
}

impl Shared<'_> {
    /// One guest from its boot to its end, in a directory of its own.
    fn guest(&self, number: usize, work: &Path, console: Console) -> End {
        let mut proofs = Vec::new();
        let verdict = self.follow(number, work, console, &mut proofs);
        End { proofs, verdict }
    }

    fn follow(
        &self,
        number: usize,
        work: &Path,
        console: Console,
        proofs: &mut Vec<Proof>,
    ) -> Result<Verdict> {
        fs::create_dir_all(work)?;
        let Platform { kernel, dataplane } = self.platform;
        let network = LabNetwork::of(kernel, number)?;
        let mut control_plane = ControlPlane::start(&network, work)?;
        let command = format!(
            "{} guest --agent {} --dataplane {} {} --api https://{}:6443 --authority {} --queue {} {}",
            this_program()?.display(),
            sibling("ipvs-agent")?.display(),
            dataplane.name(),
            if self.has_sctp { "" } else { "--without-sctp" },
            network::HOST_ADDRESS,
            control_plane.authority().display(),
            self.queue.display(),
            self.names.join(" ")
        );
        let boot = Boot {
            hidden: match dataplane {
                Dataplane::Ipvs => &[],
                Dataplane::Iptables => &IPVS_MODULES,
            },
            ..Boot::new(kernel, &network, work, &command)
        };
        let boot = || boot.guest();
        let mut listener = Listener {
            console,
            control_plane: Some(&mut control_plane),
            proofs: Vec::new(),
            queue: (self.guests == 1).then_some(&*self.queue),
        };
        let verdict = boot_and_follow(boot, &mut listener, self.signals, self.limit);
        proofs.append(&mut listener.proofs);
        verdict.context("it did not end its stories")
    }
}

/// What a run is about.
struct Choice {
    stories: Vec<&'static Scenario>,
    /// What it would be about too, but for a kernel without SCTP.
    left_out: Vec<&'static Scenario>,
    /// How many are another kernel's.
    elsewhere: usize,
}

/// The stories that are named; or all but those on demand, those that are about the other dataplane, and on
/// an emulated kernel those that a quicker one is asked.
/// To name one that cannot be run is an error.
fn choose(wanted: &Wanted, platform: Platform, has_sctp: bool) -> Result<Choice> {
    let Wanted { names, whole } = wanted;
    let dataplane = platform.dataplane;
    let is_named = |story: &Scenario| names.iter().any(|name| name == story.name);
    let mut choice = Choice {
        stories: Vec::new(),
        left_out: Vec::new(),
        elsewhere: 0,
    };
    for story in ALL {
        let is_of_dataplane = story.dataplanes.contains(&dataplane);
        let can_be_held = has_sctp || !story.sctp;
        if is_named(story) {
            ensure!(
                is_of_dataplane,
                "{} is not about {}",
                story.name,
                dataplane.name()
            );
            ensure!(
                can_be_held,
                "{} needs SCTP, which this kernel has not",
                story.name
            );
        } else if !names.is_empty() || story.on_demand || !is_of_dataplane {
            continue;
        } else if story.once && !whole && platform.kernel.is_emulated() {
            choice.elsewhere += 1;
            continue;
        }
        if can_be_held {
            choice.stories.push(story);
        } else {
            choice.left_out.push(story);
        }
    }
    Ok(choice)
}

/// What runs only when named, or wanted, may be long.
fn limit(stories: &[&Scenario], whole: bool) -> Duration {
    if whole || stories.iter().any(|story| story.on_demand) {
        LONG_LIMIT
    } else {
        super::RUN_LIMIT
    }
}

/// What all guests together came to.
#[derive(Debug, PartialEq, Eq)]
struct Tally<'a> {
    verdict: Verdict,
    /// Stories of which no guest told the end.
    unfinished: Vec<&'a str>,
}

/// A story counts by its own proof. One without is a failure, and so is a guest that died after its last.
fn tally<'a>(names: &[&'a str], proofs: &[Proof], deaths: usize) -> Tally<'a> {
    let of_stories = || proofs.iter().filter(|proof| proof.subject == Proof::STORY);
    let ended: BTreeSet<&str> = of_stories().map(|proof| proof.story.as_str()).collect();
    let unfinished: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| !ended.contains(name))
        .collect();
    let passed = of_stories()
        .filter(|proof| proof.passed == proof.of)
        .count();
    let failed = of_stories().count() - passed + unfinished.len();
    let failed = if failed == 0 { deaths } else { failed };
    Tally {
        verdict: Verdict { passed, failed },
        unfinished,
    }
}

const LONG_LIMIT: Duration = Duration::from_secs(5400);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::kernel::Kernel;

    const NATIVE: Platform = Platform {
        kernel: Kernel::NativeNft,
        dataplane: Dataplane::Iptables,
    };

    fn story(name: &str, passed: usize) -> Proof {
        Proof {
            story: name.to_owned(),
            subject: Proof::STORY.to_owned(),
            passed,
            of: 1,
            left_out: 0,
        }
    }

    #[test]
    fn what_a_kernel_cannot_hold_is_left_out_by_name_and_cannot_be_asked_for() {
        let names_of = |stories: &[&Scenario]| Vec::from_iter(stories.iter().map(|s| s.name));
        let ask = |names: &[&str]| choose(&wanted(names, false), NATIVE, false);
        let all = ask(&[]).unwrap();
        assert_eq!(names_of(&all.left_out), ["udp-sctp"]);
        let names = names_of(&all.stories);
        assert!(names.contains(&"lab-network") && !names.contains(&"lab-selftest"));
        assert!(ask(&["hairpin"]).is_ok_and(|choice| names_of(&choice.stories) == ["hairpin"]));
        assert!(ask(&["udp-sctp"]).is_err() && ask(&["lab-selftest"]).is_err());
    }

    fn wanted(names: &[&str], whole: bool) -> Wanted {
        Wanted {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            whole,
        }
    }

    #[test]
    fn what_is_alike_everywhere_is_not_asked_of_an_emulated_kernel() {
        let of = |kernel, names: &[&str], whole| {
            let choice = choose(&wanted(names, whole), Platform::new(kernel, None), true).unwrap();
            let once = choice.stories.iter().filter(|story| story.once).count();
            (once, choice.elsewhere, choice.stories.len())
        };
        let (once, elsewhere, all) = of(Kernel::Uml, &[], false);
        assert!(once > 10 && elsewhere == 0);
        assert_eq!(of(Kernel::Qemu, &[], false), (0, once, all - once));
        assert_eq!(of(Kernel::Qemu, &[], true), (once, 0, all));
        assert_eq!(of(Kernel::Qemu, &["health"], false), (1, 0, 1));
    }

    fn verdict(names: &[&str], proofs: &[Proof], deaths: usize) -> (usize, usize) {
        let Verdict { passed, failed } = tally(names, proofs, deaths).verdict;
        (passed, failed)
    }

    #[test]
    fn what_no_guest_ended_is_named_and_has_failed() {
        let proofs = [story("a", 1), story("b", 0)];
        let tally = tally(&["a", "b", "c", "d"], &proofs, 1);
        assert_eq!(tally.unfinished, ["c", "d"]);
        let Verdict { passed, failed } = tally.verdict;
        assert_eq!((passed, failed), (1, 3));
    }

    #[test]
    fn cells_are_no_stories_and_a_late_death_is_a_failure() {
        let mut cells = story("a", 0);
        cells.subject = "1 Local Served".to_owned();
        assert_eq!(verdict(&["a"], &[cells, story("a", 1)], 0), (1, 0));
        assert_eq!(verdict(&["a"], &[story("a", 1)], 1), (1, 1));
    }
}
