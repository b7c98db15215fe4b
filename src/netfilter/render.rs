//! Rules → text for `iptables-restore --noflush`, in the form that `iptables-save` prints.
//!
//! The text declares our own chains, which empties and refills exactly them, and adds or deletes
//! jumps from base chains one by one. Rules of others are never named.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::parse::{Jump, ObservedRules};
use crate::model::{Family, Protocol};

use super::ruleset::{CHAIN_PREFIX, Chain, Match, Rule, Table, Target};

/// The text that turns `observed` into `desired`; `None` if they are the same.
pub fn plan(desired: &[Chain], observed: &ObservedRules) -> Option<String> {
    if expected(desired) == *observed {
        return None;
    }
    let mut text = String::new();
    for table in Table::ALL {
        let chains: Vec<&Chain> = desired
            .iter()
            .filter(|chain| chain.table == table)
            .collect();
        let stale: Vec<&String> = observed
            .chains_of(table)
            .filter(|name| !chains.iter().any(|chain| chain.name == name.as_str()))
            .collect();
        let jumps = observed.jumps.iter().filter(|jump| jump.table == table);
        let wanted = |jump: &Jump| chains.iter().any(|chain| is_hooked(chain, jump));
        let mut lines = String::new();
        for chain in &chains {
            let _ = writeln!(lines, ":{} - [0:0]", chain.name);
        }
        for name in &stale {
            let _ = writeln!(lines, ":{name} - [0:0]");
        }
        for chain in &chains {
            for rule in &chain.rules {
                let _ = writeln!(lines, "{}", render_rule(chain.name, rule));
            }
        }
        // A jump that is there more than once is made anew: which of them stands before the rules
        // of others is not known.
        for jump in jumps.filter(|jump| !wanted(jump) || misplaced(jump)) {
            for _ in 0..jump.count {
                let _ = writeln!(lines, "-D {} {}", jump.base, jump.rule);
            }
        }
        for chain in &chains {
            if let Some(base) = chain.hook
                && !observed
                    .jumps
                    .iter()
                    .any(|jump| is_hooked(chain, jump) && !misplaced(jump))
            {
                let _ = writeln!(lines, "-I {base} {}", jump_to(chain));
            }
        }
        for name in stale {
            let _ = writeln!(lines, "-X {name}");
        }
        if !lines.is_empty() {
            let _ = write!(text, "*{table}\n{lines}COMMIT\n");
        }
    }
    Some(text)
}

/// What `iptables-save` shows once `desired` is in place.
pub fn expected(desired: &[Chain]) -> ObservedRules {
    let mut rules = ObservedRules::default();
    for chain in desired {
        let lines = chain
            .rules
            .iter()
            .map(|rule| render_rule(chain.name, rule))
            .collect();
        rules
            .chains
            .insert((chain.table, chain.name.to_owned()), lines);
        if let Some(base) = chain.hook {
            rules.jumps.push(Jump {
                table: chain.table,
                base: base.to_owned(),
                rule: jump_to(chain),
                count: 1,
                behind: false,
            });
        }
    }
    rules.jumps.sort();
    rules
}

/// Whether a jump must be made anew at its chain's beginning.
fn misplaced(jump: &Jump) -> bool {
    jump.count > 1 || jump.behind
}

fn is_hooked(chain: &Chain, jump: &Jump) -> bool {
    chain.table == jump.table
        && chain.hook == Some(jump.base.as_str())
        && jump_to(chain) == jump.rule
}

/// The rule of a base chain that leads to one of ours, without the base chain's name.
fn jump_to(chain: &Chain) -> String {
    format!("-j {}", chain.name)
}

fn place(condition: &Match) -> u8 {
    match condition {
        Match::SourceBits { .. } => 0,
        Match::Destination(_) => 1,
        Match::InInterface { .. } => 2,
        Match::Protocol(_) | Match::Ports { .. } | Match::Tcp | Match::TcpMidStream => 3,
        _ => 4,
    }
}

fn lower(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

/// The rules of a chain as `iptables-save` prints them.
pub fn lines(chain: &str, rules: &[Rule]) -> Vec<String> {
    rules.iter().map(|rule| render_rule(chain, rule)).collect()
}

/// The text that fills chains of one table anew and removes others. `declared`: chains that only must
/// be there.
pub fn replace<'a>(
    table: Table,
    declared: impl Iterator<Item = &'a str>,
    filled: &[(&'a str, &[String])],
    removed: &[&str],
) -> String {
    let mut text = format!("*{table}\n");
    for name in declared.chain(filled.iter().map(|(name, _)| *name)) {
        let _ = writeln!(text, ":{name} - [0:0]");
    }
    // A chain that goes is emptied: it may lead to another that goes.
    for name in removed {
        let _ = writeln!(text, ":{name} - [0:0]");
    }
    for line in filled.iter().flat_map(|(_, lines)| *lines) {
        let _ = writeln!(text, "{line}");
    }
    for name in removed {
        let _ = writeln!(text, "-X {name}");
    }
    text.push_str("COMMIT\n");
    text
}

/// One rule as `iptables-save` prints it.
fn render_rule(chain: &str, rule: &Rule) -> String {
    debug_assert!(chain.starts_with(CHAIN_PREFIX));
    let mut line = format!("-A {chain}");
    // `iptables-save` prints what the header says first, in this order.
    let mut matches: Vec<&Match> = rule.matches.iter().collect();
    matches.sort_by_key(|condition| place(condition));
    for condition in matches {
        let _ = match condition {
            Match::Destination(net) => write!(line, " -d {net}"),
            Match::SourceBits { family, bits, mask } => {
                let of = |bits: u32| match family {
                    Family::V4 => Ipv4Addr::from_bits(bits).to_string(),
                    Family::V6 => Ipv6Addr::from_bits(bits.into()).to_string(),
                };
                write!(line, " -s {}/{}", of(*bits), of(*mask))
            }
            Match::Protocol(protocol) => write!(line, " -p {}", lower(*protocol)),
            Match::Ports {
                protocol,
                first,
                last,
            } => {
                let name = lower(*protocol);
                let _ = write!(line, " -p {name} -m {name} --dport {first}");
                if last > first {
                    write!(line, ":{last}")
                } else {
                    Ok(())
                }
            }
            Match::Random(parts) => {
                let share = f64::from(*parts) / f64::from(1_u32 << 31);
                write!(
                    line,
                    " -m statistic --mode random --probability {share:.11}"
                )
            }
            Match::Tcp => write!(line, " -p tcp"),
            Match::TcpMidStream => {
                write!(line, " -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN")
            }
            Match::Set {
                name,
                direction,
                negated,
            } => {
                let not = if *negated { " !" } else { "" };
                write!(line, " -m set{not} --match-set {name} {direction}")
            }
            Match::Mark {
                value,
                mask,
                negated,
            } => {
                let not = if *negated { "! " } else { "" };
                write!(line, " -m mark {not}--mark {value:#x}/{mask:#x}")
            }
            Match::InInterface { name, negated } => {
                let not = if *negated { "! " } else { "" };
                write!(line, " {not}-i {name}")
            }
            Match::FromThisNode => write!(line, " -m addrtype --src-type LOCAL"),
            Match::State(states) => write!(line, " -m conntrack --ctstate {states}"),
            Match::FirstPacket => write!(line, " -m conntrack ! --ctstatus CONFIRMED"),
            Match::Ipvs => write!(line, " -m ipvs --ipvs"),
        };
    }
    let _ = match &rule.target {
        Target::Accept => write!(line, " -j ACCEPT"),
        Target::Return => write!(line, " -j RETURN"),
        Target::Drop => write!(line, " -j DROP"),
        Target::MarkFrom(set) => write!(line, " -j SET --map-set {set} dst,dst --map-mark"),
        Target::Jump(chain) => write!(line, " -j {chain}"),
        Target::Goto(chain) => write!(line, " -g {chain}"),
        Target::Dnat(to) => write!(line, " -j DNAT --to-destination {to}"),
        Target::Remember { set, seconds } => {
            write!(
                line,
                " -j SET --add-set {set} src --exist --timeout {seconds}"
            )
        }
        Target::Mark { value, mask } => write!(line, " -j MARK --set-xmark {value:#x}/{mask:#x}"),
        Target::Masquerade => write!(line, " -j MASQUERADE --random-fully"),
        Target::Reject(with) => write!(line, " -j REJECT --reject-with {with}"),
    };
    line
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::*;

    fn chains() -> Vec<Chain> {
        vec![
            Chain {
                table: Table::Mangle,
                name: "IPVS-AGENT-ROUTE",
                hook: Some("PREROUTING"),
                rules: vec![Rule::new(
                    [Match::Set {
                        name: "S".into(),
                        direction: "dst,dst",
                        negated: false,
                    }],
                    Target::Mark {
                        value: 0x2000,
                        mask: 0x2000,
                    },
                )],
            },
            Chain {
                table: Table::Nat,
                name: "IPVS-AGENT-SNAT",
                hook: None,
                rules: vec![Rule::new([], Target::Masquerade)],
            },
        ]
    }

    #[test]
    fn an_empty_kernel_gets_everything() {
        let text = plan(&chains(), &ObservedRules::default()).unwrap();
        assert_eq!(
            text,
            "*mangle\n:IPVS-AGENT-ROUTE - [0:0]\n\
             -A IPVS-AGENT-ROUTE -m set --match-set S dst,dst -j MARK --set-xmark 0x2000/0x2000\n\
             -I PREROUTING -j IPVS-AGENT-ROUTE\nCOMMIT\n\
             *nat\n:IPVS-AGENT-SNAT - [0:0]\n-A IPVS-AGENT-SNAT -j MASQUERADE --random-fully\nCOMMIT\n"
        );
    }

    #[test]
    fn what_is_in_place_needs_nothing_and_foreign_rules_do_not_matter() {
        let saved = "*mangle\n:PREROUTING ACCEPT [3:180]\n:IPVS-AGENT-ROUTE - [0:0]\n:cali-X - [0:0]\n\
             -A PREROUTING -j cali-X\n-A PREROUTING -j IPVS-AGENT-ROUTE\n\
             -A IPVS-AGENT-ROUTE -m set --match-set S dst,dst -j MARK --set-xmark 0x2000/0x2000\nCOMMIT\n\
             *nat\n:IPVS-AGENT-SNAT - [0:0]\n-A IPVS-AGENT-SNAT -j MASQUERADE --random-fully\nCOMMIT\n";
        assert_eq!(plan(&chains(), &parse(saved)), None);
    }

    #[test]
    fn cleanup_names_only_what_is_ours() {
        let saved = "*mangle\n:IPVS-AGENT-ROUTE - [0:0]\n-A PREROUTING -j cali-X\n\
             -A PREROUTING -j IPVS-AGENT-ROUTE\n-A PREROUTING -j IPVS-AGENT-ROUTE\nCOMMIT\n";
        assert_eq!(
            plan(&[], &parse(saved)).unwrap(),
            "*mangle\n:IPVS-AGENT-ROUTE - [0:0]\n-D PREROUTING -j IPVS-AGENT-ROUTE\n\
             -D PREROUTING -j IPVS-AGENT-ROUTE\n-X IPVS-AGENT-ROUTE\nCOMMIT\n"
        );
        assert_eq!(plan(&[], &ObservedRules::default()), None);
    }
}
