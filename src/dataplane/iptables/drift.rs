//! What a step changes, as lines that a dump of the kernel would lose or gain. Pure.

use super::observed::Observed;
use super::step::Step;
use crate::dataplane::policy::drift as shared;
use crate::model::drift::{Drift, Kind};

/// The lines that a step changes. Of a chain's rules in the kernel only a digest is known: where they
/// differ, that is said in one line.
pub fn drift(step: &Step, observed: &Observed) -> Vec<Drift> {
    match step {
        Step::SetSysctl(wanted) => shared::sysctl(wanted, &observed.sysctls),
        Step::WriteRules { family, after, .. } => {
            shared::rules(*family, observed.rules.get(family), after)
        }
        Step::PutChain { key, lines, .. } => {
            let tool = format!("{} -t nat", shared::tool(key.family));
            let differs = observed.chains.contains_key(key);
            let before =
                differs.then(|| Drift::goes(Kind::Rule, format!("{tool} -A {key} (other rules)")));
            let after = lines
                .iter()
                .map(|line| Drift::comes(Kind::Rule, format!("{tool} {line}")));
            before.into_iter().chain(after).collect()
        }
        Step::DelChain(key) => {
            let line = format!("{} -t nat -N {key}", shared::tool(key.family));
            vec![Drift::goes(Kind::Rule, line)]
        }
        // Clients' connections are no state of the agent's.
        Step::ForgetFlows { .. } | Step::EndFlows { .. } => Vec::new(),
        Step::CreateSet(_) | Step::DestroySet(_) | Step::AddMember(_) | Step::DelMember(_) => {
            step.set_act().map(shared::set).into_iter().collect()
        }
    }
}
