//! What the loop hands on to tasks of their own: health checks to serve, and what people should
//! know of a Service. Handing on never waits and never fails: where nobody listens, it is dropped.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::mpsc::UnboundedSender;

use crate::metrics::traffic::SharedNames;
use crate::model::{
    HealthCheckChange, Named, Notice, ObjectName, Problem, Reason, Topic, VipKind, VipPort,
};

/// Ways out of the loop. Unbounded: what goes out is changes only, and a receiver that does slow
/// work keeps reading meanwhile.
#[derive(Debug, Clone, Default)]
pub struct Outlets {
    pub health_checks: Option<UnboundedSender<HealthCheckChange>>,
    pub notices: Option<UnboundedSender<Notice>>,
    /// Whose each tuple is, for who reads the kernel's counters.
    pub names: Option<SharedNames>,
}

impl Outlets {
    /// Hands changed health checks to the task that serves them.
    pub fn check_health(&self, changes: Vec<HealthCheckChange>) {
        let Some(sender) = &self.health_checks else {
            return;
        };
        for change in changes {
            // Fails only while the agent ends.
            let _ = sender.send(change);
        }
    }

    /// Says whose some tuples are now.
    pub fn rename(&self, renamed: Vec<Named>) {
        if let Some(names) = self.names.as_ref().filter(|_| !renamed.is_empty()) {
            let mut names = names.lock();
            for named in renamed {
                names.put(named);
            }
        }
    }

    /// Says whose all tuples are.
    pub fn rename_all(&self, all: impl Iterator<Item = Named>) {
        if let Some(names) = &self.names {
            let all: Vec<Named> = all.collect();
            names.lock().replace(all);
        }
    }

    /// Hands on what people should know of a Service.
    pub fn notice(&self, notice: Notice) {
        if let Some(sender) = &self.notices {
            let _ = sender.send(notice);
        }
    }

    /// Says of each Service that lost a tuple to somebody else, or got one back, which ones it
    /// lacks now.
    pub fn notice_shadowed(
        &self,
        before: &Shadowed,
        now: &Shadowed,
        uid_of: impl Fn(&ObjectName) -> Box<str>,
    ) {
        if self.notices.is_none() {
            return;
        }
        let changed = |(vip, claim): &(&VipPort, &(ObjectName, VipKind))| {
            before.get(vip) != Some(*claim) || now.get(vip) != Some(*claim)
        };
        let concerned: BTreeSet<&ObjectName> = before
            .iter()
            .chain(now)
            .filter(changed)
            .map(|(_, (service, _))| service)
            .collect();
        for service in concerned {
            let lacking = now.iter().filter(|(_, (owner, _))| owner == service);
            self.notice(Notice {
                service: service.clone(),
                uid: uid_of(service),
                topic: Topic::Kernel,
                problems: lacking.map(|(vip, _)| foreign(*vip)).collect(),
            });
        }
    }
}

/// Tuples that are desired and held by somebody else's virtual servers.
pub type Shadowed = BTreeMap<VipPort, (ObjectName, VipKind)>;

fn foreign(vip: VipPort) -> Problem {
    Problem {
        reason: Reason::ForeignVirtualServer,
        text: format!(
            "{vip} is not served: somebody else's virtual server stands there (ipvsadm -Ln) and is \
             left alone; remove it, or give the Service another address or port"
        ),
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[test]
    fn a_service_is_told_of_what_it_lacks_and_of_its_end() {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let outlets = Outlets {
            notices: Some(sender),
            ..Outlets::default()
        };
        let claims = |vips: &[&str]| -> Shadowed {
            let claim = (ObjectName::new("ns", "web"), VipKind::ClusterIp);
            let vips = vips.iter().map(|vip| vip.parse().unwrap());
            vips.map(|vip| (vip, claim.clone())).collect()
        };
        let mut told = |before: &[&str], now: &[&str]| {
            outlets.notice_shadowed(&claims(before), &claims(now), |_| "u1".into());
            let notice: Option<Notice> = receiver.try_recv().ok();
            assert!(receiver.try_recv().is_err(), "one notice for each Service");
            notice.map(|notice| notice.problems.len())
        };
        let (one, both) = (
            &["10.96.0.1:80/TCP"],
            &["10.96.0.1:80/TCP", "10.96.0.1:81/TCP"],
        );
        assert_eq!(told(&[], both), Some(2));
        assert_eq!(told(both, both), None);
        assert_eq!(told(both, one), Some(1));
        assert_eq!(told(one, &[]), Some(0));
    }
}
