//! The ways that a connection's first packet can take through the table `nat`, by the words of its
//! rules: from `PREROUTING` and from `OUTPUT` down to the rules that translate its address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail, ensure};
use ipnet::IpNet;

use super::{Balance, transport};
use crate::guest::probe::Transport;

/// What is served to packets that come and to packets of the node itself.
pub fn served(rules: &str, sets: &str) -> Result<BTreeMap<(Transport, SocketAddr), Balance>> {
    let members: BTreeSet<(&str, &str)> = sets
        .lines()
        .filter_map(|line| line.strip_prefix("add ")?.split_once(' '))
        .collect();
    let mut chains: BTreeMap<&str, Vec<Rule<'_>>> = BTreeMap::new();
    for line in rules.lines() {
        if let Some((chain, words)) = line.strip_prefix("-A ").and_then(|l| l.split_once(' ')) {
            chains
                .entry(chain)
                .or_default()
                .push(Rule::read(words).with_context(|| line.to_owned())?);
        }
    }
    let walk = |start| -> Result<BTreeMap<_, _>> {
        let mut walk = Walk {
            chains: &chains,
            members: &members,
            found: BTreeMap::new(),
        };
        walk.chain(start, &Packet::default(), 0)?;
        Ok(walk.found)
    };
    let (coming, own) = (walk("PREROUTING")?, walk("OUTPUT")?);
    let both = coming
        .into_iter()
        .filter(|(tuple, balance)| own.get(tuple) == Some(balance));
    Ok(both.collect())
}

/// The words of a rule that matter here.
#[derive(Debug, Default)]
struct Rule<'a> {
    conditions: Vec<Condition<'a>>,
    /// What this does not read, so that the rule may hold for some packets only.
    unread: bool,
    target: Option<&'a str>,
    endpoint: Option<SocketAddr>,
    remembers: Option<u32>,
}

#[derive(Debug, Clone, Copy)]
enum Condition<'a> {
    To(IpNet),
    Protocol(Transport),
    Ports(u16, u16),
    /// Its address and port are in a set.
    In(&'a str),
}

impl<'a> Rule<'a> {
    fn read(words: &'a str) -> Result<Self> {
        let mut rule = Self::default();
        let mut words = words.split(' ').filter(|word| !word.is_empty());
        let mut negated = false;
        while let Some(word) = words.next() {
            if !word.starts_with('-') {
                negated = word == "!";
                continue;
            }
            // By who asks: whom it leads to is among those who are asked.
            let by_source = matches!(word, "-s" | "--match-set" | "--src-type");
            rule.unread |= std::mem::take(&mut negated) && !by_source;
            let mut value = || words.next().with_context(|| format!("{word} of nothing"));
            match word {
                "-d" => {
                    let net = value()?;
                    let net = net
                        .parse()
                        .or_else(|_| net.parse::<IpAddr>().map(IpNet::from))?;
                    rule.conditions.push(Condition::To(net));
                }
                "-p" => match transport(value()?) {
                    Some(transport) => rule.conditions.push(Condition::Protocol(transport)),
                    None => rule.unread = true,
                },
                "--dport" => {
                    let ports = value()?;
                    let (first, last) = ports.split_once(':').unwrap_or((ports, ports));
                    rule.conditions
                        .push(Condition::Ports(first.parse()?, last.parse()?));
                }
                "--match-set" => match (value()?, value()?) {
                    (set, "dst,dst") => rule.conditions.push(Condition::In(set)),
                    (_, "src") => {}
                    _ => rule.unread = true,
                },
                "-m" | "-s" | "--src-type" | "--comment" => _ = value()?,
                "-j" | "-g" => rule.target = Some(value()?),
                "--to-destination" => rule.endpoint = Some(value()?.parse()?),
                "--timeout" => rule.remembers = Some(value()?.parse()?),
                _ => rule.unread = true,
            }
        }
        Ok(rule)
    }
}

/// What is known of a packet that has come so far.
#[derive(Debug, Clone, Default)]
struct Packet<'a> {
    to: Option<IpNet>,
    transport: Option<Transport>,
    ports: Option<(u16, u16)>,
    sets: BTreeSet<&'a str>,
}

impl<'a> Packet<'a> {
    /// The same once a rule has let it by; none if it lets none of them by.
    fn narrowed(&self, conditions: &[Condition<'a>]) -> Option<Self> {
        let mut packet = self.clone();
        for condition in conditions {
            match *condition {
                Condition::To(net) => {
                    let known = packet.to.unwrap_or(net);
                    packet.to = Some(match known {
                        known if known.contains(&net) => net,
                        known if net.contains(&known) => known,
                        _ => return None,
                    });
                }
                Condition::Protocol(wanted) => {
                    if packet.transport.is_some_and(|known| known != wanted) {
                        return None;
                    }
                    packet.transport = Some(wanted);
                }
                Condition::Ports(first, last) => {
                    let (from, to) = packet.ports.unwrap_or((first, last));
                    let ports = (from.max(first), to.min(last));
                    if ports.0 > ports.1 {
                        return None;
                    }
                    packet.ports = Some(ports);
                }
                Condition::In(set) => _ = packet.sets.insert(set),
            }
        }
        Some(packet)
    }

    /// Its one address and port.
    fn tuple(&self) -> Option<(Transport, SocketAddr)> {
        let net = self.to?;
        let (first, last) = self.ports?;
        let one = net.prefix_len() == net.max_prefix_len() && first == last;
        one.then_some((self.transport?, SocketAddr::new(net.addr(), first)))
    }
}

struct Walk<'a> {
    chains: &'a BTreeMap<&'a str, Vec<Rule<'a>>>,
    members: &'a BTreeSet<(&'a str, &'a str)>,
    found: BTreeMap<(Transport, SocketAddr), Balance>,
}

impl<'a> Walk<'a> {
    fn chain(&mut self, name: &str, packet: &Packet<'a>, depth: usize) -> Result<()> {
        ensure!(depth < DEEPEST, "{name} leads to itself");
        let chains = self.chains;
        for rule in chains.get(name).into_iter().flatten() {
            let Some(packet) = packet.narrowed(&rule.conditions) else {
                continue;
            };
            match rule.target {
                Some("DNAT" | "SET") if name.starts_with(OURS) => self.leaf(&packet, rule)?,
                Some(below) if chains.contains_key(below) => {
                    ensure!(
                        !rule.unread || !below.starts_with(OURS),
                        "of {name} there is a rule to {below} for who knows whom"
                    );
                    self.chain(below, &packet, depth + 1)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn leaf(&mut self, packet: &Packet<'a>, rule: &Rule<'_>) -> Result<()> {
        let Some((transport, to)) = packet.tuple() else {
            bail!("{rule:?} translates more than one address and port: {packet:?}");
        };
        let name = format!("{transport:?}").to_ascii_lowercase();
        let member = format!("{},{name}:{}", to.ip(), to.port());
        let is_member = |set: &&str| self.members.contains(&(*set, member.as_str()));
        if !packet.sets.iter().all(is_member) {
            return Ok(());
        }
        let balance = self.found.entry((transport, to)).or_default();
        balance
            .endpoints
            .extend(rule.endpoint.map(|endpoint| (endpoint, None)));
        balance.affinity = rule.remembers.or(balance.affinity);
        Ok(())
    }
}

/// Deeper than a tree of addresses and ports is.
const DEEPEST: usize = 64;
const OURS: &str = "IPVS-AGENT-";

#[cfg(test)]
mod tests {
    use super::*;

    const SETS: &str = "create B hash:ip,port family inet\nadd B 10.96.0.1,tcp:80\n\
        add B 10.96.0.1,udp:53\nadd B 10.96.0.9,tcp:80\nadd S 10.96.0.9,tcp:80\n";

    fn told(rules: &[&str]) -> Result<String> {
        let starts = ["PREROUTING -j IPVS-AGENT-P", "OUTPUT -j IPVS-AGENT-P"];
        let rules: Vec<String> = starts
            .iter()
            .chain(rules)
            .map(|rule| format!("-A {rule}\n"))
            .collect();
        let tuples = served(&rules.concat(), SETS)?;
        Ok(super::super::Served { tuples }.to_string())
    }

    const WAY: [&str; 7] = [
        "IPVS-AGENT-P -m set --match-set B dst,dst -j IPVS-AGENT-SERVICES",
        "IPVS-AGENT-SERVICES -m set ! --match-set PODS src -j MARK --set-xmark 0x1/0x1",
        "IPVS-AGENT-SERVICES -m set --match-set S dst,dst -g IPVS-AGENT-T-1",
        "IPVS-AGENT-SERVICES -g IPVS-AGENT-T-1",
        "IPVS-AGENT-T-1 -d 10.96.0.0/28 -g IPVS-AGENT-T-2",
        "IPVS-AGENT-T-2 -d 10.96.0.1/32 -p tcp -m tcp --dport 80 -g IPVS-AGENT-S-1",
        "IPVS-AGENT-T-2 -d 10.96.0.7/32 -p tcp -m tcp --dport 80 -g IPVS-AGENT-S-1",
    ];
    const LEADS: [&str; 3] = [
        "IPVS-AGENT-S-1 -m statistic --mode random --probability 0.5 -j SET --add-set C src --exist --timeout 300",
        "IPVS-AGENT-S-1 -p tcp -m set --match-set C src -j DNAT --to-destination 10.244.1.2:8080",
        "IPVS-AGENT-S-1 -p tcp -j DNAT --to-destination 10.244.2.2:8080",
    ];

    #[test]
    fn served_is_what_rules_and_sets_lead_to() {
        let all = [&WAY[..], &LEADS].concat();
        assert_eq!(
            told(&all).unwrap(),
            "Tcp 10.96.0.1:80 stays 300 s -> 10.244.1.2:8080 -> 10.244.2.2:8080\n"
        );
        // A branch for others, a way that is cut, a node whose own packets go by.
        let mut elsewhere = all.clone();
        elsewhere[4] = "IPVS-AGENT-T-1 -d 10.97.0.0/28 -g IPVS-AGENT-T-2";
        assert_eq!(told(&elsewhere).unwrap(), "");
        assert_eq!(told(&all[1..]).unwrap(), "");
        let without_output = all.iter().map(|rule| format!("-A {rule}\n"));
        let without_output: String = without_output.collect();
        let rules = format!("-A PREROUTING -j IPVS-AGENT-P\n{without_output}");
        assert!(served(&rules, SETS).unwrap().is_empty());
    }

    #[test]
    fn a_range_that_is_translated_is_an_error() {
        let rules = [
            "IPVS-AGENT-P -d 10.96.0.0/28 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.244.1.2:8080",
        ];
        assert!(told(&rules).is_err());
        let rules = ["IPVS-AGENT-P -i eth0 -j IPVS-AGENT-Q", "IPVS-AGENT-Q -j X"];
        assert!(told(&rules).is_err());
    }
}
