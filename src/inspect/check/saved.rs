//! The text of `iptables-save`, whoever wrote the rules: policies, chains, rules, mark bits. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// The names of the agent's own chains begin so.
pub const OURS: &str = "IPVS-AGENT-";

/// One text, taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Saved {
    /// (table, chain) → policy, `-` for chains that are not the kernel's own.
    pub chains: BTreeMap<(String, String), String>,
    pub rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub table: String,
    pub chain: String,
    /// What follows the chain's name.
    pub words: Vec<String>,
}

/// Which bits of the mark a rule looks at or changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MarkUse {
    pub bits: u32,
}

impl MarkUse {
    /// Not some bits, but the mark as one number.
    pub fn is_whole(self) -> bool {
        self.bits == u32::MAX
    }
}

/// Reads a text; what it does not know it leaves out.
pub fn parse(text: &str) -> Saved {
    let mut saved = Saved::default();
    let mut table = String::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('*') {
            name.clone_into(&mut table);
        } else if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split_whitespace();
            if let (Some(name), Some(policy)) = (words.next(), words.next()) {
                let key = (table.clone(), name.to_owned());
                saved.chains.insert(key, policy.to_owned());
            }
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let mut words = rule.split_whitespace().map(str::to_owned);
            if let Some(chain) = words.next() {
                saved.rules.push(Rule {
                    table: table.clone(),
                    chain,
                    words: words.collect(),
                });
            }
        }
    }
    saved
}

impl Saved {
    /// Rules that are not the agent's, nor lead to its chains.
    pub fn of_others(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(|rule| !rule.is_ours())
    }

    /// Names of chains.
    pub fn chain_names(&self) -> impl Iterator<Item = &str> {
        self.chains.keys().map(|(_, chain)| chain.as_str())
    }

    /// Whether the agent has chains here.
    pub fn has_ours(&self) -> bool {
        self.chain_names().any(|chain| chain.starts_with(OURS))
    }

    /// Chains of a table that a packet may come to from one, itself included.
    pub fn reachable<'a>(&'a self, table: &str, from: &'a str) -> BTreeSet<&'a str> {
        let mut found = BTreeSet::from([from]);
        let mut next = vec![from];
        while let Some(chain) = next.pop() {
            let rules = self.rules.iter();
            for rule in rules.filter(|rule| rule.table == table && rule.chain == chain) {
                if let Some(target) = rule.target()
                    && self
                        .chains
                        .contains_key(&(table.to_owned(), target.to_owned()))
                    && found.insert(target)
                {
                    next.push(target);
                }
            }
        }
        found
    }
}

impl Rule {
    /// Where it sends a packet.
    pub fn target(&self) -> Option<&str> {
        self.after(&["-j", "-g"])
    }

    pub fn is_ours(&self) -> bool {
        let leads = self.target().is_some_and(|target| target.starts_with(OURS));
        leads || self.chain.starts_with(OURS)
    }

    /// The word behind one of these.
    fn after(&self, options: &[&str]) -> Option<&str> {
        let mut words = self.words.iter();
        words.find(|word| options.contains(&word.as_str()))?;
        words.next().map(String::as_str)
    }

    /// The bits of packets' marks that it looks at or changes.
    pub fn mark_uses(&self) -> Vec<MarkUse> {
        let mut module = "";
        let mut uses = Vec::new();
        for pair in self.words.windows(2) {
            let (option, value) = (pair[0].as_str(), pair[1].as_str());
            match option {
                "-m" | "-j" => module = value,
                // A connection's mark is none of a packet's, but for what is copied.
                "--mark" if module == "mark" => uses.extend(tested(value)),
                "--set-xmark" | "--set-mark" if module == "MARK" => uses.extend(changed(value)),
                "--nfmask" | "--mask" if module == "CONNMARK" => uses.extend(number(value)),
                _ => {}
            }
        }
        uses.into_iter()
            .filter(|bits| *bits != 0)
            .map(|bits| MarkUse { bits })
            .collect()
    }
}

/// `VALUE/MASK`: the bits that are compared.
fn tested(text: &str) -> Option<u32> {
    match text.split_once('/') {
        Some((_, mask)) => number(mask),
        None => number(text).map(|_| u32::MAX),
    }
}

/// `VALUE/MASK`: those that are zeroed, and those that are set.
fn changed(text: &str) -> Option<u32> {
    match text.split_once('/') {
        Some((value, mask)) => Some(number(value)? | number(mask)?),
        None => number(text).map(|_| u32::MAX),
    }
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(rule: &str) -> Vec<u32> {
        let saved = parse(&format!("*mangle\n-A X {rule}\nCOMMIT\n"));
        let uses = saved.rules.iter().flat_map(Rule::mark_uses);
        uses.map(|used| used.bits).collect()
    }

    /// Rules as both variants print them.
    #[test]
    fn the_bits_of_the_mark_that_a_rule_uses() {
        for (rule, wanted) in [
            ("-m mark --mark 0x10000/0x10000 -j ACCEPT", vec![0x1_0000]),
            ("-m mark ! --mark 0x4000/0x4000 -j RETURN", vec![0x4000]),
            ("-m mark --mark 0x1 -j ACCEPT", vec![u32::MAX]),
            ("-j MARK --set-xmark 0x4000/0x4000", vec![0x4000]),
            ("-j MARK --set-xmark 0x4000/0x0", vec![0x4000]),
            ("-j MARK --set-xmark 0x0/0xffff", vec![0xffff]),
            ("-j MARK --set-xmark 0x1/0xffffffff", vec![u32::MAX]),
            (
                "-m mark --mark 0x1/0x3 -j MARK --set-xmark 0x8/0x8",
                vec![3, 8],
            ),
            // A connection's mark, and what is copied from it.
            ("-m connmark --mark 0x80/0x80 -j ACCEPT", vec![]),
            (
                "-j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80",
                vec![0x80],
            ),
            ("-m comment --comment mark -j ACCEPT", vec![]),
            ("-j MARK --set-xmark nonsense/0x1", vec![]),
        ] {
            assert_eq!(bits(rule), wanted, "{rule}");
        }
    }

    #[test]
    fn foreign_text_is_left_out() {
        for text in ["", "-A", "-A \n:", ":X\n*", "garbage\n-A INPUT"] {
            let saved = parse(text);
            assert!(saved.chains.is_empty(), "{text:?}");
            assert!(
                saved.rules.iter().all(|rule| rule.words.is_empty()),
                "{text:?}"
            );
        }
    }

    #[test]
    fn chains_are_followed_in_their_table_and_not_for_ever() {
        let text = "*filter\n:FORWARD DROP [0:0]\n:A - [0:0]\n:B - [0:0]\n:C - [0:0]\n-A FORWARD -j A\n-A A -g B\n-A B -j A\nCOMMIT\n*nat\n:C - [0:0]\n-A FORWARD -j C\nCOMMIT\n";
        let saved = parse(text);
        assert_eq!(
            saved.reachable("filter", "FORWARD"),
            ["A", "B", "FORWARD"].into()
        );
    }
}
