//! Rules at random, in the words of `ipvsadm`. A seed gives the same rules everywhere.

use std::fmt::Write;

/// `xorshift64*`.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % n
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[usize::try_from(self.below(of.len() as u64)).unwrap_or(0)]
    }
}

/// Some virtual servers with up to five real servers each. The kernel must have an interface for them.
pub fn rules(seed: u64) -> String {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut out = String::new();
    for n in 1..=SERVICES {
        // 192.168.x and marks from 2³¹ stand in an order of their own.
        let (key, ipv6, port) = key(&mut dice, n);
        let udp = key.starts_with("-u");
        let _ = write!(out, "-A {key} -s ");
        let scheduler = dice.pick(&["rr", "wrr", "lc", "wlc", "sh", "mh", "sed", "nq"]);
        let _ = write!(out, "{scheduler}");
        if port == 0 && !key.starts_with("-f") || dice.below(2) == 0 {
            let _ = write!(out, " -p {}", 1 + dice.below(2_678_400));
            if dice.below(2) == 0 {
                let mask = if ipv6 {
                    dice.pick(&["64", "48", "127"])
                } else {
                    dice.pick(&["255.255.255.0", "255.240.0.0"])
                };
                let _ = write!(out, " -M {mask}");
            }
            if udp && dice.below(2) == 0 {
                out.push_str(" --pe sip");
            }
        }
        if udp && dice.below(2) == 0 {
            out.push_str(" -o");
        }
        match scheduler {
            "sh" => out.push_str(dice.pick(&[
                "",
                " -b sh-fallback",
                " -b sh-port",
                " -b sh-fallback,sh-port",
            ])),
            "mh" => out.push_str(dice.pick(&[
                "",
                " -b mh-fallback",
                " -b mh-port",
                " -b mh-fallback,mh-port",
            ])),
            _ => out.push_str(dice.pick(&["", "", "", " -b flag-1", " -b flag-2,flag-3"])),
        }
        out.push('\n');
        for m in 1..=dice.below(6) {
            real_server(&mut dice, &mut out, &key, ipv6, port, m);
        }
    }
    out
}

fn key(dice: &mut Dice, n: u64) -> (String, bool, u64) {
    let ipv6 = dice.below(3) == 0;
    if dice.below(4) == 0 {
        let mark = dice.pick(&["", "30000000"]);
        let family = if ipv6 { " -6" } else { "" };
        return (format!("-f {mark}{n:02}{family}"), ipv6, 0);
    }
    let protocol = dice.pick(&["-t", "-t", "-u", "--sctp-service"]);
    let port = dice.below(8) * 1000;
    let addr = match (ipv6, dice.below(2)) {
        (true, _) => format!("[fd00:96::{n:x}]"),
        (false, 0) => format!("192.168.200.{n}"),
        (false, _) => format!("10.96.0.{n}"),
    };
    (format!("{protocol} {addr}:{port}"), ipv6, port)
}

fn real_server(dice: &mut Dice, out: &mut String, key: &str, ipv6: bool, port: u64, m: u64) {
    let method = dice.pick(&[
        "-m",
        "-m",
        "-g",
        "-i",
        "-i --tun-type gre",
        "-i --tun-type gre --tun-csum",
        "-i --tun-type gue --tun-port 5555",
        "-i --tun-type gue --tun-port 5556 --tun-csum",
        "-i --tun-type gue --tun-port 65535 --tun-remcsum",
    ]);
    // Only a tunnel carries one family in the other.
    let ipv6 = ipv6 != (method.starts_with("-i") && dice.below(3) == 0);
    let addr = if ipv6 {
        format!("[fd00:2::{m:x}]")
    } else {
        format!("10.{}.0.{m}", dice.pick(&["2", "192"]))
    };
    let port = if method == "-m" {
        1 + dice.below(65_535)
    } else {
        port
    };
    let weight = dice.pick(&["0", "1", "2", "65535", "100000"]);
    let threshold = dice.pick(&["", "", " -x 100", " -x 4000 -y 50"]);
    let _ = writeln!(
        out,
        "-a {key} -r {addr}:{port} {method} -w {weight}{threshold}"
    );
}

/// What the tables of a story must have had in them.
pub const FEATURES: [&str; 26] = [
    "-A -t 10.96",
    "-A -t 192.168",
    "-A -t [fd00",
    "-A -u 1",
    "-A -u [",
    "--sctp-service 1",
    "--sctp-service [",
    "-A -f -",
    " -6 ",
    " -p ",
    " -M 255",
    " -M 64",
    " --pe sip",
    " -o",
    " -b sh-",
    " -b mh-",
    " -b flag-",
    " -m ",
    " -g ",
    "--tun-type ipip",
    "--tun-type gre --tun-csum",
    "--tun-type gue --tun-port 5555 --tun-nocsum",
    "--tun-remcsum",
    " -w 0",
    " -w 100000",
    "-r [fd00",
];

const SERVICES: u64 = 40;
