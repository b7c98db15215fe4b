//! Rules beside others': ours are mended and removed, theirs stay as and where they are.

use ipvs_agent::netfilter::exec::Iptables;
use ipvs_agent::netfilter::parse::parse;
use ipvs_agent::netfilter::render::{expected, plan};
use ipvs_agent::netfilter::ruleset::{Chain, Table};

use super::rules::{Tables, chains, default_base, for_all_tables};

/// Base chains that we hook.
fn hooks(chains: &[Chain]) -> Vec<(Table, &'static str, &'static str)> {
    let hooks = chains
        .iter()
        .filter_map(|chain| Some((chain.table, chain.hook?, chain.name)));
    hooks.collect()
}

/// Everything in `iptables-save` that is not ours, without counters and dates.
fn foreign(tables: Tables) -> Vec<String> {
    let text = tables.save();
    let lines = text.lines().map(|line| match line.split_once(" [") {
        Some((declared, _)) if line.starts_with(':') => declared,
        _ => line,
    });
    let ours = |line: &&str| {
        line.starts_with('#')
            || line.starts_with(":IPVS-AGENT-")
            || line.starts_with("-A IPVS-AGENT-")
            || line.starts_with("-A") && line.contains(" -j IPVS-AGENT-") && !line.contains('"')
    };
    lines
        .filter(|line| !ours(line))
        .map(str::to_owned)
        .collect()
}

/// Rules of others in every chain that we hook, some of which look like ours.
fn populate(tables: Tables, chains: &[Chain]) {
    for table in Table::ALL {
        tables.change(&format!("-t {table} -N cali-FIRST"));
        tables.change(&format!("-t {table} -N IPVS-AGENTS"));
        tables.change(&format!("-t {table} -A IPVS-AGENTS -p udp -j RETURN"));
    }
    for (table, base, _) in hooks(chains) {
        tables.restore(&format!(
            "*{table}\n-A {base} -m comment --comment \"-j IPVS-AGENT-INPUT\" -j cali-FIRST\n\
             -A {base} -p tcp -m tcp --dport 22 -m comment --comment \":IPVS-AGENT-X - [0:0]\" -j RETURN\n\
             -A {base} -m comment --comment \"not -j IPVS-AGENT-INPUT\"\n\
             -A {base} -j IPVS-AGENTS\nCOMMIT\n"
        ));
    }
}

/// One pass of the agent.
fn pass(tables: Tables, iptables: &mut Iptables, chains: &[Chain]) {
    let observed = iptables.observe(tables.family).unwrap();
    let text = plan(chains, &observed).expect("a difference");
    iptables.restore(tables.family, &text).unwrap();
    assert_eq!(parse(&tables.save()), expected(chains));
}

/// Each jump is there once, before all rules of others.
fn jumps_are_first(tables: Tables, chains: &[Chain]) {
    for (table, base, chain) in hooks(chains) {
        let rules = tables.rules_of(table, base);
        let jump = format!("-j {chain}");
        assert_eq!(rules[0], jump, "{table} {base}: {rules:?}");
        assert_eq!(rules.iter().filter(|rule| **rule == jump).count(), 1);
    }
}

#[test]
fn ours_come_first_and_go_without_a_trace() {
    for_all_tables(|tables, iptables| {
        let chains = chains(&default_base(), tables.family);
        populate(tables, &chains);
        let before = foreign(tables);
        pass(tables, iptables, &chains);
        assert_eq!(foreign(tables), before);
        jumps_are_first(tables, &chains);
        pass(tables, iptables, &[]);
        assert_eq!(foreign(tables), before);
        assert!(!tables.save().contains("\n:IPVS-AGENT-"));
    });
}

#[test]
fn rules_that_others_add_later_are_no_difference() {
    for_all_tables(|tables, iptables| {
        let chains = chains(&default_base(), tables.family);
        populate(tables, &chains);
        pass(tables, iptables, &chains);
        for (table, base, _) in hooks(&chains) {
            tables.change(&format!("-t {table} -I {base} -j cali-FIRST"));
            tables.change(&format!("-t {table} -A {base} -j IPVS-AGENTS"));
        }
        let observed = iptables.observe(tables.family).unwrap();
        assert_eq!(plan(&chains, &observed), None);
    });
}

#[test]
fn every_damage_is_seen_and_mended() {
    // What somebody does, by hand or by restoring what was saved long ago.
    const DAMAGES: [&str; 16] = [
        "-t filter -D INPUT -j IPVS-AGENT-INPUT",
        "-t filter -A IPVS-AGENT-INPUT -j ACCEPT",
        "-t filter -I IPVS-AGENT-OUTPUT -p tcp -j DROP",
        "-t filter -D IPVS-AGENT-REFUSE 1",
        "-t filter -F IPVS-AGENT-FORWARD",
        "-t filter -R IPVS-AGENT-INPUT 2 -j DROP",
        "-t nat -R IPVS-AGENT-MASQ 2 -j MASQUERADE",
        "-t raw -A IPVS-AGENT-ROUTE -j MARK --set-xmark 0x2000/0x2000",
        "-t mangle -N IPVS-AGENT-OLD",
        "-t filter -A INPUT -j IPVS-AGENT-INPUT",
        "-t raw -I PREROUTING 3 -j IPVS-AGENT-ROUTE",
        "-t mangle -A FORWARD -j IPVS-AGENT-INPUT",
        "-t nat -A POSTROUTING -j IPVS-AGENT-MASQ",
        "-t filter -A cali-FIRST -j IPVS-AGENT-REFUSE",
        "-t filter -A INPUT -i lo -p tcp -m tcp --dport 80 -j IPVS-AGENT-INPUT",
        "-t mangle -A cali-FIRST -p udp -g IPVS-AGENT-CHOOSE",
    ];
    for_all_tables(|tables, iptables| {
        let chains = chains(&default_base(), tables.family);
        populate(tables, &chains);
        // So that the chain exists in the nft variant before the first damage.
        tables.change("-t mangle -A FORWARD -j cali-FIRST");
        pass(tables, iptables, &chains);
        let theirs = foreign(tables);
        let everything = tables.save().lines().count();
        for damage in DAMAGES {
            tables.change(damage);
            pass(tables, iptables, &chains);
            assert_eq!(foreign(tables), theirs, "{damage}");
            assert_eq!(tables.save().lines().count(), everything, "{damage}");
            jumps_are_first(tables, &chains);
        }
        // All at once but the first, and a chain of ours that an older version left with a jump and
        // rules. One jump after rules of others is no damage: their order is theirs to choose.
        for damage in &DAMAGES[1..] {
            tables.change(damage);
        }
        tables.change("-t mangle -A IPVS-AGENT-OLD -j IPVS-AGENT-INPUT");
        tables.restore(
            "*mangle\n-A PREROUTING -m comment --comment \"the \\\"old\\\" one\" -j IPVS-AGENT-OLD\nCOMMIT\n",
        );
        pass(tables, iptables, &chains);
        assert_eq!(foreign(tables), theirs);
        jumps_are_first(tables, &chains);
    });
}

#[test]
fn two_rules_that_changed_places_are_a_difference() {
    for_all_tables(|tables, iptables| {
        let chains = chains(&default_base(), tables.family);
        pass(tables, iptables, &chains);
        let rules = tables.rules_of(Table::Filter, "IPVS-AGENT-REFUSE");
        tables.change("-t filter -D IPVS-AGENT-REFUSE 1");
        tables.change(&format!("-t filter -A IPVS-AGENT-REFUSE {}", rules[0]));
        pass(tables, iptables, &chains);
        assert_eq!(tables.rules_of(Table::Filter, "IPVS-AGENT-REFUSE"), rules);
    });
}
