//! Lists virtual services and their destinations, a little like `ipvsadm -Ln --stats`.
//!
//! `cargo run -p ipvs-sys --example list`, as root.

use ipvs_sys::Client;

fn main() {
    if let Err(error) = run() {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut client = Client::open()?;
    let info = client.info()?;
    println!(
        "IPVS {}.{}.{}, {} buckets for connections",
        info.version.0, info.version.1, info.version.2, info.connection_table_size
    );
    for entry in client.services()? {
        let stats = entry.stats;
        println!(
            "{} ({} connections, {} bytes in, {} bytes out)",
            entry.service, stats.conns, stats.in_bytes, stats.out_bytes
        );
        for backend in client.destinations(&entry.service.key)? {
            println!(
                "  {} ({} active, {} inactive)",
                backend.destination, backend.active, backend.inactive
            );
        }
        for attribute in entry.unknown {
            println!("  this kernel also says {attribute:?}");
        }
    }
    Ok(())
}
