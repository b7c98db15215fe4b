use super::*;
use crate::model::{ObjectName, Protocol};

fn owner(name: &str) -> ServicePortName {
    ServicePortName {
        service: ObjectName::new("ns", name),
        port: "http".into(),
        protocol: Protocol::Tcp,
    }
}

fn server(text: &str) -> ServiceKey {
    ServiceKey::tcp(text.parse().unwrap())
}

fn backend(text: &str) -> DestinationKey {
    let addr: SocketAddr = text.parse().unwrap();
    DestinationKey::new(addr.ip(), addr.port())
}

fn stats(conns: u64) -> Stats {
    Stats {
        conns,
        in_packets: conns * 2,
        out_packets: conns * 3,
        in_bytes: conns * 100,
        out_bytes: conns * 1000,
        ..Stats::default()
    }
}

/// Virtual servers, each with its owner's name and its connections so far.
fn take(account: &mut Account, servers: &[(&str, &str, u64)], loads: &[(&str, &str, u64)]) {
    let read = servers.iter().map(|(key, _, n)| (server(key), stats(*n)));
    let owners = servers
        .iter()
        .map(|(key, name, _)| (server(key), owner(name)));
    let loads = loads
        .iter()
        .map(|(key, real, active)| ((server(key), backend(real)), load(*active)));
    let alive = servers.iter().map(|(_, name, _)| owner(name));
    account.take(
        &read.collect(),
        &loads.collect(),
        &owners.collect(),
        &alive.collect(),
    );
}

fn load(active: u64) -> Load {
    Load {
        active,
        inactive: 1,
    }
}

/// One that has read a kernel without virtual servers.
fn account(backends: bool, series: usize) -> Account {
    let mut account = Account::new(Extent { backends, series });
    take(&mut account, &[], &[]);
    account
}

fn connections(account: &Account) -> Vec<(String, u64)> {
    let lines = account.snapshot(Reading::default()).lines;
    lines
        .iter()
        .map(|line| {
            let backend = line.backend.map(|addr| format!(" {addr}"));
            let name = &line.owner.service.name;
            (
                format!("{name}{}", backend.unwrap_or_default()),
                line.sum.counts.connections,
            )
        })
        .collect()
}

fn of(pairs: &[(&str, u64)]) -> Vec<(String, u64)> {
    let pairs = pairs.iter();
    pairs.map(|(name, n)| ((*name).to_owned(), *n)).collect()
}

#[test]
fn a_services_sum_never_falls() {
    let mut account = account(false, 700);
    take(
        &mut account,
        &[("192.0.2.1:80", "a", 10), ("192.0.2.2:80", "a", 5)],
        &[],
    );
    assert_eq!(connections(&account), of(&[("a", 15)]));
    // One is deleted, the other made anew.
    take(&mut account, &[("192.0.2.2:80", "a", 2)], &[]);
    assert_eq!(connections(&account), of(&[("a", 17)]));
    // The deleted one comes again.
    take(
        &mut account,
        &[("192.0.2.1:80", "a", 1), ("192.0.2.2:80", "a", 2)],
        &[],
    );
    let sum = account.snapshot(Reading::default()).lines[0].sum;
    assert_eq!(sum.counts.connections, 18);
    assert_eq!(sum.counts.packets, [36, 54]);
    assert_eq!(sum.counts.bytes, [1800, 18000]);
    // A Service that is gone is told no longer.
    take(&mut account, &[], &[]);
    assert_eq!(connections(&account), []);
}

#[test]
fn a_service_that_has_no_endpoint_for_a_while_keeps_its_sum() {
    let mut account = account(false, 700);
    take(&mut account, &[("192.0.2.1:80", "a", 10)], &[]);
    let (none, alive) = (BTreeMap::new(), BTreeSet::from([owner("a")]));
    account.take(&BTreeMap::new(), &none, &BTreeMap::new(), &alive);
    assert_eq!(connections(&account), of(&[("a", 10)]));
    take(&mut account, &[("192.0.2.1:80", "a", 3)], &[]);
    assert_eq!(connections(&account), of(&[("a", 13)]));
}

#[test]
fn an_endpoint_is_gone_when_it_was_missing_twice() {
    let mut account = account(true, 700);
    let servers = [("192.0.2.1:80", "a", 4)];
    take(
        &mut account,
        &servers,
        &[("192.0.2.1:80", "10.0.0.1:8080", 0)],
    );
    let key = server("192.0.2.1:80");
    account.take_backends(key, [(backend("10.0.0.1:8080"), stats(4))].into_iter());
    take(&mut account, &servers, &[]);
    assert_eq!(
        connections(&account),
        of(&[("a", 4), ("a 10.0.0.1:8080", 4)])
    );
    take(&mut account, &servers, &[]);
    assert_eq!(connections(&account), of(&[("a", 4)]));
}

#[test]
fn one_that_cannot_be_read_is_put_behind_the_others() {
    let mut account = account(true, 700);
    let servers = [("192.0.2.1:80", "a", 4), ("192.0.2.2:80", "b", 4)];
    let loads = [
        ("192.0.2.1:80", "10.0.0.1:80", 0),
        ("192.0.2.2:80", "10.0.0.1:80", 0),
    ];
    take(&mut account, &servers, &loads);
    let [first, second] = ["192.0.2.1:80", "192.0.2.2:80"].map(server);
    assert_eq!(account.wanted(2), [first, second]);
    account.put_off(first);
    assert_eq!(account.wanted(2), [second, first]);
}

#[test]
fn open_connections_are_those_of_all_its_virtual_servers_now() {
    let mut account = account(false, 700);
    let servers = [("192.0.2.1:80", "a", 0), ("192.0.2.2:80", "a", 0)];
    let loads = [
        ("192.0.2.1:80", "10.0.0.1:8080", 3),
        ("192.0.2.2:80", "10.0.0.1:8080", 4),
        ("192.0.2.9:80", "10.0.0.9:8080", 100),
    ];
    for _ in 0..2 {
        take(&mut account, &servers, &loads);
        let sum = account.snapshot(Reading::default()).lines[0].sum;
        assert_eq!((sum.active, sum.inactive), (7, 2));
    }
}

#[test]
fn a_backends_counts_are_read_where_something_moved_and_in_turn() {
    let mut account = account(true, 7000);
    let loads = [
        ("192.0.2.1:80", "10.0.0.1:8080", 0),
        ("192.0.2.2:80", "10.0.0.1:8080", 0),
        ("192.0.2.3:80", "10.0.0.3:8080", 0),
    ];
    let servers = |n: [u64; 3]| {
        [
            ("192.0.2.1:80", "a", n[0]),
            ("192.0.2.2:80", "a", n[1]),
            ("192.0.2.3:80", "c", n[2]),
        ]
    };
    let keys = ["192.0.2.1:80", "192.0.2.2:80", "192.0.2.3:80"].map(server);
    take(&mut account, &servers([1, 2, 0]), &loads);
    assert_eq!(account.wanted(9), keys);
    assert_eq!(account.wanted(1), keys[..1]);
    account.take_backends(keys[0], [(backend("10.0.0.1:8080"), stats(1))].into_iter());
    account.take_backends(keys[1], [(backend("10.0.0.1:8080"), stats(2))].into_iter());
    assert_eq!(account.wanted(9), keys[2..]);
    account.take_backends(keys[2], [(backend("10.0.0.3:8080"), stats(0))].into_iter());
    let told = |a, ab, c, cb| {
        of(&[
            ("a", a),
            ("a 10.0.0.1:8080", ab),
            ("c", c),
            ("c 10.0.0.3:8080", cb),
        ])
    };
    assert_eq!(connections(&account), told(3, 3, 0, 0));
    // Nothing moved.
    take(&mut account, &servers([1, 2, 0]), &loads);
    assert_eq!(account.wanted(9), []);
    // All moved: who was read longest ago comes first.
    take(&mut account, &servers([2, 3, 1]), &loads);
    account.take_backends(keys[0], [(backend("10.0.0.1:8080"), stats(2))].into_iter());
    take(&mut account, &servers([3, 3, 1]), &loads);
    assert_eq!(account.wanted(2), keys[1..]);
    assert_eq!(connections(&account), told(6, 4, 1, 0));
}

#[test]
fn what_has_no_room_is_counted_and_what_was_told_stays() {
    // Two lines.
    let mut account = account(true, 20);
    let loads = [("192.0.2.1:80", "10.0.0.1:8080", 0)];
    let names = |account: &Account| -> Vec<String> {
        let lines = connections(account).into_iter();
        lines.map(|(name, _)| name).collect()
    };
    take(&mut account, &[("192.0.2.1:80", "a", 1)], &loads);
    assert_eq!(names(&account), ["a", "a 10.0.0.1:8080"]);
    assert_eq!(account.snapshot(Reading::default()).left_out, [0, 0]);
    let many = [
        ("192.0.2.1:80", "a", 1),
        ("192.0.2.2:80", "b", 5),
        ("192.0.2.3:80", "c", 50),
    ];
    take(&mut account, &many, &loads);
    assert_eq!(names(&account), ["a", "c"]);
    assert_eq!(account.snapshot(Reading::default()).left_out, [1, 1]);
    // Busier than those that are told, and told for as little.
    let many = many.map(|(key, name, n)| (key, name, if name == "b" { 999 } else { n }));
    take(&mut account, &many, &loads);
    assert_eq!(names(&account), ["a", "c"]);
    take(&mut account, &many[1..], &[]);
    assert_eq!(names(&account), ["b", "c"]);
    assert_eq!(account.snapshot(Reading::default()).left_out, [0, 0]);
}

/// Of what was there before it, an agent that starts counts what comes.
#[test]
fn what_was_counted_before_the_first_reading_is_left_out() {
    let extent = Extent {
        backends: true,
        series: 7000,
    };
    let mut account = Account::new(extent);
    let loads = [
        ("192.0.2.1:80", "10.0.0.1:8080", 0),
        ("192.0.2.2:80", "10.0.0.1:8080", 0),
    ];
    // The loop has not said whose they are yet.
    let before = BTreeMap::from([(server("192.0.2.1:80"), stats(1000))]);
    let file = BTreeMap::from([((server("192.0.2.1:80"), backend("10.0.0.1:8080")), load(0))]);
    account.take(&before, &file, &BTreeMap::new(), &BTreeSet::new());
    assert_eq!(connections(&account), []);
    let servers = |n: [u64; 2]| [("192.0.2.1:80", "a", n[0]), ("192.0.2.2:80", "a", n[1])];
    take(&mut account, &servers([1003, 4]), &loads);
    assert_eq!(connections(&account)[0], ("a".to_owned(), 7));
    let read = |account: &mut Account, key: &str, n: u64| {
        let backends = [(backend("10.0.0.1:8080"), stats(n))];
        account.take_backends(server(key), backends.into_iter());
    };
    // Of the old one only what comes from now on is known to be new; the other is new itself.
    read(&mut account, "192.0.2.1:80", 1003);
    read(&mut account, "192.0.2.2:80", 4);
    assert_eq!(connections(&account)[1].1, 4);
    take(&mut account, &servers([1005, 4]), &loads);
    read(&mut account, "192.0.2.1:80", 1005);
    assert_eq!(
        connections(&account),
        of(&[("a", 9), ("a 10.0.0.1:8080", 6)])
    );
}
