//! What `ipvs-agent diff` prints: a section for each kind of object, its lines with + and -.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::plain::plain;
use crate::ask::Diff;
use crate::model::Drift;
use crate::model::drift::{Kind, Sign};

/// The text; nothing at all where nothing differs.
pub fn render(diff: &Diff, colours: bool) -> String {
    let mut sections: BTreeMap<Kind, Vec<&Drift>> = BTreeMap::new();
    for line in &diff.drift {
        sections.entry(line.of).or_default().push(line);
    }
    let mut text = String::new();
    for (kind, lines) in sections {
        let _ = writeln!(text, "# {}", heading(kind));
        for line in lines {
            let (begin, end) = match (colours, line.sign) {
                (false, _) => ("", ""),
                (true, Sign::Comes) => ("\x1b[32m", "\x1b[0m"),
                (true, Sign::Goes) => ("\x1b[31m", "\x1b[0m"),
            };
            let _ = writeln!(text, "{begin}{}{end}", plain(&line.to_string()));
        }
    }
    text
}

/// The command whose lines they are.
fn heading(kind: Kind) -> &'static str {
    match kind {
        Kind::Ipvs => "ipvsadm -Sn",
        Kind::Set => "ipset save",
        Kind::Rule => "iptables-save",
        Kind::Route => "ip route, ip rule",
        Kind::Sysctl => "sysctl",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_section_and_the_order_within_it_stays() {
        let diff = Diff {
            drift: vec![
                Drift::comes(Kind::Set, "add IPVS-AGENT-4-LIVE 10.96.0.1,tcp:80"),
                Drift::goes(Kind::Ipvs, "-a -t 10.96.0.1:80 -r 10.244.0.1:80 -m -w 1"),
                Drift::comes(Kind::Ipvs, "-a -t 10.96.0.1:80 -r 10.244.0.1:80 -m -w 5"),
            ],
        };
        let plain = "\
# ipvsadm -Sn
- -a -t 10.96.0.1:80 -r 10.244.0.1:80 -m -w 1
+ -a -t 10.96.0.1:80 -r 10.244.0.1:80 -m -w 5
# ipset save
+ add IPVS-AGENT-4-LIVE 10.96.0.1,tcp:80
";
        assert_eq!(render(&diff, false), plain);
        assert!(render(&diff, true).contains("\x1b[31m- -a"));
        assert_eq!(render(&Diff::default(), true), "");
    }
}
