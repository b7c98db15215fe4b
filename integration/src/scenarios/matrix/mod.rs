//! The conformance matrix: real packets for its cells, and what they prove.
//!
//! * `stage` the Services, and where each cell's packet goes
//! * `ask` the cells that get an answer or a refusal
//! * `silence` the cells that must meet silence
//! * `explained` what `explain` says of each, beside what its packets showed

mod ask;
mod explained;
mod silence;
mod stage;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::Lab;
use crate::conformance::cell::{Cell, ENTRIES, Entry, all};
use crate::conformance::law::{Article, Judgement, Must, Refusal, judge};
use crate::conformance::pairwise::pairwise;
use crate::protocol::Proof;
use stage::Stage;

/// A choice of cells in which any two circumstances meet.
pub fn matrix(lab: &mut Lab) -> Result<()> {
    prove(lab, "matrix", &pairwise(&all()))
}

/// All cells.
pub fn matrix_full(lab: &mut Lab) -> Result<()> {
    prove(lab, "matrix-full", &all())
}

/// A cell under trial.
struct Trial {
    cell: Cell,
    judgement: Judgement,
    /// What came instead; nothing once it gave what it must.
    complaint: Option<String>,
    /// What its packets showed, once they gave what they must.
    showed: Option<Showed>,
}

/// What packets showed, whatever was expected of them.
#[derive(Debug)]
enum Showed {
    /// Who answered, and whom each saw.
    Answers(BTreeMap<String, IpAddr>),
    Refusal,
    Silence,
}

impl Trial {
    fn is_silent(&self) -> bool {
        self.judgement.must == Must::Refuse(Refusal::Drop)
    }
}

fn prove(lab: &mut Lab, story: &str, cells: &[Cell]) -> Result<()> {
    let stage = Stage::set(lab)?;
    let transports = lab.transports();
    let (asked, left_out): (Vec<Cell>, Vec<Cell>) = cells
        .iter()
        .partition(|cell| transports.contains(&cell.transport));
    let mut trials: Vec<Trial> = asked
        .iter()
        .map(|cell| Trial {
            cell: *cell,
            judgement: judge(cell),
            complaint: Some("not asked yet".to_owned()),
            showed: None,
        })
        .collect();
    println!("  {} cells; the Services are there", trials.len());
    for entry in ENTRIES {
        let begun = Instant::now();
        stage.enter_from_outside(entry)?;
        try_entry(&mut trials, entry)?;
        let (node, seconds) = (entry.node(), begun.elapsed().as_secs());
        println!("  those that enter at {node}: {seconds} s");
    }
    report(story, &stage, &trials, &left_out)
}

/// The cells of one entry: those that get an answer or a refusal, until they do, then, with all that
/// settled, those that get neither.
fn try_entry(trials: &mut [Trial], entry: Entry) -> Result<()> {
    let of_entry = |trial: &&mut Trial| trial.cell.entry == entry;
    let (silent, loud): (Vec<&mut Trial>, Vec<&mut Trial>) = trials
        .iter_mut()
        .filter(of_entry)
        .partition(|trial| trial.is_silent());
    until_settled(loud, ask::round)?;
    until_settled(silent, silence::round)?;
    let begun = Instant::now();
    let of_entry = trials.iter_mut().filter(|trial| trial.cell.entry == entry);
    let asked = explained::check(of_entry, entry)?;
    let millis = begun.elapsed().as_millis();
    println!("  explain was asked about {asked} of them: {millis} ms");
    Ok(())
}

/// Rounds over what has not come right yet, for as long as rounds mend something, and for a while after.
fn until_settled(
    trials: Vec<&mut Trial>,
    round: impl Fn(&mut [&mut Trial]) -> Result<()>,
) -> Result<()> {
    let mut open = trials;
    let mut mended = Instant::now();
    let mut rounds_since = 0;
    while !open.is_empty() {
        let before = open.len();
        round(&mut open)?;
        open.retain(|trial| trial.complaint.is_some());
        rounds_since += 1;
        if open.len() < before {
            (mended, rounds_since) = (Instant::now(), 0);
        } else if mended.elapsed() > PATIENCE && rounds_since >= ROUNDS {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Prints what failed and what was proved.
fn report(story: &str, stage: &Stage, trials: &[Trial], left_out: &[Cell]) -> Result<()> {
    let mut proved: BTreeMap<Article, (usize, usize, usize)> = BTreeMap::new();
    let mut failed = 0;
    for trial in trials {
        let (passed, of, _) = proved.entry(trial.judgement.article).or_default();
        *of += 1;
        let Some(came) = &trial.complaint else {
            *passed += 1;
            continue;
        };
        failed += 1;
        println!(
            "  cell {}: must give {} ({}); came: {came}",
            stage.describe(&trial.cell),
            trial.judgement.must,
            trial.judgement.article,
        );
    }
    for cell in left_out {
        proved.entry(judge(cell).article).or_default().2 += 1;
    }
    for (article, (passed, of, left_out)) in proved {
        Proof {
            story: story.to_owned(),
            subject: article.key(),
            passed,
            of,
            left_out,
        }
        .announce();
    }
    println!(
        "  {} of {} cells gave what they must",
        trials.len() - failed,
        trials.len()
    );
    if !left_out.is_empty() {
        println!(
            "  {} cells were left out: they need SCTP, which this kernel has not",
            left_out.len()
        );
    }
    ensure!(
        failed == 0,
        "{failed} of {} cells gave something else",
        trials.len()
    );
    Ok(())
}

/// For how long rounds that mend nothing go on, in time and in number: an agent may be slow.
const PATIENCE: Duration = Duration::from_secs(10);
const ROUNDS: usize = 3;
