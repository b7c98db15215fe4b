//! Lines carried out on a table: what is to be done, and what cannot be.

use super::*;
use crate::inspect::rules::file::steps;
use crate::inspect::rules::{Names, ServicePorts};

const SIGNED: ServiceFlags = ServiceFlags::from_bits_retain(0x6961_0000);

fn read(text: &str) -> Vec<Step> {
    let ports = ServicePorts::default();
    steps(
        text,
        Names {
            ports: &ports,
            host: &|_| None,
        },
    )
    .unwrap()
}

/// A table that lines made. What stands at a port of 4 digits is the agent's.
fn table(text: &str) -> Picture {
    let anything = Rules {
        existing: Existing::Keep,
        owned: &|_| false,
        force: false,
    };
    let mut picture = Picture::default().after(&read(text), anything).unwrap().0;
    for entry in picture.entries.values_mut() {
        if entry.service.key.port() >= 1000 {
            entry.service.flags |= SIGNED;
        }
    }
    picture
}

fn outcome(there: &str, lines: &str, existing: Existing, force: bool) -> Result<String, String> {
    let there = table(there);
    let rules = Rules {
        existing,
        owned: &|service| service.flags.contains(SIGNED),
        force,
    };
    match there.after(&read(lines), rules) {
        Ok((after, _)) => {
            let changes = difference(&there, &after);
            Ok(changes.iter().map(ToString::to_string).collect())
        }
        Err(conflicts) => Err(conflicts
            .iter()
            .map(|conflict| format!("{conflict}\n"))
            .collect()),
    }
}

const THERE: &str = "\
-A -t 10.0.0.1:80 -s rr
-a -t 10.0.0.1:80 -r 10.0.0.2:80 -m -w 1
-a -t 10.0.0.1:80 -r 10.0.0.3:80 -m -w 1
-A -t 10.0.0.9:8080 -s rr
-a -t 10.0.0.9:8080 -r 10.0.0.2:80 -m -w 1
";

#[test]
fn what_is_there_already_is_left_and_what_is_new_is_added_in_order() {
    let lines = format!(
        "{THERE}-A -u 10.0.0.5:53 -s lc\n-a -u 10.0.0.5:53 -r 10.0.0.7:53 -m\n\
                         -a -t 10.0.0.1:80 -r 10.0.0.4:80 -m -w 7\n"
    );
    assert_eq!(
        outcome(THERE, &lines, Existing::Keep, false).unwrap(),
        "+ -a -t 10.0.0.1:80 -r 10.0.0.4:80 -m -w 7\n\
         + -A -u 10.0.0.5:53 -s lc\n\
         + -a -u 10.0.0.5:53 -r 10.0.0.7:53 -m -w 1\n"
    );
    assert_eq!(outcome(THERE, THERE, Existing::Keep, false).unwrap(), "");
}

#[test]
fn what_is_there_otherwise_is_a_mistake_until_it_may_be_changed() {
    let lines = "-A -t 10.0.0.1:80 -s wlc\n\n-a -t 10.0.0.1:80 -r 10.0.0.2:80 -m -w 2\n";
    let refused = outcome(THERE, lines, Existing::Keep, false).unwrap_err();
    assert!(refused.starts_with("line 1: it is there already, as `-A -t 10.0.0.1:80 -s rr`"));
    assert!(
        refused.contains("\nline 3: it is there already"),
        "{refused}"
    );
    assert_eq!(
        outcome(THERE, lines, Existing::Merge, false).unwrap(),
        "- -A -t 10.0.0.1:80 -s rr\n+ -A -t 10.0.0.1:80 -s wlc\n\
         - -a -t 10.0.0.1:80 -r 10.0.0.2:80 -m -w 1\n\
         + -a -t 10.0.0.1:80 -r 10.0.0.2:80 -m -w 2\n"
    );
}

#[test]
fn a_replacement_removes_what_no_line_names_but_not_the_agents() {
    let lines = "-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 10.0.0.3:80 -m -w 1\n";
    assert_eq!(
        outcome(THERE, lines, Existing::Replace, false).unwrap(),
        "- -a -t 10.0.0.1:80 -r 10.0.0.2:80 -m -w 1\n"
    );
    assert_eq!(
        outcome(THERE, "", Existing::Replace, true).unwrap(),
        "- -A -t 10.0.0.1:80 -s rr\n\
         - -a -t 10.0.0.1:80 -r 10.0.0.2:80 -m -w 1\n\
         - -a -t 10.0.0.1:80 -r 10.0.0.3:80 -m -w 1\n\
         - -A -t 10.0.0.9:8080 -s rr\n\
         - -a -t 10.0.0.9:8080 -r 10.0.0.2:80 -m -w 1\n"
    );
}

#[test]
fn what_an_agent_made_is_touched_by_force_only() {
    for lines in [
        "-E -t 10.0.0.9:8080 -s wlc",
        "-D -t 10.0.0.9:8080",
        "-C",
        "-a -t 10.0.0.9:8080 -r 10.0.0.4:80 -m",
        "-e -t 10.0.0.9:8080 -r 10.0.0.2:80 -m -w 2",
        "-d -t 10.0.0.9:8080 -r 10.0.0.2:80",
    ] {
        for existing in [Existing::Keep, Existing::Merge, Existing::Replace] {
            let refused = outcome(THERE, lines, existing, false).unwrap_err();
            let told = "line 1: -t 10.0.0.9:8080 belongs to an agent on this node";
            assert!(refused.starts_with(told), "{lines}: {refused}");
        }
        assert!(
            !outcome(THERE, lines, Existing::Merge, true)
                .unwrap()
                .is_empty(),
            "{lines}"
        );
    }
    // A change by force leaves the signature as it is.
    let there = table(THERE);
    let rules = Rules {
        existing: Existing::Merge,
        owned: &|_| true,
        force: true,
    };
    let (after, _) = there
        .after(&read("-E -t 10.0.0.9:8080 -s wlc"), rules)
        .unwrap();
    let entry = after
        .entries
        .values()
        .find(|entry| entry.service.key.port() == 8080);
    assert!(entry.unwrap().service.flags.contains(SIGNED));
}

#[test]
fn lines_that_find_nothing_are_mistakes_and_every_one_is_told() {
    let lines = "-E -t 10.0.0.7:80 -s rr\n-D -t 10.0.0.7:80\n-a -t 10.0.0.7:80 -r 10.0.0.2 -m\n\
                 -e -t 10.0.0.1:80 -r 10.0.0.7:80 -m\n-d -t 10.0.0.1:80 -r 10.0.0.7:80\n";
    assert_eq!(
        outcome(THERE, lines, Existing::Merge, false).unwrap_err(),
        "line 1: there is no virtual service -t 10.0.0.7:80\n\
         line 2: there is no virtual service -t 10.0.0.7:80\n\
         line 3: there is no virtual service -t 10.0.0.7:80\n\
         line 4: there is no real server 10.0.0.7:80 of -t 10.0.0.1:80\n\
         line 5: there is no real server 10.0.0.7:80 of -t 10.0.0.1:80\n"
    );
}

#[test]
fn lines_work_on_what_lines_before_them_made() {
    let lines = "-D -t 10.0.0.1:80\n-A -t 10.0.0.1:80 -s lc\n-a -t 10.0.0.1:80 -r 10.0.0.2:80 -m\n\
                 -e -t 10.0.0.1:80 -r 10.0.0.2:80 -m -w 5\n-Z\n--set 0 0 301\n";
    assert_eq!(
        outcome(THERE, lines, Existing::Keep, false).unwrap(),
        "- -A -t 10.0.0.1:80 -s rr\n+ -A -t 10.0.0.1:80 -s lc\n\
         - -a -t 10.0.0.1:80 -r 10.0.0.2:80 -m -w 1\n\
         + -a -t 10.0.0.1:80 -r 10.0.0.2:80 -m -w 5\n\
         - -a -t 10.0.0.1:80 -r 10.0.0.3:80 -m -w 1\n"
    );
    let rules = Rules {
        existing: Existing::Keep,
        owned: &|_| false,
        force: false,
    };
    let (_, others) = table(THERE).after(&read(lines), rules).unwrap();
    assert_eq!(
        others.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["-Z", "--set 0 0 301"]
    );
}
