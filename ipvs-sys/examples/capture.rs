//! Asks the kernel for everything and prints each datagram in hexadecimal: material for
//! `tests/captures`. As root.

use std::io;

use ipvs_sys::{Client, NetlinkSocket, Transport, Wait};

/// Passes everything on, and prints it.
struct Recorder(NetlinkSocket);

fn print(direction: &str, bytes: &[u8]) {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("{direction} {digits}");
}

impl Transport for Recorder {
    fn send(&mut self, datagram: &[u8]) -> io::Result<usize> {
        print("sent", datagram);
        self.0.send(datagram)
    }

    fn receive(&mut self, buffer: &mut [u8], wait: Wait) -> io::Result<usize> {
        let length = self.0.receive(buffer, wait)?;
        print("received", buffer.get(..length).unwrap_or_default());
        Ok(length)
    }

    fn receive_queue(&self) -> usize {
        self.0.receive_queue()
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut client = Client::with_transport(Recorder(NetlinkSocket::open()?))?;
    println!("# services");
    for entry in client.services()? {
        let key = entry.service.key;
        println!("# destinations of {key}");
        client.destinations(&key)?;
    }
    println!("# daemons");
    client.daemons()?;
    Ok(())
}
