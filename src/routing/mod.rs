//! Routes, policy rules and addresses over rtnetlink: the shell around `ip route` and `ip rule`.
//!
//! Knows nothing of Services. Synchronous to its caller: it runs rtnetlink's connection on a
//! small runtime of its own, on the thread that owns the kernel. What the agent adds carries
//! the protocol number `PROTOCOL`, so that it is told from what others add.

mod addresses;
mod survey;
mod watch;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::{Handle, RouteMessageBuilder};
use rustix::io::Errno;
use tokio::time::timeout;

use crate::model::Family;
pub use survey::{LinkEntry, RuleEntry};
pub use watch::AddressWatch;

/// `rtm_protocol` and `FRA_PROTOCOL` of what the agent adds; free in iproute2's list.
pub const PROTOCOL: u8 = 86;

/// A policy rule that leads marked packets to a table. Prints as `ip rule` takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PolicyRule {
    /// The one bit that is looked at.
    pub mark: u32,
    pub table: u32,
    pub priority: u32,
}

impl fmt::Display for PolicyRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            mark,
            table,
            priority,
        } = self;
        write!(
            f,
            "pref {priority} fwmark {mark:#x}/{mark:#x} lookup {table}"
        )
    }
}

/// An rtnetlink request that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot open an rtnetlink socket")]
    Open(#[source] io::Error),
    #[error("rtnetlink request failed")]
    Request(#[source] rtnetlink::Error),
    #[error("no answer of rtnetlink within {} s", DEADLINE.as_secs())]
    Deadline,
    #[error("the kernel has no device lo")]
    NoLoopback,
}

/// A connection to the kernel's routing.
pub struct RouteClient {
    runtime: tokio::runtime::Runtime,
    handle: Handle,
    loopback: u32,
    requests: u64,
    errors: u64,
}

impl RouteClient {
    /// Connects in the current network namespace.
    pub fn open() -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::Open)?;
        let handle = connect(&runtime)?;
        let mut this = Self {
            runtime,
            handle,
            loopback: 0,
            requests: 0,
            errors: 0,
        };
        let mut links = this
            .handle
            .link()
            .get()
            .match_name("lo".to_owned())
            .execute();
        let lo = this.wait(async { links.try_next().await })?;
        this.loopback = lo.ok_or(Error::NoLoopback)?.header.index;
        Ok(this)
    }

    /// Requests sent since it was opened.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Requests that were refused or not answered. What is there already, or gone already, is refused too.
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// The `local` routes that are ours, with their tables. Costs all routes of both families.
    pub fn routes(&mut self) -> Result<BTreeSet<(u32, IpNet)>, Error> {
        self.requests += 2;
        let mut found = BTreeSet::new();
        for message in [
            RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
            RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
        ] {
            let routes = self.handle.route().get(message).execute();
            match self.wait(routes.try_collect::<Vec<_>>()) {
                Ok(routes) => found.extend(routes.iter().filter_map(ours_of)),
                Err(Error::Request(error)) if is_unsupported(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Adds `local` routes over `lo`, many at a time. One outcome for each, in order; a route
    /// that exists already is a success.
    pub fn add_routes(&mut self, table: u32, nets: &[IpNet]) -> Vec<Result<(), Error>> {
        let loopback = self.loopback;
        self.each(nets, EEXIST, |handle, net| {
            let route = message(net, table, loopback);
            async move { handle.route().add(route).execute().await }
        })
    }

    /// Deletes `local` routes; one that is gone already is a success.
    pub fn del_routes(&mut self, table: u32, nets: &[IpNet]) -> Vec<Result<(), Error>> {
        let loopback = self.loopback;
        self.each(nets, ESRCH, |handle, net| {
            let route = message(net, table, loopback);
            async move { handle.route().del(route).execute().await }
        })
    }

    /// The policy rules that are ours.
    pub fn policy_rules(&mut self, family: Family) -> Result<BTreeSet<PolicyRule>, Error> {
        let rules = self.rules(family)?;
        Ok(rules.iter().filter_map(policy_rule).collect())
    }

    /// Adds the policy rule; one that exists already is a success.
    pub fn add_policy_rule(&mut self, family: Family, rule: PolicyRule) -> Result<(), Error> {
        self.requests += 1;
        let mut request = self.handle.rule().add();
        *request.message_mut() = rule_message(family, rule);
        match self.wait(request.execute()) {
            Err(Error::Request(error)) if errno(&error) == Some(EEXIST) => Ok(()),
            result => result,
        }
    }

    /// Deletes a policy rule of ours, however often it is there.
    pub fn del_policy_rule(&mut self, family: Family, rule: PolicyRule) -> Result<(), Error> {
        for message in self.rules(family)? {
            if policy_rule(&message) == Some(rule) {
                self.requests += 1;
                let request = self.handle.rule().del(message);
                self.wait(request.execute())?;
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
        match self.wait(rules) {
            Err(Error::Request(error)) if is_unsupported(&error) => Ok(Vec::new()),
            result => result,
        }
    }

    /// One request for each network, many under way at once. `settled` is the errno of one that
    /// is as it should be already.
    fn each<F>(
        &mut self,
        nets: &[IpNet],
        settled: i32,
        request: impl Fn(Handle, IpNet) -> F,
    ) -> Vec<Result<(), Error>>
    where
        F: Future<Output = Result<(), rtnetlink::Error>>,
    {
        self.requests += nets.len() as u64;
        let handle = &self.handle;
        let one = |net: IpNet| {
            let request = timeout(DEADLINE, request(handle.clone(), net));
            async move {
                match request.await {
                    Err(_) => Err(Error::Deadline),
                    Ok(Err(error)) if errno(&error) == Some(settled) => Ok(()),
                    Ok(result) => result.map_err(Error::Request),
                }
            }
        };
        let all = stream::iter(nets.to_vec()).map(one).buffered(IN_FLIGHT);
        let results: Vec<_> = self.runtime.block_on(all.collect());
        self.errors += results.iter().filter(|r| r.is_err()).count() as u64;
        if results.iter().any(|r| matches!(r, Err(Error::Deadline))) {
            self.reconnect();
        }
        results
    }

    /// Waits for one answer, not for ever: one that was lost would stop the thread that owns the
    /// kernel. After that the connection is made anew.
    fn wait<T>(
        &mut self,
        request: impl Future<Output = Result<T, rtnetlink::Error>>,
    ) -> Result<T, Error> {
        let answer = self
            .runtime
            .block_on(async { timeout(DEADLINE, request).await });
        let Ok(answer) = answer else {
            self.errors += 1;
            self.reconnect();
            return Err(Error::Deadline);
        };
        self.errors += u64::from(answer.is_err());
        answer.map_err(Error::Request)
    }

    /// Where that fails the old connection stays, and the next request tells.
    fn reconnect(&mut self) {
        if let Ok(handle) = connect(&self.runtime) {
            self.handle = handle;
        }
    }
}

fn connect(runtime: &tokio::runtime::Runtime) -> Result<Handle, Error> {
    let _entered = runtime.enter();
    let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::Open)?;
    runtime.spawn(connection);
    Ok(handle)
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

/// Table and destination of a `local` route of ours.
fn ours_of(route: &RouteMessage) -> Option<(u32, IpNet)> {
    let ours = route.header.protocol == RouteProtocol::Other(PROTOCOL);
    if !ours || route.header.kind != RouteType::Local {
        return None;
    }
    let attributes = || route.attributes.iter();
    let table = attributes().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    })?;
    let addr = attributes().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Destination(RouteAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    })?;
    let net = IpNet::new(addr, route.header.destination_prefix_length).ok()?;
    Some((table, net))
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

/// A policy rule, if it is ours.
fn policy_rule(message: &RuleMessage) -> Option<PolicyRule> {
    if !message.attributes.contains(&ours()) {
        return None;
    }
    let mut rule = PolicyRule {
        mark: 0,
        table: u32::from(message.header.table),
        priority: 0,
    };
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::FwMark(mark) => rule.mark = *mark,
            RuleAttribute::Table(table) => rule.table = *table,
            RuleAttribute::Priority(priority) => rule.priority = *priority,
            _ => {}
        }
    }
    Some(rule)
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
/// What an answer may take.
const DEADLINE: Duration = Duration::from_secs(10);
