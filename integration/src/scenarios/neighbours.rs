//! What else has rules on a node, and keeps its word.

use anyhow::Result;
use serde_json::json;

use super::{Lab, answered_by, at, node_addresses, route_from_client};
use crate::guest::cluster::State::Ready;
use crate::guest::http;
use crate::guest::probe::Transport::Tcp;
use crate::guest::probe::{Answer, probe};
use crate::guest::sh_in;
use crate::guest::topology::{CLIENT, NODES, P11, P21};
use crate::guest::wait::eventually;

/// Rules of others that stand before ours while a story goes on.
#[derive(Default)]
pub struct Rules(Vec<(&'static str, String)>);

impl Rules {
    /// Appends or inserts a rule on a node, in both families.
    pub fn add(&mut self, node: &'static str, rule: &str) -> Result<()> {
        for tool in ["iptables", "ip6tables"] {
            sh_in(node, &format!("{tool} -w {rule}"))?;
            let (before, after) = rule.split_once("-I ").unwrap_or(("", rule));
            self.0.push((node, format!("{tool} -w {before}-D {after}")));
        }
        Ok(())
    }
}

impl Drop for Rules {
    fn drop(&mut self) {
        for (node, line) in &self.0 {
            if let Err(error) = sh_in(node, line) {
                println!("{node} keeps a rule: {error:#}");
            }
        }
    }
}

/// A network plugin that keeps its rules first in mangle and accepts there what is established
/// (Calico's `cali-PREROUTING`): later packets of a connection must find their way too.
pub fn plugin_first(lab: &mut Lab) -> Result<()> {
    let vips = lab.cluster.service("web", json!({}), json!({}))?;
    lab.cluster
        .endpoints("web", &[(P11, Ready), (P21, Ready)])?;
    let mut rules = Rules::default();
    for node in NODES {
        let first = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT";
        rules.add(node, &format!("-t mangle -I PREROUTING {first}"))?;
    }
    for vip in &vips {
        route_from_client(vip, "n3")?;
        for from in ["p12", "p32", "n1", CLIENT] {
            answered_by(from, Tcp, at(vip, 80)?, &["p11", "p21"])?;
        }
    }
    Ok(())
}

/// NodePorts are the node's own: its firewall has the last word. Cluster IPs are not.
pub fn firewall(lab: &mut Lab) -> Result<()> {
    let spec =
        json!({ "type": "NodePort", "ports": [{ "name": "http", "port": 80, "nodePort": 30080 }] });
    let vips = lab.cluster.service("web", json!({}), spec)?;
    lab.cluster
        .endpoints("web", &[(P11, Ready), (P21, Ready)])?;
    for addr in node_addresses("n1") {
        answered_by(CLIENT, Tcp, at(&addr, 30080)?, &["p11", "p21"])?;
    }
    let mut rules = Rules::default();
    // Behind ours, as an administrator's rules mostly are.
    for tool in ["iptables", "ip6tables"] {
        let rule = "INPUT -i eth0 -p tcp --dport 30000:32767 -j DROP";
        sh_in("n1", &format!("{tool} -w -A {rule}"))?;
        rules.0.push(("n1", format!("{tool} -w -D {rule}")));
    }
    for addr in node_addresses("n1") {
        let to = at(&addr, 30080)?;
        eventually(&format!("the firewall shuts {to}"), || {
            Ok(match probe(CLIENT, Tcp, to)? {
                Answer::Timeout => Ok(()),
                other => Err(format!("got {other}")),
            })
        })?;
    }
    for vip in &vips {
        answered_by("p12", Tcp, at(vip, 80)?, &["p11", "p21"])?;
    }
    // The port at which load balancers ask is open all the same, for as long as it is one.
    let asked = json!({
        "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30555,
    });
    lab.cluster.service("lb", json!({}), asked)?;
    lab.cluster.endpoints("lb", &[(P11, Ready)])?;
    for addr in node_addresses("n1") {
        let to = at(&addr, 30555)?;
        eventually(&format!("{to} tells of local endpoints"), || {
            Ok(match http::get(CLIENT, to, "/")? {
                Some(page) if page.status == 200 => Ok(()),
                other => Err(format!("{other:?}")),
            })
        })?;
    }
    lab.cluster.delete("Service", "lb")?;
    let port = at(&node_addresses("n1")[0], 30555)?;
    eventually("the port is shut again", || {
        Ok(match probe(CLIENT, Tcp, port)? {
            Answer::Timeout => Ok(()),
            other => Err(format!("got {other}")),
        })
    })
}
