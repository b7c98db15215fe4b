//! The sets in the kernel: read, and changed in batches.

use std::collections::BTreeSet;
use std::time::Duration;
use std::{fmt, fs};

use super::affinity::AffinitySet;
use super::sets::{Element, MAX_ELEMENTS, Member, SetKind, as_address, as_mark};
use super::sysctl;
use crate::dataplane::{Error, Netlink};
use crate::model::Family;
use crate::netfilter::ipset::{self, Entry, IpsetClient, SetCommand, SetName, SetSpec, SetType};
use crate::netfilter::nfnetlink;
use crate::routing::RouteClient;

/// A set of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SetId {
    Kind(SetKind, Family),
    Affinity(AffinitySet),
}

impl fmt::Display for SetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(set, family) => f.write_str(&set.name(*family)),
            Self::Affinity(set) => set.fmt(f),
        }
    }
}

impl SetId {
    pub fn family(self) -> Family {
        match self {
            Self::Kind(_, family) => family,
            Self::Affinity(set) => set.family,
        }
    }

    fn spec(self) -> Result<SetSpec, Error> {
        let (name, set_type, family) = match self {
            Self::Kind(set, family) => (set.name(family), set.set_type(), family),
            Self::Affinity(set) => (set.to_string(), SetType::HashIpTimeout, set.family),
        };
        Ok(SetSpec {
            name: set_name(&name)?,
            set_type,
            family,
            max_elements: MAX_ELEMENTS,
        })
    }
}

/// One change of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetAct {
    Create(SetId),
    Destroy(SetId),
    Add(Member),
    Delete(Member),
}

/// How it ended.
#[derive(Debug)]
pub enum Done {
    Applied,
    Failed(Error),
    /// Nobody knows; the kernel must be read again.
    Unknown,
}

/// Changes sets in one batch and gives the outcome of each change.
pub fn change_sets(client: &mut IpsetClient, acts: &[SetAct]) -> Vec<Done> {
    let commands: Result<Vec<SetCommand>, Error> = acts.iter().map(command).collect();
    let commands = match commands {
        Ok(commands) => commands,
        Err(error) => return all_failed(acts.len(), "name a set", &error.to_string()),
    };
    let mut result = client.batch(&commands);
    // nf_tables lets go of a set a moment after the rule that asked it is gone.
    for _ in 0..DESTROY_TRIES {
        let in_use = result.as_ref().is_ok_and(|outcomes| {
            outcomes.iter().zip(acts).any(|(outcome, act)| {
                matches!(act, SetAct::Destroy(_))
                    && matches!(outcome, ipset::Outcome::Failed(error) if error.is_in_use())
            })
        });
        if !in_use {
            break;
        }
        std::thread::sleep(DESTROY_PAUSE);
        result = client.batch(&commands);
    }
    match result {
        Err(error) => all_failed(acts.len(), "send ipset commands", &error.to_string()),
        Ok(outcomes) => outcomes
            .into_iter()
            .zip(acts)
            .map(|(outcome, act)| match outcome {
                ipset::Outcome::Applied => Done::Applied,
                ipset::Outcome::Unknown => Done::Unknown,
                ipset::Outcome::Failed(error) if is_so_already(act, &error) => Done::Applied,
                ipset::Outcome::Failed(error) => Done::Failed(Error::new("change a set", error)),
            })
            .collect(),
    }
}

/// The kernel says EEXIST to a set only if the one that is there is of another kind.
fn is_so_already(act: &SetAct, error: &ipset::Error) -> bool {
    match act {
        SetAct::Create(_) => false,
        SetAct::Add(_) => error.is_exists(),
        SetAct::Destroy(_) | SetAct::Delete(_) => error.is_not_found(),
    }
}

fn command(act: &SetAct) -> Result<SetCommand, Error> {
    Ok(match act {
        SetAct::Create(set) => SetCommand::Create(set.spec()?),
        SetAct::Destroy(set) => SetCommand::Destroy(set.spec()?.name),
        SetAct::Add(member) => SetCommand::Add(set_name(&member.set_name())?, entry(member)),
        SetAct::Delete(member) => SetCommand::Delete(set_name(&member.set_name())?, entry(member)),
    })
}

/// Those of our sets that there are. One of our names and another type is not there for us; to
/// create ours then fails and tells.
pub fn read_sets(
    client: &mut IpsetClient,
    kinds: &[SetKind],
) -> Result<BTreeSet<(SetKind, Family)>, Error> {
    let names = names(client)?;
    let all = Family::ALL
        .into_iter()
        .flat_map(|family| kinds.iter().map(move |set| (*set, family)));
    Ok(all
        .filter(|(set, family)| names.contains(&(set.name(*family), set.set_type().to_string())))
        .collect())
}

/// The sets of clients that there are.
pub fn read_affinity_sets(client: &mut IpsetClient) -> Result<BTreeSet<AffinitySet>, Error> {
    let names = names(client)?.into_iter();
    Ok(names.filter_map(|(name, _)| name.parse().ok()).collect())
}

/// Names and types.
fn names(client: &mut IpsetClient) -> Result<BTreeSet<(String, String)>, Error> {
    let sets = client.sets().map_err(|e| Error::new("list the sets", e))?;
    Ok(sets
        .into_iter()
        .map(|set| (set.name, set.type_name))
        .collect())
}

/// What the sets hold. Costs their size.
pub fn read_members(
    client: &mut IpsetClient,
    sets: &BTreeSet<(SetKind, Family)>,
) -> Result<BTreeSet<Member>, Error> {
    let mut members = BTreeSet::new();
    for &(set, family) in sets {
        let name = set.name(family);
        let entries = client
            .entries(&set_name(&name)?)
            .map_err(|e| Error::new(format!("read the set {name}"), e))?;
        members.extend(
            entries
                .iter()
                .filter_map(|entry| member(set, family, entry)),
        );
    }
    Ok(members)
}

fn set_name(name: &str) -> Result<SetName, Error> {
    name.parse()
        .map_err(|e| Error::new(format!("name a set {name}"), e))
}

fn entry(member: &Member) -> Entry {
    match member.element {
        Element::VipPort(vip) => Entry::IpPort(vip),
        Element::Hairpin(vip) => Entry::IpPortIp {
            vip,
            source: vip.addr,
        },
        Element::Net(net) => Entry::Net(net),
        Element::Source { vip, net } => Entry::IpPortNet { vip, net },
        Element::Near { vip, mark } => Entry::IpPortSkbmark { vip, mark },
        Element::Port { port, .. } => Entry::Port(port),
        Element::Mark { family, mark } => Entry::Net(as_address(family, mark).into()),
    }
}

fn member(set: SetKind, family: Family, entry: &Entry) -> Option<Member> {
    let element = match *entry {
        Entry::IpPort(vip) => Element::VipPort(vip),
        Entry::IpPortIp { vip, source } if source == vip.addr => Element::Hairpin(vip),
        Entry::Net(net) if set == SetKind::Marks => Element::Mark {
            family: Family::of(net.addr()),
            mark: as_mark(net.addr())?,
        },
        Entry::Net(net) => Element::Net(net),
        Entry::Port(port) => Element::Port { family, port },
        Entry::IpPortNet { vip, net } => Element::Source { vip, net },
        Entry::IpPortSkbmark { vip, mark } => Element::Near { vip, mark },
        // Not of our making: every hairpin entry names one address twice.
        Entry::IpPortIp { .. } => return None,
    };
    Some(Member { set, element })
}

/// A kernel booted with `ipv6.disable=1` has no such file; where `lo` has no IPv6 no route over it
/// can be added.
pub fn has_ipv6() -> bool {
    let disabled = fs::read_to_string(sysctl::path("net.ipv6.conf.lo.disable_ipv6"));
    disabled.is_ok_and(|value| value.trim() == "0")
}

fn all_failed(count: usize, act: &str, error: &str) -> Vec<Done> {
    (0..count)
        .map(|_| Done::Failed(Error::new(act, error.to_owned())))
        .collect()
}

impl From<nfnetlink::Counters> for Netlink {
    fn from(counters: nfnetlink::Counters) -> Self {
        Self {
            messages: counters.messages,
            sends: counters.sends,
            errors: counters.errors,
        }
    }
}

/// What was asked of rtnetlink: each request is sent alone.
pub fn routes(client: &RouteClient) -> Netlink {
    Netlink {
        messages: client.requests(),
        sends: client.requests(),
        errors: client.errors(),
    }
}

/// Two seconds in all.
const DESTROY_TRIES: u32 = 20;
const DESTROY_PAUSE: Duration = Duration::from_millis(100);
