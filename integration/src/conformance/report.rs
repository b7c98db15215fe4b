//! `docs/conformance.md`, from what runs have proved.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::cell::{LEFT_OUT, POLICIES, all};
use super::items::ITEMS;
use super::law::{Article, MATRIX, Reason, Refusal, Rule, Source, judge};
use super::pairwise::pairwise;
use super::upstream::TESTS;
use crate::dataplane::Dataplane;
use crate::protocol::Proof;
use crate::scenarios::{ALL, Scenario};

/// What was proved on a kernel, of a dataplane.
pub struct Column {
    pub title: String,
    pub dataplane: Dataplane,
    pub proofs: Vec<Proof>,
}

/// The whole text.
pub fn render(columns: &[Column], stories: &[&Scenario]) -> String {
    let mut text = HEAD.to_owned();
    items(&mut text, columns);
    matrix(&mut text, columns);
    articles(&mut text, columns);
    cells(&mut text);
    told(&mut text, columns, stories);
    upstream(&mut text, columns);
    text
}

/// Item by item.
fn items(text: &mut String, columns: &[Column]) {
    *text += "\n## What a Service means\n\n";
    let head = ["", "Must", "Proved by"];
    line(text, head, columns, |column| column.title.clone());
    rule(text, head.len() + columns.len());
    for item in ITEMS {
        let stories: Vec<String> = item
            .stories
            .iter()
            .map(|name| format!("`{name}`"))
            .collect();
        let stories = if stories.is_empty() {
            "no story yet".to_owned()
        } else {
            stories.join(", ")
        };
        line(
            text,
            [item.subject, item.must, &stories],
            columns,
            |column| mark_all(column, item.stories),
        );
    }
}

/// The decision matrix: in each entry all its cells.
fn matrix(text: &mut String, columns: &[Column]) {
    *text += "\n## The decision matrix\n\n\
              An entry: which endpoints / is the source rewritten / what if that set is empty. Policy is \
              internalTrafficPolicy for cluster IPs and externalTrafficPolicy for the others. Where no endpoint is \
              ready or serving anywhere, every entry is REJECT.\n\n";
    let head = ["Destination", "Client", "Policy", "Must give"];
    line(text, head, columns, |column| column.title.clone());
    rule(text, head.len() + columns.len());
    for (row, entry) in MATRIX.iter().enumerate() {
        for policy in POLICIES {
            let must = entry.rule(policy).to_string();
            let prefix = format!("{} {policy:?} ", row + 1);
            let cells = [
                entry.destination,
                entry.client,
                &format!("{policy:?}"),
                &must,
            ];
            line(text, cells, columns, |column| {
                mark(column, &[FULL, CHOICE], |subject| {
                    subject.starts_with(&prefix)
                })
            });
        }
    }
}

/// Below each entry the ways in which its cells come to what they must give.
fn articles(text: &mut String, columns: &[Column]) {
    let articles: BTreeSet<Article> = all().iter().map(|cell| judge(cell).article).collect();
    *text += "\n## The same by what decides\n\n";
    let head = ["Destination", "Client", "Policy", "Decided by", "Must give"];
    line(text, head, columns, |column| column.title.clone());
    rule(text, head.len() + columns.len());
    for article in articles {
        let row = &MATRIX[article.row - 1];
        let (policy, reason) = (format!("{:?}", article.policy), article.reason.to_string());
        let must = given(row.rule(article.policy), article.reason);
        let cells = [row.destination, row.client, &policy, &reason, &must];
        line(text, cells, columns, |column| {
            mark(column, &[FULL, CHOICE], |subject| subject == article.key())
        });
    }
}

fn given(rule: Rule, reason: Reason) -> String {
    let source = match (reason, rule.source) {
        (Reason::NoEndpoint, _) => return Refusal::Reject.to_string(),
        (Reason::EmptySet, _) => return rule.when_empty.to_string(),
        (Reason::Hairpin, _) => Source::Masqueraded,
        (Reason::OnTheNode, _) => Source::Kept,
        (Reason::Served | Reason::Terminating, source) => source,
    };
    let source = match source {
        Source::Kept => "source kept",
        Source::Masqueraded => "masqueraded",
    };
    format!("{:?} set, {source}", rule.set)
}

fn cells(text: &mut String) {
    let all = all();
    let _ = write!(
        text,
        "\n## The cells\n\n\
         A cell is one choice of {{pod on the endpoint's node, pod on another node, process of the node that is \
         addressed, process of another node, outside client}} × {{ClusterIP, NodePort, LB IP, external IP}} × \
         {{TCP, UDP, SCTP}} × {{IPv4, IPv6}} × {{Cluster, Local}} × {{one endpoint, two on two nodes, one on the host \
         network, the client itself, none, one that is not ready, one that terminates, one that terminates and one \
         elsewhere that is ready}} × {{the packet enters at a node with an endpoint, at one without}}: {} cells. \
         `make test` asks a choice of {} in which every two circumstances meet, `make test-matrix` asks all.\n\n\
         A packet enters at the node of the pod or process that sends it; at a NodePort, at the node whose address \
         is asked; from outside, at the node to which the client's route leads. Left out are:\n\n",
        all.len(),
        pairwise(&all).len()
    );
    for reason in LEFT_OUT {
        let _ = writeln!(text, "* {reason}");
    }
}

fn told(text: &mut String, columns: &[Column], stories: &[&Scenario]) {
    *text += "\n## The stories\n\n";
    line(text, ["Story", "Proves"], columns, |column| {
        column.title.clone()
    });
    rule(text, 2 + columns.len());
    for story in stories {
        line(
            text,
            [&format!("`{}`", story.name), story.about],
            columns,
            |column| mark_story(column, &[story.name]),
        );
    }
}

fn upstream(text: &mut String, columns: &[Column]) {
    *text += "\n## Tests of Kubernetes\n\n\
              Kubernetes' own end-to-end tests that a service proxy can fail, and the story that replays each.\n\n";
    let head = ["Test", "Story"];
    line(text, head, columns, |column| column.title.clone());
    rule(text, head.len() + columns.len());
    for (test, story) in TESTS {
        line(text, [*test, &format!("`{story}`")], columns, |column| {
            mark_all(column, &[story])
        });
    }
}

/// The mark of stories together.
fn mark_all(column: &Column, stories: &[&str]) -> String {
    let of_story = |story: &&str| {
        let either = if *story == FULL {
            [FULL, CHOICE]
        } else {
            [*story; 2]
        };
        mark_story(column, &either)
    };
    let marks: BTreeSet<String> = stories.iter().map(of_story).collect();
    let worst = ["✘ 0 of 1", "not run", NO_SCTP, "✔", IPVS_ONLY]
        .into_iter()
        .find(|mark| marks.contains(*mark));
    match worst {
        Some("✘ 0 of 1") => "✘".to_owned(),
        Some(mark) => mark.to_owned(),
        None => "–".to_owned(),
    }
}

/// The mark of a whole story by the first of these that was run.
fn mark_story(column: &Column, names: &[&str]) -> String {
    let is_about = |name: &&str| {
        let mut stories = ALL.iter().filter(|story| story.name == *name);
        stories.any(|story| story.dataplanes.contains(&column.dataplane))
    };
    if names.iter().any(is_about) {
        mark(column, names, is_story)
    } else {
        match column.dataplane {
            Dataplane::Ipvs => IPTABLES_ONLY.to_owned(),
            Dataplane::Iptables => IPVS_ONLY.to_owned(),
        }
    }
}

/// The mark of some subjects by the first of the stories that was run.
fn mark(column: &Column, stories: &[&str], is_subject: impl Fn(&str) -> bool) -> String {
    let of_story = |story: &&str| -> Vec<&Proof> {
        let proofs = column.proofs.iter();
        let of_story = proofs.filter(|proof| proof.story == *story);
        of_story
            .filter(|proof| is_subject(&proof.subject))
            .collect()
    };
    let proofs = stories
        .iter()
        .map(of_story)
        .find(|proofs| !proofs.is_empty());
    let proofs = proofs.unwrap_or_default();
    let passed: usize = proofs.iter().map(|proof| proof.passed).sum();
    let left_out: usize = proofs.iter().map(|proof| proof.left_out).sum();
    let mark = match proofs.iter().map(|proof| proof.of).sum() {
        0 if left_out > 0 => return NO_SCTP.to_owned(),
        0 => "not run".to_owned(),
        of if passed < of => format!("✘ {passed} of {of}"),
        1 => "✔".to_owned(),
        of => format!("✔ {of}"),
    };
    if left_out > 0 {
        format!("{mark}, {left_out} over SCTP not asked")
    } else {
        mark
    }
}

fn is_story(subject: &str) -> bool {
    subject == Proof::STORY
}

fn line<const N: usize>(
    text: &mut String,
    cells: [&str; N],
    columns: &[Column],
    of: impl Fn(&Column) -> String,
) {
    let cells = cells.iter().map(|cell| (*cell).to_owned());
    let all: Vec<String> = cells.chain(columns.iter().map(of)).collect();
    let _ = writeln!(text, "| {} |", all.join(" | "));
}

fn rule(text: &mut String, columns: usize) {
    let _ = writeln!(text, "|{}", "---|".repeat(columns));
}

/// Of a story that says nothing about another dataplane.
const IPVS_ONLY: &str = "IPVS only";
const IPTABLES_ONLY: &str = "iptables only";
/// Of what a kernel without SCTP cannot ask.
const NO_SCTP: &str = "no SCTP";
/// Asks all cells.
pub const FULL: &str = "matrix-full";
/// Asks a choice of them.
pub const CHOICE: &str = "matrix";
const HEAD: &str = "# Conformance\n\n\
    Made by `make conformance` from what its runs recorded, not written by hand. Each story and each cell sends real\n\
    packets on the kernel that heads the column. ✔: all of them gave what they must; a number says how many cells that\n\
    were. ✘: some did not. Each cell also asks `ipvs-agent explain` what becomes of its packet, and fails where that differs\n\
    from what the packet met. SCTP is not asked, and not counted, where the kernel has no sockets of it. A row without a\n\
    story is one that no packet has proved.\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn story(name: &str) -> &'static Scenario {
        ALL.iter().find(|story| story.name == name).unwrap()
    }

    fn column(passed: usize) -> Column {
        let proof = |story: &str, subject: &str, of| Proof {
            story: story.to_owned(),
            subject: subject.to_owned(),
            passed: passed.min(of),
            of,
            left_out: 0,
        };
        Column {
            title: "Linux 6.1".to_owned(),
            dataplane: Dataplane::Ipvs,
            proofs: vec![
                proof(FULL, "1 Local EmptySet", 6),
                proof(FULL, "1 Local Served", 3),
                proof("hairpin", Proof::STORY, 1),
            ],
        }
    }

    #[test]
    fn what_failed_or_was_not_run_is_never_ticked() {
        let stories = || [story("hairpin")];
        let good = render(&[column(6)], &stories());
        assert!(good.contains("| Local set / no / DROP | ✔ 9 |"), "{good}");
        assert!(good.contains("exist elsewhere | DROP | ✔ 6 |"), "{good}");
        assert!(
            good.contains("| `hairpin` | a pod reaches itself through its Service | ✔ |"),
            "{good}"
        );
        assert_eq!(good.matches("✔ 6 |").count(), 1, "{good}");
        let bad = render(&[column(0)], &stories());
        assert_eq!(
            bad.matches("✔ |").count() + bad.matches("✔ 6").count(),
            0,
            "{bad}"
        );
        assert!(
            bad.contains("✘ 0 of 9") && bad.contains("✘ 0 of 1"),
            "{bad}"
        );
    }

    #[test]
    fn what_was_not_asked_is_neither_ticked_nor_hidden() {
        let left_out = |story: &str, subject: &str, passed| Proof {
            story: story.to_owned(),
            subject: subject.to_owned(),
            passed,
            of: passed,
            left_out: 3,
        };
        let column = Column {
            title: "native".to_owned(),
            dataplane: Dataplane::Iptables,
            proofs: vec![
                left_out(FULL, "1 Local EmptySet", 6),
                left_out("udp-sctp", Proof::STORY, 0),
            ],
        };
        let text = render(&[column], &[story("udp-sctp"), story("list")]);
        assert!(text.contains("| ✔ 6, 3 over SCTP not asked |"), "{text}");
        let told = |name: &str, mark: &str| {
            let row = format!("| `{name}` | {} | {mark} |", story(name).about);
            assert!(text.contains(&row), "{row} in {text}");
        };
        told("udp-sctp", NO_SCTP);
        told("list", IPVS_ONLY);
    }
}
