//! Makes a virtual service with three destinations in one system call, twice: the second time every
//! command fails, and each failure is told with its command. Then it removes them again.
//!
//! `unshare -n sh -c 'ip link set lo up; cargo run -p ipvs-sys --example batch'`, as root.

use std::net::SocketAddr;

use ipvs_sys::{Client, Command, Destination, ForwardMethod, Outcome, Service, ServiceKey};

fn main() {
    if let Err(error) = run() {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let key = ServiceKey::tcp("10.96.0.1:443".parse()?);
    let mut commands = vec![Command::NewService(
        Service::new(key, "wlc".parse()?).with_persistence(300),
    )];
    for last in 2..5 {
        let addr = SocketAddr::from(([10, 2, 0, last], 6443));
        let destination = Destination::new(addr.into(), ForwardMethod::Masquerade).with_weight(10);
        commands.push(Command::NewDest(key, destination));
    }

    let mut client = Client::open()?;
    for _ in 0..2 {
        for (command, outcome) in commands.iter().zip(client.batch(&commands)?) {
            match outcome {
                Outcome::Applied => println!("done: ipvsadm {command}"),
                Outcome::Failed(error) => println!("{error}"),
                Outcome::Unknown => println!("to be read again: ipvsadm {command}"),
            }
        }
    }
    client.execute(&Command::DelService(key))?;
    let counters = client.counters();
    println!(
        "{} messages in {} datagrams",
        counters.messages, counters.sends
    );
    Ok(())
}
