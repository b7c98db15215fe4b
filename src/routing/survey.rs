//! All links and policy rules, whoever made them, and routes of others in one table.

use std::net::{Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt;
use netlink_packet_route::link::{
    InfoBridgePort, InfoKind, InfoPortData, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol};
use netlink_packet_route::rule::{RuleAttribute, RuleFlags, RuleMessage};
use rtnetlink::RouteMessageBuilder;

use super::{Error, PROTOCOL, RouteClient, is_unsupported, ours};
use crate::model::Family;

/// An interface as a bridge sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkEntry {
    pub index: u32,
    pub name: String,
    /// `veth`, `bridge` …; empty for hardware.
    pub kind: String,
    /// What it is a port of.
    pub controller: Option<u32>,
    /// Of a bridge's port: whether a packet may leave by where it came.
    pub hairpin: Option<bool>,
    pub promiscuous: bool,
}

/// A policy rule of anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleEntry {
    pub priority: u32,
    /// Value and mask.
    pub mark: Option<(u32, u32)>,
    pub table: u32,
    /// Whether this agent made it, or another run of it.
    pub ours: bool,
    /// Whether it asks for anything beside the mark.
    pub selects: bool,
}

impl RouteClient {
    /// All interfaces.
    pub fn links(&mut self) -> Result<Vec<LinkEntry>, Error> {
        self.requests += 1;
        let links = self.handle.link().get().execute();
        let links: Vec<LinkMessage> = self.wait(links.try_collect())?;
        Ok(links.iter().map(link).collect())
    }

    /// All policy rules of a family.
    pub fn all_rules(&mut self, family: Family) -> Result<Vec<RuleEntry>, Error> {
        Ok(self.rules(family)?.iter().map(rule).collect())
    }

    /// How many routes of a table are not ours. Costs all routes of both families.
    pub fn foreign_routes(&mut self, table: u32) -> Result<usize, Error> {
        self.requests += 2;
        let mut found = 0;
        for message in [
            RouteMessageBuilder::<Ipv4Addr>::new().build(),
            RouteMessageBuilder::<Ipv6Addr>::new().build(),
        ] {
            let routes = self.handle.route().get(message).execute();
            match self.wait(routes.try_collect::<Vec<_>>()) {
                Ok(routes) => {
                    let foreign = |route: &&RouteMessage| is_foreign(route, table);
                    found += routes.iter().filter(foreign).count();
                }
                Err(Error::Request(error)) if is_unsupported(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}

fn is_foreign(route: &RouteMessage, table: u32) -> bool {
    route.attributes.contains(&RouteAttribute::Table(table))
        && route.header.protocol != RouteProtocol::Other(PROTOCOL)
}

fn link(message: &LinkMessage) -> LinkEntry {
    let mut link = LinkEntry {
        index: message.header.index,
        name: String::new(),
        kind: String::new(),
        controller: None,
        hairpin: None,
        promiscuous: message.header.flags.contains(LinkFlags::Promisc),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => name.clone_into(&mut link.name),
            LinkAttribute::Controller(index) => link.controller = Some(*index),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    describe(&mut link, info);
                }
            }
            _ => {}
        }
    }
    link
}

fn describe(link: &mut LinkEntry, info: &LinkInfo) {
    match info {
        LinkInfo::Kind(InfoKind::Veth) => "veth".clone_into(&mut link.kind),
        LinkInfo::Kind(InfoKind::Bridge) => "bridge".clone_into(&mut link.kind),
        LinkInfo::Kind(other) => link.kind = other.to_string(),
        LinkInfo::PortData(InfoPortData::BridgePort(port)) => {
            link.hairpin = port.iter().find_map(|attribute| match attribute {
                InfoBridgePort::HairpinMode(on) => Some(*on),
                _ => None,
            });
        }
        _ => {}
    }
}

fn rule(message: &RuleMessage) -> RuleEntry {
    let header = &message.header;
    let (mut value, mut mask) = (None, None);
    let mut rule = RuleEntry {
        priority: 0,
        mark: None,
        table: u32::from(header.table),
        ours: message.attributes.contains(&ours()),
        selects: header.dst_len > 0 || header.src_len > 0 || header.tos > 0,
    };
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::FwMark(mark) => value = Some(*mark),
            RuleAttribute::FwMask(bits) => mask = Some(*bits),
            RuleAttribute::Table(table) => rule.table = *table,
            RuleAttribute::Priority(priority) => rule.priority = *priority,
            RuleAttribute::Protocol(_) | RuleAttribute::Other(_) => {}
            // The kernel says that nothing is suppressed by -1.
            RuleAttribute::SuppressPrefixLen(u32::MAX)
            | RuleAttribute::SuppressIfGroup(u32::MAX) => {}
            _ => rule.selects = true,
        }
    }
    // The kernel's own rules have neither; one without a mask compares the whole mark.
    let mark = value.map(|value| (value, mask.unwrap_or(u32::MAX)));
    rule.mark = mark.filter(|(_, mask)| *mask != 0);
    // `not fwmark …`, as wg-quick has it, takes nearly everything.
    if header.flags.contains(RuleFlags::Invert) {
        rule.mark = None;
    }
    rule
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(attributes: Vec<RuleAttribute>, flags: RuleFlags) -> RuleEntry {
        let mut message = RuleMessage::default();
        message.header.table = 254;
        message.header.flags = flags;
        message.attributes = attributes;
        rule(&message)
    }

    #[test]
    fn what_a_rule_asks_for() {
        use RuleAttribute::{
            FwMark, FwMask, Iifname, Priority, Protocol, SuppressPrefixLen, Table,
        };
        let plain = RuleFlags::empty();
        let all = told(
            vec![Priority(50), Table(77), SuppressPrefixLen(u32::MAX)],
            plain,
        );
        assert_eq!(
            (all.priority, all.table, all.mark, all.selects),
            (50, 77, None, false)
        );
        let marked = told(vec![FwMark(0x200), FwMask(0xf00)], plain);
        assert_eq!((marked.mark, marked.table), (Some((0x200, 0xf00)), 254));
        assert_eq!(told(vec![FwMark(7)], plain).mark, Some((7, u32::MAX)));
        assert_eq!(told(vec![FwMark(7)], RuleFlags::Invert).mark, None);
        assert!(told(vec![Iifname("eth1".to_owned())], plain).selects);
        assert!(told(vec![SuppressPrefixLen(0)], plain).selects);
        assert!(told(vec![Protocol(RouteProtocol::Other(PROTOCOL))], plain).ours);
        assert!(!told(vec![Protocol(RouteProtocol::Static)], plain).ours);
    }
}
