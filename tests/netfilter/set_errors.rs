//! What the kernel refuses comes back typed, by command, and disturbs nothing else.

use ipvs_agent::model::Family;
use ipvs_agent::netfilter::ipset::{
    Entry, Error, IpsetClient, Outcome, SetCommand, SetSpec, SetType,
};

use super::namespace::{feed, in_namespace, run};
use super::sets::{all_applied, listed, name, spec};

fn tuple(text: &str) -> Entry {
    Entry::IpPort(text.parse().unwrap())
}

fn net(text: &str) -> Entry {
    Entry::Net(text.parse().unwrap())
}

/// The error of a command that must fail.
fn refused(client: &mut IpsetClient, command: &SetCommand) -> Error {
    match client.batch(std::slice::from_ref(command)).unwrap().pop() {
        Some(Outcome::Failed(error)) => error,
        other => panic!("{command}: {other:?}"),
    }
}

#[test]
fn what_is_so_already_is_no_error_and_what_differs_is() {
    in_namespace(|| {
        let mut client = IpsetClient::open().unwrap();
        let create = SetCommand::Create(spec("S", SetType::HashIpPort, Family::V4));
        let entry = tuple("10.96.0.1:80/TCP");
        let add = SetCommand::Add(name("S"), entry);
        let delete = SetCommand::Delete(name("S"), entry);
        all_applied(
            client
                .batch(&[create.clone(), create.clone(), add.clone(), add])
                .unwrap(),
        );
        assert_eq!(listed("S", "Number of entries"), "1");
        all_applied(client.batch(&[delete.clone(), delete]).unwrap());

        for other in [
            spec("S", SetType::HashNet, Family::V4),
            SetSpec {
                max_elements: 7,
                ..spec("S", SetType::HashIpPort, Family::V4)
            },
        ] {
            let error = refused(&mut client, &SetCommand::Create(other));
            assert!(error.is_exists(), "{error}");
            assert!(!error.is_not_found() && !error.is_full() && !error.is_in_use());
        }
        assert_eq!(listed("S", "Type"), "hash:ip,port");
    });
}

#[test]
fn a_set_that_is_not_there_is_not_found() {
    in_namespace(|| {
        let mut client = IpsetClient::open().unwrap();
        let entry = tuple("10.96.0.1:80/TCP");
        for command in [
            SetCommand::Add(name("S"), entry),
            SetCommand::Delete(name("S"), entry),
        ] {
            let text = command.to_string();
            let error = refused(&mut client, &command);
            assert!(error.is_not_found() && !error.is_exists(), "{error}");
            assert!(error.to_string().starts_with(&text), "{error}");
        }
        // Without NLM_F_EXCL kernels since 5.8 find nothing wrong with it.
        all_applied(client.batch(&[SetCommand::Destroy(name("S"))]).unwrap());
        let error = client.entries(&name("S")).unwrap_err();
        assert!(error.is_not_found(), "{error}");
        assert_eq!(client.sets().unwrap(), []);
    });
}

#[test]
fn a_set_in_use_is_not_destroyed() {
    in_namespace(|| {
        let mut client = IpsetClient::open().unwrap();
        let create = SetCommand::Create(spec("S", SetType::HashNet, Family::V4));
        all_applied(client.batch(&[create]).unwrap());
        run("iptables -w -A INPUT -m set --match-set S src");
        let error = refused(&mut client, &SetCommand::Destroy(name("S")));
        assert!(error.is_in_use() && !error.is_not_found(), "{error}");
        assert_eq!(client.sets().unwrap()[0].references, 1);

        run("iptables -w -F INPUT");
        all_applied(client.batch(&[SetCommand::Destroy(name("S"))]).unwrap());
        assert_eq!(run("ipset list -n"), "");
    });
}

#[test]
fn a_full_set_says_so_and_keeps_what_it_has() {
    in_namespace(|| {
        let mut client = IpsetClient::open().unwrap();
        let small = SetSpec {
            max_elements: 64,
            ..spec("S", SetType::HashIpPort, Family::V4)
        };
        let mut commands = vec![SetCommand::Create(small)];
        commands.extend(
            (1..=1000)
                .map(|port| SetCommand::Add(name("S"), tuple(&format!("10.96.0.1:{port}/UDP")))),
        );
        let mut applied = 0;
        let outcomes = client.batch(&commands).unwrap();
        for outcome in &outcomes[1..] {
            match outcome {
                Outcome::Applied => applied += 1,
                Outcome::Failed(error) => assert!(error.is_full(), "{error}"),
                Outcome::Unknown => panic!("answers were lost"),
            }
        }
        assert!(applied < 1000);
        assert_eq!(listed("S", "Number of entries"), applied.to_string());
    });
}

#[test]
fn an_entry_of_another_kind_is_refused_and_its_neighbours_are_not() {
    in_namespace(|| {
        let mut client = IpsetClient::open().unwrap();
        let create = SetCommand::Create(spec("S", SetType::HashIpPort, Family::V4));
        let add = |entry| SetCommand::Add(name("S"), entry);
        let outcomes = client.batch(&[
            create,
            add(tuple("10.96.0.1:80/TCP")),
            add(tuple("[fd00::1]:80/TCP")),
            add(tuple("10.96.0.2:80/TCP")),
            add(net("10.0.0.0/8")),
            SetCommand::Add(name("ABSENT"), net("10.0.0.0/8")),
            add(tuple("10.96.0.3:80/TCP")),
        ]);
        let failed: Vec<bool> = outcomes
            .unwrap()
            .iter()
            .map(|outcome| matches!(outcome, Outcome::Failed(_)))
            .collect();
        assert_eq!(failed, [false, false, true, false, true, true, false]);
        let error = refused(&mut client, &add(tuple("[fd00::1]:80/TCP")));
        assert!(error.to_string().contains("another family"), "{error}");
        let text = run("ipset save S");
        let mut added: Vec<&str> = text.lines().filter(|l| l.starts_with("add")).collect();
        added.sort_unstable();
        assert_eq!(
            added,
            [
                "add S 10.96.0.1,tcp:80",
                "add S 10.96.0.2,tcp:80",
                "add S 10.96.0.3,tcp:80"
            ]
        );
    });
}

#[test]
fn twenty_thousand_refusals_are_all_told() {
    in_namespace(|| {
        let mut client = IpsetClient::open().unwrap();
        let command = SetCommand::Add(name("ABSENT"), tuple("10.96.0.1:80/TCP"));
        for outcome in client.batch(&vec![command; 20_000]).unwrap() {
            let told = matches!(&outcome, Outcome::Failed(error) if error.is_not_found());
            assert!(told, "{outcome:?}");
        }
        // Nothing is left over that the next request would take for its own answer.
        let create = SetCommand::Create(spec("S", SetType::HashNet, Family::V6));
        all_applied(client.batch(&[create]).unwrap());
        assert_eq!(client.sets().unwrap().len(), 1);
    });
}

#[test]
fn two_hundred_sets_are_all_listed() {
    in_namespace(|| {
        let mut names: Vec<String> = (0..200)
            .map(|n| format!("a-name-of-some-length-{n}"))
            .collect();
        let text: String = names
            .iter()
            .map(|set| format!("create {set} hash:ip\nadd {set} 192.0.2.1\n"))
            .collect();
        feed("ipset restore", &text);
        let sets = IpsetClient::open().unwrap().sets().unwrap();
        let mut found: Vec<String> = sets.into_iter().map(|set| set.name).collect();
        found.sort();
        names.sort();
        assert_eq!(found, names);
    });
}

#[test]
fn sets_of_others_are_listed_and_left_alone() {
    in_namespace(|| {
        let foreign = "create cali40masq hash:net family inet timeout 0 counters comment\n\
             add cali40masq 10.244.0.0/16 comment \"pods, all of them\"\n\
             create KUBE-NODE-PORT-TCP bitmap:port range 0-65535\nadd KUBE-NODE-PORT-TCP 30080\n\
             create macs hash:ip family inet6 skbinfo\nadd macs fd00::77 skbmark 0x1/0xff\n\
             create all list:set\nadd all cali40masq\n\
             create IPVS-AGENT-LIKE hash:ip,port counters\nadd IPVS-AGENT-LIKE 10.0.0.1,icmp:echo-request\n\
             add IPVS-AGENT-LIKE 10.0.0.1,tcp:80\n";
        feed("ipset restore", foreign);
        let before = run("ipset save");
        let mut client = IpsetClient::open().unwrap();
        let mut found: Vec<(String, String)> = client
            .sets()
            .unwrap()
            .into_iter()
            .map(|set| (set.name, set.type_name))
            .collect();
        found.sort();
        let expected = [
            ("IPVS-AGENT-LIKE", "hash:ip,port"),
            ("KUBE-NODE-PORT-TCP", "bitmap:port"),
            ("all", "list:set"),
            ("cali40masq", "hash:net"),
            ("macs", "hash:ip"),
        ];
        assert_eq!(
            found,
            expected.map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        );
        // Options of a set that we did not make do not hide its entries; a tuple that has no port of the
        // three protocols is none of ours.
        let read = |client: &mut IpsetClient, set| client.entries(&name(set)).unwrap();
        assert_eq!(read(&mut client, "cali40masq"), [net("10.244.0.0/16")]);
        assert_eq!(
            read(&mut client, "IPVS-AGENT-LIKE"),
            [tuple("10.0.0.1:80/TCP")]
        );
        assert_eq!(
            read(&mut client, "KUBE-NODE-PORT-TCP"),
            [Entry::Port(30080)]
        );
        assert_eq!(read(&mut client, "all"), []);

        all_applied(
            client
                .batch(&[
                    SetCommand::Create(spec("S", SetType::HashNet, Family::V4)),
                    SetCommand::Add(name("S"), net("10.244.0.0/16")),
                    SetCommand::Delete(name("S"), net("10.244.0.0/16")),
                    SetCommand::Destroy(name("S")),
                ])
                .unwrap(),
        );
        assert_eq!(run("ipset save"), before);
    });
}
