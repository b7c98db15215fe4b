//! Plans, carried out upon a kernel that is strict about order.

mod base;
mod bench;
mod checklist;
mod flows;
mod foreign;
mod kernel;
mod laws;
mod reschedule;
mod wish;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::members::OfServer;
use super::observed::Observed;
use super::step::Step;
use super::target::{Scope, Target};
use super::{ServerKey, Settings, plan::plan};
use crate::dataplane::ClusterNetwork;
use crate::dataplane::policy::sets::{Element, Member, SetKind};
use crate::model::{
    Family, HostPort, Moment, ObjectName, Protocol, RealServer, RealServers, Scheduler,
    ServicePortName, ServiceSpec, Thresholds, Tuning, Unserved, VipKind, VipPort, VirtualServer,
};
use crate::netfilter::ObservedRules;
use crate::resolve::{DesiredState, Resolved};
use kernel::{apply, converge, empty_kernel, read_idle_connections, stale_flows};
use wish::{Wish, Wished, any_serves, check, desired, wish};

const NOW: Moment = Moment(Duration::from_secs(100));

fn network() -> ClusterNetwork {
    ClusterNetwork {
        service_cidrs: BTreeSet::from(["10.96.0.0/16".parse().unwrap()]),
        pod_cidrs: BTreeSet::from(["10.244.0.0/16".parse().unwrap()]),
        node_pod_cidrs: BTreeSet::from(["10.244.0.0/24".parse().unwrap()]),
    }
}

fn target(desired: &DesiredState) -> Target {
    Target::of(Settings::default(), network(), desired)
}
