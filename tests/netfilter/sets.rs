//! What the set client writes `ipset` shows, and what `ipset` writes the client reads.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use ipvs_agent::model::{Family, Protocol, VipPort};
use ipvs_agent::netfilter::ipset::{
    Entry, IpsetClient, Outcome, SetCommand, SetHeader, SetName, SetSpec, SetType,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::namespace::{feed, in_namespace, run};

const TYPES: [SetType; 6] = [
    SetType::HashIpPort,
    SetType::HashIpPortSkbmark,
    SetType::HashIpPortIp,
    SetType::HashIpPortNet,
    SetType::HashNet,
    SetType::BitmapPort,
];
const MANY: u32 = 20_000;

pub fn name(text: &str) -> SetName {
    text.parse().unwrap()
}

pub fn spec(set: &str, set_type: SetType, family: Family) -> SetSpec {
    SetSpec {
        name: name(set),
        set_type,
        family,
        max_elements: 1 << 20,
    }
}

/// Fails at the first command that failed.
pub fn all_applied(outcomes: Vec<Outcome>) {
    for outcome in outcomes {
        assert!(matches!(outcome, Outcome::Applied), "{outcome:?}");
    }
}

/// The value of a line such as `Type: hash:net` of `ipset list -t`.
pub fn listed(set: &str, field: &str) -> String {
    let text = run(&format!("ipset list -t {set}"));
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.unwrap_or_else(|| panic!("no {field} in {text}"))
        .trim_start_matches([':', ' '])
        .to_owned()
}

/// The entries of a set in the words of `ipset save`.
fn saved(set: &str, set_type: SetType) -> BTreeSet<Entry> {
    let text = run(&format!("ipset save {set}"));
    let prefix = format!("add {set} ");
    let entries = text.lines().filter_map(|line| line.strip_prefix(&prefix));
    entries.map(|text| read(text, set_type)).collect()
}

/// `10.0.0.1,tcp:80`, the same with ` skbmark 0x1`, `10.0.0.1,udp:53,10.0.0.2`, the same with a
/// length, `10.0.0.0/8` or `10.0.0.1`. A net that is one address has no
/// length.
fn read(text: &str, set_type: SetType) -> Entry {
    let hex = |text: &str| u32::from_str_radix(text.strip_prefix("0x").unwrap(), 16).unwrap();
    let net = |text: &str| {
        text.parse()
            .unwrap_or_else(|_| IpNet::from(text.parse::<IpAddr>().unwrap()))
    };
    let (text, mark) = match text.split_once(" skbmark ") {
        Some((text, mark)) => (text, hex(mark.trim_end_matches("/0xffffffff"))),
        None => (text, 0),
    };
    let parts: Vec<&str> = text.split(',').collect();
    let vip = |addr: &str, tuple: &str| {
        let (protocol, port) = tuple.split_once(':').unwrap();
        VipPort {
            addr: addr.parse().unwrap(),
            protocol: protocol.parse().unwrap(),
            port: port.parse().unwrap(),
        }
    };
    match (set_type, &parts[..]) {
        (SetType::HashIpPort, [addr, tuple]) => Entry::IpPort(vip(addr, tuple)),
        (SetType::HashIpPortSkbmark, [addr, tuple]) => Entry::IpPortSkbmark {
            vip: vip(addr, tuple),
            mark,
        },
        (SetType::HashIpPortIp, [addr, tuple, source]) => Entry::IpPortIp {
            vip: vip(addr, tuple),
            source: source.parse().unwrap(),
        },
        (SetType::HashIpPortNet, [addr, tuple, source]) => Entry::IpPortNet {
            vip: vip(addr, tuple),
            net: net(source),
        },
        (SetType::HashNet, [addr]) => Entry::Net(net(addr)),
        (SetType::BitmapPort, [port]) => Entry::Port(port.parse().unwrap()),
        _ => panic!("{text} in a {set_type}"),
    }
}

/// An entry as `ipset add` takes it, in words of this test's own.
fn words(entry: &Entry) -> String {
    let tuple = |vip: &VipPort| {
        let protocol = match vip.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        };
        format!("{},{protocol}:{}", vip.addr, vip.port)
    };
    match entry {
        Entry::IpPort(vip) => tuple(vip),
        Entry::IpPortSkbmark { vip, mark } => format!("{} skbmark {mark:#x}", tuple(vip)),
        Entry::IpPortIp { vip, source } => format!("{},{source}", tuple(vip)),
        Entry::IpPortNet { vip, net } => format!("{},{net}", tuple(vip)),
        Entry::Net(net) => format!("{}/{}", net.addr(), net.prefix_len()),
        Entry::Port(port) => port.to_string(),
    }
}

fn address(family: Family) -> BoxedStrategy<IpAddr> {
    match family {
        Family::V4 => any::<[u8; 4]>().prop_map(IpAddr::from).boxed(),
        Family::V6 => any::<[u8; 16]>().prop_map(IpAddr::from).boxed(),
    }
}

fn entry(set_type: SetType, family: Family) -> BoxedStrategy<Entry> {
    let protocol = prop_oneof![
        Just(Protocol::Tcp),
        Just(Protocol::Udp),
        Just(Protocol::Sctp)
    ];
    let vip =
        (address(family), protocol, any::<u16>()).prop_map(|(addr, protocol, port)| VipPort {
            addr,
            protocol,
            port,
        });
    let net = (address(family), 1..=family.host_prefix())
        .prop_map(|(addr, length)| IpNet::new(addr, length).unwrap().trunc());
    match set_type {
        SetType::HashIpPort | SetType::HashIpPortTimeout(_) => vip.prop_map(Entry::IpPort).boxed(),
        SetType::HashIpPortIp => (vip, address(family))
            .prop_map(|(vip, source)| Entry::IpPortIp { vip, source })
            .boxed(),
        SetType::HashIpPortSkbmark => (vip, 1_u32..)
            .prop_map(|(vip, mark)| Entry::IpPortSkbmark { vip, mark })
            .boxed(),
        SetType::HashIpPortNet => (vip, net)
            .prop_map(|(vip, net)| Entry::IpPortNet { vip, net })
            .boxed(),
        SetType::HashNet => net.prop_map(Entry::Net).boxed(),
        SetType::BitmapPort => any::<u16>().prop_map(Entry::Port).boxed(),
        // Rules add to these, and nobody else.
        SetType::HashIpTimeout => unreachable!(),
    }
}

/// Asks a property of generated entries of every set type, in one namespace.
fn for_generated(property: impl Fn(SetType, Family, BTreeSet<Entry>, usize) + Sync) {
    in_namespace(|| {
        for (set_type, family) in TYPES
            .into_iter()
            .flat_map(|set_type| Family::ALL.map(|family| (set_type, family)))
        {
            let entries = prop::collection::btree_set(entry(set_type, family), 0..120);
            let config = Config {
                cases: 12,
                failure_persistence: None,
                ..Config::default()
            };
            TestRunner::new(config)
                .run(&(entries, 0..120_usize), |(entries, rest)| {
                    run("ipset destroy");
                    property(set_type, family, entries, rest);
                    Ok::<(), TestCaseError>(())
                })
                .unwrap();
        }
    });
}

#[test]
fn every_set_is_made_as_asked_and_listed_as_ipset_lists_it() {
    in_namespace(|| {
        let mut client = IpsetClient::open().unwrap();
        let mut expected = Vec::new();
        let type_names = [
            "hash:ip,port",
            "hash:ip,port",
            "hash:ip,port,ip",
            "hash:ip,port,net",
            "hash:net",
            "bitmap:port",
        ];
        for (number, (set_type, type_name)) in TYPES.into_iter().zip(type_names).enumerate() {
            for (family, word) in [(Family::V4, "inet"), (Family::V6, "inet6")] {
                let set = format!("IPVS-{word}-{number}");
                let create = SetCommand::Create(spec(&set, set_type, family));
                all_applied(client.batch(&[create]).unwrap());
                assert_eq!(listed(&set, "Type"), type_name);
                let header = format!("{} ", listed(&set, "Header"));
                if set_type == SetType::BitmapPort {
                    assert!(header.contains("range 0-65535 "), "{header}");
                } else {
                    assert!(header.contains(&format!("family {word} ")), "{header}");
                    assert!(header.contains("maxelem 1048576 "), "{header}");
                }
                assert!(!header.contains("timeout"), "{header}");
                let marked = set_type == SetType::HashIpPortSkbmark;
                assert_eq!(header.contains("skbinfo"), marked, "{header}");
                if family == Family::V4 {
                    let direction = if set_type == SetType::BitmapPort {
                        "dst"
                    } else {
                        "src,src"
                    };
                    run(&format!(
                        "iptables -w -A INPUT -p tcp -m set --match-set {set} {direction}"
                    ));
                }
                expected.push(SetHeader {
                    references: listed(&set, "References").parse().unwrap(),
                    name: set,
                    type_name: type_name.to_owned(),
                });
            }
        }
        let mut sets = client.sets().unwrap();
        sets.sort_by_key(|header| header.name.clone());
        expected.sort_by_key(|header| header.name.clone());
        assert_eq!(sets, expected);
    });
}

#[test]
fn what_the_client_adds_and_deletes_ipset_saves() {
    for_generated(|set_type, family, entries, keep| {
        let mut client = IpsetClient::open().unwrap();
        let mut commands = vec![SetCommand::Create(spec("S", set_type, family))];
        commands.extend(entries.iter().map(|e| SetCommand::Add(name("S"), *e)));
        all_applied(client.batch(&commands).unwrap());
        assert_eq!(saved("S", set_type), entries);

        let gone = entries.iter().skip(keep);
        let commands: Vec<_> = gone.map(|e| SetCommand::Delete(name("S"), *e)).collect();
        all_applied(client.batch(&commands).unwrap());
        assert_eq!(
            saved("S", set_type),
            entries.into_iter().take(keep).collect()
        );
        all_applied(client.batch(&[SetCommand::Destroy(name("S"))]).unwrap());
        assert_eq!(run("ipset save"), "");
    });
}

#[test]
fn what_ipset_restores_the_client_reads() {
    for_generated(|set_type, family, entries, _| {
        let word = if family == Family::V6 {
            "inet6"
        } else {
            "inet"
        };
        let marked = set_type == SetType::HashIpPortSkbmark;
        let with = if marked { " skbinfo" } else { "" };
        let shape = match set_type {
            SetType::BitmapPort => "range 0-65535".to_owned(),
            _ => format!("family {word}{with}"),
        };
        let mut text = format!("create S {set_type} {shape}\ncreate OTHER hash:ip\n");
        text.push_str("add OTHER 192.0.2.77\n");
        for entry in &entries {
            let _ = writeln!(text, "add S {}", words(entry));
        }
        feed("ipset restore", &text);
        let read = IpsetClient::open().unwrap().entries(&name("S")).unwrap();
        assert_eq!(read.len(), entries.len(), "none twice");
        assert_eq!(read.into_iter().collect::<BTreeSet<_>>(), entries);
    });
}

/// What is held is let go, whoever dies.
#[test]
fn an_entry_with_a_time_can_be_deleted_and_leaves_by_itself() {
    in_namespace(|| {
        let mut client = IpsetClient::open().unwrap();
        let entry = Entry::IpPort("192.0.2.1:80/TCP".parse().unwrap());
        let add = SetCommand::Add(name("S"), entry);
        let made = spec("S", SetType::HashIpPortTimeout(1), Family::V4);
        all_applied(
            client
                .batch(&[SetCommand::Create(made), add.clone()])
                .unwrap(),
        );
        let told = run("ipset save S");
        assert!(
            told.contains("timeout 1") && told.contains("add S 192.0.2.1,tcp:80 timeout "),
            "{told}"
        );
        let delete = SetCommand::Delete(name("S"), entry);
        all_applied(client.batch(&[delete]).unwrap());
        assert_eq!(client.entries(&name("S")).unwrap(), []);
        all_applied(client.batch(&[add]).unwrap());
        for _ in 0..300 {
            if client.entries(&name("S")).unwrap().is_empty() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        panic!("it is still there");
    });
}

#[test]
fn twenty_thousand_entries_are_all_there_and_all_go() {
    let tuple = |number: u32, family| {
        let addr = match family {
            Family::V4 => IpAddr::from(Ipv4Addr::from_bits(0x0a60_0000 + number)),
            Family::V6 => IpAddr::from(Ipv6Addr::from_bits((0xfd << 120) + u128::from(number))),
        };
        VipPort {
            addr,
            protocol: Protocol::Tcp,
            port: 443,
        }
    };
    for set_type in TYPES {
        in_namespace(move || {
            let mut client = IpsetClient::open().unwrap();
            for family in Family::ALL {
                let entries: Vec<Entry> = (0..MANY)
                    .map(|number| (number, tuple(number, family)))
                    .map(|(number, vip)| match set_type {
                        SetType::HashIpPort | SetType::HashIpPortTimeout(_) => Entry::IpPort(vip),
                        SetType::HashIpPortIp => Entry::IpPortIp {
                            vip,
                            source: vip.addr,
                        },
                        SetType::HashIpPortSkbmark => Entry::IpPortSkbmark { vip, mark: 7 },
                        SetType::HashIpPortNet => Entry::IpPortNet {
                            vip,
                            net: IpNet::from(vip.addr),
                        },
                        SetType::HashNet => Entry::Net(IpNet::from(vip.addr)),
                        SetType::BitmapPort => Entry::Port(u16::try_from(number).unwrap()),
                        SetType::HashIpTimeout => unreachable!(),
                    })
                    .collect();
                let mut commands = vec![SetCommand::Create(spec("S", set_type, family))];
                commands.extend(entries.iter().map(|e| SetCommand::Add(name("S"), *e)));
                all_applied(client.batch(&commands).unwrap());
                assert_eq!(listed("S", "Number of entries"), MANY.to_string());

                let read: BTreeSet<Entry> =
                    client.entries(&name("S")).unwrap().into_iter().collect();
                assert!(read == entries.iter().copied().collect(), "dump and batch");
                assert!(read == saved("S", set_type), "dump and ipset save");

                let gone = entries.iter().map(|e| SetCommand::Delete(name("S"), *e));
                all_applied(client.batch(&gone.collect::<Vec<_>>()).unwrap());
                assert_eq!(listed("S", "Number of entries"), "0");
                all_applied(client.batch(&[SetCommand::Destroy(name("S"))]).unwrap());
            }
        });
    }
}

#[test]
fn an_entry_added_again_with_another_mark_carries_that() {
    in_namespace(|| {
        let mut client = IpsetClient::open().unwrap();
        let vip = VipPort {
            addr: [192, 0, 2, 1].into(),
            protocol: Protocol::Tcp,
            port: 80,
        };
        let add = |mark| SetCommand::Add(name("S"), Entry::IpPortSkbmark { vip, mark });
        let create = SetCommand::Create(spec("S", SetType::HashIpPortSkbmark, Family::V4));
        all_applied(client.batch(&[create, add(1), add(0xfff0_0003)]).unwrap());
        let text = run("ipset save S");
        assert!(
            text.contains("add S 192.0.2.1,tcp:80 skbmark 0xfff00003\n"),
            "{text}"
        );
        // It is deleted by its tuple, whatever its mark.
        let delete = SetCommand::Delete(name("S"), Entry::IpPortSkbmark { vip, mark: 1 });
        all_applied(client.batch(&[delete]).unwrap());
        assert_eq!(listed("S", "Number of entries"), "0");
    });
}
