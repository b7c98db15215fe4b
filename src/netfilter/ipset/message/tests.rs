//! The codec against captures of ipset(8) and the kernel (`captures/capture.sh` makes them).

use std::collections::BTreeMap;

use netlink_packet_core::NLM_F_DUMP;

use super::*;
use crate::netfilter::ipset::SetType;

/// What was said for one command.
struct Exchange {
    command: &'static str,
    request: Vec<u8>,
    answers: Vec<Vec<u8>>,
}

struct Capture {
    set_type: SetType,
    family: Family,
    text: &'static str,
}

const CAPTURES: [Capture; 6] = [
    Capture {
        set_type: SetType::HashIpPort,
        family: Family::V4,
        text: include_str!("../captures/hash-ip-port-inet.txt"),
    },
    Capture {
        set_type: SetType::HashIpPort,
        family: Family::V6,
        text: include_str!("../captures/hash-ip-port-inet6.txt"),
    },
    Capture {
        set_type: SetType::HashIpPortIp,
        family: Family::V4,
        text: include_str!("../captures/hash-ip-port-ip-inet.txt"),
    },
    Capture {
        set_type: SetType::HashIpPortIp,
        family: Family::V6,
        text: include_str!("../captures/hash-ip-port-ip-inet6.txt"),
    },
    Capture {
        set_type: SetType::HashNet,
        family: Family::V4,
        text: include_str!("../captures/hash-net-inet.txt"),
    },
    Capture {
        set_type: SetType::HashNet,
        family: Family::V6,
        text: include_str!("../captures/hash-net-inet6.txt"),
    },
];

impl Capture {
    fn exchanges(&self) -> Vec<Exchange> {
        let mut found: Vec<Exchange> = Vec::new();
        for line in self.text.lines().filter(|line| !line.starts_with('#')) {
            match line.split_at(2) {
                ("$ ", command) => found.push(Exchange {
                    command,
                    request: Vec::new(),
                    answers: Vec::new(),
                }),
                ("> ", hex) => found.last_mut().unwrap().request = bytes(hex),
                ("< ", hex) => found.last_mut().unwrap().answers.push(bytes(hex)),
                _ => panic!("{line}"),
            }
        }
        found
    }

    /// The entry in the words of ipset's command line.
    fn entry(&self, words: &str) -> Entry {
        let mut parts = words.split(',');
        let addr = parts.next().unwrap();
        let Some((protocol, port)) = parts.next().and_then(|tuple| tuple.split_once(':')) else {
            return Entry::Net(addr.parse().unwrap());
        };
        let vip = VipPort {
            addr: addr.parse().unwrap(),
            protocol: protocol.parse().unwrap(),
            port: port.parse().unwrap(),
        };
        match parts.next() {
            None => Entry::IpPort(vip),
            Some(source) => Entry::IpPortIp {
                vip,
                source: source.parse().unwrap(),
            },
        }
    }

    /// What we would send for a command of ipset's.
    fn request(&self, command: &str) -> Request {
        let name = "CAP".parse().unwrap();
        let words: Vec<&str> = command.split(' ').skip(1).collect();
        let command = match words[..] {
            ["create", ..] => SetCommand::Create(SetSpec {
                name,
                set_type: self.set_type,
                family: self.family,
                max_elements: 1 << 20,
            }),
            ["add", _, entry] => SetCommand::Add(name, self.entry(entry)),
            ["del", _, entry] => SetCommand::Delete(name, self.entry(entry)),
            ["destroy", _] => SetCommand::Destroy(name),
            ["list", set] => {
                let mut request = Request::new(SUBSYSTEM, CMD_LIST, None, NLM_F_DUMP);
                list(&mut request, (set != "-t").then_some(set));
                return request;
            }
            _ => panic!("{command}"),
        };
        request(&command)
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits
        .map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap())
        .collect()
}

/// `nlmsg_type` and `nlmsg_flags`.
fn header_of(message: &[u8]) -> (u16, u16) {
    let number = |at| u16::from_ne_bytes([message[at], message[at + 1]]);
    (number(4), number(6))
}

/// Values of attributes by the kinds on the way to them, with the flags of each kind.
fn leaves(attributes: &[u8]) -> BTreeMap<Vec<u16>, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut rest = attributes;
    while !rest.is_empty() {
        let length = usize::from(u16::from_ne_bytes([rest[0], rest[1]]));
        let kind = u16::from_ne_bytes([rest[2], rest[3]]);
        let value = &rest[4..length];
        if kind & 0x8000 == 0 {
            assert_eq!(
                found.insert(vec![kind], value.to_vec()),
                None,
                "{kind} twice"
            );
        } else {
            for (mut path, value) in leaves(value) {
                path.insert(0, kind);
                assert_eq!(found.insert(path, value), None, "{kind} twice");
            }
        }
        rest = &rest[length.next_multiple_of(4)..];
    }
    found
}

#[test]
fn a_request_says_what_ipset_says() {
    // We ask for no acknowledgement and for no error if it is so already, we speak the oldest
    // protocol and an older revision, and have no line numbers of a file.
    const ACK: u16 = 4;
    // Part of NLM_F_DUMP in a list.
    const EXCL: u16 = 0x200;
    const LINENO: u16 = 9 | 0x4000;
    let nested = 7 | 0x8000;
    for capture in &CAPTURES {
        for exchange in capture.exchanges() {
            let command = exchange.command;
            let ours = capture.request(command).finish(0);
            let theirs = exchange.request;
            assert_eq!(
                ours.len(),
                u32::from_ne_bytes(ours[..4].try_into().unwrap()) as usize
            );
            let (kind, flags) = header_of(&theirs);
            let is_list = command.contains(" list ");
            let left_out = if is_list { ACK } else { ACK | EXCL };
            assert_eq!(header_of(&ours), (kind, flags & !left_out), "{command}");
            if command.contains("CAP ") {
                let family = if capture.family == Family::V4 { 2 } else { 10 };
                assert_eq!(ours[16], family, "{command}");
            }
            assert_eq!(ours[17..20], [0; 3], "{command}");

            let mut theirs = leaves(&theirs[20..]);
            let mut ours = leaves(&ours[20..]);
            theirs.remove(&vec![nested, LINENO]);
            assert_eq!(theirs.insert(vec![ATTR_PROTOCOL], vec![6]), Some(vec![7]));
            if command.contains(" create ") {
                let (revision, older) = (vec![ATTR_REVISION], vec![5]);
                assert_eq!(ours.get(&revision), Some(&older));
                assert!(theirs.insert(revision.clone(), older.clone()) > Some(older));
            }
            assert_eq!(
                ours.remove(&vec![ATTR_PROTOCOL]),
                theirs.remove(&vec![ATTR_PROTOCOL])
            );
            assert_eq!(ours, theirs, "{command}");
        }
    }
}

#[test]
fn a_set_is_read_as_the_kernel_lists_it() {
    for capture in &CAPTURES {
        let exchanges = capture.exchanges();
        let mut added: Vec<Entry> = exchanges
            .iter()
            .filter_map(|exchange| exchange.command.strip_prefix("ipset add CAP "))
            .map(|words| capture.entry(words))
            .collect();
        added.sort();
        let mut lists = 0;
        for exchange in exchanges.iter().filter(|e| e.command.contains(" list ")) {
            let answer = exchange.answers[0].get(20..).unwrap();
            let mut read: Vec<Entry> = entries(answer).collect();
            read.sort();
            if exchange.command == "ipset list CAP" {
                assert_eq!(read, added);
                lists += 1;
            } else {
                assert_eq!(read, []);
            }
            let expected = SetHeader {
                name: "CAP".to_owned(),
                type_name: capture.set_type.to_string(),
                references: 0,
            };
            assert_eq!(header(answer), Some(expected), "{}", exchange.command);
        }
        assert_eq!(lists, 1);
    }
}

#[test]
fn an_answer_that_is_cut_off_reads_as_less_and_never_panics() {
    for capture in &CAPTURES {
        for exchange in capture.exchanges() {
            for answer in exchange.answers {
                let whole = entries(&answer[20.min(answer.len())..]).count();
                for end in 20..answer.len() {
                    let part = &answer[20..end];
                    assert!(entries(part).count() <= whole);
                    let _ = header(part);
                }
            }
        }
    }
}
