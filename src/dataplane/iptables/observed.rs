//! The mirror: what the kernel holds of ours, as last read and as changed by our steps since.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher;

use fnv::FnvHasher;

use super::chain::ChainKey;
use super::step::Step;
use crate::dataplane::policy::affinity::AffinitySet;
use crate::dataplane::policy::kernel::SetId;
use crate::dataplane::policy::sets::{Member, SetKind};
use crate::model::{Family, Protocol, VipPort};
use crate::netfilter::ObservedRules;

/// Kernel state, as far as it is ours.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Families that this kernel has.
    pub families: BTreeSet<Family>,
    pub sets: BTreeSet<(SetKind, Family)>,
    pub affinity_sets: BTreeSet<AffinitySet>,
    pub members: BTreeSet<Member>,
    /// The constant chains.
    pub rules: BTreeMap<Family, ObservedRules>,
    /// The chains that follow from Services.
    pub chains: BTreeMap<ChainKey, Content>,
    /// Values of the sysctls that matter, by name; absent ones do not exist on this kernel.
    pub sysctls: BTreeMap<&'static str, String>,
    /// UDP tuples whose conntrack entries may lead to endpoints that are gone.
    pub owed_flows: BTreeSet<VipPort>,
    balanced: usize,
    endpoints: usize,
}

/// The rules of a chain, in short: 50,000 of them are not kept as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    digest: u64,
    /// Rules that lead to an endpoint.
    endpoints: usize,
}

impl Content {
    pub fn of(lines: &[String]) -> Self {
        let mut hasher = FnvHasher::default();
        for line in lines {
            hasher.write(line.as_bytes());
            hasher.write_u8(0);
        }
        let leads = lines.iter().filter(|line| line.contains(" -j DNAT "));
        Self {
            digest: hasher.finish(),
            endpoints: leads.count(),
        }
    }
}

impl Observed {
    /// Takes the success of a step in.
    pub fn record(&mut self, step: &Step) {
        match step {
            Step::SetSysctl(wanted) => {
                self.sysctls.insert(wanted.name, wanted.value.to_owned());
            }
            Step::CreateSet(SetId::Kind(set, family)) => {
                self.sets.insert((*set, *family));
            }
            Step::CreateSet(SetId::Affinity(set)) => {
                self.affinity_sets.insert(*set);
            }
            Step::DestroySet(SetId::Kind(set, family)) => {
                self.sets.remove(&(*set, *family));
            }
            Step::DestroySet(SetId::Affinity(set)) => {
                self.affinity_sets.remove(set);
            }
            Step::AddMember(member) => self.add_member(*member),
            Step::DelMember(member) => {
                if self.members.remove(member) && member.set == SetKind::Balanced {
                    self.balanced -= 1;
                }
            }
            Step::WriteRules { family, after, .. } => {
                self.rules.insert(*family, after.clone());
            }
            Step::PutChain { key, lines, .. } => self.put_chain(*key, Content::of(lines)),
            Step::DelChain(key) => {
                let gone = self.chains.remove(key);
                self.endpoints -= gone.map_or(0, |content| content.endpoints);
            }
            Step::EndFlows { .. } => {}
            Step::ForgetFlows { vip, .. } => {
                self.owed_flows.remove(vip);
            }
        }
    }

    pub fn add_member(&mut self, member: Member) {
        if self.members.insert(member) && member.set == SetKind::Balanced {
            self.balanced += 1;
        }
    }

    pub fn put_chain(&mut self, key: ChainKey, content: Content) {
        self.endpoints += content.endpoints;
        let before = self.chains.insert(key, content);
        self.endpoints -= before.map_or(0, |content| content.endpoints);
    }

    /// Leaves out of sight what the IPVS dataplane uses too.
    pub fn spare_shared(&mut self) {
        let shared = |set: SetKind| SetKind::SHARED.contains(&set);
        self.sets.retain(|(set, _)| !shared(*set));
        self.members.retain(|member| !shared(member.set));
    }

    /// Owes the flows of all UDP tuples that were balanced: an earlier run may have died before it
    /// paid.
    pub fn owe_all_flows(&mut self) {
        let balanced = |member: &&Member| member.set == SetKind::Balanced;
        let tuples = self.members.iter().filter(balanced).filter_map(Member::vip);
        self.owed_flows = tuples.filter(|vip| vip.protocol == Protocol::Udp).collect();
    }

    /// Tuples that are balanced.
    pub fn balanced(&self) -> usize {
        self.balanced
    }

    /// Rules that lead to an endpoint.
    pub fn endpoints(&self) -> usize {
        self.endpoints
    }
}
