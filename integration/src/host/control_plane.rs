//! A real etcd and kube-apiserver, in the lab's namespace.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use super::network::{HOST_ADDRESS, LabNetwork};
use super::{PATH, cache, exists, tool};
use crate::protocol::TOKEN;

/// Stopped when dropped.
pub struct ControlPlane {
    namespace: String,
    directory: PathBuf,
    demands: Demands,
    etcd: Option<Child>,
    apiserver: Option<Child>,
}

/// What the API server asks of who comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demands {
    /// A token.
    Token,
    /// Permission too.
    Permission,
    /// And of a pod what a cluster asks of one: it is given the token of its ServiceAccount.
    Accounts,
}

impl Demands {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Token => &[
                "--authorization-mode=AlwaysAllow",
                "--disable-admission-plugins=ServiceAccount",
            ],
            Self::Permission => &[
                "--authorization-mode=RBAC",
                "--disable-admission-plugins=ServiceAccount",
            ],
            Self::Accounts => &["--authorization-mode=RBAC"],
        }
    }
}

impl ControlPlane {
    /// Starts both; the guest waits until they are ready.
    pub fn start(network: &LabNetwork, work: &Path) -> Result<Self> {
        Self::with(network, work, Demands::Token)
    }

    /// The same with demands of its own.
    pub fn with(network: &LabNetwork, work: &Path, demands: Demands) -> Result<Self> {
        let directory = work.join("control-plane");
        fs::create_dir_all(&directory)?;
        let path = |name: &str| directory.join(name).display().to_string();
        tool("openssl", &["genrsa", "-out", &path("sa.key"), "2048"])?;
        let public = path("sa.pub");
        tool(
            "openssl",
            &["rsa", "-in", &path("sa.key"), "-pubout", "-out", &public],
        )?;
        let token = format!("{TOKEN},admin,admin,system:masters\n");
        fs::write(directory.join("tokens.csv"), token)?;
        let mut plane = Self {
            namespace: network.namespace.clone(),
            directory,
            demands,
            etcd: None,
            apiserver: None,
        };
        plane.certify()?;
        plane.etcd = Some(plane.spawn_etcd()?);
        plane.apiserver = Some(plane.spawn_apiserver()?);
        Ok(plane)
    }

    /// Who signed the API server's certificate, a file.
    pub fn authority(&self) -> PathBuf {
        self.directory.join("ca.crt")
    }

    /// By what the tokens of ServiceAccounts are signed, a file.
    pub fn account_key(&self) -> PathBuf {
        self.directory.join("sa.key")
    }

    /// A certificate authority, and by it a certificate for the API server's address.
    fn certify(&self) -> Result<()> {
        let path = |name: &str| self.directory.join(name).display().to_string();
        let authority = path("ca.crt");
        let (authority_key, server_key) = (path("ca.key"), path("server.key"));
        let new = [
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30",
        ];
        let own = [
            "-subj",
            "/CN=lab-ca",
            "-keyout",
            &authority_key,
            "-out",
            &authority,
        ];
        tool("openssl", &[&new[..], &own].concat())?;
        // Pods know it by its cluster IP.
        let name = format!("subjectAltName=IP:{HOST_ADDRESS},IP:10.96.0.1");
        let signed = [
            "-CA",
            &authority,
            "-CAkey",
            &authority_key,
            "-subj",
            "/CN=kube-apiserver",
        ];
        let server = ["-keyout", &server_key, "-out", &path("server.crt")];
        let leaf = [
            "-addext",
            &name,
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ];
        tool("openssl", &[&new[..], &signed, &leaf, &server].concat())
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
        let common = [
            "--etcd-servers=http://127.0.0.1:2379",
            &format!("--tls-cert-file={}", file("server.crt")),
            &format!("--tls-private-key-file={}", file("server.key")),
            &format!("--bind-address={HOST_ADDRESS}"),
            &format!("--advertise-address={HOST_ADDRESS}"),
            "--secure-port=6443",
            "--service-cluster-ip-range=10.96.0.0/16,fd00:96::/112",
            &format!("--token-auth-file={}", file("tokens.csv")),
            "--service-account-issuer=https://kubernetes.default.svc",
            &format!("--service-account-key-file={}", file("sa.pub")),
            &format!("--service-account-signing-key-file={}", file("sa.key")),
        ];
        let arguments = [&common[..], self.demands.arguments()].concat();
        self.spawn("apiserver", "kube-apiserver-v1.36.3", &arguments)
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
