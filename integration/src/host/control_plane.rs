//! A real etcd and kube-apiserver, in the lab's namespace.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use super::network::{HOST_ADDRESS, LabNetwork};
use super::{PATH, cache, exists, tool};

/// Stopped when dropped.
pub struct ControlPlane {
    namespace: String,
    directory: PathBuf,
    etcd: Option<Child>,
    apiserver: Option<Child>,
}

impl ControlPlane {
    /// Starts both; the guest waits until they are ready.
    pub fn start(network: &LabNetwork, work: &Path) -> Result<Self> {
        let directory = work.join("control-plane");
        fs::create_dir_all(&directory)?;
        let path = |name: &str| directory.join(name).display().to_string();
        tool("openssl", &["genrsa", "-out", &path("sa.key"), "2048"])?;
        let public = path("sa.pub");
        tool(
            "openssl",
            &["rsa", "-in", &path("sa.key"), "-pubout", "-out", &public],
        )?;
        fs::write(
            directory.join("tokens.csv"),
            "lab,admin,admin,system:masters\n",
        )?;
        let mut plane = Self {
            namespace: network.namespace.clone(),
            directory,
            etcd: None,
            apiserver: None,
        };
        plane.etcd = Some(plane.spawn_etcd()?);
        plane.apiserver = Some(plane.spawn_apiserver()?);
        Ok(plane)
    }

    /// Does what a scenario asks: `stop-apiserver` or `start-apiserver`.
    pub fn obey(&mut self, request: &str) -> Result<()> {
        match request.trim() {
            "stop-apiserver" => {
                if let Some(child) = &mut self.apiserver {
                    child.kill()?;
                    child.wait()?;
                }
                self.apiserver = None;
            }
            "start-apiserver" => self.apiserver = Some(self.spawn_apiserver()?),
            other => bail!("the guest asks for {other:?}, which the host does not know"),
        }
        Ok(())
    }

    fn spawn_etcd(&self) -> Result<Child> {
        let data = self.directory.join("etcd");
        self.spawn(
            "etcd",
            "etcd-v3.6.7",
            &[
                &format!("--data-dir={}", data.display()),
                "--listen-client-urls=http://127.0.0.1:2379",
                "--advertise-client-urls=http://127.0.0.1:2379",
                "--listen-peer-urls=http://127.0.0.1:2380",
                "--unsafe-no-fsync",
                "--log-level=warn",
            ],
        )
    }

    fn spawn_apiserver(&self) -> Result<Child> {
        let file = |name: &str| self.directory.join(name).display().to_string();
        self.spawn(
            "apiserver",
            "kube-apiserver-v1.36.3",
            &[
                "--etcd-servers=http://127.0.0.1:2379",
                &format!("--cert-dir={}", file("certificates")),
                &format!("--bind-address={HOST_ADDRESS}"),
                &format!("--advertise-address={HOST_ADDRESS}"),
                "--secure-port=6443",
                "--service-cluster-ip-range=10.96.0.0/16,fd00:96::/112",
                "--authorization-mode=AlwaysAllow",
                &format!("--token-auth-file={}", file("tokens.csv")),
                "--service-account-issuer=https://kubernetes.default.svc",
                &format!("--service-account-key-file={}", file("sa.pub")),
                &format!("--service-account-signing-key-file={}", file("sa.key")),
                "--disable-admission-plugins=ServiceAccount",
            ],
        )
    }

    fn spawn(&self, name: &str, binary: &str, args: &[&str]) -> Result<Child> {
        let binary = cache()?.join("bin").join(binary);
        exists(&binary)?;
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.directory.join(format!("{name}.log")))?;
        Command::new("ip")
            .args(["netns", "exec", &self.namespace])
            .arg(binary)
            .args(args)
            .env("PATH", PATH)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {name}"))
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        for child in [&mut self.apiserver, &mut self.etcd].into_iter().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
