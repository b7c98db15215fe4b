//! Routes, policy rules and addresses over rtnetlink: the shell around `ip route` and `ip rule`.
//!
//! Knows nothing of Services. Synchronous to its caller: it runs rtnetlink's connection on a
//! small runtime of its own, on the thread that owns the kernel. What the agent adds carries
//! the protocol number `PROTOCOL`, so that it is told from what others add.

mod addresses;

use std::collections::BTreeSet;
use std::net::IpAddr;

use futures_util::{StreamExt, TryStreamExt, stream};
use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::{Handle, RouteMessageBuilder};
use rustix::io::Errno;

use crate::model::Family;

/// `rtm_protocol` and `FRA_PROTOCOL` of what the agent adds; free in iproute2's list.
pub const PROTOCOL: u8 = 86;

/// A policy rule that leads marked packets to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyRule {
    /// The one bit that is looked at.
    pub mark: u32,
    pub table: u32,
    pub priority: u32,
}

/// An rtnetlink request that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot open an rtnetlink socket")]
    Open(#[source] std::io::Error),
    #[error("rtnetlink request failed")]
    Request(#[source] rtnetlink::Error),
    #[error("the kernel has no device lo")]
    NoLoopback,
}

/// A connection to the kernel's routing.
pub struct RouteClient {
    runtime: tokio::runtime::Runtime,
    handle: Handle,
    loopback: u32,
    requests: u64,
}

impl RouteClient {
    /// Connects in the current network namespace.
    pub fn open() -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::Open)?;
        let handle = {
            let _entered = runtime.enter();
            let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::Open)?;
            runtime.spawn(connection);
            handle
        };
        let loopback = runtime.block_on(async {
            let mut links = handle.link().get().match_name(String::from("lo")).execute();
            links.try_next().await
        });
        let loopback = loopback
            .map_err(Error::Request)?
            .ok_or(Error::NoLoopback)?
            .header
            .index;
        Ok(Self {
            runtime,
            handle,
            loopback,
            requests: 0,
        })
    }

    /// Requests sent since it was opened.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// The `local` routes of a table that are ours. Costs the family's routes in all tables.
    pub fn routes(&mut self, table: u32) -> Result<BTreeSet<IpNet>, Error> {
        self.requests += 2;
        let handle = &self.handle;
        self.runtime.block_on(async {
            let mut found = BTreeSet::new();
            for message in [
                RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
                RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
            ] {
                let mut routes = std::pin::pin!(handle.route().get(message).execute());
                while let Some(route) = routes.next().await {
                    match route {
                        Ok(route) => found.extend(our_destination(&route, table)),
                        Err(error) if is_unsupported(&error) => break,
                        Err(error) => return Err(Error::Request(error)),
                    }
                }
            }
            Ok(found)
        })
    }

    /// Adds `local` routes over `lo`, many at a time. One outcome for each, in order; a route
    /// that exists already is a success.
    pub fn add_routes(&mut self, table: u32, nets: &[IpNet]) -> Vec<Result<(), Error>> {
        self.requests += nets.len() as u64;
        let (handle, loopback) = (&self.handle, self.loopback);
        let add = |net: IpNet| async move {
            let request = handle.route().add(message(net, table, loopback));
            match request.execute().await {
                Err(error) if errno(&error) == Some(EEXIST) => Ok(()),
                result => result.map_err(Error::Request),
            }
        };
        let all = stream::iter(nets.to_vec())
            .map(add)
            .buffered(IN_FLIGHT)
            .collect();
        self.runtime.block_on(all)
    }

    /// Deletes `local` routes; one that is gone already is a success.
    pub fn del_routes(&mut self, table: u32, nets: &[IpNet]) -> Vec<Result<(), Error>> {
        self.requests += nets.len() as u64;
        let (handle, loopback) = (&self.handle, self.loopback);
        let del = |net: IpNet| async move {
            match handle
                .route()
                .del(message(net, table, loopback))
                .execute()
                .await
            {
                Err(error) if errno(&error) == Some(ESRCH) => Ok(()),
                result => result.map_err(Error::Request),
            }
        };
        let all = stream::iter(nets.to_vec())
            .map(del)
            .buffered(IN_FLIGHT)
            .collect();
        self.runtime.block_on(all)
    }

    /// Whether exactly this policy rule is there.
    pub fn has_policy_rule(&mut self, family: Family, rule: PolicyRule) -> Result<bool, Error> {
        Ok(self
            .rules(family)?
            .iter()
            .any(|message| is_rule(message, rule)))
    }

    /// Adds the policy rule; one that exists already is a success.
    pub fn add_policy_rule(&mut self, family: Family, rule: PolicyRule) -> Result<(), Error> {
        self.requests += 1;
        let mut request = self.handle.rule().add();
        *request.message_mut() = rule_message(family, rule);
        match self.runtime.block_on(request.execute()) {
            Err(error) if errno(&error) == Some(EEXIST) => Ok(()),
            result => result.map_err(Error::Request),
        }
    }

    /// Deletes every policy rule of the family that is ours.
    pub fn del_policy_rules(&mut self, family: Family) -> Result<(), Error> {
        for message in self.rules(family)? {
            if message.attributes.contains(&ours()) {
                self.requests += 1;
                let request = self.handle.rule().del(message);
                self.runtime
                    .block_on(request.execute())
                    .map_err(Error::Request)?;
            }
        }
        Ok(())
    }

    fn rules(&mut self, family: Family) -> Result<Vec<RuleMessage>, Error> {
        self.requests += 1;
        let version = match family {
            Family::V4 => rtnetlink::IpVersion::V4,
            Family::V6 => rtnetlink::IpVersion::V6,
        };
        let rules = self.handle.rule().get(version).execute().try_collect();
        match self.runtime.block_on(rules) {
            Err(error) if is_unsupported(&error) => Ok(Vec::new()),
            result => result.map_err(Error::Request),
        }
    }
}

fn message(net: IpNet, table: u32, loopback: u32) -> RouteMessage {
    // IPv6 knows no host scope; the kernel ignores what it is given.
    macro_rules! local {
        ($builder:expr, $net:expr) => {
            $builder
                .destination_prefix($net.network(), $net.prefix_len())
                .output_interface(loopback)
                .table_id(table)
                .protocol(RouteProtocol::Other(PROTOCOL))
                .kind(RouteType::Local)
                .scope(RouteScope::Host)
                .build()
        };
    }
    match net {
        IpNet::V4(net) => local!(RouteMessageBuilder::<std::net::Ipv4Addr>::new(), net),
        IpNet::V6(net) => local!(RouteMessageBuilder::<std::net::Ipv6Addr>::new(), net),
    }
}

/// The destination of a `local` route of ours in `table`.
fn our_destination(route: &RouteMessage, table: u32) -> Option<IpNet> {
    let in_table = route.attributes.contains(&RouteAttribute::Table(table));
    let ours = route.header.protocol == RouteProtocol::Other(PROTOCOL);
    if !in_table || !ours || route.header.kind != RouteType::Local {
        return None;
    }
    let addr = route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
            RouteAttribute::Destination(RouteAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
            _ => None,
        })?;
    IpNet::new(addr, route.header.destination_prefix_length).ok()
}

fn rule_message(family: Family, rule: PolicyRule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Priority(rule.priority),
        RuleAttribute::FwMark(rule.mark),
        RuleAttribute::FwMask(rule.mark),
        RuleAttribute::Table(rule.table),
        ours(),
    ];
    message
}

fn is_rule(message: &RuleMessage, rule: PolicyRule) -> bool {
    let wanted = rule_message(Family::V4, rule).attributes;
    wanted
        .iter()
        .all(|attribute| message.attributes.contains(attribute))
}

fn ours() -> RuleAttribute {
    RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL))
}

fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.code.map(|code| -code.get()),
        _ => None,
    }
}

/// A kernel without IPv6 has no such table to dump.
fn is_unsupported(error: &rtnetlink::Error) -> bool {
    [Errno::AFNOSUPPORT, Errno::OPNOTSUPP]
        .iter()
        .any(|unsupported| errno(error) == Some(unsupported.raw_os_error()))
}

const EEXIST: i32 = Errno::EXIST.raw_os_error();
const ESRCH: i32 = Errno::SRCH.raw_os_error();

/// Requests under way at once: enough to hide their latency, few enough for the socket's buffer.
const IN_FLIGHT: usize = 128;
