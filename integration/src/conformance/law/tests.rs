use super::*;
use crate::conformance::cell::{Entry, Family, Slices, all};
use crate::guest::probe::Transport;

fn cell(client: Client, to: Destination, policy: Policy, slices: Slices, entry: Entry) -> Cell {
    Cell {
        policy,
        slices,
        entry,
        client,
        destination: to,
        transport: Transport::Tcp,
        family: Family::V4,
    }
}

fn answer(by: &[&'static str], source: Source) -> Must {
    Must::Answer {
        by: by.iter().copied().collect(),
        source,
    }
}

#[test]
fn the_rows_are_those_of_the_header() {
    let text = include_str!("../law.rs");
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("//! | "))
        .skip(1);
    let mut destination = String::new();
    for (line, row) in lines.zip(&MATRIX) {
        let columns: Vec<&str> = line.split(" | ").collect();
        if columns[0] != "same" {
            destination = columns[0].to_owned();
        }
        assert_eq!(
            (destination.as_str(), columns[1]),
            (row.destination, row.client)
        );
        let rules = [row.cluster.to_string(), row.local.to_string()];
        assert_eq!(
            [columns[2], columns[3].trim_end_matches(" |")],
            [&rules[0], &rules[1]]
        );
    }
}

#[test]
fn cells_that_kube_proxys_ipvs_mode_gets_wrong() {
    use Client::{AddressedNode, OtherNode, Outside, PodElsewhere};
    use Destination::{ClusterIp, LoadBalancerIp, NodePort};
    use Entry::{WithEndpoint, WithoutEndpoint};
    use Policy::Local;
    let silence = Must::Refuse(Refusal::Drop);
    for (client, to, slices, entry, must) in [
        // internalTrafficPolicy Local without a local endpoint.
        (
            PodElsewhere,
            ClusterIp,
            Slices::One,
            WithoutEndpoint,
            silence.clone(),
        ),
        // externalTrafficPolicy Local: an outside client keeps its address or meets silence …
        (
            Outside,
            NodePort,
            Slices::Two,
            WithEndpoint,
            answer(&["p11"], Source::Kept),
        ),
        (
            Outside,
            LoadBalancerIp,
            Slices::Two,
            WithoutEndpoint,
            silence.clone(),
        ),
        // … another node's process is one too …
        (OtherNode, NodePort, Slices::One, WithoutEndpoint, silence),
        // … and local clients reach all endpoints.
        (
            PodElsewhere,
            LoadBalancerIp,
            Slices::Two,
            WithoutEndpoint,
            answer(&["p11", "p21"], Source::Kept),
        ),
        (
            AddressedNode,
            NodePort,
            Slices::Two,
            WithoutEndpoint,
            answer(&["p11", "p21"], Source::Masqueraded),
        ),
    ] {
        let cell = cell(client, to, Local, slices, entry);
        assert_eq!(judge(&cell).must, must, "{cell:?}");
    }
}

#[test]
fn each_set_falls_back_to_terminating_endpoints_by_itself() {
    let both = Slices::TerminatingBesideReady;
    let (outside, port) = (Client::Outside, Destination::NodePort);
    let of = |policy, entry| judge(&cell(outside, port, policy, both, entry)).must;
    let here = Entry::WithEndpoint;
    assert_eq!(of(Policy::Local, here), answer(&["p11"], Source::Kept));
    assert_eq!(
        of(Policy::Cluster, here),
        answer(&["p21"], Source::Masqueraded)
    );
    let elsewhere = of(Policy::Local, Entry::WithoutEndpoint);
    assert_eq!(elsewhere, Must::Refuse(Refusal::Drop));
}

#[test]
fn without_any_endpoint_every_cell_is_rejected_and_only_then() {
    for cell in all() {
        let nobody = matches!(cell.slices, Slices::Nothing | Slices::NotReady);
        let rejected = judge(&cell).must == Must::Refuse(Refusal::Reject);
        assert_eq!(nobody, rejected, "{cell:?}");
    }
}

#[test]
fn a_pod_that_reaches_itself_is_masqueraded_and_anyone_to_another_node() {
    for cell in all().iter().filter(|cell| cell.slices == Slices::Itself) {
        let elsewhere = cell.entry == Entry::WithoutEndpoint;
        let must = if elsewhere && cell.policy == Policy::Local {
            Must::Refuse(Refusal::Drop)
        } else {
            answer(&["p11"], Source::Masqueraded)
        };
        assert_eq!(judge(cell).must, must, "{cell:?}");
    }
}
