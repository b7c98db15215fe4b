//! The shell of the set client.

use super::entry::{Entry, SetCommand, SetHeader, SetName};
use super::error::Error;
use super::message;
use crate::netfilter::nfnetlink::{self, Counters, NfnlSocket};

/// A connection to the kernel's sets in the network namespace where it was opened.
pub struct IpsetClient {
    socket: NfnlSocket,
}

/// How one command of a batch ended.
#[derive(Debug)]
pub enum Outcome {
    Applied,
    Failed(Error),
    /// Answers were lost; the set must be read again.
    Unknown,
}

impl IpsetClient {
    pub fn open() -> Result<Self, Error> {
        let socket = NfnlSocket::open().map_err(wire("open the socket"))?;
        Ok(Self { socket })
    }

    pub fn counters(&self) -> Counters {
        self.socket.counters()
    }

    /// Carries commands out in their order; one that fails does not stop the others.
    pub fn batch(&mut self, commands: &[SetCommand]) -> Result<Vec<Outcome>, Error> {
        let requests: Vec<_> = commands.iter().map(message::request).collect();
        let outcomes = self.socket.batch(&requests).map_err(wire("change sets"))?;
        let outcomes = outcomes
            .into_iter()
            .zip(commands)
            .map(|(outcome, command)| match outcome {
                nfnetlink::Outcome::Applied => Outcome::Applied,
                nfnetlink::Outcome::Unknown => Outcome::Unknown,
                nfnetlink::Outcome::Failed(code) => Outcome::Failed(Error::Command {
                    command: Box::new(command.clone()),
                    code,
                }),
            });
        Ok(outcomes.collect())
    }

    /// The headers of all sets, foreign ones too.
    pub fn sets(&mut self) -> Result<Vec<SetHeader>, Error> {
        let mut found = Vec::new();
        self.socket
            .dump(
                message::SUBSYSTEM,
                message::CMD_LIST,
                None,
                |request| message::list(request, None),
                |answer| found.extend(message::header(answer)),
            )
            .map_err(wire("list the sets"))?;
        Ok(found)
    }

    /// The entries of one set.
    pub fn entries(&mut self, name: &SetName) -> Result<Vec<Entry>, Error> {
        let mut found = Vec::new();
        self.socket
            .dump(
                message::SUBSYSTEM,
                message::CMD_LIST,
                None,
                |request| message::list(request, Some(name.as_str())),
                |answer| found.extend(message::entries(answer)),
            )
            .map_err(wire(&format!("list the set {name}")))?;
        Ok(found)
    }
}

fn wire(act: &str) -> impl FnOnce(nfnetlink::WireError) -> Error {
    let act = act.to_owned();
    move |source| Error::Wire { act, source }
}
