//! Command lines of `ipvsadm`: those that it takes mean what it sends to the kernel (see
//! `ipvs-sys/tests/captures`), those that it refuses are refused with what is allowed.

use super::*;
use crate::inspect::rules::{ServicePorts, words};

/// Lines that ipvsadm 1.31 was given when its requests were recorded.
const TAKEN: &str = include_str!("../../../../ipvs-sys/tests/captures/ipvsadm-requests.commands");

fn read(line: &str) -> Result<Invocation, String> {
    let ports = ServicePorts::parse("http 80/tcp\nsip 5060/udp\ndomain 53/tcp\ndomain 53/udp\n");
    let host = |name: &str| (name == "web.example").then_some([192, 0, 2, 7].into());
    let names = Names {
        ports: &ports,
        host: &host,
    };
    parse(&words(line), names).map_err(|mistake| format!("{}: {mistake}", mistake.column))
}

fn command(line: &str) -> String {
    match read(line) {
        Ok(Invocation::Change(command)) => command.to_string(),
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn what_ipvsadm_takes_is_read_as_what_it_means() {
    let mut count = 0;
    for line in TAKEN.lines().filter(|line| line.starts_with('-')) {
        let read = command(line);
        // What the line says and `Display` writes in the same words; defaults are written out.
        for word in line
            .split_whitespace()
            .filter(|word| !["--tun-nocsum"].contains(word))
        {
            let word = if word == "10.2.0.2" {
                "10.2.0.2:0"
            } else {
                word
            };
            assert!(
                read.split_whitespace().any(|there| there == word),
                "{line}\n{read}: {word}"
            );
        }
        assert_eq!(command(&read), read);
        count += 1;
    }
    assert!(count > 80, "{count} lines");
}

#[test]
fn options_stand_in_any_order_and_form() {
    let whole = "-A -t 10.0.0.1:80 -s sh -p 360 -M 255.255.255.0 -b sh-fallback,sh-port";
    for line in [
        whole,
        "-A -M 255.255.255.0 -b sh-port,sh-fallback -p 360 -s sh -t 10.0.0.1:80",
        "--add-service --tcp-service=10.0.0.1:80 --scheduler sh --persistent=360 --netmask \
         255.255.255.0 --sched-flags flag-1,flag-2",
        "-At10.0.0.1:80 -ssh -p360 -M255.255.255.0 -b flag-1,sh-port",
        "-A -t 10.0.0.1:http -s sh -p 360 -M 255.255.255.0 -b sh-fallback,sh-port",
    ] {
        assert_eq!(command(line), whole, "{line}");
    }
}

#[test]
fn what_is_left_out_has_ipvsadms_default() {
    for (line, meaning) in [
        ("-A -t 10.0.0.1:80", "-A -t 10.0.0.1:80 -s wlc"),
        ("-A -t 10.0.0.1 -p", "-A -t 10.0.0.1:0 -s wlc -p 300"),
        ("-A -p -t 10.0.0.1:80", "-A -t 10.0.0.1:80 -s wlc -p 300"),
        (
            "-a -t 10.0.0.1:80 -r 10.0.0.2",
            "-a -t 10.0.0.1:80 -r 10.0.0.2:80 -g -w 1",
        ),
        // The port of what is not masqueraded is put right.
        (
            "-a -t 10.0.0.1:80 -r 10.0.0.2:81",
            "-a -t 10.0.0.1:80 -r 10.0.0.2:80 -g -w 1",
        ),
        ("-a -f 1 -r 10.0.0.2:81", "-a -f 1 -r 10.0.0.2:81 -g -w 1"),
        (
            "-a -t 10.0.0.1:80 -r [fd00::2]:81 -i",
            "-a -t 10.0.0.1:80 -r [fd00::2]:80 -i -w 1 --tun-type ipip",
        ),
        (
            "-a -f 1 -r 10.0.0.2 -m -w 0",
            "-a -f 1 -r 10.0.0.2:0 -m -w 0",
        ),
        // As ipvsadm -S writes it.
        ("-A -f -1294967296 -s wlc", "-A -f 3000000000 -s wlc"),
        ("-A -t web.example:http -s rr", "-A -t 192.0.2.7:80 -s rr"),
        ("-A -t fd00::1 -s rr -p 5", "-A -t [fd00::1]:0 -s rr -p 5"),
        ("--set 0 0 302", "--set 0 0 302"),
        (
            "--start-daemon=backup --mcast-interface vc",
            "--start-daemon backup --mcast-interface vc --syncid 0",
        ),
    ] {
        assert_eq!(command(line), meaning, "{line}");
    }
}

/// Column and words. The first lines are those of the captures, where ipvsadm refuses too.
#[test]
fn what_is_wrong_is_told_with_its_place_and_what_is_allowed() {
    for (line, place, told) in [
        (
            "-A -t 10.96.0.99:0 -s rr",
            1,
            "port 0 needs a persistent service",
        ),
        (
            "-A -t 10.96.0.99:80 -o",
            1,
            "one-packet scheduling is for UDP only",
        ),
        (
            "-a -t 10.96.0.1:443 -r [fd00::9]:6443 -m",
            1,
            "needs a tunnel",
        ),
        (
            "-a -t 10.96.0.1:443 -r 10.2.0.77 -m -x 10 -y 20",
            1,
            "do not go together",
        ),
        ("-Lon", 3, "-o does not go with -L, which takes -t"),
        ("-Lcn --stats", 1, "list something else"),
        (
            "-A -f 0xff -s rr",
            7,
            "a decimal number from 1 to 4294967295",
        ),
        ("", 1, "a command comes first"),
        ("-t 10.0.0.1:80 -A", 1, "a command comes first"),
        ("-A -s rr", 9, "-A needs a virtual service"),
        ("-a -t 10.0.0.1:80", 18, "-a needs a real server: -r"),
        (
            "-A -t 10.0.0.1:80 --scheduller rr",
            19,
            "there is no option --scheduller",
        ),
        ("-A -t 10.0.0.1:80 -s", 19, "-s needs a value"),
        (
            "-A -t 10.0.0.1:80 -u 10.0.0.1:80",
            19,
            "-t stands there already",
        ),
        ("-A -t 10.0.0.1:80 rr", 19, "\"rr\" belongs to no option"),
        (
            "-A -t 10.0.0.1:nosuch -s rr",
            7,
            "/etc/services, which has no \"nosuch\" over TCP",
        ),
        ("-A -u 10.0.0.1:http -s rr", 7, "over UDP"),
        ("-A -t 10.0.0.1:65536 -s rr", 7, "a number from 0 to 65535"),
        ("-A -t 10.0.0.256:80 -s rr", 7, "an address is written as"),
        (
            "-A -t nosuch.example:80 -s rr",
            7,
            "no host is known by the name nosuch.example",
        ),
        ("-A -t 10.0.0.1:80 -p 0", 22, "from 1 to 2678400"),
        (
            "-A -t 10.0.0.1:80 -p 60 -M 255.0.255.0",
            28,
            "ones before zeros",
        ),
        ("-A -t [fd00::1]:80 -p 60 -M 129", 29, "from 1 to 128"),
        (
            "-A -t 10.0.0.1:80 -s rr -b sh-port",
            28,
            "the flags of scheduler rr are flag-1",
        ),
        (
            "-a -t 10.0.0.1:80 -r 10.0.0.2 -g --tun-type gre",
            34,
            "only a tunnel (-i) has this",
        ),
        (
            "-a -t 10.0.0.1:80 -r 10.0.0.2 -i --tun-type gue",
            48,
            "needs --tun-port",
        ),
        (
            "-a -t 10.0.0.1:80 -r 10.0.0.2 -i --tun-type gre --tun-remcsum",
            49,
            "only --tun-type gue",
        ),
        (
            "-a -t 10.0.0.1:80 -r 10.0.0.2 -w -1",
            34,
            "a weight is a number",
        ),
        ("-D -t 10.0.0.1:80 -6", 19, "-6 says of -f"),
        ("--set 1 2", 10, "three numbers of seconds"),
        (
            "--start-daemon both --mcast-interface vc",
            16,
            "master or backup",
        ),
        ("--start-daemon master", 22, "--mcast-interface"),
        ("-C -n", 4, "-n does not go with -C, which takes no option"),
    ] {
        let mistake = read(line).expect_err(line);
        assert!(
            mistake.starts_with(&format!("{place}: ")),
            "{line}: {mistake}"
        );
        assert!(mistake.contains(told), "{line}: {mistake}");
    }
}

#[test]
fn what_changes_nothing_is_read_too() {
    assert_eq!(read("-Sn"), Ok(Invocation::Save { nosort: false }));
    assert_eq!(read("-R"), Ok(Invocation::Restore));
    let Ok(Invocation::List(list)) = read("-Ln --rate -f 7 -6 --nosort") else {
        panic!()
    };
    assert!(list.rate && list.nosort && !list.stats && list.service.is_some());
}
