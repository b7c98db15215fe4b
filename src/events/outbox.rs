//! What is worth an Event, and when it may go. Pure: time is an argument.
//!
//! A problem waits a moment before it is told, since many are gone again by then; how long depends
//! on the node, so that the agents of a large cluster do not all come at once. A bucket of tokens
//! bounds how many go out, and `limits` how many of them are one object's.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::limits::{Bucket, Limits};
use crate::model::{Moment, Notice, ObjectName, Problem, Topic};

/// One problem of one Service, to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) service: ObjectName,
    pub(super) uid: Box<str>,
    pub(super) problem: Problem,
}

/// Whether a notice has been taken whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    Whole,
    /// What waits already is too much; so many will not be told.
    Full(usize),
}

/// A report whose time has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Popped {
    Due(Report),
    /// Of an object that had too many for that reason.
    LeftOut(Report),
}

/// What is known, what waits, and what has gone out.
pub(super) struct Outbox {
    delay: Duration,
    known: BTreeMap<(ObjectName, Topic), (Box<str>, BTreeSet<Problem>)>,
    /// In the order in which they came, each with the moment from which it may go.
    queue: VecDeque<(Moment, Topic, Report)>,
    bucket: Bucket,
    limits: Limits,
    /// Events that this agent has made: how often the problem has been met, and when last.
    made: BTreeMap<String, (i32, Moment)>,
}

impl Outbox {
    /// Knows nothing yet. `seed` differs between nodes.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            delay: LEAST_DELAY + Duration::from_millis(seed % SPREAD_MILLIS),
            known: BTreeMap::new(),
            queue: VecDeque::new(),
            bucket: Bucket::new(BURST, REFILL),
            limits: Limits::default(),
            made: BTreeMap::new(),
        }
    }

    /// Takes in all that is wrong with a Service now. What is new will be told; what is gone and
    /// has not been told yet will not.
    pub(super) fn take(&mut self, notice: Notice, now: Moment) -> Taken {
        let Notice {
            service,
            uid,
            topic,
            problems,
        } = notice;
        let problems = BTreeSet::from_iter(problems);
        let key = (service, topic);
        let before = self.known.remove(&key);
        let before = before.filter(|(before, _)| *before == uid);
        let before = before.map(|(_, problems)| problems).unwrap_or_default();
        let service = &key.0;
        self.queue.retain(|(_, about, waiting)| {
            let same = (*about, &waiting.service) == (topic, service);
            !same || (waiting.uid == uid && problems.contains(&waiting.problem))
        });
        let mut left_out = 0;
        for problem in problems.difference(&before) {
            if self.queue.len() >= MOST_WAITING {
                left_out += 1;
                continue;
            }
            let report = Report {
                service: service.clone(),
                uid: uid.clone(),
                problem: problem.clone(),
            };
            self.queue.push_back((now + self.delay, topic, report));
        }
        if !problems.is_empty() {
            self.known.insert(key, (uid, problems));
        }
        match left_out {
            0 => Taken::Whole,
            left_out => Taken::Full(left_out),
        }
    }

    /// When the next report may go, if one waits.
    pub(super) fn next_due(&self, now: Moment) -> Option<Moment> {
        let (due, ..) = self.queue.front()?;
        Some((*due).max(self.bucket.next_token(now)))
    }

    /// The next report, if its time has come.
    pub(super) fn pop(&mut self, now: Moment) -> Option<Popped> {
        let (due, _, report) = self.queue.front()?;
        if *due > now {
            return None;
        }
        let (object, reason) = (&report.service, report.problem.reason);
        let permitted = self.limits.permit(object, reason, now);
        if permitted {
            if !self.bucket.take(now) {
                return None;
            }
            self.limits.note(object, reason, now);
        }
        let (.., report) = self.queue.pop_front()?;
        Some(if permitted {
            Popped::Due(report)
        } else {
            Popped::LeftOut(report)
        })
    }

    /// Notes that this agent has made the Event `name`.
    pub(super) fn made(&mut self, name: String, now: Moment) {
        self.made.retain(|_, (_, last)| now.since(*last) < KEPT);
        self.made.insert(name, (1, now));
    }

    /// How often the problem of an Event that this agent has made has been met, with this time.
    pub(super) fn repeat(&mut self, name: &str, now: Moment) -> Option<i32> {
        let (count, last) = self.made.get_mut(name)?;
        *count = count.saturating_add(1);
        *last = now;
        Some(*count)
    }
}

const LEAST_DELAY: Duration = Duration::from_secs(1);
const SPREAD_MILLIS: u64 = 4000;
/// Events at once, and how long each further one waits.
const BURST: u32 = 20;
const REFILL: Duration = Duration::from_secs(10);
const MOST_WAITING: usize = 1000;
/// For how long an API server keeps Events, unless told otherwise.
const KEPT: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Reason;

    fn problem(text: &str) -> Problem {
        Problem {
            reason: Reason::InvalidAnnotation,
            text: text.to_owned(),
        }
    }

    fn notice(uid: &str, texts: &[&str]) -> Notice {
        Notice {
            service: ObjectName::new("ns", "web"),
            uid: uid.into(),
            topic: Topic::Meaning,
            problems: texts.iter().map(|text| problem(text)).collect(),
        }
    }

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    /// All that goes out by then.
    fn popped(outbox: &mut Outbox, now: Moment) -> Vec<String> {
        let due = std::iter::from_fn(|| outbox.pop(now)).filter_map(|popped| match popped {
            Popped::Due(report) => Some(report.problem.text),
            Popped::LeftOut(_) => None,
        });
        due.collect()
    }

    #[test]
    fn a_problem_is_told_once_and_again_when_it_comes_back() {
        let mut outbox = Outbox::new(0);
        outbox.take(notice("u", &["bad"]), at(0));
        assert_eq!(outbox.next_due(at(0)), Some(at(1)));
        assert_eq!(popped(&mut outbox, at(0)), [""; 0]);
        assert_eq!(popped(&mut outbox, at(1)), ["bad"]);
        outbox.take(notice("u", &["bad", "worse"]), at(10));
        assert_eq!(popped(&mut outbox, at(20)), ["worse"]);
        outbox.take(notice("u", &[]), at(30));
        outbox.take(notice("u", &["bad"]), at(40));
        assert_eq!(popped(&mut outbox, at(50)), ["bad"]);
        assert_eq!(outbox.next_due(at(50)), None);
    }

    #[test]
    fn what_is_mended_at_once_is_not_told() {
        let mut outbox = Outbox::new(0);
        let kernel = Notice {
            topic: Topic::Kernel,
            ..notice("u", &["foreign"])
        };
        outbox.take(notice("u", &["bad", "worse"]), at(0));
        outbox.take(kernel, at(0));
        outbox.take(notice("u", &["worse"]), at(0));
        assert_eq!(popped(&mut outbox, at(9)), ["worse", "foreign"]);
    }

    #[test]
    fn a_service_made_anew_has_its_problems_told_anew() {
        let mut outbox = Outbox::new(0);
        outbox.take(notice("old", &["bad"]), at(0));
        assert_eq!(popped(&mut outbox, at(9)), ["bad"]);
        outbox.take(notice("new", &["bad"]), at(10));
        let Some(Popped::Due(report)) = outbox.pop(at(20)) else {
            panic!("nothing is told")
        };
        assert_eq!(&*report.uid, "new");
    }

    #[test]
    fn a_flood_becomes_a_trickle() {
        let mut outbox = Outbox::new(0);
        let texts: Vec<String> = (0..50).map(|n| format!("{n:02}")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        for text in texts {
            let service = ObjectName::new("ns", text);
            outbox.take(
                Notice {
                    service,
                    ..notice("u", &[text])
                },
                at(0),
            );
        }
        assert_eq!(popped(&mut outbox, at(100)).len(), 20);
        assert_eq!(outbox.next_due(at(100)), Some(at(110)));
        assert_eq!(popped(&mut outbox, at(109)).len(), 0);
        assert_eq!(popped(&mut outbox, at(110)), ["20"]);
        assert_eq!(popped(&mut outbox, at(125)), ["21"]);
        assert_eq!(popped(&mut outbox, at(130)), ["22"]);
    }

    /// A Service that somebody changes to and fro does not keep others from being told of.
    #[test]
    fn one_that_comes_and_goes_leaves_room_for_others() {
        let mut outbox = Outbox::new(0);
        let mut told = Vec::new();
        let mut left_out = 0;
        for turn in 0..100 {
            outbox.take(notice("u", &["bad"]), at(turn * 10));
            while let Some(popped) = outbox.pop(at(turn * 10 + 5)) {
                match popped {
                    Popped::Due(_) => told.push(turn * 10),
                    Popped::LeftOut(_) => left_out += 1,
                }
            }
            outbox.take(notice("u", &[]), at(turn * 10 + 6));
        }
        // Five at once, then one in five minutes.
        assert_eq!(told, [0, 10, 20, 30, 40, 300, 600, 900]);
        assert_eq!(left_out, 92);
        let service = ObjectName::new("ns", "other");
        outbox.take(
            Notice {
                service,
                ..notice("v", &["worse"])
            },
            at(1000),
        );
        assert_eq!(popped(&mut outbox, at(1001)), ["worse"]);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut outbox = Outbox::new(0);
        let texts: Vec<String> = (0..1200).map(|n| n.to_string()).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        assert_eq!(outbox.take(notice("u", &texts), at(0)), Taken::Full(200));
        assert_eq!(outbox.queue.len(), 1000);
    }

    #[test]
    fn nodes_come_at_different_times() {
        let due = |seed| {
            let mut outbox = Outbox::new(seed);
            outbox.take(notice("u", &["bad"]), at(0));
            outbox.next_due(at(0)).unwrap()
        };
        assert!(due(17) != due(1234));
        assert!(due(u64::MAX) < at(6));
    }

    #[test]
    fn own_events_are_counted_until_the_server_forgets_them() {
        let mut outbox = Outbox::new(0);
        assert_eq!(outbox.repeat("web.1", at(0)), None);
        outbox.made("web.1".to_owned(), at(0));
        assert_eq!(outbox.repeat("web.1", at(5)), Some(2));
        assert_eq!(outbox.repeat("web.1", at(6)), Some(3));
        outbox.made("web.2".to_owned(), at(3700));
        assert_eq!(outbox.repeat("web.1", at(3700)), None);
    }
}
