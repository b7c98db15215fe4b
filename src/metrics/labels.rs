//! The sets of labels. Each knows the names of its labels, for the reference.

use prometheus_client::encoding::EncodeLabelSet;

/// A set of labels that knows their names.
pub trait Labels {
    const NAMES: &'static [&'static str];
}

macro_rules! labels {
    ($($(#[$about:meta])* $name:ident { $($label:ident: $text:ty),+ $(,)? })+) => {$(
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub struct $name {
            $(pub $label: $text),+
        }

        impl Labels for $name {
            const NAMES: &'static [&'static str] = &[$(stringify!($label)),+];
        }
    )+};
}

labels! {
    ByVersion { version: &'static str }
    ByTrigger { trigger: &'static str }
    ByPhase { phase: &'static str }
    /// `kind` is one of `Dataplane::STEP_KINDS`.
    ByStep { kind: &'static str, outcome: &'static str }
    ByOutcome { outcome: &'static str }
    ByReason { reason: String }
    BySource { source: String }
    BySubsystem { subsystem: &'static str }
    ByCode { code: u16 }
    ByIpFamily { ip_family: String }
    ByPolicy { traffic_policy: &'static str, ip_family: String }
    /// As Kubernetes' own clients have it.
    ByRequest { code: String, method: String, host: String }
    /// The same; `verb` is HTTP's method.
    ByVerb { verb: String, host: String }
    ByDataplane { dataplane: &'static str, reason: &'static str }
}
