//! Asks over TCP: the agent's health page, and the API server. All with a deadline.

use std::io::{Read as _, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::time::Duration;

use crate::cli::SourceArgs;
use crate::commands::config::api_access;
use crate::inspect::check::facts::{ApiServer, Health, Read};

const DEADLINE: Duration = Duration::from_secs(3);

/// What `/healthz` says; none where nobody listens.
pub fn health(port: u16) -> Option<Read<Health>> {
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = match TcpStream::connect_timeout(&to, DEADLINE) {
        Ok(stream) => stream,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => return None,
        Err(error) => return Some(Err(error.to_string())),
    };
    Some(
        ask(stream)
            .map_err(|error| error.to_string())
            .and_then(|text| answer(&text).ok_or_else(|| "what it says is no HTTP".to_owned())),
    )
}

fn ask(mut stream: TcpStream) -> std::io::Result<String> {
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    stream.write_all(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = Vec::new();
    stream.take(LONGEST).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn answer(text: &str) -> Option<Health> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?;
    Some(Health {
        status: status.parse().ok()?,
        body: body.trim().to_owned(),
    })
}

/// Where the API server is said to be, and whether something accepts connections there.
pub fn api_servers(source: &SourceArgs) -> Option<Read<Vec<ApiServer>>> {
    let access = api_access(source);
    let in_pod = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    let unsaid = access.servers.is_empty() && access.kubeconfig.is_none();
    let of_pod = unsaid && in_pod;
    if source.manifests.is_some() || (unsaid && !in_pod) {
        return None;
    }
    let urls = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::new)
        .and_then(|runtime| Ok(runtime.block_on(access.server_urls())?));
    Some(match urls {
        Ok(urls) => Ok(urls.iter().map(|url| reach(url, of_pod)).collect()),
        Err(error) => Err(format!("{error:#}")),
    })
}

fn reach(url: &str, cluster_ip: bool) -> ApiServer {
    let name = host_port(url);
    let addresses = look_up(name.clone());
    let mut reached = Err("it has no address".to_owned());
    for addr in addresses.iter().flatten() {
        reached = TcpStream::connect_timeout(addr, DEADLINE)
            .map(|_| ())
            .map_err(|error| error.to_string());
        if reached.is_ok() {
            break;
        }
    }
    if let Err(why) = &addresses {
        reached = Err(why.clone());
    }
    let addresses = addresses.iter().flatten().map(SocketAddr::ip).collect();
    ApiServer {
        name,
        addresses,
        cluster_ip,
        reached,
    }
}

/// A resolver may take half a minute when its servers are out of reach.
fn look_up(name: String) -> Read<Vec<SocketAddr>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let found = name.to_socket_addrs().map(Iterator::collect);
        let _ = sender.send(found.map_err(|error| error.to_string()));
    });
    let late = |_| {
        Err(format!(
            "its name is not resolved within {} s",
            DEADLINE.as_secs()
        ))
    };
    receiver.recv_timeout(DEADLINE).unwrap_or_else(late)
}

/// Of a URL, with the port that its scheme stands for.
fn host_port(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    let host = rest.split('/').next().unwrap_or(rest);
    let behind = host.rsplit_once(']').map_or(host, |(_, behind)| behind);
    match (behind.contains(':'), scheme) {
        (true, _) => host.to_owned(),
        (false, "http") => format!("{host}:80"),
        (false, _) => format!("{host}:443"),
    }
}

/// Of a health page.
const LONGEST: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_host_and_port() {
        for (url, wanted) in [
            ("https://192.0.2.1:6443", "192.0.2.1:6443"),
            ("https://192.0.2.1:6443/base", "192.0.2.1:6443"),
            ("https://api.example.com/", "api.example.com:443"),
            ("http://api.example.com", "api.example.com:80"),
            ("https://[2001:db8::1]", "[2001:db8::1]:443"),
            ("https://[2001:db8::1]:6443", "[2001:db8::1]:6443"),
            ("192.0.2.1:6443", "192.0.2.1:6443"),
        ] {
            assert_eq!(host_port(url), wanted, "{url}");
        }
    }

    #[test]
    fn an_answer_has_a_status_and_a_body() {
        let health = answer("HTTP/1.0 503 Service Unavailable\r\nServer: x\r\n\r\n{}\n").unwrap();
        assert_eq!((health.status, health.body.as_str()), (503, "{}"));
        assert_eq!(answer("SSH-2.0-OpenSSH\r\n\r\n"), None);
    }
}
