//! What `top` shows, from the kernel and from the agent, read again and again.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use ipvs_sys::{Client, DestinationKey, ServiceKey, procfs};

use crate::ask::{AskError, Table, ask};
use crate::inspect::top::reading::{read, whole_is_due};
use crate::inspect::top::rows::servers_of;
use crate::inspect::top::state::{Group, Place, RowKey};
use crate::inspect::top::{
    Connections, Content, Data, Meter, Names, Reading, State, View, Whole, rows,
};
use crate::telemetry;

/// All that was read last.
pub struct Source {
    client: Client,
    begun: Instant,
    reading: Reading,
    whole: Whole,
    /// When the whole table was read last, and what that took.
    whole_read: Option<(Duration, Duration)>,
    servers: Meter<ServiceKey>,
    backends: Meter<(ServiceKey, DestinationKey)>,
    connections: Connections,
    agent: Agent,
    cost: Duration,
    node: String,
    kernel: String,
    colour: bool,
    notes: Vec<String>,
}

impl Source {
    /// Opens the kernel's table, and begins to ask the agent.
    pub fn open(socket: &Path) -> anyhow::Result<Self> {
        let client = Client::open().map_err(|error| {
            if error.is_no_module() {
                anyhow::Error::new(error).context(NO_IPVS)
            } else {
                super::super::explain_ipvs(error)
            }
        })?;
        let system = rustix::system::uname();
        Ok(Self {
            client,
            begun: now(),
            reading: Reading::default(),
            whole: Whole::default(),
            whole_read: None,
            servers: Meter::default(),
            backends: Meter::default(),
            connections: Connections::default(),
            agent: Agent::ask_at(socket),
            cost: Duration::ZERO,
            node: system.nodename().to_string_lossy().into_owned(),
            kernel: system.release().to_string_lossy().into_owned(),
            colour: telemetry::colours(&std::io::stdout()),
            notes: Vec::new(),
        })
    }

    /// Time since the start.
    pub fn now(&self) -> Duration {
        now().duration_since(self.begun)
    }

    pub const fn data(&self) -> Data<'_> {
        Data {
            reading: &self.reading,
            servers: &self.servers,
            backends: &self.backends,
            names: &self.agent.names,
        }
    }

    pub const fn connections(&self) -> &Connections {
        &self.connections
    }

    /// What is missing from the view.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// A view without lines yet.
    pub fn view<'a>(&'a self, state: &'a State) -> View<'a> {
        View {
            state,
            content: Content::Rows(&[]),
            node: self.agent.names.node.as_deref().unwrap_or(&self.node),
            kernel: &self.kernel,
            cost: self.cost,
            notes: &self.notes,
            colour: self.colour,
            live: true,
        }
    }

    /// Reads the kernel for what is looked at; `visible` are the lines on the screen.
    pub fn read(&mut self, state: &State, visible: &[RowKey]) -> anyhow::Result<()> {
        let begun = self.now();
        let wanted = self.wanted(state, visible);
        let mut reading = read(&mut self.client, &wanted)?;
        let needed = state.sort.needs_backends();
        let due = self
            .whole_read
            .is_none_or(|(at, cost)| whole_is_due(needed, begun.saturating_sub(at), cost));
        if due {
            let before = self.now();
            self.whole = Whole::from(procfs::read_services()?.as_slice());
            self.whole_read = Some((begun, self.now().saturating_sub(before)));
        }
        let measured = reading.backends.iter().flat_map(|(server, backends)| {
            backends
                .iter()
                .filter_map(|backend| Some(((*server, backend.key), backend.stats.as_ref()?)))
        });
        self.backends.update(begun, measured);
        let servers = reading.services.iter().map(|(key, stats)| (*key, stats));
        self.servers.update(begun, servers);
        self.whole.complete(&mut reading);
        self.reading = reading;
        self.connections = match &state.screen().place {
            Place::Connections(group, backend) => self.read_connections(group, *backend)?,
            _ => Connections::default(),
        };
        self.cost = self.now().saturating_sub(begun);
        self.notes.clear();
        self.agent.attend(begun, &self.reading);
        self.note();
        Ok(())
    }

    /// The same; what goes wrong is told on the screen, and what was read before stays.
    pub fn read_again(&mut self, state: &State, visible: &[RowKey]) {
        if let Err(error) = self.read(state, visible) {
            self.notes = vec![format!("this is old: {error:#}")];
        }
    }

    /// Waits for the agent's first answer, but not for long.
    pub fn wait_for_names(&mut self, at_most: Duration) {
        self.agent.wait(at_most, &self.reading);
        self.notes.clear();
        self.note();
    }

    /// Whether the agent has answered since the last reading.
    pub fn names_came(&mut self) -> bool {
        let came = self.agent.came(&self.reading);
        if came {
            self.notes.clear();
            self.note();
        }
        came
    }

    /// The virtual servers whose backends are looked at.
    fn wanted(&self, state: &State, visible: &[RowKey]) -> BTreeSet<ServiceKey> {
        let data = self.data();
        match &state.screen().place {
            Place::Backends(group) | Place::Connections(group, _) => servers_of(&data, group),
            Place::Overview => {
                let groups: BTreeSet<&Group> = visible
                    .iter()
                    .filter_map(|row| match row {
                        RowKey::Group(group) => Some(group),
                        _ => None,
                    })
                    .collect();
                rows::servers_of_all(&data, &groups)
                    .take(WANTED_AT_MOST)
                    .collect()
            }
        }
    }

    fn read_connections(
        &self,
        group: &Group,
        backend: DestinationKey,
    ) -> Result<Connections, procfs::ProcError> {
        let servers = servers_of(&self.data(), group);
        // A line that is not understood is no reason to show none of the others.
        let table = procfs::read_connections()?.filter_map(Result::ok);
        Ok(Connections::of(backend, &servers, table))
    }

    fn note(&mut self) {
        if self.reading.services.is_empty() {
            self.notes.push(EMPTY.to_owned());
        }
        if fs::read_to_string(RUN_ESTIMATION).is_ok_and(|value| value.trim() == "0") {
            self.notes.push(FROZEN.to_owned());
        }
        if let Some(why) = &self.agent.silent {
            self.notes.push(format!("no names of Services: {why}"));
        }
    }
}

/// The agent, asked by a thread of its own: it may be busy for long.
struct Agent {
    names: Names,
    /// Why it does not answer.
    silent: Option<String>,
    questions: Sender<()>,
    answers: Receiver<Result<Table, AskError>>,
    asked: Duration,
    waiting: bool,
    /// What it did not know when it was asked last.
    unknown: BTreeSet<ServiceKey>,
}

impl Agent {
    fn ask_at(socket: &Path) -> Self {
        let (questions, asked) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        let socket = socket.to_owned();
        std::thread::spawn(move || {
            // Ends with the other end of either channel.
            for () in asked {
                if answer.send(ask(&socket, "/v1/table")).is_err() {
                    return;
                }
            }
        });
        let waiting = questions.send(()).is_ok();
        Self {
            names: Names::default(),
            silent: None,
            questions,
            answers,
            asked: Duration::ZERO,
            waiting,
            unknown: BTreeSet::new(),
        }
    }

    /// Takes an answer that has come; asks again when there is a virtual server that is new, or after a
    /// while.
    fn attend(&mut self, at: Duration, reading: &Reading) {
        self.came(reading);
        let age = at.saturating_sub(self.asked);
        let unknown = self.names.unknown(reading.services.keys());
        let new = !unknown.is_subset(&self.unknown);
        if !self.waiting && (age >= ASK_AGAIN || (new && age >= ASK_FOR_NEW)) {
            self.asked = at;
            self.waiting = self.questions.send(()).is_ok();
        }
    }

    fn came(&mut self, reading: &Reading) -> bool {
        let answer = self.answers.try_recv();
        let came = answer.is_ok();
        if let Ok(answer) = answer {
            self.take(answer, reading);
        }
        came
    }

    /// Nothing to wait for is where the answer came while the kernel was read.
    fn wait(&mut self, at_most: Duration, reading: &Reading) {
        if !self.waiting {
            return;
        }
        if let Ok(answer) = self.answers.recv_timeout(at_most) {
            self.take(answer, reading);
        }
    }

    fn take(&mut self, answer: Result<Table, AskError>, reading: &Reading) {
        self.waiting = false;
        match answer {
            Ok(table) => {
                self.names = Names::from(table);
                self.silent = None;
            }
            // Names that were told once are better than none.
            Err(error) => self.silent = Some(error.to_string()),
        }
        self.unknown = self.names.unknown(reading.services.keys());
    }
}

#[expect(clippy::disallowed_methods, reason = "the shell's clock")]
fn now() -> Instant {
    Instant::now()
}

/// Backends cost a request for each virtual server. More lines than this are on no screen.
const WANTED_AT_MOST: usize = 200;
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// An agent that has just written a virtual server knows it; one that is beside another may not.
const ASK_FOR_NEW: Duration = Duration::from_secs(2);
const RUN_ESTIMATION: &str = "/proc/sys/net/ipv4/vs/run_estimation";
const FROZEN: &str = "the kernel counts nothing: set sysctl net.ipv4.vs.run_estimation to 1";
const EMPTY: &str = "no virtual servers here; one served by iptables shows in iptables-save -c";
const NO_IPVS: &str = "this kernel has no ip_vs, so there is nothing to show; load it with \
    `modprobe ip_vs`, or, on a node that is served by iptables, see `iptables-save -c -t nat` and \
    `conntrack -L`";
