//! A packet has one mark, and several programs use bits of it.

use std::collections::{BTreeMap, BTreeSet};

use super::some;
use crate::inspect::check::facts::{Facts, Wanted};
use crate::inspect::check::{Level, Verdict};

/// Who uses which bits.
struct Use {
    who: String,
    bits: u32,
}

pub fn mark_bits(facts: &Facts) -> Verdict {
    if let Some(why) = facts.unsaved() {
        return Verdict::unread("the rules of iptables", why);
    }
    let rules = match &facts.rules {
        Ok(rules) => rules,
        Err(why) => return Verdict::unread("the routing rules", why),
    };
    let mut uses = Vec::new();
    for (_, saved) in facts.saved() {
        for rule in saved.of_others() {
            let who = owner(&rule.chain);
            uses.extend(
                rule.mark_uses()
                    .into_iter()
                    .filter(|mark| !mark.is_whole())
                    .map(|mark| Use {
                        who: format!("{who} (chain {})", rule.chain),
                        bits: mark.bits,
                    }),
            );
        }
    }
    for rule in rules.iter().filter(|rule| !rule.ours) {
        uses.extend(
            rule.mark
                .filter(|(_, mask)| *mask != u32::MAX && *mask != 0)
                .map(|(_, mask)| Use {
                    who: format!("ip rule {}", rule.priority),
                    bits: mask,
                }),
        );
    }
    let whole = facts
        .saved()
        .flat_map(|(_, saved)| saved.of_others())
        .filter(|rule| rule.mark_uses().iter().any(|mark| mark.is_whole()))
        .map(|rule| rule.chain.clone());
    let whole: BTreeSet<String> = whole.collect();
    let wanted = &facts.wanted;
    let mut clashes: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut worst = Level::Ok;
    for (flag, bits, level) in flags(wanted) {
        for one in uses.iter().filter(|one| one.bits & bits != 0) {
            // It means the same to the kubelet and kube-proxy: masquerade.
            if flag == "--masquerade-mark" && one.who.starts_with("kube-proxy") && one.bits == bits
            {
                continue;
            }
            clashes
                .entry(flag)
                .or_default()
                .insert(format!("{} has {:#x}", one.who, one.bits));
            worst = worst.max(level);
        }
    }
    let told: Vec<String> = clashes
        .iter()
        .map(|(flag, who)| format!("{flag}: {}", some(who)))
        .collect();
    let all = uses.iter().fold(0, |all, one| all | one.bits);
    match worst {
        Level::Ok if whole.is_empty() => Verdict::ok(format!(
            "others use {all:#x}, none of the agent's {:#x}",
            flags(wanted).iter().fold(0, |all, (_, bits, _)| all | bits)
        )),
        Level::Ok => Verdict::warn(
            format!(
                "rules in {} look at or set the whole mark, the agent's bits too",
                some(&whole)
            ),
            "have their owner use a mask, such as --mark 0x1/0x1",
        ),
        level => Verdict {
            level,
            found: told.join("; "),
            remedy: Some(format!(
                "choose bits that nobody has ({:#x} are free) by {}, or have the other one use others",
                !all,
                clashes.keys().copied().collect::<Vec<_>>().join(" ")
            )),
        },
    }
}

fn flags(wanted: &Wanted) -> [(&'static str, u32, Level); 3] {
    [
        ("--route-mark", wanted.route_mark, Level::Fail),
        ("--masquerade-mark", wanted.masquerade_mark, Level::Warn),
        ("--near-marks", wanted.near_marks, Level::Warn),
    ]
}

/// Who names chains so.
fn owner(chain: &str) -> &'static str {
    let named = |(prefix, _): &&(&str, &str)| chain.starts_with(prefix);
    OWNERS
        .iter()
        .find(named)
        .map_or("a rule", |(_, owner)| owner)
}

const OWNERS: [(&str, &str); 15] = [
    ("cali-", "Calico"),
    ("CILIUM_", "Cilium"),
    ("OLD_CILIUM_", "Cilium"),
    ("KUBE-ROUTER-", "kube-router"),
    ("KUBE-NWPLCY", "kube-router"),
    ("KUBE-POD-FW", "kube-router"),
    ("KUBE-", "kube-proxy or the kubelet"),
    ("FLANNEL-", "Flannel"),
    ("WEAVE-", "Weave"),
    ("AWS-", "the AWS network plugin"),
    ("ANTREA-", "Antrea"),
    ("CNI-", "a CNI plugin"),
    ("DOCKER", "Docker"),
    ("ts-", "Tailscale"),
    ("ISTIO_", "Istio"),
];
