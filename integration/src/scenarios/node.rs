//! The node itself: what is left alone, and what must not happen.

use anyhow::{Result, ensure};
use serde_json::json;

use super::{Lab, answered_by, at, node_addresses, refused, route_from_client};
use crate::guest::cluster::State::Ready;
use crate::guest::probe::Transport::Tcp;
use crate::guest::probe::{Answer, probe};
use crate::guest::server::Server;
use crate::guest::sh_in;
use crate::guest::topology::{CLIENT, P11, P21, POD_PORT};
use crate::guest::wait::eventually;

/// Proves topology, servers and probes without the agent.
pub fn lab_network(lab: &mut Lab) -> Result<()> {
    for from in ["p12", "p32", "n1", "n3", CLIENT] {
        for addr in [P11.v4(), P11.v6()] {
            for transport in lab.transports() {
                answered_by(from, *transport, at(&addr, POD_PORT)?, &["p11"])?;
            }
            refused(from, Tcp, at(&addr, 1)?)?;
        }
    }
    Ok(())
}

/// The same with IPVS, programmed by hand.
pub fn lab_selftest(_lab: &mut Lab) -> Result<()> {
    sh_in("n1", "sysctl -qw net.ipv4.vs.conntrack=1")?;
    for (vip, real) in [
        ("192.168.50.11", P11.v4()),
        ("[fd00:50::11]", format!("[{}]", P11.v6())),
    ] {
        sh_in("n1", &format!("ipvsadm -A -t {vip}:7777 -s rr"))?;
        sh_in(
            "n1",
            &format!("ipvsadm -a -t {vip}:7777 -r {real}:{POD_PORT} -m"),
        )?;
    }
    for addr in node_addresses("n1") {
        answered_by("n1", Tcp, at(&addr, 7777)?, &["p11"])?;
    }
    sh_in("n1", "ipvsadm -C")?;
    for addr in node_addresses("n1") {
        refused("n1", Tcp, at(&addr, 7777)?)?;
    }
    Ok(())
}

pub fn list(lab: &mut Lab) -> Result<()> {
    let sticky = json!({ "type": "NodePort", "sessionAffinity": "ClientIP" });
    lab.cluster.service(
        "web",
        json!({ "ipvs-agent.io/scheduler": "mh,port" }),
        sticky,
    )?;
    let vips = lab.cluster.service("plain", json!({}), json!({}))?;
    lab.cluster
        .endpoints("web", &[(P11, Ready), (P21, Ready)])?;
    lab.cluster
        .endpoints("plain", &[(P11, Ready), (P21, Ready)])?;
    for vip in &vips {
        answered_by("p12", Tcp, at(vip, 80)?, &["p11", "p21"])?;
    }
    // Foreign ones with everything that Services do not have.
    let foreign = [
        "-A -f 3000000000 -s wlc",
        "-A -f 100 -s mh -b mh-port",
        "-a -f 100 -r 10.2.0.2:0 -g -w 1",
        "-A -f 200 -6 -s rr",
        "-A -t 192.168.200.5:80 -s sh -b sh-port,sh-fallback -p 360 -M 255.255.255.0",
        "-a -t 192.168.200.5:80 -r 10.2.0.2 -g -w 1",
        "-a -t 192.168.200.5:80 -r 10.3.0.2 -i -w 100 --tun-type gue --tun-port 5555",
        "-a -t 192.168.200.5:80 -r 192.168.7.7 -i -w 65535",
        "-A -t [fd00:99::2]:80 -s wrr -p 600 -M 64",
        "-A -u 10.99.0.50:5060 -s rr -p 60 --pe sip",
        "-A -u 10.99.0.51:53 -s rr -o",
        "-A --sctp-service 10.99.0.20:9899 -s lc",
    ];
    for line in foreign {
        sh_in("n1", &format!("ipvsadm {line}"))?;
    }
    let result = eventually("list and ipvsadm -Ln agree", || {
        let ours = lab.agent_command("n1", "list")?;
        let theirs = sh_in("n1", "ipvsadm -Ln")?;
        let differs = format!("ours:\n{ours}ipvsadm:\n{theirs}");
        Ok(if ours == theirs { Ok(()) } else { Err(differs) })
    });
    for line in foreign.iter().filter(|line| line.starts_with("-A")) {
        let words: Vec<&str> = line.split(' ').collect();
        let family = if line.contains(" -6 ") { " -6" } else { "" };
        sh_in(
            "n1",
            &format!("ipvsadm -D {} {}{family}", words[1], words[2]),
        )?;
    }
    result
}

pub fn host_daemon(lab: &mut Lab) -> Result<()> {
    let spec = json!({ "type": "LoadBalancer" });
    let mut vips = lab.cluster.service("web", json!({}), spec)?;
    lab.cluster
        .load_balancer_ips("web", &["192.168.60.9", "fd00:60::9"])?;
    vips.extend(["192.168.60.9", "fd00:60::9"].map(str::to_owned));
    lab.cluster.endpoints("web", &[(P11, Ready)])?;
    let _daemon = Server::start("n1", "daemon", 9999)?;
    for addr in node_addresses("n1") {
        answered_by(CLIENT, Tcp, at(&addr, 9999)?, &["daemon"])?;
    }
    for vip in &vips {
        route_from_client(vip, "n1")?;
        for from in ["p12", CLIENT, "n1"] {
            answered_by(from, Tcp, at(vip, 80)?, &["p11"])?;
            let answer = probe(from, Tcp, at(vip, 9999)?)?;
            ensure!(
                !matches!(answer, Answer::From { .. }),
                "{from} at {vip}:9999: {answer}"
            );
        }
    }
    Ok(())
}

pub fn reverse_path(lab: &mut Lab) -> Result<()> {
    let spec = json!({ "type": "LoadBalancer" });
    let mut vips = lab.cluster.service("web", json!({}), spec)?;
    lab.cluster.load_balancer_ips("web", &["192.168.60.8"])?;
    vips.push("192.168.60.8".to_owned());
    lab.cluster
        .endpoints("web", &[(P11, Ready), (P21, Ready)])?;
    let set = |filter: u8, valid: u8| -> Result<()> {
        for interface in ["all", "default", "eth0", "vp11", "vp12"] {
            sh_in(
                "n1",
                &format!("sysctl -qw net.ipv4.conf.{interface}.rp_filter={filter}"),
            )?;
            sh_in(
                "n1",
                &format!("sysctl -qw net.ipv4.conf.{interface}.src_valid_mark={valid}"),
            )?;
        }
        Ok(())
    };
    for filter in 0..=2 {
        for valid in 0..=1 {
            set(filter, valid)?;
            for vip in vips.iter().filter(|vip| !vip.contains(':')) {
                route_from_client(vip, "n1")?;
                for from in [CLIENT, "p11", "p12", "n1"] {
                    answered_by(from, Tcp, at(vip, 80)?, &["p11", "p21"])?;
                }
            }
        }
    }
    set(0, 0)
}
