//! How the API server is reached.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use super::requests::RequestMeter;

/// What the command line says about the API server.
#[derive(Debug, Clone, Default)]
pub struct ApiAccess {
    /// Without it: the pod's own ServiceAccount.
    pub kubeconfig: Option<PathBuf>,
    pub context: Option<String>,
    /// The API server's own addresses, in place of the one in the configuration, which inside a
    /// pod is the cluster IP that this agent has to program first.
    pub servers: Vec<String>,
    pub ca_file: Option<PathBuf>,
    pub token_file: Option<PathBuf>,
}

/// The API server cannot be reached as configured.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("cannot use the kubeconfig {path:?}")]
    Kubeconfig {
        path: PathBuf,
        #[source]
        source: Box<KubeconfigError>,
    },
    #[error(
        "not inside a pod with a ServiceAccount: give --kubeconfig, or --apiserver with --token-file and --apiserver-ca, or --manifests"
    )]
    InCluster(#[source] Box<kube::config::InClusterError>),
    #[error("--apiserver {url:?} is not a URL such as https://192.0.2.10:6443")]
    Url { url: String },
    #[error("cannot read {path:?}")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path:?} holds no PEM certificate")]
    Certificate { path: PathBuf },
    #[error("cannot make a client")]
    Client(#[source] Box<kube::Error>),
    #[error("no API server answers; the last one tried was {url}")]
    Unreachable {
        url: String,
        #[source]
        source: Box<kube::Error>,
    },
}

impl ApiAccess {
    /// A client of the first server that answers. Its requests are counted.
    pub async fn connect(&self, meter: &RequestMeter) -> Result<Client, ConnectError> {
        let base = self.config().await?;
        if self.servers.is_empty() {
            return client(base, meter);
        }
        let mut last = None;
        for url in &self.servers {
            let mut config = base.clone();
            config.cluster_url = url
                .parse()
                .map_err(|_| ConnectError::Url { url: url.clone() })?;
            let client = client(config, meter)?;
            match client.apiserver_version().await {
                Ok(_) => return Ok(client),
                Err(source) => {
                    let source = Box::new(source);
                    last = Some(ConnectError::Unreachable {
                        url: url.clone(),
                        source,
                    });
                }
            }
        }
        Err(last.unwrap_or(ConnectError::Url { url: String::new() }))
    }

    /// The addresses in what says where the API server is; a host name's are not looked up. Inside
    /// a pod that is a cluster IP, which is none of its own. What cannot be read is left to
    /// [`connect`](Self::connect) to tell of.
    pub fn server_addresses(&self) -> BTreeSet<IpAddr> {
        let mut urls = self.servers.clone();
        if urls.is_empty()
            && let Some(path) = &self.kubeconfig
            && let Ok(file) = Kubeconfig::read_from(path)
        {
            let clusters = file.clusters.into_iter().filter_map(|named| named.cluster);
            urls.extend(clusters.filter_map(|cluster| cluster.server));
        }
        urls.iter().filter_map(|url| address_in(url)).collect()
    }

    /// Where the API server is, as a client would ask it: URLs, of a kubeconfig those of the context.
    pub async fn server_urls(&self) -> Result<Vec<String>, ConnectError> {
        if !self.servers.is_empty() {
            return Ok(self.servers.clone());
        }
        Ok(vec![self.config().await?.cluster_url.to_string()])
    }

    async fn config(&self) -> Result<Config, ConnectError> {
        let mut config = match &self.kubeconfig {
            Some(path) => {
                let wrap = |source| ConnectError::Kubeconfig {
                    path: path.clone(),
                    source: Box::new(source),
                };
                let file = Kubeconfig::read_from(path).map_err(wrap)?;
                let options = KubeConfigOptions {
                    context: self.context.clone(),
                    ..Default::default()
                };
                Config::from_custom_kubeconfig(file, &options)
                    .await
                    .map_err(wrap)?
            }
            None => match (Config::incluster(), self.servers.first()) {
                (Ok(config), _) => config,
                (Err(_), Some(url)) => Config::new(
                    url.parse()
                        .map_err(|_| ConnectError::Url { url: url.clone() })?,
                ),
                (Err(error), None) => return Err(ConnectError::InCluster(Box::new(error))),
            },
        };
        if let Some(path) = &self.token_file {
            config.auth_info.token = None;
            config.auth_info.token_file = Some(path.to_string_lossy().into_owned());
        }
        if let Some(path) = &self.ca_file {
            let file = |source| ConnectError::File {
                path: path.clone(),
                source,
            };
            let pem = std::fs::read(path).map_err(file)?;
            let certificates = pem_certificates(&pem);
            if certificates.is_empty() {
                return Err(ConnectError::Certificate { path: path.clone() });
            }
            config.root_cert = Some(certificates);
            // The pod's own file, which would go before it.
            config.root_cert_file = None;
        }
        config.connect_timeout = Some(Duration::from_secs(5));
        // A watch is answered at least once in its own time (`watch::WATCH_SECONDS`).
        config.read_timeout = Some(Duration::from_secs(75));
        // Else the time that a pooled connection lay idle counts as well.
        config.reset_reader_on_write = true;
        Ok(config)
    }
}

fn client(config: Config, meter: &RequestMeter) -> Result<Client, ConnectError> {
    let host = config.cluster_url.authority().map(ToString::to_string);
    let layer = meter.of_host(host.unwrap_or_default());
    let builder = ClientBuilder::try_from(config).map_err(|e| ConnectError::Client(Box::new(e)))?;
    Ok(builder.with_layer(&layer).build())
}

/// The host of a URL, if it is an address.
fn address_in(url: &str) -> Option<IpAddr> {
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = host.split('/').next()?;
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.split_once(']')?.0,
        None => host.split_once(':').map_or(host, |(host, _)| host),
    };
    host.parse().ok()
}

/// The DER bytes of each certificate in a PEM file.
fn pem_certificates(pem: &[u8]) -> Vec<Vec<u8>> {
    use k8s_openapi::ByteString;
    let text = String::from_utf8_lossy(pem);
    let mut certificates = Vec::new();
    for block in text.split("-----BEGIN CERTIFICATE-----").skip(1) {
        let Some((body, _)) = block.split_once("-----END CERTIFICATE-----") else {
            continue;
        };
        let joined: String = body.split_whitespace().collect();
        // The API's own type for base64 decodes it.
        if let Ok(ByteString(der)) = serde_json::from_value(serde_json::Value::String(joined)) {
            certificates.push(der);
        }
    }
    certificates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_in_a_url_is_one() {
        for (url, wanted) in [
            ("https://192.0.2.10:6443", Some("192.0.2.10")),
            ("https://192.0.2.10", Some("192.0.2.10")),
            ("https://[2001:db8::10]:6443/base", Some("2001:db8::10")),
            ("192.0.2.10:6443", Some("192.0.2.10")),
            ("https://api.example.com:6443", None),
            ("https://[2001:db8::10", None),
            ("", None),
        ] {
            let wanted = wanted.map(|addr| addr.parse::<IpAddr>().unwrap());
            assert_eq!(address_in(url), wanted, "{url}");
        }
    }

    #[test]
    fn servers_on_the_command_line_take_the_kubeconfigs_place() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "clusters: [{name: a, cluster: {server: 'https://192.0.2.10:6443'}}]";
        std::fs::write(file.path(), text).unwrap();
        let mut access = ApiAccess {
            kubeconfig: Some(file.path().to_owned()),
            ..ApiAccess::default()
        };
        let addresses = |access: &ApiAccess| -> Vec<String> {
            let addresses = access.server_addresses();
            addresses.iter().map(IpAddr::to_string).collect()
        };
        assert_eq!(addresses(&access), ["192.0.2.10"]);
        access.servers = vec!["https://192.0.2.11:6443".to_owned()];
        assert_eq!(addresses(&access), ["192.0.2.11"]);
    }
}
