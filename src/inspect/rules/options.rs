//! The words of `ipvsadm`: its verbs, its options, and which go with which.

/// What is to be done: the first word of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the manual page of ipvsadm has them")]
pub enum Verb {
    AddService,
    EditService,
    DeleteService,
    Clear,
    Restore,
    Save,
    AddServer,
    EditServer,
    DeleteServer,
    List,
    Zero,
    Set,
    StartDaemon,
    StopDaemon,
    Help,
    Version,
}

/// An option behind the verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Opt {
    Tcp,
    Udp,
    Sctp,
    Mark,
    Ipv6,
    Scheduler,
    Persistent,
    Netmask,
    OnePacket,
    Engine,
    SchedulerFlags,
    RealServer,
    Gatewaying,
    Ipip,
    Masquerading,
    TunnelType,
    TunnelPort,
    TunnelNoChecksum,
    TunnelChecksum,
    TunnelRemoteChecksum,
    Weight,
    UpperThreshold,
    LowerThreshold,
    Interface,
    SyncId,
    SyncMaxLen,
    Group,
    Port,
    Ttl,
    Connection,
    Numeric,
    Exact,
    Timeout,
    Daemon,
    Stats,
    Rate,
    Thresholds,
    PersistentConn,
    TunnelInfo,
    Sort,
    NoSort,
}

/// Whether a word follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    Nothing,
    Value,
    /// The next word, unless it is an option.
    Perhaps,
}

/// How a verb or an option is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spelling<T: 'static> {
    pub(super) means: T,
    pub(super) short: Option<char>,
    pub(super) long: &'static str,
    pub(super) takes: Takes,
}

const fn word<T>(means: T, short: char, long: &'static str, takes: Takes) -> Spelling<T> {
    Spelling {
        means,
        short: Some(short),
        long,
        takes,
    }
}

const fn long<T>(means: T, long: &'static str, takes: Takes) -> Spelling<T> {
    Spelling {
        means,
        short: None,
        long,
        takes,
    }
}

use Takes::{Nothing, Perhaps, Value};

pub(super) const VERBS: &[Spelling<Verb>] = &[
    word(Verb::AddService, 'A', "add-service", Nothing),
    word(Verb::EditService, 'E', "edit-service", Nothing),
    word(Verb::DeleteService, 'D', "delete-service", Nothing),
    word(Verb::Clear, 'C', "clear", Nothing),
    word(Verb::Restore, 'R', "restore", Nothing),
    word(Verb::Save, 'S', "save", Nothing),
    word(Verb::AddServer, 'a', "add-server", Nothing),
    word(Verb::EditServer, 'e', "edit-server", Nothing),
    word(Verb::DeleteServer, 'd', "delete-server", Nothing),
    word(Verb::List, 'L', "list", Nothing),
    word(Verb::List, 'l', "list", Nothing),
    word(Verb::Zero, 'Z', "zero", Nothing),
    long(Verb::Set, "set", Nothing),
    long(Verb::StartDaemon, "start-daemon", Value),
    long(Verb::StopDaemon, "stop-daemon", Value),
    word(Verb::Help, 'h', "help", Nothing),
    word(Verb::Version, 'v', "version", Nothing),
];

pub(super) const OPTIONS: &[Spelling<Opt>] = &[
    word(Opt::Tcp, 't', "tcp-service", Value),
    word(Opt::Udp, 'u', "udp-service", Value),
    long(Opt::Sctp, "sctp-service", Value),
    word(Opt::Mark, 'f', "fwmark-service", Value),
    word(Opt::Ipv6, '6', "ipv6", Nothing),
    word(Opt::Scheduler, 's', "scheduler", Value),
    word(Opt::Persistent, 'p', "persistent", Perhaps),
    word(Opt::Netmask, 'M', "netmask", Value),
    word(Opt::OnePacket, 'o', "ops", Nothing),
    long(Opt::Engine, "pe", Value),
    word(Opt::SchedulerFlags, 'b', "sched-flags", Value),
    word(Opt::RealServer, 'r', "real-server", Value),
    word(Opt::Gatewaying, 'g', "gatewaying", Nothing),
    word(Opt::Ipip, 'i', "ipip", Nothing),
    word(Opt::Masquerading, 'm', "masquerading", Nothing),
    long(Opt::TunnelType, "tun-type", Value),
    long(Opt::TunnelPort, "tun-port", Value),
    long(Opt::TunnelNoChecksum, "tun-nocsum", Nothing),
    long(Opt::TunnelChecksum, "tun-csum", Nothing),
    long(Opt::TunnelRemoteChecksum, "tun-remcsum", Nothing),
    word(Opt::Weight, 'w', "weight", Value),
    word(Opt::UpperThreshold, 'x', "u-threshold", Value),
    word(Opt::LowerThreshold, 'y', "l-threshold", Value),
    long(Opt::Interface, "mcast-interface", Value),
    long(Opt::SyncId, "syncid", Value),
    long(Opt::SyncMaxLen, "sync-maxlen", Value),
    long(Opt::Group, "mcast-group", Value),
    long(Opt::Port, "mcast-port", Value),
    long(Opt::Ttl, "mcast-ttl", Value),
    word(Opt::Connection, 'c', "connection", Nothing),
    word(Opt::Numeric, 'n', "numeric", Nothing),
    long(Opt::Exact, "exact", Nothing),
    long(Opt::Timeout, "timeout", Nothing),
    long(Opt::Daemon, "daemon", Nothing),
    long(Opt::Stats, "stats", Nothing),
    long(Opt::Rate, "rate", Nothing),
    long(Opt::Thresholds, "thresholds", Nothing),
    long(Opt::PersistentConn, "persistent-conn", Nothing),
    long(Opt::TunnelInfo, "tun-info", Nothing),
    long(Opt::Sort, "sort", Nothing),
    long(Opt::NoSort, "nosort", Nothing),
];

impl<T: Copy + PartialEq> Spelling<T> {
    /// As an operator would write it: `-t`, `--sctp-service`.
    pub(super) fn written(&self) -> String {
        match self.short {
            Some(short) => format!("-{short}"),
            None => format!("--{}", self.long),
        }
    }
}

fn written<T: Copy + PartialEq>(table: &[Spelling<T>], means: T) -> String {
    let spelling = table.iter().find(|spelling| spelling.means == means);
    spelling.map(Spelling::written).unwrap_or_default()
}

impl Opt {
    pub(super) fn written(self) -> String {
        written(OPTIONS, self)
    }

    /// Those of which a line has one at most, besides itself.
    pub(super) fn rivals(self) -> &'static [Self] {
        const SERVICE: &[Opt] = &[Opt::Tcp, Opt::Udp, Opt::Sctp, Opt::Mark];
        const METHOD: &[Opt] = &[Opt::Gatewaying, Opt::Ipip, Opt::Masquerading];
        const CHECKSUM: &[Opt] = &[
            Opt::TunnelNoChecksum,
            Opt::TunnelChecksum,
            Opt::TunnelRemoteChecksum,
        ];
        [SERVICE, METHOD, CHECKSUM]
            .into_iter()
            .find(|group| group.contains(&self))
            .unwrap_or_default()
    }
}

impl Verb {
    pub(super) fn written(self) -> String {
        written(VERBS, self)
    }

    /// The options that it may have.
    pub(super) fn options(self) -> &'static [Opt] {
        match self {
            Self::AddService | Self::EditService => &[
                Opt::Tcp,
                Opt::Udp,
                Opt::Sctp,
                Opt::Mark,
                Opt::Ipv6,
                Opt::Scheduler,
                Opt::Persistent,
                Opt::Netmask,
                Opt::OnePacket,
                Opt::Engine,
                Opt::SchedulerFlags,
            ],
            Self::DeleteService | Self::Zero => {
                &[Opt::Tcp, Opt::Udp, Opt::Sctp, Opt::Mark, Opt::Ipv6]
            }
            Self::AddServer | Self::EditServer => &[
                Opt::Tcp,
                Opt::Udp,
                Opt::Sctp,
                Opt::Mark,
                Opt::Ipv6,
                Opt::RealServer,
                Opt::Gatewaying,
                Opt::Ipip,
                Opt::Masquerading,
                Opt::TunnelType,
                Opt::TunnelPort,
                Opt::TunnelNoChecksum,
                Opt::TunnelChecksum,
                Opt::TunnelRemoteChecksum,
                Opt::Weight,
                Opt::UpperThreshold,
                Opt::LowerThreshold,
            ],
            Self::DeleteServer => &[
                Opt::Tcp,
                Opt::Udp,
                Opt::Sctp,
                Opt::Mark,
                Opt::Ipv6,
                Opt::RealServer,
            ],
            Self::List => &[
                Opt::Tcp,
                Opt::Udp,
                Opt::Sctp,
                Opt::Mark,
                Opt::Ipv6,
                Opt::Connection,
                Opt::Numeric,
                Opt::Exact,
                Opt::Timeout,
                Opt::Daemon,
                Opt::Stats,
                Opt::Rate,
                Opt::Thresholds,
                Opt::PersistentConn,
                Opt::TunnelInfo,
                Opt::Sort,
                Opt::NoSort,
            ],
            Self::Save => &[Opt::Numeric, Opt::Sort, Opt::NoSort],
            Self::StartDaemon | Self::StopDaemon => &[
                Opt::Interface,
                Opt::SyncId,
                Opt::SyncMaxLen,
                Opt::Group,
                Opt::Port,
                Opt::Ttl,
            ],
            Self::Clear | Self::Restore | Self::Set | Self::Help | Self::Version => &[],
        }
    }

    /// Whether it needs a virtual service.
    pub(super) const fn needs_service(self) -> bool {
        matches!(
            self,
            Self::AddService
                | Self::EditService
                | Self::DeleteService
                | Self::AddServer
                | Self::EditServer
                | Self::DeleteServer
        )
    }
}

/// What `-L` shows, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(
    clippy::struct_excessive_bools,
    missing_docs,
    reason = "each is an option of ipvsadm"
)]
pub struct ListOptions {
    pub service: Option<ipvs_sys::ServiceKey>,
    pub connection: bool,
    pub exact: bool,
    pub timeout: bool,
    pub daemon: bool,
    pub stats: bool,
    pub rate: bool,
    pub thresholds: bool,
    pub persistent_conn: bool,
    pub tun_info: bool,
    pub nosort: bool,
}
