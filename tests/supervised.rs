//! The agent under a supervisor: what it is told over `$NOTIFY_SOCKET`, the unit file, and who may ask it. As root.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use ipvs_agent::ask::server::AskSocket;

struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_supervisor_is_told_of_readiness_life_and_end() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::create_dir(at("manifests")).unwrap();
    let heard = UnixDatagram::bind(at("notify")).unwrap();
    heard
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let agent = Command::new("unshare")
        .args(["--net", env!("CARGO_BIN_EXE_ipvs-agent"), "run"])
        .args(["--dataplane", "iptables", "--manifests", &at("manifests")])
        .args(["--socket", &at("agent.sock"), "--log", "error"])
        .env("NOTIFY_SOCKET", at("notify"))
        .env("WATCHDOG_USEC", "2000000")
        .spawn()
        .unwrap();
    let mut agent = Started(agent);
    let hear = || {
        let mut text = [0; 256];
        let length = heard.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    let until = |word: &str| {
        let mut before = Vec::new();
        loop {
            let told = hear();
            if told.lines().any(|line| line == word) {
                return before;
            }
            before.push(told);
        }
    };
    let early = until("READY=1");
    assert!(
        early.iter().all(|told| !told.contains("STOPPING")),
        "{early:?}"
    );
    until("WATCHDOG=1");
    let pid = rustix::process::Pid::from_child(&agent.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    until("STOPPING=1");
    assert!(agent.0.wait().unwrap().success());
}

#[test]
fn systemd_takes_the_unit_file() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/systemd/ipvs-agent.service");
    let text = fs::read_to_string(unit).unwrap();
    let agent = env!("CARGO_BIN_EXE_ipvs-agent");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ipvs-agent.service");
    fs::write(&file, text.replace("/usr/local/bin/ipvs-agent", agent)).unwrap();
    let output = Command::new("systemd-analyze")
        .arg("verify")
        .arg("--man=no")
        .arg(&file)
        .output()
        .expect("systemd-analyze comes with Debian's package systemd");
    let told = String::from_utf8_lossy(&output.stderr);
    let about_ours: Vec<&str> = told
        .lines()
        .filter(|line| line.contains("ipvs-agent"))
        .collect();
    assert!(output.status.success() && about_ours.is_empty(), "{told}");
}

/// What is taken is named, with what to do, before anything is opened that a start would have to give back.
#[test]
fn a_port_that_is_taken_is_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "ip link set lo up; mkdir {0}/m; echo precious > {0}/file; \
         {1} run --manifests {0}/m --dataplane iptables --socket {0}/a.sock --log error & \
         for i in $(seq 200); do curl -sf http://127.0.0.1:10256/readyz && break; sleep 0.1; done; \
         {1} run --manifests {0}/m --dataplane iptables --socket {0}/file --log warn; echo code $?; \
         cat {0}/file; kill %1; wait",
        folder.path().display(),
        env!("CARGO_BIN_EXE_ipvs-agent")
    );
    let output = Command::new("unshare")
        .args(["--net", "bash", "-c", &script])
        .output()
        .unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(out.contains("code 2\nprecious"), "{out}{err}");
    assert!(
        err.contains("cannot listen on 0.0.0.0:10256") && err.contains("kube-proxy"),
        "{err}"
    );
    assert!(!err.contains("panicked"), "{err}");
}

/// Its folder too, where the agent makes it.
#[tokio::test]
async fn the_socket_for_questions_is_its_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run/agent.sock");
    let socket = AskSocket::open(&path).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    drop(socket);
    assert!(!path.exists(), "it is left behind");
}
