//! Change, failure and repair.

use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{Lab, answered_by, at, unserved};
use crate::dataplane::Dataplane;
use crate::guest::agent::Agent;
use crate::guest::cluster::State::{Ready, Terminating};
use crate::guest::http;
use crate::guest::load::Load;
use crate::guest::probe::{
    Transport::{Tcp, Udp},
    open_stream, probe_from_port,
};
use crate::guest::topology::{P11, P21, P31, POD_PORT};
use crate::guest::wait::eventually;
use crate::protocol::REQUEST;

pub fn rolling_update(lab: &mut Lab) -> Result<()> {
    let ports = json!({ "ports": [
        { "name": "tcp", "port": 80, "protocol": "TCP" },
        { "name": "udp", "port": 80, "protocol": "UDP" },
    ] });
    let named = [("tcp", "TCP"), ("udp", "UDP")];
    let vips = lab.cluster.service("roll", json!({}), ports)?;
    lab.cluster
        .endpoints_of_ports("roll", &[(P11, Ready)], &named)?;
    let mut streams = Vec::new();
    for vip in &vips {
        let to = at(vip, 80)?;
        answered_by("p12", Tcp, to, &["p11"])?;
        let (stream, name) = open_stream("p12", to)?;
        ensure!(name == "p11");
        streams.push(stream);
        // One flow of datagrams, always from the same port.
        eventually("UDP is answered", || udp_from(12345, to, "p11"))?;
    }
    // The old pod ends while a new one takes over.
    lab.cluster
        .endpoints_of_ports("roll", &[(P11, Terminating), (P21, Ready)], &named)?;
    for (vip, stream) in vips.iter().zip(&mut streams) {
        let to = at(vip, 80)?;
        answered_by("p12", Tcp, to, &["p21"])?;
        eventually("the datagrams move on", || udp_from(12345, to, "p21"))?;
        for _ in 0..5 {
            stream.write_all(b"still there?")?;
            let mut answer = [0; 12];
            stream
                .read_exact(&mut answer)
                .context("the stream broke while its pod drains")?;
        }
    }
    // Its real server stays for the connections that it has. To a rule they are nothing.
    for (vip, pod) in vips.iter().zip([P11.v4(), P11.v6()]) {
        let (served, old) = (lab.served("n1")?, at(&pod, POD_PORT)?);
        let balance = served
            .at(Tcp, at(vip, 80)?)
            .with_context(|| format!("{vip} is not served"))?;
        let kept = match lab.program.dataplane {
            Dataplane::Ipvs => balance.endpoints.get(&old) == Some(&Some(0)),
            Dataplane::Iptables => !balance.endpoints.contains_key(&old),
        };
        ensure!(kept, "{old} is not as what drains:\n{served}");
    }
    // Its connections end and so does the pod: nothing keeps its real server.
    drop(streams);
    lab.cluster
        .endpoints_of_ports("roll", &[(P21, Ready)], &named)?;
    eventually("nothing leads to the drained pod", || {
        let served = lab.served("n1")?;
        let leads = served.leads_to(&P11.v4())? || served.leads_to(&P11.v6())?;
        Ok(if leads {
            Err(served.to_string())
        } else {
            Ok(())
        })
    })
}

fn udp_from(port: u16, to: std::net::SocketAddr, name: &str) -> Result<Result<(), String>> {
    let who = probe_from_port("p12", port, Udp, to)?.who();
    Ok(if who == name { Ok(()) } else { Err(who) })
}

pub fn restart(lab: &mut Lab) -> Result<()> {
    let vips = lab.cluster.service("load", json!({}), json!({}))?;
    lab.cluster
        .endpoints("load", &[(P11, Ready), (P21, Ready)])?;
    for vip in &vips {
        answered_by("p12", Tcp, at(vip, 80)?, &["p11", "p21"])?;
    }
    let (mut stream, _) = open_stream("p12", at(&vips[0], 80)?)?;
    let to: Vec<_> = vips.iter().map(|vip| at(vip, 80)).collect::<Result<_>>()?;
    let load = Load::start("p12", to);
    for _ in 0..3 {
        lab.stop_agent("n1")?;
        lab.start_agent("n1")?;
        // Killed only once it has read the kernel and repaired what it thinks is wrong.
        lab.agent("n1")?.synced()?;
        load.goes_on(20)?;
    }
    // What changed while it was away is taken up.
    lab.stop_agent("n1")?;
    lab.cluster
        .endpoints("load", &[(P21, Ready), (P31, Ready)])?;
    lab.start_agent("n1")?;
    for vip in &vips {
        answered_by("p12", Tcp, at(vip, 80)?, &["p21", "p31"])?;
    }
    load.end()?;
    stream.write_all(b"alive")?;
    let mut answer = [0; 5];
    stream
        .read_exact(&mut answer)
        .context("a stream broke by the restarts")?;
    Ok(())
}

pub fn api_outage(lab: &mut Lab) -> Result<()> {
    let vips = lab.cluster.service("web", json!({}), json!({}))?;
    let other = lab.cluster.service("gone", json!({}), json!({}))?;
    lab.cluster.endpoints("web", &[(P11, Ready)])?;
    lab.cluster.endpoints("gone", &[(P11, Ready)])?;
    for vip in vips.iter().chain(&other) {
        answered_by("p12", Tcp, at(vip, 80)?, &["p11"])?;
    }
    println!("{REQUEST} stop-apiserver");
    eventually("the API server is away", || {
        Ok(match lab.cluster.is_up() {
            true => Err("it answers".to_owned()),
            false => Ok(()),
        })
    })?;
    // Services go on without it.
    for vip in &vips {
        answered_by("p12", Tcp, at(vip, 80)?, &["p11"])?;
    }
    println!("{REQUEST} start-apiserver");
    lab.cluster.wait_ready()?;
    lab.cluster.endpoints("web", &[(P21, Ready)])?;
    lab.cluster.delete("Service", "gone")?;
    for vip in &vips {
        for from in ["p12", "p32", "n2"] {
            answered_by(from, Tcp, at(vip, 80)?, &["p21"])?;
        }
    }
    unserved(lab, "n1", &other)
}

/// Sources of which nothing changes are heard of by the watches that are made anew: they are not stale.
pub fn quiet(lab: &mut Lab) -> Result<()> {
    lab.stop_agent("n2")?;
    lab.start_agent_with("n2", &["--source-patience", "75s"])?;
    lab.agent("n2")?.synced()?;
    let began = Instant::now();
    let mut most: f64 = 0.0;
    while began.elapsed() < Duration::from_secs(150) {
        let metrics = http::metrics("n2")?;
        let silences = metrics
            .iter()
            .filter(|(name, _)| name.starts_with("ipvs_agent_source_silence_seconds{"));
        let silences: Vec<f64> = silences.map(|(_, value)| *value).collect();
        ensure!(silences.len() == 4, "{silences:?}");
        most = silences.into_iter().fold(most, f64::max);
        let health = http::get("n2", at("127.0.0.1", http::HEALTH_PORT)?, "/healthz")?;
        let health = health.context("nobody listens")?;
        ensure!(health.status == 200, "{}", health.body);
        std::thread::sleep(Duration::from_secs(1));
    }
    ensure!(most > 30.0, "nothing was quiet: {most} s");
    lab.stop_agent("n2")?;
    lab.start_agent("n2")
}

pub fn manifests(lab: &mut Lab) -> Result<()> {
    let directory = Path::new("/run/manifests");
    std::fs::create_dir_all(directory)?;
    let file = directory.join("web.yaml");
    let text = |pod: &str| {
        format!(
            "kind: Service\nmetadata: {{name: m}}\nspec:\n  clusterIPs: [10.96.200.1]\n  \
             ports: [{{port: 80}}]\n---\nkind: Endpoints\nmetadata: {{name: m}}\nsubsets:\n\
             - addresses: [{{ip: {pod}}}]\n  ports: [{{port: 8080}}]\n"
        )
    };
    std::fs::write(&file, text("10.244.1.2"))?;
    lab.stop_agent("n2")?;
    let agent = Agent::start(
        &lab.program,
        "n2",
        &[
            "--manifests",
            "/run/manifests",
            "--service-cidr",
            "10.96.0.0/16",
        ],
    )?;
    let to = at("10.96.200.1", 80)?;
    answered_by("p22", Tcp, to, &["p11"])?;
    std::fs::write(&file, text("10.244.3.2"))?;
    answered_by("p22", Tcp, to, &["p31"])?;
    // A broken file is told with its place, and its last good state stays.
    std::fs::write(
        &file,
        text("10.244.3.2").replace("port: 8080", "port: many"),
    )?;
    eventually("the broken file is told", || {
        let log = agent.log();
        let told = log
            .lines()
            .any(|l| l.contains("web.yaml:11") && l.contains("subsets[0].ports[0].port"));
        Ok(if told {
            Ok(())
        } else {
            Err(log.lines().last().unwrap_or_default().to_owned())
        })
    })?;
    answered_by("p22", Tcp, to, &["p31"])?;
    drop(agent);
    lab.start_agent("n2")?;
    // The API server's Services take its place.
    unserved(lab, "n2", &["10.96.200.1"])
}
